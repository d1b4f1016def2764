/**
 * How many files this process may have open (`RLIMIT_NOFILE`), and how the sockets of a server fit
 * in: a server that reaches the limit cannot accept, and a runtime that reaches it may exit.
 *
 * @module
 */
import { devNull } from "node:os";
import { ConfigError } from "../errors.ts";
import { fileSystem, mayRead } from "../files.ts";

const { Deno } = globalThis as { Deno?: { readTextFileSync(path: string): string } };

const LINUX_LIMITS = "/proc/self/limits";
/** At least so many files are left to the rest of the process, of a higher limit an eighth. */
const MIN_MARGIN = 64;
/**
 * The queue of new connections takes no more than this part of the files, unless the options ask
 * for more.
 */
const WAITING_PART = 4;

/** How many sockets a server may hold. */
export interface SocketLimits {
  /** The most sockets that are open at a time. */
  readonly maxConnections: number;
  /** The most newcomers that wait for one of them to close. */
  readonly maxWaiting: number;
}

/**
 * The most files that this process may have open at a time; `undefined` where that cannot be known:
 * on other systems than Linux, and on Deno without `--allow-all`, which it takes to read `/proc`.
 */
export function openFileLimit(): number | undefined {
  if (!mayRead(LINUX_LIMITS)) return undefined;
  try {
    const limits = Deno?.readTextFileSync(LINUX_LIMITS) ??
      fileSystem().readFileSync(LINUX_LIMITS, "latin1");
    const [, soft] = /^Max open files +(\d+)/m.exec(limits) ?? [];
    return soft === undefined ? undefined : Number(soft);
  } catch {
    return undefined; // no such file, or the permission covers less than it says
  }
}

/**
 * Whether one more file could be opened now; `undefined` where that may not be tried (on Deno it
 * takes `--allow-read=/dev/null`).
 */
export function hasSpareFile(): boolean | undefined {
  if (!mayRead(devNull)) return undefined;
  try {
    const { closeSync, openSync } = fileSystem();
    closeSync(openSync(devNull, "r"));
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "EMFILE" || code === "ENFILE" ? false : undefined;
  }
}

/**
 * Fits a server's sockets into the limit of open files. What `given` says is kept; what it leaves
 * out is `defaults`, lowered as far as needed.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when what is given does not fit
 */
export function fitSockets(
  given: Partial<SocketLimits>,
  defaults: SocketLimits,
  limit: number | undefined,
): SocketLimits {
  if (limit === undefined) return { ...defaults, ...given };
  const room = limit - Math.max(MIN_MARGIN, Math.floor(limit / 8));
  const { maxConnections = 1, maxWaiting = 1 } = given;
  if (maxConnections + maxWaiting > room) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `Options limits.maxConnections (${given.maxConnections ?? "default"}) and limits.backlog (${
        given.maxWaiting ?? "default"
      }) need more than the ${Math.max(0, room)} files that ${limit - room} others leave of the ` +
        `${limit} that this process may open: lower them, or raise the limit (ulimit -n)`,
    );
  }
  const fitting = given.maxWaiting ?? Math.min(
    defaults.maxWaiting,
    Math.max(1, Math.min(Math.floor(room / WAITING_PART), room - maxConnections)),
  );
  return {
    maxConnections: given.maxConnections ?? Math.min(defaults.maxConnections, room - fitting),
    maxWaiting: fitting,
  };
}
