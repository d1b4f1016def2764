/**
 * One socket's way through the gate, step by step, within one deadline from accept. Each step has a
 * file of its own in steps/; here is the order of them:
 *
 * ```
 * accept ─→ proxy header ─→ client hello ─→ selection ─→ handshake ─→ admitted
 *    │           │                │             │            │
 *    └───────────┴────────────────┴─────────────┴────────────┴──────→ refused
 * ```
 *
 * | state | by | to |
 * |---|---|---|
 * | accept | a trusted proxy | proxy header |
 * | accept, proxy header | the client's address is known, and may come in | client hello; in plain mode admitted |
 * | client hello | it was read | selection |
 * | selection | a context was chosen, and the gate has room | handshake |
 * | handshake | it succeeded | admitted |
 * | each of these | an error, the deadline, the client leaves, `refuse()` | refused |
 *
 * The PROXY header is read from trusted peers only. The socket's place and its count under the
 * client's address are freed when it is closed, whatever its state.
 *
 * @module
 */
import type { Endpoints } from "../endpoints.ts";
import { ConnectionError, type HttpsdError, TlsError } from "../errors.ts";
import type { ClientHello } from "../tls/client_hello.ts";
import type { SecurityContext } from "../tls/context.ts";
import type { Selector } from "../tls/selector.ts";
import { toTlsError } from "../tls/tls_errors.ts";
import { readTlsInfo } from "../tls/tls_info.ts";
import type { Arrival, ArrivalGuest, Secured } from "./arrival.ts";
import { ConnectionEngine } from "./engine.ts";
import type { Deadlines, Waiting } from "./deadlines.ts";
import type { Place } from "./place.ts";
import type { ProxyHeader } from "./proxy_protocol.ts";
import {
  checkVersion,
  ClientHelloStep,
  type HelloRead,
  type PlainReader,
} from "./steps/client_hello.ts";
import { sayFarewell, TurnedAway } from "./steps/farewell.ts";
import {
  beginProxyHeader,
  type Identified,
  ProxyHeaderStep,
  type ProxyPolicy,
} from "./steps/proxy_header.ts";
import { type Choice, choose } from "./steps/selection.ts";
import type { Unread } from "./unread.ts";
import type { Unsent } from "./unsent.ts";
import type { Wire } from "./wire.ts";

/** The settings of an admission, and what it calls. */
export interface AdmissionOptions {
  /** The contexts to choose among; `undefined` in plain mode. */
  readonly selector: () => Selector | undefined;
  /** The peers that may send PROXY headers; `undefined`: none. */
  readonly proxy?: ProxyPolicy | undefined;
  /** Makes what reads plain HTTP that comes in place of TLS; `undefined`: it gets a hint. */
  readonly readPlain?: (() => PlainReader) | undefined;
  /** The most connections from one address, those at the gate included. */
  readonly maxConnectionsPerAddress: number;
  /** How long from accept to the end of the handshake, in ms. */
  readonly handshakeMs: number;
  /** How long a write may wait for the peer to read, in ms. */
  readonly sendTimeoutMs: number;
  /** How long a closed connection waits for the peer's end, in ms. */
  readonly lingerMs: number;
  /** The clock that all deadlines are watched by. */
  readonly deadlines: Deadlines;
  /** What waits unread in all connections. */
  readonly unread: Unread;
  /** What waits unsent in all connections. */
  readonly unsent: Unsent;
  /** A connection passed the gate. */
  readonly admitted: (connection: ConnectionEngine) => void;
  /** A connection did not; its socket is closed already. */
  readonly refused: (refusal: Refusal) => void;
}

/** How far a connection has come on its way through the gate; `"accept"`: not into it. */
export type GatePhase = "accept" | "proxy header" | "client hello" | "selection" | "handshake";

/** A connection that did not pass the gate. */
export interface Refusal {
  /** Why. */
  readonly error: HttpsdError;
  /** Where it came from. */
  readonly endpoints: Endpoints;
  /** How far it had come. */
  readonly phase: GatePhase;
  /** What the client offered, if that was seen. */
  readonly hello: ClientHello | undefined;
}

/** Frees the number of a connection under its address; called once. */
export type Release = () => void;

/** Frees nothing, where connections are not counted by address. */
export const NOTHING_TO_RELEASE: Release = () => {};

/** What admissions report to their gate. */
export interface Keeper {
  /** Counts the client under its address; returns `undefined` where there are too many. */
  count(address: string): Release | undefined;
  /** The context is chosen: calls `shakeHands()` when there is room. */
  ready(admission: Admission): void;
  /** It is over, one way or the other. */
  left(admission: Admission): void;
}

/** Where a socket is on its way. */
type State = GatePhase | "admitted" | "refused";

/** A step that is fed with what the socket gives, until it decides. */
interface ReadingStep<T> {
  push(bytes: Uint8Array): T | TurnedAway | undefined;
}

/** What is left of an admission when its connection is open: it frees what is to be freed. */
class Departure implements ArrivalGuest {
  readonly #release: Release;
  readonly #place: Place;

  constructor(release: Release, place: Place) {
    this.#release = release;
    this.#place = place;
  }

  onData(): void {}
  onEnd(): void {}
  onError(): void {}

  onClose(): void {
    this.#release();
    this.#place.free();
  }
}

/** One socket's way through the gate. */
export class Admission implements Waiting, ArrivalGuest {
  readonly #arrival: Arrival;
  readonly #options: AdmissionOptions;
  readonly #keeper: Keeper;
  readonly #place: Place;
  readonly #selector: Selector | undefined;
  #state: State = "accept";
  #endpoints: Endpoints;
  #proxy: ProxyHeader | undefined;
  #hello: ClientHello | undefined;
  #context: SecurityContext | undefined;
  /** Takes the socket's bytes, while a step reads. */
  #read: ((bytes: Uint8Array) => void) | undefined;
  #release = NOTHING_TO_RELEASE;
  /** Whether a refused client is given its last bytes, so that the gate lets go of it later. */
  #isSayingFarewell = false;
  /** Whether the client has sent anything. */
  heard = false;
  /** Whether it is being cut to make room. */
  evicted = false;
  /** When it was accepted, on the clock of the deadlines. */
  readonly since: number;
  deadline: number;

  /** Takes a socket that was accepted just now. */
  constructor(arrival: Arrival, options: AdmissionOptions, keeper: Keeper, place: Place) {
    this.#arrival = arrival;
    this.#options = options;
    this.#keeper = keeper;
    this.#place = place;
    this.#selector = options.selector();
    this.#endpoints = arrival.endpoints;
    this.since = options.deadlines.clock.now();
    this.deadline = this.since + options.handshakeMs;
  }

  /** Takes the first step. */
  begin(): void {
    this.#options.deadlines.watch(this);
    this.#arrival.reportTo(this);
    const begun = beginProxyHeader(this.#options.proxy, this.#endpoints);
    if (begun instanceof ProxyHeaderStep) {
      this.#state = "proxy header";
      this.#take(begun, (identified) => this.#identified(identified));
    } else if (begun instanceof TurnedAway) {
      this.#turnAway(begun);
    } else {
      this.#identified(begun);
    }
  }

  /** The client's address is known. */
  #identified({ endpoints, proxy, rest }: Identified): void {
    this.#endpoints = endpoints;
    this.#proxy = proxy;
    if (this.#selector !== undefined) this.#state = "client hello";
    const release = this.#keeper.count(endpoints.remoteAddress);
    if (release === undefined) {
      const { maxConnectionsPerAddress } = this.#options;
      const message = `More than ${maxConnectionsPerAddress} connections from one address`;
      return this.refuse(new ConnectionError("TOO_MANY_CONNECTIONS", message));
    }
    this.#release = release;
    if (this.#selector !== undefined) {
      const step = new ClientHelloStep(this.#options.readPlain);
      this.#take(step, (read) => this.#helloRead(read), rest);
      return;
    }
    this.#giveBack(rest);
    this.#admit(this.#connection(this.#arrival.plain()));
  }

  #helloRead({ hello, bytes }: HelloRead): void {
    this.#hello = hello;
    const turnedAway = checkVersion(this.#selector!, hello);
    if (turnedAway !== undefined) return this.#turnAway(turnedAway);
    this.#state = "selection";
    this.#giveBack(bytes);
    const choice = choose(this.#selector!, hello, this.#endpoints);
    if (choice instanceof Promise) void choice.then((settled) => this.#chosen(settled));
    else this.#chosen(choice);
  }

  #chosen(choice: Choice): void {
    if (this.#isOver) return; // the client went away, or the deadline passed, during the hook
    if (choice instanceof TurnedAway) return this.#turnAway(choice);
    this.#context = choice;
    this.#keeper.ready(this);
  }

  /** Takes the last step; the gate calls it when there is room for a handshake. */
  shakeHands(): void {
    this.#state = "handshake";
    this.#arrival.shakeHands(this.#context!, {
      secured: (secured) => this.#secured(secured),
      failed: (error) => this.refuse(error),
    });
  }

  #secured(secured: Secured): void {
    if (this.#isOver) return void secured.wire.destroy();
    this.#admit(this.#connection(secured.wire, secured));
  }

  #admit(connection: ConnectionEngine): void {
    this.#settle("admitted");
    this.#arrival.reportTo(new Departure(this.#release, this.#place));
    this.#keeper.left(this);
    this.#options.admitted(connection);
  }

  #connection(wire: Wire, secured?: Secured): ConnectionEngine {
    return new ConnectionEngine({
      wire,
      endpoints: this.#endpoints,
      proxy: this.#proxy,
      tls: secured && readTlsInfo(secured.handshake, secured.client, this.#hello, this.#age),
      context: secured?.context,
      sendTimeoutMs: this.#options.sendTimeoutMs,
      lingerMs: this.#options.lingerMs,
      place: this.#place,
      deadlines: this.#options.deadlines,
      unread: this.#options.unread,
      unsent: this.#options.unsent,
    });
  }

  get #age(): number {
    return this.#options.deadlines.clock.now() - this.since;
  }

  /** Refuses a client that has not passed the gate in time. */
  expire(): void {
    const ms = this.#options.handshakeMs;
    this.refuse(
      this.#selector === undefined
        ? new ConnectionError("CONNECTION_TIMEOUT", `The PROXY header did not come in ${ms} ms`)
        : new TlsError("TLS_HANDSHAKE_TIMEOUT", `The handshake was not over in ${ms} ms`),
    );
  }

  /** Cuts the socket; if the client was admitted or refused before, that is all. */
  refuse(error: HttpsdError): void {
    if (this.#isOver) return this.#arrival.destroy();
    const phase = this.#settle("refused");
    this.#place.leave();
    this.#arrival.destroy();
    this.#keeper.left(this);
    this.#report(error, phase);
  }

  #turnAway({ error, lastBytes }: TurnedAway): void {
    if (lastBytes === undefined) return this.refuse(error);
    const phase = this.#settle("refused");
    this.#isSayingFarewell = true;
    sayFarewell(this.#connection(this.#arrival.plain()), lastBytes);
    this.#report(error, phase);
  }

  #report(error: HttpsdError, phase: GatePhase): void {
    this.#options.refused({
      error,
      endpoints: this.#endpoints,
      phase,
      hello: this.#hello,
    });
  }

  /** Feeds a step with `first` and with what the socket gives, until it decides. */
  #take<T>(step: ReadingStep<T>, next: (result: T) => void, first: Uint8Array = NOTHING): void {
    const reads = this.#read !== undefined;
    this.#read = (bytes) => {
      const result = step.push(bytes);
      if (result === undefined) return;
      if (result instanceof TurnedAway) this.#turnAway(result);
      else next(result);
    };
    if (!reads) this.#arrival.read();
    if (first.length > 0) this.#read(first);
  }

  /** Reads no more; `bytes` go back into the socket for whatever reads it next. */
  #giveBack(bytes: Uint8Array): void {
    this.#read = undefined;
    this.#arrival.hold(bytes);
  }

  get #isOver(): boolean {
    return this.#state === "admitted" || this.#state === "refused";
  }

  /**
   * Ends the admission; what the socket reports from now on is ignored, but for its close.
   *
   * @returns how far it had come
   */
  #settle(end: "admitted" | "refused"): GatePhase {
    const phase = this.#state as GatePhase;
    this.#state = end;
    this.#options.deadlines.unwatch(this);
    this.#read = undefined;
    return phase;
  }

  onData(bytes: Uint8Array): void {
    this.heard = true;
    this.#read?.(bytes);
  }

  onError(error: Error): void {
    if (!this.#isOver) this.refuse(toTlsError(error));
  }

  onEnd(): void {
    if (this.#isOver) return;
    const error = new TlsError(
      "TLS_PEER_CLOSED",
      "The client closed before the handshake was over",
    );
    // Deno closes the socket before it says what was wrong with the handshake.
    if (this.#state === "handshake") setImmediate(() => this.refuse(error));
    else this.refuse(error);
  }

  onClose(): void {
    this.#release();
    this.#place.free();
    if (this.#isSayingFarewell) this.#keeper.left(this);
    this.onEnd();
  }
}

const NOTHING = new Uint8Array(0);
