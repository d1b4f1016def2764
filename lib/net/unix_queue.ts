/**
 * Connections that wait for a UNIX socket to accept them, by Linux's table of all of them (proc(5),
 * `/proc/net/unix`): a runtime that accepts no more does not say so.
 *
 * @module
 */
import { resolve } from "node:path";
import { fileSystem, mayRead } from "../files.ts";

const TABLE = "/proc/net/unix";

/** One look of so many is made while nothing waits: the table has a line for each connection. */
const SELDOM = 4;
/** A queue that has had connections in so many looks in a row, none of which came out, is stuck. */
const SIGHTINGS = 3;

/** A line of what waits, which has the path of the listening socket and no inode of its own. */
const WAITING = /^\w+: \w+ \w+ \w+ \w+ 02 +0 /;

/** The queue of one listening socket. */
export class UnixQueue {
  /** The names that the socket may have in the table, each behind a space. */
  readonly #names: readonly string[];
  #looks = 0;
  #sightings = 0;

  private constructor(names: readonly string[]) {
    this.#names = names.map((name) => ` ${name}`);
  }

  /** The queue of a socket that was bound to a path, as it is or made absolute. */
  static boundTo(path: string): UnixQueue {
    return new UnixQueue([path, resolve(path)]);
  }

  /** The queue of a socket of this process, by its descriptor. */
  static of(fd: number): UnixQueue {
    const [, inode] = /^socket:\[(\d+)\]$/.exec(readLink(`/proc/self/fd/${fd}`)) ?? [];
    const ours = ` ${inode} `;
    const line = inode === undefined ? undefined : linesOf(TABLE).find((it) => it.includes(ours));
    return new UnixQueue(line === undefined ? [] : [line.slice(line.indexOf(ours) + ours.length)]);
  }

  /**
   * Whether connections wait that are not accepted; to be called every now and then. `accepted`: one
   * was since the last call. `false` too where that cannot be known: on other systems than Linux, and
   * on Deno without `--allow-all`, which it takes to read `/proc`.
   */
  isStuck(accepted: boolean): boolean {
    if (this.#names.length === 0) return false;
    if (accepted) this.#sightings = 0;
    if (accepted || (this.#sightings === 0 && this.#looks++ % SELDOM !== 0)) return false;
    const waits = linesOf(TABLE).some((line) =>
      WAITING.test(line) && this.#names.some((name) => line.endsWith(name))
    );
    this.#sightings = waits ? this.#sightings + 1 : 0;
    if (this.#sightings < SIGHTINGS) return false;
    this.#sightings = 0;
    return true;
  }
}

function linesOf(file: string): string[] {
  if (!mayRead(file)) return [];
  try {
    return fileSystem().readFileSync(file, "utf8").split("\n");
  } catch {
    return [];
  }
}

function readLink(path: string): string {
  if (!mayRead(path)) return "";
  try {
    return fileSystem().readlinkSync(path);
  } catch {
    return "";
  }
}
