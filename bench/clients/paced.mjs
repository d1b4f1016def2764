/**
 * Requests that are due at even distances whatever the server does (an open loop), on connections
 * that are all open before. A latency counts from when its request was due, not from when a
 * connection was free to send it: so a server that stalls cannot hide the requests that waited
 * meanwhile (no coordinated omission). After `warmUp` seconds it measures for `seconds`, and prints
 * the latencies, and how late it was itself for want of CPU time.
 */
import { connectAll, fail, options, ready } from "./shared.mjs";

const { connections, rate, warmUp, seconds } = options;
const REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

let answerLength; // of every answer: they differ in nothing but the time of their Date
const free = [];
const waiting = []; // when the requests were due that no connection was free for
let latencies = [];
let delays = []; // from when requests were due to when this client came to it

const sockets = await connectAll(connections, (answered) => ({
  open: (socket) => socket.data = { received: 0, due: 0, head: "", answered },
  handshake: (socket) => void socket.write(REQUEST),
  data: (socket, bytes) => socket.data.answered ? first(socket, bytes) : next(socket, bytes),
}));

/** The first answer says how long all are. */
function first(socket, bytes) {
  const { data } = socket;
  data.head += bytes.toString("latin1");
  const end = data.head.indexOf("\r\n\r\n") + 4;
  const length = /content-length: (\d+)/i.exec(data.head)?.[1];
  if (end < 4 || data.head.length < end + Number(length)) return;
  if (!data.head.startsWith("HTTP/1.1 200")) fail(data.head);
  answerLength ??= end + Number(length);
  data.answered(socket);
  data.answered = undefined;
}

function next(socket, bytes) {
  const { data } = socket;
  data.received += bytes.length;
  if (data.received < answerLength) return;
  data.received -= answerLength;
  latencies.push(performance.now() - data.due);
  if (waiting.length > 0) send(socket, waiting.shift());
  else free.push(socket);
}

function send(socket, due) {
  socket.data.due = due;
  socket.write(REQUEST);
}

free.push(...sockets);
const distance = 1_000 / rate;
let due = performance.now();
function spin() {
  for (const now = performance.now(); due <= now; due += distance) {
    delays.push(now - due);
    const socket = free.shift();
    if (socket === undefined) waiting.push(due);
    else send(socket, due);
  }
  setImmediate(spin); // timers are too coarse
}
spin();

await Bun.sleep(warmUp * 1_000);
[latencies, delays] = [[], []];
ready();
await Bun.sleep(seconds * 1_000);
console.log(`RESULT ${
  JSON.stringify({
    p50: percentile(latencies, 50),
    p99: percentile(latencies, 99),
    clientP99: percentile(delays, 99),
  })
}`);
process.exit(0);

/** A percentile of times in ms. */
function percentile(times, percent) {
  const sorted = Float64Array.from(times).sort();
  return sorted[Math.floor(sorted.length * percent / 100)];
}
