/**
 * Reports the bytes of a connection that go by. Those that went by before the hooks let its session in
 * are reported when they have.
 *
 * @module
 */
import type { Observer } from "../net/consumer.ts";
import type { Session } from "./session.ts";
import type { SessionHost } from "./session_host.ts";

/** Counts the bytes of one connection. */
export class ByteReports implements Observer {
  readonly #host: SessionHost;
  readonly #session: Session;
  #isOpen: boolean;
  #received = 0;
  #sent = 0;

  /** Counts the bytes of a session, which is open already or opened later. */
  constructor(host: SessionHost, session: Session, isOpen = false) {
    this.#host = host;
    this.#session = session;
    this.#isOpen = isOpen;
  }

  /** Reports what has gone by so far, and from now on each time: the session is let in. */
  open(): void {
    this.#isOpen = true;
    if (this.#received > 0) this.#host.passed("data", this.#session, this.#received);
    if (this.#sent > 0) this.#host.passed("sent", this.#session, this.#sent);
  }

  received(bytes: number): void {
    if (this.#isOpen) this.#host.passed("data", this.#session, bytes);
    else this.#received += bytes;
  }

  sent(bytes: number): void {
    if (this.#isOpen) this.#host.passed("sent", this.#session, bytes);
    else this.#sent += bytes;
  }
}
