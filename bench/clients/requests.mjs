/**
 * Requests on connections that are all open before the clock starts. Without `rate`, each connection
 * sends its next request when it has its answer. With `rate`, requests are due at even distances
 * whatever the server does (open loop), and a latency counts from when its request was due, not from
 * when a connection was free to send it: so a server that stalls cannot hide the requests that
 * waited meanwhile (no coordinated omission). The client's own few microseconds are in it; when it was
 * late by much more, for want of CPU time, the result says so.
 */
import { connectAll, fail, finish, measure, options } from "./measure.mjs";

const { connections, rate, path = "/" } = options;
const REQUEST = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;

let answers = 0;
let answerLength; // of every answer: they differ in nothing but the time of their Date
const free = [];
const waiting = []; // when the requests were due that no connection was free for
let latencies;
let delays; // from when requests were due to when this client came to it

const sockets = await connectAll(connections, (ready) => ({
  open: (socket) => socket.data = { received: 0, due: 0, head: "", ready },
  handshake: (socket) => void socket.write(REQUEST),
  data: (socket, bytes) => socket.data.ready ? first(socket, bytes) : next(socket, bytes),
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
  data.ready(socket);
  data.ready = undefined;
}

function next(socket, bytes) {
  const { data } = socket;
  data.received += bytes.length;
  if (data.received < answerLength) return;
  data.received -= answerLength;
  answers++;
  if (rate === undefined) return void socket.write(REQUEST);
  latencies?.push(performance.now() - data.due);
  if (waiting.length > 0) send(socket, waiting.shift());
  else free.push(socket);
}

function send(socket, due) {
  socket.data.due = due;
  socket.write(REQUEST);
}

if (rate === undefined) {
  for (const socket of sockets) socket.write(REQUEST);
} else {
  free.push(...sockets);
  const distance = 1_000 / rate;
  let due = performance.now();
  const spin = () => {
    for (const now = performance.now(); due <= now; due += distance) {
      delays?.push(now - due);
      const socket = free.shift();
      if (socket === undefined) waiting.push(due);
      else send(socket, due);
    }
    setImmediate(spin); // timers are too coarse
  };
  spin();
  setTimeout(() => [latencies, delays] = [[], []], options.warmUp * 1_000);
}

const result = await measure(() => answers);
if (latencies !== undefined) {
  result.p50 = percentile(latencies, 50);
  result.p99 = percentile(latencies, 99);
  const late = percentile(delays, 99);
  if (late > 0.2 * result.p99) result.note = `client late: ${Math.round(late)} µs at its p99`;
}
finish(result);

/** A percentile of times in ms, in µs. */
function percentile(times, percent) {
  const sorted = Float64Array.from(times).sort();
  return sorted[Math.floor(sorted.length * percent / 100)] * 1_000;
}
