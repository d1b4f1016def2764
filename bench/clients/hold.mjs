/**
 * Connections that are opened and then left alone: each has sent one request, and is idle once it
 * has its answer; with `stalled` it reads nothing of it; with `http2` it speaks that. Prints READY
 * when all are there, and holds them until it is ended.
 */
import { Buffer } from "node:buffer";
import { connectAll, fail, options } from "./measure.mjs";

const { connections, path = "/", stalled = false, http2 = false } = options;

if (http2) await connectAll(connections, overHttp2, "h2");
else await connectAll(connections, overHttp1);
console.log("READY");

function overHttp1(ready) {
  const request = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
  return {
    handshake: (socket) => void socket.write(request),
    data(socket, bytes) {
      if (!bytes.toString("latin1").startsWith("HTTP/1.1 200 OK")) fail(bytes.toString("latin1"));
      if (stalled) socket.pause();
      ready(socket);
    },
  };
}

/** The preface with SETTINGS, a GET of / in static fields of HPACK, and the small answer. */
function overHttp2(ready) {
  const fields = Buffer.from("\x82\x87\x84\x41\x09localhost", "latin1");
  const hello = Buffer.concat([
    Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    frame(0x4, 0, 0),
    frame(0x1, 0x5, 1, fields), // END_STREAM and END_HEADERS
  ]);
  let received = "";
  return {
    handshake: (socket) => void socket.write(hello),
    data(socket, bytes) {
      if (received === "") socket.write(frame(0x4, 0x1, 0)); // the server's SETTINGS come first
      received += bytes.toString("latin1");
      if (received.includes("hello world")) ready(socket);
    },
  };
}

function frame(type, flags, stream, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}
