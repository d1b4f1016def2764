/**
 * Where a command serves: the ports and the address unless options say otherwise, and what runs there.
 *
 * @module
 */
import type { HttpsServer } from "../server.ts";
import { CommandError } from "./arguments.ts";

/** The port of `httpsd serve` and `httpsd proxy`. */
export const DEFAULT_PORT = 8443;
/** The address where they listen. */
export const LOOPBACK = "127.0.0.1";
/** The port of the inspector, or of the first worker's. */
export const INSPECTOR_PORT = 9440;
/** The port of plain HTTP beside `--acme`. */
export const HTTP_PORT = 80;

/** A server that runs. */
export interface Site {
  readonly server: HttpsServer;
  /** What its certificate is, for people. */
  readonly certificate: string;
  /** What clients have to trust; `undefined`: what they trust already. */
  readonly caFile: string | undefined;
  /** Where its inspector is; `undefined`: it has none. */
  readonly inspector: string | undefined;
  stop(): Promise<void>;
}

/** Why `--acme` cannot answer the authority, and what to do. */
export function plainPortError(port: number, cause: Error): CommandError {
  return new CommandError(
    `--acme has to answer the authority on port ${port}: ${cause.message}. Give another --http-port ` +
      "that port 80 is passed on to",
    { cause },
  );
}
