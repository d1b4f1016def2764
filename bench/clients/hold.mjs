/**
 * Connections that are opened and then left alone: each has sent one request, and is idle once it
 * has its answer; with `stalled` it reads nothing of it. Prints READY when all are there, and holds
 * them until it is ended.
 */
import { connectAll, fail, options } from "./measure.mjs";

const { connections, path = "/", stalled = false } = options;
const REQUEST = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;

await connectAll(connections, (ready) => ({
  handshake: (socket) => void socket.write(REQUEST),
  data(socket, bytes) {
    if (!bytes.toString("latin1").startsWith("HTTP/1.1 200 OK")) fail(bytes.toString("latin1"));
    if (stalled) socket.pause();
    ready(socket);
  },
}));
console.log("READY");
