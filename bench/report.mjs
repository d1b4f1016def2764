/** What the benchmark prints and writes: Markdown tables. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root, runtimeBinary } from "../scripts/runtimes.mjs";
import { rows } from "./rows.mjs";

const SUMMARY = join(root, "docs/performance.md");
const TABLES = join(root, "docs/performance-tables.md");
const BEGIN = "<!-- begin of the summary, written by npm run bench -->";
const END = "<!-- end of the summary -->";
const NEVER = "purge never";

/** A ratio with its quartiles. */
const shownRatio = (ratio) =>
  ratio === undefined
    ? "not saturated"
    : `${ratio.median.toFixed(2)} (${ratio.low.toFixed(2)}–${ratio.high.toFixed(2)})`;

const round = (value) => value.toFixed(Math.abs(value) < 100 ? 1 : 0);

/** The columns of rows that are not operations per CPU second. */
const SINGLE_COLUMNS = {
  late: {
    rate: "requests per second",
    load: "CPU",
    late: "ticks late by > 5 ms in 20 s",
    worst: "worst tick, ms",
    p50: "p50, ms",
    p99: "p99, ms",
    clientP99: "of which the client, ms",
  },
  startUp: { milliseconds: "CPU, ms", peak: "peak of the resident memory, MB" },
  memory: { after: "KB, garbage collected", before: "KB before that" },
};

function singleColumns({ name }) {
  if (name === "late") return SINGLE_COLUMNS.late;
  return name === "start-up" ? SINGLE_COLUMNS.startUp : SINGLE_COLUMNS.memory;
}

/** The table of a row that was measured. */
export function rowTable(row) {
  const { title, runtime, version, allocator, contestants, single, unit, bars } = row;
  const setting = allocator === "default" ? "" : `, ${NEVER}`;
  const heading = `### ${title} (\`${row.name}\`), ${runtime} ${version}${setting}`;
  const source = `${row.date}, commit ${row.commit}, load ${row.load.toFixed(1)}`;
  return [
    heading,
    `${source}${single ? "" : `, ${contestants[0].rounds} rounds`}.`,
    single ? singleTable(row) : table(
      [
        "",
        `CPU µs per ${unit}`,
        `× ${contestants[0].name} (quartiles)`,
        `page faults per ${unit}`,
        "saturated rounds",
      ],
      contestants.map(({ name, cost, faults, ratio, saturated, rounds }) => [
        name,
        cost.toFixed(cost < 100 ? 2 : 0),
        shownRatio(ratio),
        faults.toFixed(2),
        saturated === rounds ? "all" : `${saturated} of ${rounds}`,
      ]),
    ),
    ...bars.flatMap((bar) => judged(bar, row).text ?? []).map((text) => `- ${text}`),
  ].join("\n\n").replaceAll("\n\n- ", "\n- ").replace(/\n- /, "\n\n- ");
}

function singleTable(row) {
  const columns = Object.entries(singleColumns(row));
  return table(
    ["", ...columns.map(([, title]) => title)],
    row.contestants.map((contestant) => [
      contestant.name,
      ...columns.map(([value]) =>
        value === "load" ? `${(100 * contestant.load).toFixed(0)} %` : round(contestant[value])
      ),
    ]),
  );
}

/** Whether a bar is met, with what was asked for and seen; nothing where the runtime has none. */
function judged(bar, row) {
  const limit = bar.limits[row.runtime];
  if (limit === undefined) return {};
  const value = (name) => row.contestants.find((each) => each.name === name)[bar.value];
  const { asked, seen, isMet } = {
    speed: () => ({
      asked: `≥ ${limit} × ${bar.of}`,
      seen: shownRatio(bar.ratio),
      isMet: bar.ratio && bar.ratio.median >= limit,
    }),
    times: () => {
      const [mine, others] = [value(bar.contestant), value(bar.of)];
      return {
        asked: `≤ ${limit} × ${bar.of}`,
        seen: `${round(mine)} to ${round(others)}`,
        isMet: mine <= limit * others,
      };
    },
    more: () => {
      const more = value(bar.contestant) - value(bar.of);
      return { asked: `≤ ${bar.of} + ${limit}`, seen: `+ ${round(more)}`, isMet: more <= limit };
    },
    most: () => {
      const seen = value(bar.contestant);
      return { asked: `≤ ${limit}`, seen: round(seen), isMet: seen <= limit };
    },
  }[bar.kind]();
  const verdict = isMet === undefined ? "not compared" : isMet ? "met" : "**missed**";
  return { asked, seen, verdict, text: `${verdict}: ${bar.contestant} ${asked}, seen ${seen}` };
}

/** Rows in the order in which they are measured, on one runtime after the other. */
function inOrder(saved) {
  const names = rows({ certificate: {} }).map(({ name }) => name);
  const place = ({ name, runtime, allocator }) =>
    [runtime, String(names.indexOf(name)).padStart(3), allocator].join();
  return saved.toSorted((one, other) => place(one) < place(other) ? -1 : 1);
}

/** Writes all tables into one page of docs/, and their summary into the other. */
export function writePages(measured) {
  const saved = inOrder(measured);
  const { date, machine } = measured.at(-1);
  writeFileSync(
    TABLES,
    [
      "# Performance: all tables",
      `Written by \`npm run bench -- --write FILE\`; [performance.md](performance.md) says what the
figures mean. Last measured on ${date} on ${machine}.`,
      ...saved.map(rowTable),
    ].join("\n\n") + "\n",
  );
  const [head, , tail] = readFileSync(SUMMARY, "utf8").split(
    new RegExp(`${BEGIN}|${END}`.replaceAll("-", "\\-")),
  );
  writeFileSync(SUMMARY, `${head}${BEGIN}\n\n${summaryTable(saved)}\n\n${END}${tail}`);
  spawnSync(runtimeBinary("deno"), ["fmt", "-q", TABLES, SUMMARY], { cwd: root, stdio: "inherit" });
}

/** Every bar on both runtimes, and on Bun with the other setting of the allocator. */
function summaryTable(saved) {
  const find = (name, runtime, allocator) =>
    saved.find((row) =>
      row.name === name && row.runtime === runtime && row.allocator === allocator
    );
  const lines = new Map();
  for (const row of saved) {
    for (const [at, bar] of row.bars.entries()) lines.set(`${row.name} ${at}`, { row, at, bar });
  }
  const cell = (row, at) => {
    const bar = row?.bars[at];
    const { asked, seen, verdict } = bar === undefined ? {} : judged(bar, row);
    return { asked: asked ?? "", seen: seen === undefined ? "" : `${seen}, ${verdict}` };
  };
  const body = [...lines.values()].map(({ row: { name }, at, bar }) => {
    const [bun, deno] = ["bun", "deno"].map((each) => cell(find(name, each, "default"), at));
    const never = find(name, "bun", "never")?.bars[at]?.ratio;
    const what = `\`${name}\` ${bar.contestant}`;
    const shownNever = never === undefined ? "" : never.median.toFixed(2);
    return [what, bun.asked, bun.seen, shownNever, deno.asked, deno.seen];
  });
  return table(["", "bar, Bun", "Bun", `Bun, ${NEVER}`, "bar, Deno", "Deno"], body);
}

function table(head, body) {
  const rule = head.map(() => "---");
  return [head, rule, ...body].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
