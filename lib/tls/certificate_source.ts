/**
 * A source of certificates: what a server asks for each ClientHello before its own selection, and
 * what may get, renew and replace certificates while the server runs. The source is the program's:
 * what it throws fails one handshake or one question, and it is waited for only so long.
 *
 * @module
 */
import type { ServedVersions } from "../alpn.ts";
import { isThenable, watch } from "../contain/callbacks.ts";
import { within } from "../contain/within.ts";
import type { Endpoints } from "../endpoints.ts";
import { ConfigError, HttpsdError, TlsError } from "../errors.ts";
import { shown } from "../options.ts";
import { areServed, Refused } from "./cert_select.ts";
import type { ClientHello } from "./client_hello.ts";
import { Identity } from "./loaded_identity.ts";

/** An identity that is shown under application protocols of its own. */
export interface SourceSelection {
  /** The identity to show. */
  readonly identity: Identity;
  /** The application protocols to speak, such as `["acme-tls/1"]` alone. Default: the server's. */
  readonly alpnProtocols?: readonly string[];
}

/** What a source answers; nothing: it has no certificate for this client, and the server goes on. */
export type SourceAnswer = Identity | SourceSelection | Refused | undefined | null | void;

/** A certificate that could not be had or renewed. */
export interface CertificateFailure {
  /** The names, or IP addresses, that it is for. */
  readonly names: readonly string[];
  /** What went wrong. */
  readonly error: HttpsdError;
  /** When it is tried again; `undefined`: when a client asks for the name. */
  readonly retryAt?: Date | undefined;
}

/** A certificate that its source renews. */
export interface CertificateRenewal {
  /** The names, or IP addresses, that it is for. */
  readonly names: readonly string[];
  /** What is in force; `undefined`: nothing yet. */
  readonly identity: Identity | undefined;
  /** When it is to be renewed, or got; `undefined`: when a client asks for the name. */
  readonly renewAt: Date | undefined;
  /** Why the last attempt failed; `undefined`: it did not. */
  readonly error: HttpsdError | undefined;
}

/** What a source reports to a server that it was started by. Nothing here throws. */
export interface SourceReports {
  /** Reports that there is a new certificate. */
  issued(identity: Identity): void;
  /** Reports that a certificate could not be had. */
  failed(failure: CertificateFailure): void;
  /** Reports that a certificate in force ends soon. */
  expiring(identity: Identity): void;
  /** Reports anything else that failed. */
  error(error: HttpsdError): void;
}

/**
 * Where a server's certificates come from besides its options. One source may be given to several
 * servers. A client that a source shows a certificate to is under the server's own `clientAuth`.
 */
export interface CertificateSource {
  /**
   * Returns what to show to a client, at once or later; a promise is waited for until
   * `timeouts.handshakeMs` is over, and what it does goes on after that. `refuse()` refuses the
   * client; nothing leaves it to `certSelect` and to the server's other certificates. What it throws
   * fails that one handshake with `TLS_SELECTION_FAILED`.
   */
  select(hello: ClientHello, endpoints: Endpoints): SourceAnswer | PromiseLike<SourceAnswer>;
  /**
   * Whether `select()` shows a certificate for this name, in lower case, or IP address. It decides
   * whether a connection for one name may carry requests for another (421, RFC 9110 section 7.4).
   */
  covers(name: string): boolean;
  /**
   * Begins to work for a server, before it listens; called once for each server that starts. The
   * start waits 30 s at most, and fails with what this throws or rejects with. `port` is what the
   * server's options say.
   */
  start?(reports: SourceReports, port?: number): void | PromiseLike<void>;
  /** Ends what `start()` has begun, with the same argument; it is waited for 10 s at most. */
  stop?(reports: SourceReports): void | PromiseLike<void>;
  /**
   * The identities that are in force and that it does not renew: the server reports those that end
   * soon, as it does for its own. Default: none.
   */
  identities?(): Iterable<Identity>;
  /**
   * The certificates that it renews by itself, for `server.stats()`; also those that it could not get
   * yet. Default: none.
   */
  renewals?(): Iterable<CertificateRenewal>;
  /**
   * Returns what a server with `transportMode: "insecure"` answers to a request for
   * `/.well-known/acme-challenge/<token>` (RFC 8555 section 8.3); nothing leaves it to the routes.
   * It is waited for 10 s at most. Default: nothing.
   */
  answerChallenge?(token: string): ChallengeAnswer | PromiseLike<ChallengeAnswer>;
}

/** The answer to a challenge; nothing: the token is not known. */
export type ChallengeAnswer = string | undefined | null | void;

const START_MS = 30_000;
const STOP_MS = 10_000;
const ANSWER_MS = 10_000;

/** A source in the hands of one server: calls it so that nothing it does harms the server. */
export class ContainedSource {
  readonly #source: CertificateSource;
  readonly #reports: SourceReports;
  #started = false;

  /** Takes a source, and where it is to report to. */
  constructor(source: CertificateSource, reports: SourceReports) {
    this.#source = source;
    this.#reports = reports;
  }

  /**
   * Starts the source.
   *
   * @throws {HttpsdError} what it throws; `INVALID_CERTIFICATE` where that is no error of ours, or it
   * does not settle in 30 s
   */
  async start(port?: number): Promise<void> {
    this.#started = true;
    try {
      await within(START_MS, () => this.#source.start?.(this.#reports, port));
    } catch (cause) {
      if (cause instanceof HttpsdError) throw cause;
      throw new ConfigError("INVALID_CERTIFICATE", "The source of certificates did not start", {
        cause,
      });
    }
  }

  /** Stops the source, if it was started. Never rejects. */
  async stop(): Promise<void> {
    if (!this.#started) return;
    this.#started = false;
    try {
      await within(STOP_MS, () => this.#source.stop?.(this.#reports));
    } catch (cause) {
      this.#failed("The source of certificates did not stop", cause);
    }
  }

  /**
   * Asks for a certificate.
   *
   * @throws {TlsError} `TLS_SELECTION_FAILED`, also as a rejection
   */
  select(
    hello: ClientHello,
    endpoints: Endpoints,
    served: ServedVersions,
  ): CheckedAnswer | Promise<CheckedAnswer> {
    try {
      const answer = this.#source.select(hello, endpoints);
      if (!isThenable(answer)) return checkAnswer(answer, served);
      // A promise of our own: a foreign thenable may break the rules of promises.
      return Promise.resolve(answer).then((settled) => checkAnswer(settled, served)).catch(
        (cause) => {
          throw selectionFailed(cause);
        },
      );
    } catch (cause) {
      throw selectionFailed(cause);
    }
  }

  /** Whether the source has a certificate for a name or address; only `true` counts. */
  covers(name: string): boolean {
    try {
      const answer: unknown = this.#source.covers(name);
      if (typeof answer === "boolean") return answer;
      watch(answer, () => {});
      throw new TypeError(`covers() returned ${shown(answer)}: return true or false`);
    } catch (cause) {
      this.#failed("The source of certificates failed", cause);
      return false;
    }
  }

  /** The identities whose end the server reports. */
  identities(): readonly Identity[] {
    try {
      const all = [...this.#source.identities?.() ?? []];
      return all.filter((identity) => identity instanceof Identity);
    } catch (cause) {
      this.#failed("The source of certificates failed", cause);
      return [];
    }
  }

  /** The certificates that the source renews. */
  renewals(): readonly CertificateRenewal[] {
    try {
      const all = [...this.#source.renewals?.() ?? []];
      return all.filter(isRenewal);
    } catch (cause) {
      this.#failed("The source of certificates failed", cause);
      return [];
    }
  }

  /** The answer to a challenge; `undefined` when there is none. Never rejects. */
  async answerChallenge(token: string): Promise<string | undefined> {
    try {
      const answer: unknown = await within(ANSWER_MS, () => this.#source.answerChallenge?.(token));
      if (answer === undefined || answer === null) return undefined;
      if (typeof answer === "string") return answer;
      throw new TypeError(`answerChallenge() returned ${shown(answer)}: return text or nothing`);
    } catch (cause) {
      this.#failed("A challenge could not be looked up", cause);
      return undefined;
    }
  }

  #failed(message: string, cause: unknown): void {
    this.#reports.error(
      cause instanceof HttpsdError ? cause : new HttpsdError("HOOK_FAILED", message, { cause }),
    );
  }
}

/** What a source has chosen, checked. */
export type CheckedAnswer = SourceSelection | Refused | undefined;

/** Checks what a source has returned, which may be anything. */
function checkAnswer(answer: unknown, served: ServedVersions): CheckedAnswer {
  if (answer === undefined || answer === null || answer instanceof Refused) {
    return answer ?? undefined;
  }
  if (answer instanceof Identity) return { identity: answer };
  const { identity, alpnProtocols } = Object(answer) as Partial<SourceSelection>;
  const usable = identity instanceof Identity &&
    Object.keys(answer).every((name) => name === "identity" || name === "alpnProtocols") &&
    (alpnProtocols === undefined || areServed(alpnProtocols, served));
  if (usable) return alpnProtocols === undefined ? { identity } : { identity, alpnProtocols };
  throw new TlsError(
    "TLS_SELECTION_FAILED",
    "The source of certificates returned what cannot be used: return what loadIdentity() gave, " +
      "{ identity, alpnProtocols }, or refuse()",
  );
}

/** Whether a source, which may be any program's, has given what its type says. */
function isRenewal(value: unknown): value is CertificateRenewal {
  const { names, identity, renewAt, error } = Object(value) as Partial<CertificateRenewal>;
  return Array.isArray(names) && names.every((name) => typeof name === "string") &&
    (identity === undefined || identity instanceof Identity) &&
    (renewAt === undefined || renewAt instanceof Date) &&
    (error === undefined || error instanceof HttpsdError);
}

function selectionFailed(cause: unknown): TlsError {
  if (cause instanceof TlsError) return cause;
  return new TlsError("TLS_SELECTION_FAILED", "The source of certificates threw", { cause });
}
