/**
 * The path of a UNIX socket: it appears with its permissions, replaces what a dead process has left,
 * and is removed only while it is still the server's own.
 *
 * A socket is first bound to a name of its own beside the path, gets its permissions there, and is
 * then linked to the path. So no client can connect before the permissions hold, and of two
 * processes that start at a time one gets the path.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { chmodSync, linkSync, lstatSync, renameSync, type Stats, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { clearTimeout, setTimeout } from "node:timers";
import { ListenError } from "../errors.ts";

/** The longest path of a socket that clients can name (`sun_path` of unix(7), without its end). */
const MAX_BYTES = 107;
/** When a process counts as alive that has not answered a connection, in ms. */
const ANSWER_MS = 1_000;

/** Binds a socket to a path and listens. */
type Bind = (path: string) => Promise<void>;

/** A path, and the socket there. */
export class UnixPath {
  /** The path. */
  readonly path: string;
  readonly #mode: number | undefined;
  /** The name that the socket was bound to, beside the path; the system knows it by that. */
  boundTo = "";
  /** The socket's file, to recognize it by. */
  #own: Stats | undefined;
  #isRemoved = false;

  /** `mode` is the path's permissions; `undefined`: what the process's umask makes of them. */
  constructor(path: string, mode: number | undefined) {
    this.path = path;
    this.#mode = mode;
  }

  /**
   * Has `bind` make the socket and puts it at the path.
   *
   * @throws {ListenError} `ADDRESS_IN_USE` where another process listens, or a file is no socket;
   * `LISTEN_FAILED` for a path that is too long
   * @throws what `bind` and the system throw
   */
  async take(bind: Bind): Promise<void> {
    if (Buffer.byteLength(this.path) > MAX_BYTES) {
      throw new ListenError(
        "LISTEN_FAILED",
        `Cannot listen on ${this.path}: it is longer than ${MAX_BYTES} bytes: choose a shorter path`,
      );
    }
    await this.#removeDead();
    await this.#bind(bind, (own) => {
      try {
        linkSync(own, this.path);
      } catch (cause) {
        throw (cause as NodeJS.ErrnoException).code === "EEXIST" ? this.#inUse(cause) : cause;
      } finally {
        unlinkSync(own);
      }
    });
  }

  /**
   * Has `bind` make another socket in place of the one that is there, unless that is removed.
   *
   * @throws {ListenError} `ADDRESS_IN_USE` where another process has taken the path since
   * @throws what `bind` and the system throw
   */
  async retake(bind: Bind): Promise<void> {
    await this.#bind(bind, (own) => {
      if (this.#has(this.#own) || this.#has(undefined)) return renameSync(own, this.path);
      unlinkSync(own);
      throw this.#inUse(undefined, "another process has taken it");
    });
  }

  async #bind(bind: Bind, move: (own: string) => void): Promise<void> {
    const own = this.boundTo = this.#sibling();
    await bind(own);
    if (this.#isRemoved) return unlinkSync(own); // the path may be another's by now
    if (this.#mode !== undefined) chmodSync(own, this.#mode);
    move(own);
    this.#own = lstatSync(this.path);
  }

  /** Removes the path, unless another process has taken it since. */
  remove(): void {
    this.#isRemoved = true;
    if (this.#own !== undefined && this.#has(this.#own)) unlinkSync(this.path);
  }

  /** Whether this file is at the path; `undefined`: whether nothing is. */
  #has(file: Stats | undefined): boolean {
    const now = lstatSync(this.path, { throwIfNoEntry: false });
    // The number of a file that was removed is given to another one.
    return now?.ino === file?.ino && now?.dev === file?.dev &&
      now?.birthtimeMs === file?.birthtimeMs;
  }

  /**
   * Removes the socket of a dead process. It is renamed first and then tried again: another process
   * may have taken the path in between.
   */
  async #removeDead(): Promise<void> {
    const there = lstatSync(this.path, { throwIfNoEntry: false });
    if (there === undefined) return;
    if (!there.isSocket()) throw this.#inUse(undefined, "a file is there that is no socket");
    if (await answers(this.path)) throw this.#inUse(undefined);
    const aside = this.#sibling();
    try {
      renameSync(this.path, aside);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") return; // another has removed it
      throw cause;
    }
    if (await answers(aside)) {
      renameSync(aside, this.path);
      throw this.#inUse(undefined);
    }
    unlinkSync(aside);
  }

  /** A name in the same folder that nothing has. With a letter: `.1234567` is a port for node:net. */
  #sibling(): string {
    return join(dirname(this.path), `.s${randomBytes(3).toString("hex")}`);
  }

  #inUse(cause: unknown, why = "another process listens there"): ListenError {
    return new ListenError(
      "ADDRESS_IN_USE",
      `Cannot listen on ${this.path}: ${why}: choose another path`,
      { cause },
    );
  }
}

/** Whether a process listens on a socket: alive is also what refuses by its permissions, or waits. */
async function answers(path: string): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  const timer = setTimeout(() => resolve(true), ANSWER_MS);
  socket.on("connect", () => resolve(true));
  socket.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(false);
    else if (error.code === "EAGAIN") resolve(true); // its queue is full
    else reject(error);
  });
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}
