/**
 * Watches files by looking at what is in them. Notifications and modification times miss what
 * happens to certificates in practice: Kubernetes swaps a symbolic link above them, editors and
 * ACME clients rename over them, network mounts report nothing.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { clearTimeout, setTimeout } from "node:timers";

/** What a {@linkcode FileWatcher} needs to know. */
export interface FileWatcherOptions {
  /** The files to watch. */
  readonly files: readonly string[];
  /** The {@linkcode digestOf} the contents that are in use, so that no change is missed. */
  readonly digest: string;
  /** The time between two looks, in ms. */
  readonly intervalMs: number;
  /**
   * Takes the new contents into use. Called when two looks in a row have seen the same change, and
   * again at each look after, until it succeeds or the files are as they were. Never called while
   * an earlier call is under way.
   */
  changed(): void | Promise<void>;
  /**
   * Called once per change for which `changed` failed, and once when files stay unreadable. Must not
   * throw.
   */
  failed(error: unknown): void;
}

/** Calls back when the contents of files change. Its timer does not keep the process alive. */
export class FileWatcher {
  readonly #options: FileWatcherOptions;
  /** The contents in use, those seen last, and those that `failed` was called for. */
  #inUse: string;
  #seen: string;
  #reported: string | undefined;
  #looking: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** Starts to watch; the first look is an interval away. */
  constructor(options: FileWatcherOptions) {
    this.#options = options;
    this.#inUse = options.digest;
    this.#seen = options.digest;
    this.#schedule();
  }

  /**
   * Looks at the files now. Resolves when that is done and `changed` has settled, if it was called;
   * a look that is under way already is the one waited for. It never rejects.
   */
  check(): Promise<void> {
    return this.#looking ??= this.#look().finally(() => this.#looking = undefined);
  }

  /** Stops watching. Nothing is called any more, not even by a look under way. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    this.#timer = setTimeout(async () => {
      await this.check();
      if (!this.#closed) this.#schedule();
    }, this.#options.intervalMs);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const { digest, error } = await this.#read();
    if (this.#closed) return;
    const isStable = digest === this.#seen;
    this.#seen = digest;
    if (digest === this.#inUse) this.#reported = undefined;
    else if (isStable) await this.#take(digest, error);
  }

  async #take(digest: string, unreadable: unknown): Promise<void> {
    try {
      if (unreadable !== undefined) throw unreadable;
      await this.#options.changed();
      this.#inUse = digest;
      this.#reported = undefined;
    } catch (error) {
      if (this.#closed || this.#reported === digest) return;
      this.#reported = digest;
      this.#options.failed(error);
    }
  }

  /** The digest of the files; when they cannot be read, one of the error. */
  async #read(): Promise<{ digest: string; error?: unknown }> {
    try {
      const { readFile } = await import("node:fs/promises"); // see lib/files.ts
      const contents = await Promise.all(this.#options.files.map((file) => readFile(file)));
      return { digest: digestOf(contents) };
    } catch (error) {
      return { digest: `unreadable: ${String(error)}`, error };
    }
  }
}

/** A digest of the contents of several files, in their order. */
export function digestOf(contents: readonly Uint8Array[]): string {
  const hash = createHash("sha256");
  for (const bytes of contents) hash.update(`${bytes.length}:`).update(bytes);
  return hash.digest("hex");
}
