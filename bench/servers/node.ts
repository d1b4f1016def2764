/**
 * The bare loop on `node:tls`, which reads bytes and writes a fixed answer: the ceiling of what a
 * transport over it can reach.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { AddressInfo } from "node:net";
import { createServer } from "node:tls";
import { cert, clientCa, HELLO, hostname, key, type Parameters, TEXT_TYPE } from "./work.ts";

/** The answer of the native server to `hello`; with `once` that on a connection's last request. */
function answer(once: boolean): Buffer {
  const lines = [
    "HTTP/1.1 200 OK",
    `Content-Type: ${TEXT_TYPE}`,
    `Date: ${new Date().toUTCString()}`,
    ...once ? ["Connection: close"] : [],
    `Content-Length: ${HELLO.length}`,
  ];
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n${HELLO}`);
}

/** The loop; with `once` it closes after its answer. */
export function nodeTls({ once = false, mutual }: Parameters): Promise<number> {
  const bytes = answer(once);
  const client = { ca: clientCa, requestCert: true, rejectUnauthorized: true };
  const server = createServer({ cert, key, noDelay: true, ...mutual && client }, (socket) => {
    socket.on("error", () => {}); // the client is gone
    socket.on("data", () => once ? socket.end(bytes) : socket.write(bytes));
  });
  return new Promise((resolve) => {
    server.listen(0, hostname, () => resolve((server.address() as AddressInfo).port));
  });
}
