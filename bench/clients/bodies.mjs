/**
 * Long bodies over HTTP/1.1, counted in MB: downloads, or with `upload` bodies of so many bytes that
 * are sent. On each connection one request follows the other, for ever, or until so many `requests`
 * were answered: then it prints how long it has waited for its core.
 */
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import process from "node:process";
import { connectAll, count, fail, options, ready } from "./shared.mjs";

const { connections, requests = Infinity, upload } = options;
const MB = 1024 * 1024;
const PIECE = Buffer.alloc(256 * 1024, "a");
const REQUEST = upload === undefined
  ? "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
  : `POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${upload}\r\n\r\n`;

let begun = 0;
let done = 0;

const sockets = await connectAll(connections, (connected) => ({
  open: (socket) => socket.data = { toSend: 0, toReceive: 0 },
  handshake: connected,
  drain: send,
  data: receive,
}));
ready();
for (const socket of sockets) begin(socket);

function begin(socket) {
  if (begun++ >= requests) return;
  socket.write(REQUEST);
  socket.data.toSend = upload ?? 0;
  send(socket);
}

/** Writes as much as the socket takes. */
function send(socket) {
  const { data } = socket;
  while (data.toSend > 0) {
    const taken = socket.write(PIECE.subarray(0, Math.min(PIECE.length, data.toSend)));
    if (taken < 0) fail("A connection cannot be written");
    data.toSend -= taken;
    if (taken < PIECE.length) return;
  }
}

function receive(socket, bytes) {
  const { data } = socket;
  if (data.toReceive === 0) data.toReceive = lengthOfAnswer(bytes);
  data.toReceive -= bytes.length;
  if (upload === undefined) count(bytes.length / MB);
  if (data.toReceive > 0) return;
  if (upload !== undefined) count(upload / MB);
  if (++done >= requests) finish();
  begin(socket);
}

/** How long an answer is with its head, which comes with the first bytes. */
function lengthOfAnswer(bytes) {
  const head = bytes.toString("latin1", 0, 1_000);
  const end = head.indexOf("\r\n\r\n") + 4;
  const length = /content-length: (\d+)/i.exec(head)?.[1];
  if (end < 4 || !head.startsWith("HTTP/1.1 200") || length === undefined) fail(head);
  return end + Number(length);
}

function finish() {
  const [, waitedNs] = readFileSync("/proc/thread-self/schedstat", "latin1").split(" ");
  console.log(`WAITED ${waitedNs}`);
  process.exit(0);
}
