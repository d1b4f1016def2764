/**
 * Where certificates, the account and pending challenges are kept. What several processes share
 * belongs to all of them: they order a certificate once, and answer each other's challenges.
 *
 * @module
 */

/** A lock that is held; it is renewed until it is released. */
export interface StorageLock {
  /** Aborted when the lock was lost, as after the process was stopped for longer than it lasts. */
  readonly signal: AbortSignal;
  /** Gives the lock back; does nothing when it was lost. */
  release(): Promise<void>;
}

/**
 * Keeps texts under keys such as `ca.example/certificates/shop.example`: parts of letters, digits and
 * `-._~*:`, between slashes. Some of the texts hold private keys. What it throws or rejects with is
 * reported, and whatever needed it is tried again later; each call is waited for 10 s at most.
 */
export interface CertificateStorage {
  /** Reads a text; `undefined` or `null` where there is none. */
  get(key: string): Promise<string | undefined | null>;
  /** Writes a text whole: what reads meanwhile gets the former one or this one. */
  set(key: string, text: string): Promise<void>;
  /** Removes a text, if there is one. */
  delete(key: string): Promise<void>;
  /** The keys that begin with `prefix`, which ends with a slash. */
  list(prefix: string): Promise<string[]>;
  /**
   * Takes a lock that one process of all has at a time, without waiting for it; `undefined`: another
   * one has it. A lock whose holder has died must come free by its age.
   */
  lock(name: string): Promise<StorageLock | undefined>;
}

/** How long a lock outlives a holder that was killed, in ms. It is renewed three times in it. */
export const LOCK_MS = 15_000;
