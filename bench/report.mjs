/**
 * What the benchmark prints: Markdown tables, and charts as SVG. A ratio is what was measured of a
 * row, divided by what was measured of the first.
 */

const thousands = (point) => point.toLocaleString("en");

/** More than one of a unit. */
export const plural = (unit) => unit === "MB" ? unit : `${unit}s`;

/** The table of a scenario that was measured. */
export function scenarioTable({ title, runtime, unit, metric, rows, bars }) {
  const columns = metric.columns(unit);
  const control = metric.value(rows[0]);
  const body = rows.map((row) => [
    row.name,
    ...columns.map(([, value, digits]) => value(row).toFixed(digits)),
    (metric.value(row) / control).toFixed(2),
    barsOf({ runtime, metric, rows, bars: bars?.filter((bar) => bar.row === row.name) })
      .map((bar) => `${verdict(bar)}: ${shownBar(bar)}, seen ${bar.seen.toFixed(2)}`).join("; "),
    [row.note, idleness(row)].filter(Boolean).join("; "),
  ]);
  const head = ["row", ...columns.map(([name]) => name), "ratio", "bar", "note"];
  return `### ${title}, ${runtime}\n\n${table(head, body)}`;
}

/** All bars of what was measured. */
export function barsTable(measured) {
  const body = measured.flatMap((scenario) =>
    barsOf(scenario).map((bar) => [
      scenario.title,
      scenario.runtime,
      bar.row,
      shownBar(bar),
      bar.seen.toFixed(2),
      verdict(bar),
    ])
  );
  return table(["scenario", "runtime", "row", "bar", "seen", ""], body);
}

/** The table of a curve: operations per CPU second at each point. */
export function growthTable({ title, runtime, unit, points, label = thousands, rows }) {
  const body = points.map((point, i) => [
    label(point),
    ...rows.flatMap(({ values }) => [values[i].toFixed(0), (1e6 / values[i]).toFixed(1)]),
  ]);
  const head = rows.flatMap(({ name }) => [
    `${name}, ${plural(unit)} per CPU second`,
    `CPU µs per ${unit}`,
  ]);
  return `### ${title}, ${runtime}\n\n${table(["", ...head], body)}`;
}

/** The bars of a scenario on its runtime, with what was seen and whether that is enough. */
function barsOf({ runtime, metric, rows, bars = [] }) {
  const value = (name) => metric.value(rows.find((row) => row.name === name));
  return bars.filter(({ by }) => by[runtime] !== undefined).map(({ row, of, by }) => {
    const seen = value(row) / (of === undefined ? 1 : value(of));
    const limit = by[runtime];
    const { lessIsBetter = false } = metric;
    return {
      row,
      of,
      limit,
      seen,
      lessIsBetter,
      isMet: lessIsBetter ? seen <= limit : seen >= limit,
    };
  });
}

const verdict = ({ isMet }) => isMet ? "met" : "**missed**";

const shownBar = ({ of, limit, lessIsBetter }) =>
  `${lessIsBetter ? "≤" : "≥"} ${limit} ${of === undefined ? "KB" : `× ${of}`}`;

/** Says so when a server that is to be loaded fully had time to wait. */
function idleness({ cpu, seconds, rate }) {
  if (cpu === undefined || rate !== undefined || cpu >= 0.8 * seconds) return "";
  return `server only ${Math.round(100 * cpu / seconds)} % busy`;
}

function table(head, body) {
  const rule = head.map(() => "---");
  return [head, rule, ...body].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

const COLOURS = { met: "#2da44e", missed: "#cf6a3c" };
const LINES = ["#0969da", "#cf6a3c", "#2da44e", "#8250df"];

/** What was seen beside each bar, as a share of it: the line is the bar. */
export function ratioChart(measured) {
  const bars = measured.flatMap((scenario) =>
    barsOf(scenario).map((bar) => ({
      ...bar,
      text: `${scenario.title} (${scenario.runtime})`,
      share: bar.lessIsBetter ? bar.limit / bar.seen : bar.seen / bar.limit,
    }))
  );
  const [left, unit, line, most] = [430, 200, 24, 1.6];
  const rows = bars.map(({ text, share, isMet, row, seen, ...bar }, i) => {
    const y = 30 + i * line;
    const width = Math.min(share, most) * unit;
    return `<text x="${left - 8}" y="${y + 13}" text-anchor="end">${escape(text)}</text>
<rect x="${left}" y="${y}" width="${width.toFixed(0)}" height="${line - 7}" fill="${
      isMet ? COLOURS.met : COLOURS.missed
    }"/>
<text x="${left + most * unit + 8}" y="${y + 13}">${
      escape(`${row} ${seen.toFixed(2)}, bar ${shownBar(bar)}`)
    }</text>`;
  });
  const height = 30 + bars.length * line;
  const mark = `<line x1="${left + unit}" x2="${
    left + unit
  }" y1="24" y2="${height}" stroke="#24292f"/>
<text x="${left + unit}" y="16" text-anchor="middle">bar</text>`;
  return svg(1_080, height + 8, [...rows, mark]);
}

/** One diagram for each curve, the runtimes in a row: CPU time per operation, logarithmic. */
export function growthChart(curves) {
  const [width, height, columns] = [480, 240, 2];
  const sorted = curves.toSorted((a, b) => a.name.localeCompare(b.name));
  const diagrams = sorted.map((curve, i) => {
    const x = (i % columns) * width;
    const y = Math.floor(i / columns) * height;
    return `<g transform="translate(${x} ${y})">${diagram(curve, width, height)}</g>`;
  });
  return svg(columns * width, Math.ceil(curves.length / columns) * height, diagrams);
}

function diagram({ title, runtime, unit, points, label = thousands, rows }, width, height) {
  const [left, right, top, bottom] = [70, width - 20, 40, height - 40];
  const costs = rows.map(({ values }) => values.map((value) => 1e6 / value));
  const [low, high] = [Math.min(...costs.flat()), Math.max(...costs.flat())].map(Math.log10);
  const [floor, ceiling] = [Math.floor(low), Math.max(Math.ceil(high), Math.floor(low) + 1)];
  const xOf = (i) => left + (right - left) * i / (points.length - 1);
  const yOf = (cost) => bottom - (bottom - top) * (Math.log10(cost) - floor) / (ceiling - floor);
  const parts = [
    `<text x="${left}" y="20">${escape(`${title}, ${runtime}: CPU µs per ${unit}`)}</text>`,
  ];
  for (let power = floor; power <= ceiling; power++) {
    const y = yOf(10 ** power).toFixed(0);
    parts.push(
      `<line x1="${left}" x2="${right}" y1="${y}" y2="${y}" stroke="#d0d7de"/>`,
      `<text x="${left - 6}" y="${Number(y) + 4}" text-anchor="end">${10 ** power}</text>`,
    );
  }
  points.forEach((point, i) => {
    parts.push(
      `<text x="${xOf(i)}" y="${bottom + 18}" text-anchor="middle">${label(point)}</text>`,
    );
  });
  rows.forEach(({ name }, i) => {
    const line = costs[i].map((cost, at) => `${xOf(at).toFixed(0)},${yOf(cost).toFixed(0)}`);
    parts.push(
      `<polyline points="${line.join(" ")}" fill="none" stroke="${LINES[i]}" stroke-width="2"/>`,
      `<text x="${left + i * 130}" y="${height - 6}" fill="${LINES[i]}">${name}</text>`,
    );
  });
  return parts.join("\n");
}

function svg(width, height, parts) {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" \
font-family="sans-serif" font-size="12">
<rect width="${width}" height="${height}" fill="#fff"/>
${parts.join("\n")}
</svg>
`;
}

function escape(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
