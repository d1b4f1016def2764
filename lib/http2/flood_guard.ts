/**
 * Counts what is allowed in small numbers and is an attack in large ones (RFC 9113 section 10.5).
 *
 * @module
 */
import type { Clock } from "../net/clock.ts";
import { Budget, type BudgetSize } from "./budgets.ts";
import { connectionFault, ErrorCode, type Http2Fault } from "./error_code.ts";

/** How much of it is allowed. */
export interface FloodLimits {
  /** Streams that the client resets. */
  readonly clientResets: BudgetSize;
  /** Streams that this side has to reset or refuse. */
  readonly serverResets: BudgetSize;
  /** Frames that carry nothing of a request. */
  readonly controlFrames: BudgetSize;
}

/** The budgets of one connection; each is made when it is spent of first. */
export class FloodGuard {
  readonly #limits: FloodLimits;
  readonly #clock: Clock;
  #clientResets: Budget | undefined;
  #serverResets: Budget | undefined;
  #controlFrames: Budget | undefined;

  /** Makes the guard of a connection. */
  constructor(limits: FloodLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /**
   * Counts a stream that the client has reset.
   *
   * @throws {Http2Fault} ENHANCE_YOUR_CALM of the connection
   */
  clientReset(): void {
    const budget = this.#clientResets ??= new Budget(this.#limits.clientResets, this.#clock);
    if (!budget.spend()) throw calm("The client resets too many streams");
  }

  /**
   * Counts a stream that this side had to reset or refuse.
   *
   * @throws {Http2Fault} ENHANCE_YOUR_CALM of the connection
   */
  serverReset(): void {
    const budget = this.#serverResets ??= new Budget(this.#limits.serverResets, this.#clock);
    if (!budget.spend()) throw calm("Too many streams had to be reset");
  }

  /**
   * Counts a frame that carries nothing of a request; `what` names its kind.
   *
   * @throws {Http2Fault} ENHANCE_YOUR_CALM of the connection
   */
  control(what: string): void {
    const budget = this.#controlFrames ??= new Budget(this.#limits.controlFrames, this.#clock);
    if (!budget.spend()) throw calm(`Too many frames that carry nothing: ${what}`);
  }
}

/** The fault of a client that does too much. */
export function calm(message: string): Http2Fault {
  return connectionFault(ErrorCode.EnhanceYourCalm, message);
}
