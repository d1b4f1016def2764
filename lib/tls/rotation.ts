/**
 * The running server's certificates: the selector in force, and how it is replaced while
 * connections stay open. What is in force is always whole and checked; a reload that fails changes
 * nothing.
 *
 * @module
 */
import { clearInterval, setImmediate, setInterval } from "node:timers";
import type { Identity } from "./loaded_identity.ts";
import { Selector, type SelectorOptions, type Watched } from "./selector.ts";
import { FileWatcher } from "./watch.ts";

/** What a {@linkcode CertificateRotation} reports. */
export interface RotationReports {
  /** Reports that watched files could not be reloaded; the last good certificate stays in force. */
  failed(error: unknown): void;
  /** Reports that a certificate in force will expire soon; once per certificate. */
  expiring(identity: Identity): void;
}

/** How certificates are kept fresh. */
export interface RotationOptions {
  /** Follow the files that certificates and client CAs come from. */
  readonly watch: boolean;
  /** The time between two looks at the files, in ms. */
  readonly watchIntervalMs: number;
  /** How many days before it expires a certificate is reported; `undefined`: by its lifetime. */
  readonly expiryNoticeDays?: number | undefined;
}

const DAY_MS = 24 * 60 * 60 * 1000;
const NOTICE_MS = 14 * DAY_MS;
const EXPIRY_CHECK_MS = 60 * 60 * 1000;

/** The certificates of one running server, and their replacement. */
export class CertificateRotation {
  #selector: Selector;
  readonly #options: RotationOptions;
  readonly #reports: RotationReports;
  /** Reloads happen one after another; each begins with what the one before left. */
  #reloading: Promise<void> = Promise.resolve();
  /** The watcher of each identity and policy in force that has files. */
  #watchers = new Map<object, FileWatcher>();
  #expiryTimer: ReturnType<typeof setInterval> | undefined;
  /** Fingerprints of the certificates that have been reported. */
  readonly #reported = new Set<string>();

  private constructor(selector: Selector, options: RotationOptions, reports: RotationReports) {
    this.#selector = selector;
    this.#options = options;
    this.#reports = reports;
  }

  /**
   * Loads all certificates.
   *
   * @throws {ConfigError} `INVALID_CERTIFICATE`
   */
  static async open(
    selection: SelectorOptions,
    options: RotationOptions,
    reports: RotationReports,
  ): Promise<CertificateRotation> {
    return new CertificateRotation(await Selector.load(selection), options, reports);
  }

  /** The selector in force. */
  get selector(): Selector {
    return this.#selector;
  }

  /** Starts to watch files and expiry dates. */
  begin(): void {
    this.#expiryTimer = setInterval(() => this.#checkExpiry(), EXPIRY_CHECK_MS);
    this.#expiryTimer.unref();
    setImmediate(() => this.#checkExpiry()); // a program that awaits the start can still add a listener
    this.#watchFiles();
  }

  /** Stops watching. */
  close(): void {
    clearInterval(this.#expiryTimer);
    this.#expiryTimer = undefined;
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  /**
   * Puts a changed selection in force for all handshakes from now on.
   *
   * @throws {ConfigError} `INVALID_CERTIFICATE`; what was in force stays
   */
  reload(change: (current: SelectorOptions) => SelectorOptions): Promise<void> {
    return this.#serialize(async () => {
      const options = change(this.#selector.options);
      this.#selector = await Selector.load(options, this.#selector);
      this.#refreshWatches();
    });
  }

  /** Loads one identity or policy again from its files. */
  #reloadFiles(source: Watched["source"]): Promise<void> {
    return this.#serialize(async () => {
      const current = this.#selector;
      this.#selector = await Selector.load(current.options, current, new Set([source]));
      this.#refreshWatches();
    });
  }

  #serialize(reload: () => Promise<void>): Promise<void> {
    const done = this.#reloading.then(reload);
    this.#reloading = done.catch(() => {}); // its caller gets the error; the next reload starts afresh
    return done;
  }

  #refreshWatches(): void {
    this.#checkExpiry();
    this.#watchFiles();
  }

  /** Watches the files of what is in force, and no others. */
  #watchFiles(): void {
    if (!this.#options.watch || this.#expiryTimer === undefined) return;
    const before = this.#watchers;
    this.#watchers = new Map();
    for (const watched of this.#selector.watched()) {
      const { loaded } = watched;
      this.#watchers.set(loaded, before.get(loaded) ?? this.#watch(watched));
      before.delete(loaded);
    }
    for (const watcher of before.values()) watcher.close();
  }

  #watch({ source, files, digest }: Watched): FileWatcher {
    return new FileWatcher({
      files,
      digest,
      intervalMs: this.#options.watchIntervalMs,
      changed: () => this.#reloadFiles(source),
      failed: (error) => this.#reports.failed(error),
    });
  }

  #checkExpiry(): void {
    if (this.#expiryTimer === undefined) return; // closed, or not begun
    const own = [...this.#selector.identities()].map(([, identity]) => identity);
    const sourced = this.#selector.options.source?.identities() ?? [];
    for (const identity of [...own, ...sourced]) {
      const from = identity.validTo.getTime() - this.#noticeMs(identity);
      if (Date.now() < from || this.#reported.has(identity.fingerprint256)) continue;
      this.#reported.add(identity.fingerprint256);
      this.#reports.expiring(identity);
    }
  }

  /** How long before its end a certificate is reported; one of six days not at once. */
  #noticeMs({ validFrom, validTo }: Identity): number {
    const { expiryNoticeDays } = this.#options;
    if (expiryNoticeDays !== undefined) return expiryNoticeDays * DAY_MS;
    return Math.min(NOTICE_MS, (validTo.getTime() - validFrom.getTime()) / 3);
  }
}
