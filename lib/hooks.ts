/**
 * The program's own hooks into the life of sessions: `verifyClient`, `openFn`, `closeFn`,
 * `userCallback`. What one throws becomes an `error` event, and refuses that one session if the
 * hook was to decide about it.
 *
 * @module
 */
import type { Config, TlsSessionChange } from "./config.ts";
import { contain } from "./contain/callbacks.ts";
import { ConnectionError, HttpsdError, TlsError } from "./errors.ts";
import type { Session } from "./http/session.ts";
import { logMistake } from "./mistakes.ts";
import { shown } from "./options.ts";
import type { Reports } from "./reports.ts";

/** The hooks among a server's options. */
type HookOptions = Pick<
  Config,
  "verifyClient" | "openFn" | "closeFn" | "userCallback" | "tlsUserData" | "transportMode"
>;

/** The hooks of one server. */
export class Hooks {
  readonly #options: HookOptions;
  readonly #reports: Reports;

  /** Takes the hooks from a server's options. */
  constructor(options: HookOptions, reports: Reports) {
    this.#options = options;
    this.#reports = reports;
  }

  /** Whether there are hooks that decide which sessions are admitted. */
  get decide(): boolean {
    return this.#options.verifyClient !== undefined || this.#options.openFn !== undefined;
  }

  /**
   * Asks the hooks whether a session may begin, and calls `begin` when it may. Otherwise the session
   * is ended, and what was wrong reported.
   */
  async ask(session: Session, begin: () => void): Promise<void> {
    const { verifyClient, openFn, closeFn } = this.#options;
    try {
      const { peerCertificate, authorized } = session.tls ?? {};
      if (verifyClient !== undefined && peerCertificate !== undefined && authorized) {
        if (!lets("verifyClient", await verifyClient(peerCertificate, session))) {
          throw new TlsError(
            "TLS_CLIENT_CERT_INVALID",
            "Hook verifyClient refused the certificate",
          );
        }
      }
      if (session.connection.closed) return;
      if (openFn !== undefined && !lets("openFn", await openFn(session))) {
        throw new ConnectionError("CONNECTION_REFUSED", "Hook openFn refused the session");
      }
      if (!session.connection.closed) begin();
      else if (openFn !== undefined) this.run(() => closeFn?.(session, undefined), session);
    } catch (cause) {
      this.#turnAway(session, cause);
    }
  }

  /** Ends a session that a hook refused or failed on, unless the client is gone. */
  #turnAway(session: Session, cause: unknown): void {
    if (cause instanceof TlsError || cause instanceof ConnectionError) { // as the hook decided
      if (!session.connection.closed) session.destroy(cause);
      return;
    }
    const mistake = cause instanceof HttpsdError
      ? cause
      : new HttpsdError("HOOK_FAILED", "A hook threw", { cause });
    if (session.connection.closed) return this.#reports.error(mistake, { session });
    // The connection's own end is not a mistake.
    if (!this.#reports.hears("error")) logMistake(mistake);
    session.destroy(
      new ConnectionError("CONNECTION_REFUSED", mistake.message, { cause: mistake.cause }),
    );
  }

  /** Calls `userCallback` for a session that begins. */
  created(session: Session): void {
    const { remoteAddress } = session;
    this.#changed("create", { session, remoteAddress, error: undefined });
  }

  /** Calls `closeFn` for a session that is over. */
  closing(session: Session, error: HttpsdError | undefined): void {
    this.run(() => this.#options.closeFn?.(session, error), session);
  }

  /** Calls `userCallback` for a session that is over. */
  closed(session: Session, error: HttpsdError | undefined): void {
    this.#changed("close", { session, remoteAddress: session.remoteAddress, error });
  }

  /** Calls `userCallback` for a client that gets no session. */
  refused(remoteAddress: string, error: HttpsdError): void {
    this.#changed("error", { session: undefined, remoteAddress, error });
  }

  /** Calls `userCallback`, which is for TLS sessions only. */
  #changed(
    state: TlsSessionChange["state"],
    change: Pick<TlsSessionChange, "session" | "remoteAddress" | "error">,
  ): void {
    const { userCallback, tlsUserData, transportMode } = this.#options;
    if (userCallback === undefined || transportMode === "insecure") return;
    const { session } = change;
    this.run(() => userCallback({ ...change, state, tls: session?.tls, tlsUserData }), session);
  }

  /** Runs a hook that decides nothing; what it throws becomes an `error` event. */
  run(hook: () => unknown, session?: Session): void {
    contain(hook, (cause) => {
      const error = new HttpsdError("HOOK_FAILED", "A hook threw", { cause });
      this.#reports.error(error, { session });
    });
  }
}

/**
 * Whether a hook's result admits a session: only `true` does.
 *
 * @throws {HttpsdError} `HOOK_FAILED` for a result that is neither `true` nor `false`: it refuses
 * the session, and is most likely a mistake
 */
function lets(hook: string, answer: unknown): boolean {
  if (typeof answer === "boolean") return answer;
  throw new HttpsdError(
    "HOOK_FAILED",
    `Hook ${hook} returned ${shown(answer)}, which lets no session in: return true or false`,
  );
}
