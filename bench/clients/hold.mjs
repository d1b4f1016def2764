/**
 * Connections that are opened and then left alone: each has sent one request, and is idle once it
 * has its answer; with `stalled` it reads nothing of it. Prints READY when all are there, and holds
 * them until it is ended.
 */
import { connectAll, fail, options } from "./measure.mjs";

const { port, connections, path = "/", stalled = false } = options;
const REQUEST = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;

await connectAll(connections, async () => {
  const { promise, resolve } = Promise.withResolvers();
  await Bun.connect({
    hostname: "127.0.0.1",
    port,
    tls: { rejectUnauthorized: false },
    socket: {
      handshake: (socket) => void socket.write(REQUEST),
      data(socket, bytes) {
        if (!bytes.toString("latin1").startsWith("HTTP/1.1 200 OK")) fail(bytes.toString("latin1"));
        if (stalled) socket.pause();
        resolve(socket);
      },
      error: (_, error) => fail(String(error)),
      close: () => fail("The server closed a connection"),
    },
  });
  return promise;
});
console.log("READY");
