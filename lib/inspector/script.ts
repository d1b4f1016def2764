/**
 * The script of the page, as the browser runs it: it listens to the stream and shows what comes, only
 * by text nodes and attributes, so that nothing a client has sent becomes markup.
 *
 * @module
 */

/** JavaScript, as it stands in the page. */
export const SCRIPT = String.raw`
"use strict";
const byId = (id) => document.getElementById(id);
const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const time = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const KEPT = 300;
const MINUTE = 60;
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}
function draw(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
const small = (...children) => make("small", {}, ...children);
const code = (text) => make("code", {}, text);
const paragraph = (...children) => make("p", {}, ...children);

function duration(ms) {
  if (ms === null) return "–";
  if (ms === 0) return "0";
  if (ms < 1) return Math.round(ms * 1000) + " µs";
  if (ms < 10) return number.format(Math.round(ms * 10) / 10) + " ms";
  if (ms < 1000) return Math.round(ms) + " ms";
  if (ms < 60000) return number.format(ms / 1000) + " s";
  if (ms < 3600000) return Math.round(ms / 60000) + " min";
  if (ms < 172800000) return Math.round(ms / 3600000) + " h";
  return Math.round(ms / 86400000) + " days";
}
function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; count >= 1000 && unit < units.length - 1; unit++) count /= 1000;
  return number.format(count) + " " + units[unit];
}
const total = (counts) => Object.values(counts).reduce((sum, count) => sum + count, 0);

/* Replaces the children of an element only when they differ: a reader's place and selection stay. */
const shown = new Map();
function show(element, key, children) {
  const text = JSON.stringify(key);
  if (shown.get(element) === text) return;
  shown.set(element, text);
  element.replaceChildren(...children());
}
function fill(id, key, empty, rows) {
  const table = byId(id);
  const labels = [...table.querySelectorAll("th")].map((th) => th.textContent);
  show(table.tBodies[0], key, () => {
    const made = rows();
    if (made.length === 0) {
      return [make("tr", { role: "row" }, make("td", { role: "cell", class: "empty", colspan: labels.length }, empty))];
    }
    return made.map(({ cells, kind }) =>
      make("tr", { role: "row", class: kind || "" }, cells.map((cell, column) =>
        make("td", { role: "cell", "data-label": labels[column] }, make("div", {}, cell)))));
  });
}

function tile(label, value, more, isBad) {
  return make("div", {}, make("dt", {}, label), make("dd", { class: isBad ? "number bad" : "number" }, value),
    more ? make("dd", { class: "more" }, more) : null);
}
function showTiles(state) {
  const { summary, counts, states, caps } = state;
  const failures = history.reduce((sum, second) => sum + second[4], 0);
  const errors = history.reduce((sum, second) => sum + second[1][5], 0);
  const values = [
    ["Connections", number.format(summary.open), caps[0].of === null ? "no cap" : "of " + number.format(caps[0].of)],
    ["Requests a second", number.format(summary.perSecond), number.format(summary.active) + " under way"],
    ["95 % take less than", duration(summary.p95), number.format(counts.requests) + " requests in all"],
    ["Server errors", number.format(errors), "in the time of the charts", errors > 0],
    ["Failed connections", number.format(summary.failures), number.format(failures) + " in that time", failures > 0],
    ["Handshakes", number.format(counts.full + counts.resumed), number.format(counts.resumed) + " resumed"],
    ["WebSockets", number.format(states.websocket), number.format(counts.purged) + " closed for room"],
    ["Late at most", duration(summary.lagMs), "event loop, last minute", summary.lagMs > 200],
  ];
  show(byId("tiles"), values, () => values.map((value) => tile(...value)));
}

function showCaps(caps) {
  show(byId("caps"), caps, () => caps.map(({ name, option, used, of, unit }) => {
    const amount = unit === "bytes" ? bytes : (count) => number.format(count);
    const part = of === null ? 0 : Math.min(1, used / of);
    const percent = part === 0 ? "" : " (" + number.format(part * 100) + " %)";
    const bar = draw("svg", { "aria-hidden": "true" });
    bar.append(draw("rect", { height: "100%", width: part * 100 + "%" }));
    return make("div", { class: part >= 1 ? "full" : part >= 0.8 ? "near" : "" },
      make("dt", {}, name, small(" ", code(option))),
      make("dd", {}, of === null ? amount(used) + ", no cap" : amount(used) + " of " + amount(of) + percent),
      make("dd", { class: "bar" }, bar));
  }));
}

function doing(session) {
  if (session.now.length > 0) {
    const all = session.now.map(({ method, path, ms }) => paragraph(code((method || "?") + " " + (path || "")), " " + duration(ms)));
    const more = session.active - session.now.length;
    return more > 0 ? [...all, small("and " + more + " more")] : all;
  }
  if (session.state === "idle") return [session.kind === "websocket" ? "WebSocket" : "idle"];
  return session.state === "busy" ? ["a request", small("from before anybody looked")] : [session.state];
}
function tls(session) {
  const { tls } = session;
  if (tls === null) return ["none"];
  const facts = [tls.protocol, tls.alpn || "no ALPN", tls.resumed ? "resumed" : "full"].join(" · ");
  return [facts, small(tls.cipher), tls.ja4 === null ? null : small(code(tls.ja4))];
}
function client(session) {
  const { address, port, tls } = session;
  const name = tls === null ? null : tls.sni === null ? small("no server name") : small("for " + tls.sni);
  const certificate = tls === null || tls.client === null ? null
    : small(tls.authorized ? "certificate: " : "certificate, not verified: ", tls.client);
  return [code((address || "UNIX socket") + (port ? " : " + port : "")), name, certificate];
}
function showSessions({ open, purges, shown }, at) {
  byId("sessions-count").textContent = shown.length < open ? shown.length + " of " + number.format(open) : number.format(open);
  fill("sessions", [shown, purges, Math.round(at / 1000)], "No session is open", () =>
    shown.map((session) => {
      const isNext = session.position === 1 && purges;
      const order = session.position === null ? ["–", make("span", { class: "unseen" }, "is not closed now")]
        : isNext ? [make("span", { class: "tag" }, "closes next")] : [String(session.position)];
      return {
        kind: isNext ? "next" : "",
        cells: [order, client(session), tls(session), doing(session), duration(at - session.since), number.format(session.requests)],
      };
    }));
}

function showFailures(failures) {
  const count = failures.reduce((sum, { times }) => sum + times, 0);
  byId("failures-count").textContent = number.format(count);
  fill("failures", failures, "None so far", () =>
    failures.map(({ at, times, code: reason, message, phase, address, sni, ja4, alpn }) => ({
      cells: [
        time.format(at),
        [make("span", { class: "tag bad" }, reason), small(message + (phase === null ? "" : " (" + phase + ")"))],
        code(address || "–"),
        sni === null ? "no server name" : sni,
        ja4 === null ? "–" : [code(ja4), small(alpn ? "offers " + alpn : "offers no ALPN")],
        number.format(times),
      ],
    })));
}

function showCertificates(certificates, isSecure, at) {
  fill("certificates", [certificates, Math.round(at / 60000)], isSecure ? "None in force" : "Plain HTTP", () =>
    certificates.map(({ names, more, fingerprint, to, renewed, renewAt, error }) => {
      const left = to === null ? 0 : to - at;
      const ends = to === null ? [make("span", { class: "tag bad" }, "none yet")]
        : [day.format(to), small(left > 0 ? "in " + duration(left) : make("span", { class: "tag bad" }, "expired"))];
      const next = renewAt !== null ? [moment.format(renewAt), small(renewAt > at ? "in " + duration(renewAt - at) : "now")]
        : renewed ? "when a client asks" : "not by itself";
      return {
        cells: [
          [names.join(", ") + (more > 0 ? " and " + more + " more" : ""),
            fingerprint === null ? null : small(code(fingerprint.replaceAll(":", "").slice(0, 16).toLowerCase() + "…"))],
          ends, next,
          error === null ? "–" : [make("span", { class: "tag bad" }, error.code), small(error.message)],
        ],
      };
    }));
}

function showWorkers(workers, own) {
  if (own === null || own.worker === null) return;
  byId("others").hidden = false;
  const all = [...workers, { index: own.worker.index, url: null, summary: own }].sort((a, b) => a.index - b.index);
  fill("workers", all, "", () => all.map(({ index, url, summary }) => {
    const name = "Worker " + (index + 1);
    const title = url === null ? [name, small("this one")] : [make("a", { href: url }, name)];
    if (summary === null) return { cells: [title, "does not answer", "–", "–", "–", "–", "–"] };
    const { open, active, perSecond, p95, failures, lagMs } = summary;
    return { cells: [title, number.format(open), number.format(active), number.format(perSecond), duration(p95), number.format(failures), duration(lagMs)] };
  }));
}

/* Charts: each second of the history is [number, byClass, [p50, p95, p99], accepted, failed]. */
let history = [];
const CLASSES = [[2, "2xx"], [3, "3xx"], [4, "4xx"], [5, "5xx"], [0, "none"]];
const QUANTILES = ["half", "95 %", "99 %"];
const BIN = 2;
const EDGE = { left: 52, right: 4, top: 8, bottom: 18 };

function ceiling(most) {
  if (!(most > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((factor) => factor * power).find((nice) => nice >= most);
}
/* How many seconds the charts show: whole minutes, as many as there are. */
function span() {
  const length = history.length === 0 ? 0 : history[history.length - 1][0] - history[0][0] + 1;
  return Math.min(KEPT, Math.max(1, Math.ceil(length / MINUTE)) * MINUTE);
}
function frame(svg, most, label) {
  const { width, height } = svg.getBoundingClientRect();
  const inner = { width: width - EDGE.left - EDGE.right, height: height - EDGE.top - EDGE.bottom };
  const seconds = span();
  const x = (second) => EDGE.left + (second / seconds) * inner.width;
  const y = (value) => EDGE.top + (1 - value / most) * inner.height;
  const parts = [];
  for (const part of [0, 0.5, 1]) {
    parts.push(draw("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(part * most), y2: y(part * most) }));
    parts.push(draw("text", { x: EDGE.left - 6, y: y(part * most) + 4, "text-anchor": "end" }, label(part * most)));
  }
  parts.push(draw("text", { x: EDGE.left, y: height - 2 }, duration(seconds * 1000) + " ago"));
  parts.push(draw("text", { x: width - EDGE.right, y: height - 2, "text-anchor": "end" }, "now"));
  return { x, y, parts, width: inner.width };
}
function legend(id, entries) {
  byId(id + "-legend").replaceChildren(...entries.map(([kind, text]) => make("span", { class: kind }, make("i", {}), text)));
}
function drawRate() {
  const svg = byId("rate");
  const last = history.length === 0 ? 0 : history[history.length - 1][0];
  const bins = Array.from({ length: span() / BIN }, () => [0, 0, 0, 0, 0, 0]);
  for (const [second, byClass] of history) {
    const bin = bins[bins.length - 1 - Math.floor((last - second) / BIN)];
    if (bin) byClass.forEach((count, kind) => bin[kind] += count / BIN);
  }
  const most = ceiling(Math.max(...bins.map((bin) => total(bin))));
  const { x, y, parts, width } = frame(svg, most, (value) => number.format(value));
  const gap = Math.min(2, width / bins.length / 4);
  bins.forEach((bin, column) => {
    let base = 0;
    for (const [kind] of CLASSES) {
      if (bin[kind] === 0) continue;
      const top = y(base + bin[kind]);
      parts.push(draw("rect", { class: "c" + kind, x: x(column * BIN), y: top, width: Math.max(1, (width / bins.length) - gap), height: Math.max(1, y(base) - top) }));
      base += bin[kind];
    }
  });
  svg.replaceChildren(...parts);
  const sums = CLASSES.map(([kind, name]) => [kind, name, history.reduce((sum, second) => sum + second[1][kind], 0)]);
  legend("rate", sums.filter(([kind, , sum]) => sum > 0 || kind === 2 || kind >= 4).map(([kind, name, sum]) => ["c" + kind, name + " " + number.format(sum)]));
  svg.setAttribute("aria-label", "Requests a second, up to " + number.format(most) + ". In this time: " + sums.map(([, name, sum]) => name + " " + sum).join(", "));
}
function drawLatency() {
  const svg = byId("latency");
  const last = history.length === 0 ? 0 : history[history.length - 1][0];
  const most = ceiling(Math.max(0, ...history.map((second) => second[2][2] || 0)));
  const { x, y, parts } = frame(svg, most, duration);
  const now = [null, null, null];
  [2, 1, 0].forEach((which) => {
    let path = "";
    let isOpen = false;
    for (const [second, , quantiles] of history) {
      const value = quantiles[which];
      if (value === null) { isOpen = false; continue; }
      path += (isOpen ? "L" : "M") + x(span() - (last - second)).toFixed(1) + " " + y(value).toFixed(1) + (isOpen ? "" : "h0");
      isOpen = true;
      now[which] = value;
    }
    if (path !== "") parts.push(draw("path", { class: "l" + which, d: path }));
  });
  svg.replaceChildren(...parts);
  const texts = QUANTILES.map((name, which) => name + " below " + duration(now[which]));
  legend("latency", texts.map((text, which) => ["l" + which, text]));
  svg.setAttribute("aria-label", "How long requests took, up to " + duration(most) + ". Lately: " + texts.join(", "));
}

let isPaused = false;
let latest = null;
let workers = [];
let spokenAt = 0;
function showAll() {
  if (latest === null) return;
  const { at, runtime, address, secure, summary, caps, sessions, failures, certificates } = latest;
  const { worker } = summary;
  byId("where").textContent = [(secure ? "https on " : "http on ") + address, summary.state, runtime,
    worker === null ? "" : "worker " + (worker.index + 1) + " of " + worker.of].filter(Boolean).join(" · ");
  showTiles(latest);
  drawRate();
  drawLatency();
  showCaps(caps);
  showSessions(sessions, at);
  showFailures(failures);
  showCertificates(certificates, secure, at);
  showWorkers(workers, summary);
  if (at - spokenAt < 30000) return;
  spokenAt = at;
  byId("spoken").textContent = summary.open + " connections, " + number.format(summary.perSecond) + " requests a second, " + summary.failures + " failures in all";
}
function showLive(text, isOn) {
  byId("live").textContent = text;
  byId("live").classList.toggle("on", isOn);
}
byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  showLive(isPaused ? "paused" : "live", !isPaused);
  if (!isPaused) showAll();
});
addEventListener("resize", () => { drawRate(); drawLatency(); });

const stream = new EventSource(location.pathname + "?stream");
stream.addEventListener("open", () => { history = []; if (!isPaused) showLive("live", true); });
stream.addEventListener("error", () => showLive("connection lost, trying again", false));
stream.addEventListener("history", ({ data }) => {
  history = [...history, ...JSON.parse(data)];
  const last = history.length === 0 ? 0 : history[history.length - 1][0];
  history = history.filter(([second]) => second > last - KEPT);
});
stream.addEventListener("workers", ({ data }) => { workers = JSON.parse(data); });
stream.addEventListener("state", ({ data }) => {
  latest = JSON.parse(data);
  if (!isPaused) showAll();
});
`;
