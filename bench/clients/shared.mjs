/**
 * What the clients share. A client is a program for Bun, whose `Bun.connect` is the cheapest way to
 * speak TLS from JavaScript; it is given its options as JSON. It may be stopped and continued at
 * any time, so it counts into memory that it shares with the benchmark: a file of one number.
 */
import { Buffer } from "node:buffer";
import process from "node:process";

/** The options: `port` of the server, the file `counts`, and each client's own. */
export const options = JSON.parse(process.argv[2]);

const counter = options.counts === undefined ? new Float64Array(1) : mapped(options.counts);

function mapped(file) {
  const { buffer, byteOffset } = Bun.mmap(file);
  return new Float64Array(buffer, byteOffset, 1);
}

/** Counts operations that are done. */
export function count(operations = 1) {
  counter[0] += operations;
}

/**
 * Opens connections, 64 at a time, and resolves with them when each is ready: `handlers` makes those
 * of a socket, given what it calls with the socket then. One that fails or is closed ends the client.
 * `protocol` is what the client offers by ALPN.
 */
export async function connectAll(total, handlers, protocol) {
  const all = [];
  while (all.length < total) {
    const batch = Array.from(
      { length: Math.min(64, total - all.length) },
      () => open(handlers, protocol),
    );
    all.push(...await Promise.all(batch));
  }
  return all;
}

async function open(handlers, protocol) {
  const { promise, resolve } = Promise.withResolvers();
  await Bun.connect({
    hostname: "127.0.0.1",
    port: options.port,
    tls: { rejectUnauthorized: false, ...protocol && { ALPNProtocols: listed(protocol) } },
    socket: {
      ...handlers(resolve),
      error: (_, error) => fail(String(error)),
      close: () => fail("The server closed a connection"),
    },
  });
  return promise;
}

/** A list of ALPN names with one in it, as `Bun.connect` wants it: bytes. */
const listed = (protocol) => new Uint8Array([protocol.length, ...Buffer.from(protocol)]).buffer;

/** Tells the benchmark that the load is there. */
export function ready() {
  console.log("READY");
}

/** Ends the client with an error: a benchmark whose answers are wrong measures nothing. */
export function fail(message) {
  console.error(message);
  process.exit(1);
}
