/**
 * One server of the benchmark: `bench/server.ts PARAMETERS`, a JSON text of {@linkcode Parameters}.
 * It listens on an ephemeral port of 127.0.0.1 and prints it; SIGUSR2 makes it collect its garbage.
 * Runs on Deno and on Bun; CERTIFICATES names the folder of the certificates.
 */
import process from "node:process";
import { native, nativeHono, nativeRoutes, nativeWebSocket } from "./servers/native.ts";
import { nodeTls } from "./servers/node.ts";
import { fetchHandler, hono, route, webSocket } from "./servers/ours.ts";
import { countLateTicks } from "./servers/ticks.ts";
import type { Parameters } from "./servers/work.ts";

/** Starts a server and resolves with its port. */
const fronts: Record<string, (parameters: Parameters) => Promise<number>> = {
  fetch: fetchHandler,
  route,
  hono,
  webSocket,
  native,
  nativeHono,
  nativeRoutes,
  nativeWebSocket,
  nodeTls,
};

const scope = globalThis as unknown as { Bun?: { gc(force: boolean): void }; gc?(): void };
process.on("SIGUSR2", () => scope.Bun === undefined ? scope.gc!() : scope.Bun.gc(true));

const parameters: Parameters = JSON.parse(process.argv[2]!);
if (parameters.ticks) countLateTicks();
console.log(`PORT ${await fronts[parameters.front]!(parameters)}`);
