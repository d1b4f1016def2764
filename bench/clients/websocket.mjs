/**
 * WebSockets that count what comes back. `"echo"`: each socket sends its next message when it has
 * the last one back. `"broadcast"`: the first socket has four messages on their way to all, and sends
 * the next when one has reached all.
 * Frames are made once and masked with zeros; replies are counted by their headers and not
 * unmasked, inflated or looked at, so that the client costs less than the server.
 */
import { Buffer } from "node:buffer";
import { constants, deflateRawSync } from "node:zlib";
import { connectAll, count, fail, options, ready } from "./shared.mjs";

const { connections, work, size, deflate = false } = options;
const UPGRADE = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n" +
  "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
  (deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "") + "\r\n";
const RECORDS = Array.from({ length: size }, (_, i) => `{"id":${i},"value":${i * i % 97}}`);
const MESSAGE = textFrame(RECORDS.join().slice(0, size));

/** A text frame as a client sends it, compressed as RFC 7692 section 7.2.1 says. */
function textFrame(text) {
  let payload = Buffer.from(text);
  if (deflate) {
    payload = deflateRawSync(payload, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);
  }
  const { length } = payload;
  const head = length < 126 ? [length | 0x80] : [126 | 0x80, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([deflate ? 0xc1 : 0x81, ...head, 0, 0, 0, 0]), payload]);
}

const BROADCASTS = 4; // at a time
let messages = 0;

const sockets = await connectAll(connections, (connected) => ({
  open: (socket) => socket.data = { head: "", left: 0, header: [], upgraded: connected },
  handshake: (socket) => void socket.write(UPGRADE),
  data: (socket, bytes) => socket.data.upgraded ? answered(socket, bytes) : frames(socket, bytes),
}));

function answered(socket, bytes) {
  const { data } = socket;
  data.head += bytes.toString("latin1");
  if (!data.head.endsWith("\r\n\r\n")) return;
  if (!data.head.startsWith("HTTP/1.1 101")) fail(data.head);
  if (/permessage-deflate/.test(data.head) !== deflate) fail(`Compression: ${data.head}`);
  data.upgraded(socket);
  data.upgraded = undefined;
}

/** Counts the frames that end in these bytes. */
function frames(socket, bytes) {
  const { data } = socket;
  for (let at = 0; at < bytes.length;) {
    if (data.left > 0) {
      const step = Math.min(data.left, bytes.length - at);
      at += step;
      data.left -= step;
    } else {
      data.header.push(bytes[at++]);
      const [, length, ...extended] = data.header;
      if (length === undefined || (length === 126 && extended.length < 2)) continue;
      data.left = length === 126 ? extended[0] << 8 | extended[1] : length;
      if ((data.header[0] & 0x0f) !== 1 || length === 127) fail("Not a text frame, or a long one");
      data.header = [];
    }
    if (data.left === 0 && data.header.length === 0) received(socket);
  }
}

function received(socket) {
  messages++;
  count();
  if (work === "echo") socket.write(MESSAGE);
  else if (messages % connections === 0) sockets[0].write(MESSAGE);
}

for (const socket of work === "echo" ? sockets : Array(BROADCASTS).fill(sockets[0])) {
  socket.write(MESSAGE);
}
ready();
