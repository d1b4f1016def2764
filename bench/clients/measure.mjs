/**
 * What the clients share. A client is a program for Bun, whose `Bun.connect` is the cheapest way to
 * speak TLS from JavaScript; it is given its options as JSON, and prints its result as JSON.
 */
import { Buffer } from "node:buffer";
import process from "node:process";
import { cpuSeconds } from "../cpu.mjs";

/** The options: `port` and `pid` of the server, `warmUp` and `seconds`, and each client's own. */
export const options = JSON.parse(process.argv[2]);

/** Warms up, and then counts operations and the server's CPU time for the seconds asked for. */
export async function measure(count) {
  await Bun.sleep(options.warmUp * 1_000);
  const [operations, cpu, start] = [count(), cpuSeconds(options.pid), performance.now()];
  await Bun.sleep(options.seconds * 1_000);
  return {
    operations: count() - operations,
    cpu: cpuSeconds(options.pid) - cpu,
    seconds: (performance.now() - start) / 1_000,
  };
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

/** Ends the client with its result. */
export function finish(result) {
  console.log(JSON.stringify(result));
  process.exit(0);
}

/** Ends the client with an error: a benchmark whose answers are wrong measures nothing. */
export function fail(message) {
  console.error(message);
  process.exit(1);
}
