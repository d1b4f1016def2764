/**
 * Listening sockets that the process was started with, by systemd's protocol: sd_listen_fds(3).
 *
 * @module
 */
import process from "node:process";
import { ConfigError } from "./errors.ts";

/** The first descriptor that is handed over. */
const FIRST_FD = 3;

/** A socket that the process was started with. */
export interface InheritedSocket {
  /** Its descriptor, for the option `fd`. */
  readonly fd: number;
  /** Its name in the unit (`FileDescriptorName=`); empty where it has none. */
  readonly name: string;
}

/**
 * The sockets that systemd, or what does the same, has opened for this process: `LISTEN_FDS`, where
 * `LISTEN_PID` is this process. Empty where there are none. On Deno it takes `--allow-env`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` where these variables are malformed
 */
export function inheritedSockets(): readonly InheritedSocket[] {
  const { LISTEN_PID: pid, LISTEN_FDS: fds, LISTEN_FDNAMES: names = "" } = process.env;
  if (fds === undefined || Number(pid) !== process.pid) return [];
  const count = /^\d{1,4}$/.test(fds) ? Number(fds) : undefined;
  if (count === undefined) {
    throw new ConfigError("INVALID_CONFIG", "LISTEN_FDS is no count: unset it");
  }
  const list = names.split(":");
  return Array.from({ length: count }, (_, i) => ({ fd: FIRST_FD + i, name: list[i] ?? "" }));
}
