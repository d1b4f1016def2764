/**
 * Connections that are opened and then left alone: each has sent one request, and is idle once it
 * has its answer; with `http2` it speaks that. Prints READY when all are there, and holds them until
 * it is ended.
 */
import { Buffer } from "node:buffer";
import { connectAll, fail, options, ready } from "./shared.mjs";
import { END_HEADERS, END_STREAM, frame, PREFACE, TYPES } from "./http2_frames.mjs";

const { connections, http2 = false } = options;

if (http2) await connectAll(connections, overHttp2, "h2");
else await connectAll(connections, overHttp1);
ready();

function overHttp1(answered) {
  return {
    handshake: (socket) => void socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    data(socket, bytes) {
      if (!bytes.toString("latin1").startsWith("HTTP/1.1 200 OK")) fail(bytes.toString("latin1"));
      answered(socket);
    },
  };
}

/** The preface with SETTINGS, a GET of / in static fields of HPACK, and the small answer. */
function overHttp2(answered) {
  const fields = Buffer.from("\x82\x87\x84\x41\x09localhost", "latin1");
  const hello = Buffer.concat([
    PREFACE,
    frame(TYPES.SETTINGS),
    frame(TYPES.HEADERS, END_HEADERS | END_STREAM, 1, fields),
  ]);
  let received = "";
  return {
    handshake: (socket) => void socket.write(hello),
    data(socket, bytes) {
      if (received === "") socket.write(frame(TYPES.SETTINGS, 1)); // the server's come first
      received += bytes.toString("latin1");
      if (received.includes("hello world")) answered(socket);
    },
  };
}
