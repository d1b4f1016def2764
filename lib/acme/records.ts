/**
 * What is in the storage: the account, certificates, failures, pending challenges. Each call of the
 * program's storage is bounded and contained here; what is found there is checked.
 *
 * @module
 */
import { ignore } from "../contain/callbacks.ts";
import { within } from "../contain/within.ts";
import { AcmeError, HttpsdError } from "../errors.ts";
import type { CertificateStorage, StorageLock } from "./storage.ts";

/** A certificate as it is kept. */
export interface StoredCertificate {
  /** PEM: the certificate, then its intermediates. */
  readonly chain: string;
  /** PEM of the PKCS#8 private key. */
  readonly privateKey: string;
}

/** Failures to get a certificate, in a row. */
export interface StoredFailure {
  /** How many. */
  readonly failures: number;
  /** Until when there is no other attempt, in ms since 1970. */
  readonly until: number;
  /** When the last was, in ms since 1970; a clock that was ahead then has been set back. */
  readonly at?: number;
}

/** The answer to a pending challenge: a text, or a certificate. */
export interface StoredChallenge {
  /** When it may be removed, in ms since 1970. */
  readonly expires: number;
  /** The answer to http-01. */
  readonly keyAuthorization?: string;
  /** The answer to tls-alpn-01. */
  readonly certificate?: StoredCertificate;
}

/** The kinds of challenges whose answers are kept. */
export type KeptChallenge = "http-01" | "tls-alpn-01";

const CALL_MS = 10_000;

/** What the storage has for one CA. */
export class Records {
  readonly #storage: CertificateStorage;
  readonly #root: string;

  /** Keeps everything for the CA with this directory in `storage`. */
  constructor(storage: CertificateStorage, directory: URL) {
    this.#storage = storage;
    const { host, pathname } = directory;
    this.#root = `${host}${pathname}`.replaceAll(/[^A-Za-z0-9.:]+/g, "-");
  }

  /** The account's private key, in PEM. */
  async account(): Promise<string | undefined> {
    const { key } = await this.#read<{ key: string }>("account", { key: "" }) ?? {};
    return key;
  }

  /** Keeps the account's private key. */
  async keepAccount(key: string): Promise<void> {
    await this.#write("account", { key });
  }

  /** The certificate for a name. */
  async certificate(name: string): Promise<StoredCertificate | undefined> {
    return await this.#read(`certificates/${name}`, { chain: "", privateKey: "" });
  }

  /** Keeps the certificate for a name. */
  async keepCertificate(name: string, { chain, privateKey }: StoredCertificate): Promise<void> {
    await this.#write(`certificates/${name}`, { chain, privateKey });
  }

  /** The failures to get a certificate for a name. */
  async failure(name: string): Promise<StoredFailure | undefined> {
    return await this.#read(`failures/${name}`, { failures: 0, until: 0 });
  }

  /** Keeps the failures to get a certificate for a name; `undefined`: there are none now. */
  async keepFailure(name: string, failure: StoredFailure | undefined): Promise<void> {
    const key = `failures/${name}`;
    if (failure !== undefined) await this.#write(key, failure);
    else await this.#call("delete", () => this.#storage.delete(this.#key(key)));
  }

  /** The answer to a pending challenge. */
  async challenge(kind: KeptChallenge, id: string): Promise<StoredChallenge | undefined> {
    return await this.#read(`challenges/${kind}/${id}`, { expires: 0 });
  }

  /** Keeps the answer to a challenge; `undefined`: it is over. */
  async keepChallenge(
    kind: KeptChallenge,
    id: string,
    challenge: StoredChallenge | undefined,
  ): Promise<void> {
    const key = `challenges/${kind}/${id}`;
    if (challenge !== undefined) await this.#write(key, challenge);
    else await this.#call("delete", () => this.#storage.delete(this.#key(key)));
  }

  /** Removes the answers that a killed process has left, as of `now` in ms since 1970. */
  async sweepChallenges(now: number): Promise<void> {
    const prefix = this.#key("challenges/");
    const keys = await this.#call("list", () => this.#storage.list(prefix));
    for (const key of Array.isArray(keys) ? keys : []) {
      if (typeof key !== "string" || !key.startsWith(prefix)) continue;
      const left = await this.#readKey<StoredChallenge>(key, { expires: 0 })
        .catch(() => undefined); // what cannot be read is none of ours to remove
      if (left === undefined || left.expires > now) continue;
      await this.#call("delete", () => this.#storage.delete(key));
    }
  }

  /** Takes a lock; `undefined`: another process has it. */
  async lock(name: string): Promise<StorageLock | undefined> {
    const taking = Promise.resolve().then(() => this.#storage.lock(this.#key(name)));
    try {
      const lock = await this.#call("lock", () => taking) ?? undefined;
      if (lock === undefined) return undefined;
      return {
        signal: lock.signal,
        release: () => this.#call("release a lock", () => lock.release()),
      };
    } catch (error) {
      // It may still be taken after the time that it had.
      taking.then((lock) => lock?.release()).catch(ignore);
      throw error;
    }
  }

  #key(name: string): string {
    return `${this.#root}/${name}`;
  }

  async #write(name: string, value: object): Promise<void> {
    const text = JSON.stringify(value);
    await this.#call("set", () => this.#storage.set(this.#key(name), text));
  }

  async #read<T>(name: string, shape: Shape): Promise<T | undefined> {
    return await this.#readKey(this.#key(name), shape);
  }

  /** Reads an object with the members of `shape`. */
  async #readKey<T>(key: string, shape: Shape): Promise<T | undefined> {
    const text: unknown = await this.#call("get", () => this.#storage.get(key));
    if (text === undefined || text === null) return undefined;
    const value = parsed(text);
    const fits = Object.entries(shape).every(([name, sample]) =>
      typeof value?.[name] === typeof sample
    );
    if (fits) return value as T;
    throw new AcmeError(
      "ACME_STORAGE_FAILED",
      `The storage has something else under ${key} than what was kept there: delete it`,
    );
  }

  async #call<T>(what: string, run: () => PromiseLike<T> | T): Promise<T> {
    try {
      return await within(CALL_MS, run);
    } catch (cause) {
      if (cause instanceof HttpsdError) throw cause;
      throw new AcmeError("ACME_STORAGE_FAILED", `The storage failed to ${what}`, { cause });
    }
  }
}

/** The members that an object must have, with samples of their types. */
type Shape = Readonly<Record<string, string | number>>;

/** Parses JSON. What a parser says is not passed on: it quotes the text, which may be a key. */
function parsed(text: unknown): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(String(text));
    return typeof value === "object" ? value as Record<string, unknown> ?? undefined : undefined;
  } catch {
    return undefined;
  }
}
