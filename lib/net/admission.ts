/**
 * One socket's way through the gate, step by step, within one deadline from accept:
 *
 * ```
 * proxy header ─→ client hello ─→ selection ─→ (a turn) ─→ handshake ─→ admitted
 *      │               │              │            │           │
 *      └───────────────┴──────────────┴────────────┴───────────┴─→ refused
 * ```
 *
 * The PROXY header is read from trusted peers only; in plain mode the connection is admitted behind
 * it. Every arrow to the right is one method: `#identified`, `#select`, `#selected`, `shakeHands`,
 * `#secured`; every arrow down is `refuse`, or `#refuseWith` where the client is told why.
 *
 * @module
 */
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { isThenable } from "../contain/callbacks.ts";
import { ConnectionError, type HttpsdError, TlsError } from "../errors.ts";
import { type ClientVerdict, NOT_ASKED } from "../tls/client_policy.ts";
import { alertRecord, NOT_TLS_ANSWER } from "../tls/alerts.ts";
import type { ClientHello } from "../tls/client_hello.ts";
import { type BadHello, ClientHelloReader } from "../tls/client_hello_reader.ts";
import type { SecurityContext } from "../tls/context.ts";
import { Refused } from "../tls/cert_select.ts";
import type { Selector } from "../tls/selector.ts";
import { certificateRefused, toTlsError } from "../tls/tls_errors.ts";
import { readTlsInfo } from "../tls/tls_info.ts";
import type { CidrSet } from "./cidr.ts";
import { Connection } from "./connection.ts";
import type { Deadlines, Waiting } from "./deadlines.ts";
import { type Endpoints, endpointsOf } from "../endpoints.ts";
import type { Place } from "./place.ts";
import {
  detectTlsFlow,
  type Flow,
  handleFlow,
  PacedSocket,
  pausingFlow,
  type TlsFlow,
} from "../runtime/read_switch.ts";
import { runtime } from "../runtime/current.ts";
import { ProxyHeaderReader } from "./proxy_protocol.ts";
import type { Unread } from "./unread.ts";
import { StreamWire } from "./wire.ts";

/** Who may speak for others with the PROXY protocol. */
export interface ProxyPolicy {
  /** The peers that are proxies. */
  readonly trusted: CidrSet;
  /** Whether every connection must come through one, with a header. */
  readonly required: boolean;
}

/** What an admission goes by, and whom it tells. */
export interface AdmissionOptions {
  /** The contexts to choose among; `undefined` in plain mode. */
  readonly selector: () => Selector | undefined;
  /** Who may send PROXY headers; `undefined`: nobody. */
  readonly proxy?: ProxyPolicy | undefined;
  /** The most connections from one address, those at the gate included. */
  readonly maxConnectionsPerAddress: number;
  /** How long from accept to the end of the handshake, in ms. */
  readonly handshakeTimeoutMs: number;
  /** How long a write may wait for the peer to read, in ms. */
  readonly sendTimeoutMs: number;
  /** How long a closed connection waits for the peer's end, in ms. */
  readonly lingerMs: number;
  /** The clock that all deadlines are watched by. */
  readonly deadlines: Deadlines;
  /** What waits unread in all connections. */
  readonly unread: Unread;
  /** Overrides the detected flow control; for tests of the fallback. */
  readonly tlsFlow?: TlsFlow | undefined;
  /** A connection passed the gate. */
  readonly admitted: (connection: Connection) => void;
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
  /** The server name that it asked for, if that was seen. */
  readonly sni: string | undefined;
}

/** Gives a connection's place under its address to another; called once. */
export type Release = () => void;

/** Frees nothing, where connections are not counted by address. */
export const NOTHING_TO_RELEASE: Release = () => {};

/** What admissions tell their gate. */
export interface Keeper {
  /** The client's address is known: may it come in? */
  count(address: string): Release | undefined;
  /** The context is chosen: call `shakeHands()` when there is room. */
  ready(admission: Admission): void;
  /** It is over, one way or the other. */
  left(admission: Admission): void;
}

/** One socket's way through the gate. */
export class Admission implements Waiting {
  readonly #raw: Socket;
  readonly #options: AdmissionOptions;
  readonly #keeper: Keeper;
  readonly #place: Place;
  readonly #selector: Selector | undefined;
  #endpoints: Endpoints;
  #phase: GatePhase = "client hello";
  #hello: ClientHello | undefined;
  #context: SecurityContext | undefined;
  #read: ((bytes: Uint8Array) => void) | undefined;
  #release = NOTHING_TO_RELEASE;
  #over = false;
  /** The place is given free when the TLS socket closes; while there is none, when the raw one does. */
  #secure = false;
  #freed = false;
  /** Whether the handshake has begun. */
  shaking = false;
  /** Whether the client has sent anything. */
  heard = false;
  /** Whether it is being cut to make room. */
  evicted = false;
  /** When it was accepted, on the clock of the deadlines. */
  readonly since: number;
  deadline: number;

  constructor(raw: Socket, options: AdmissionOptions, keeper: Keeper, place: Place) {
    this.#raw = raw;
    this.#options = options;
    this.#keeper = keeper;
    this.#place = place;
    this.#selector = options.selector();
    // A socket that is reset at once has no addresses any more: keep what there is now.
    this.#endpoints = endpointsOf(raw);
    this.since = options.deadlines.clock.now();
    this.deadline = this.since + options.handshakeTimeoutMs;
  }

  /** Reads the PROXY header where one may come, and goes on. */
  begin(): void {
    this.#options.deadlines.watch(this);
    this.#raw.on("error", this.#failed);
    this.#raw.on("end", this.#ended);
    this.#raw.on("close", this.#closed);
    const { proxy } = this.#options;
    if (proxy === undefined) {
      this.#identified(EMPTY);
    } else if (proxy.trusted.has(this.#endpoints.remoteAddress)) {
      this.#phase = "proxy header";
      this.#readProxyHeader(proxy.required);
    } else if (proxy.required) {
      this.refuse(new ConnectionError("PROXY_HEADER", "The peer is no trusted proxy"));
    } else {
      this.#identified(EMPTY);
    }
  }

  expire(): void {
    const ms = this.#options.handshakeTimeoutMs;
    this.refuse(
      this.#selector === undefined
        ? new ConnectionError("CONNECTION_TIMEOUT", `The PROXY header did not come in ${ms} ms`)
        : new TlsError("TLS_HANDSHAKE_TIMEOUT", `The handshake was not over in ${ms} ms`),
    );
  }

  /** Cuts the socket, or what stands on it, unless it has left the gate. */
  refuse(error: HttpsdError, stream: Duplex = this.#raw): void {
    if (this.#over) return void this.#raw.destroy();
    this.#settle();
    this.#place.leave();
    stream.destroy();
    this.#keeper.left(this);
    this.#tell(error);
  }

  /** Refuses with some last bytes, which the peer is given time to read. */
  #refuseWith(error: HttpsdError, lastBytes: Uint8Array): void {
    this.#settle();
    this.#raw.once("close", () => this.#keeper.left(this));
    const farewell = this.#connection(this.#raw, pausingFlow(this.#raw), undefined);
    this.#raw.resume();
    farewell.write(lastBytes);
    farewell.finish();
    this.#tell(error);
  }

  #tell(error: HttpsdError): void {
    this.#options.refused({
      error,
      endpoints: this.#endpoints,
      phase: this.#phase,
      sni: this.#hello?.serverName,
    });
  }

  #readProxyHeader(required: boolean): void {
    const reader = new ProxyHeaderReader();
    this.#listen((bytes) => {
      const result = reader.push(bytes);
      if (result.state === "need") return;
      if (result.state === "error") return this.refuse(result.error);
      if (result.state === "absent") {
        if (!required) return this.#identified(result.rest);
        return this.refuse(
          new ConnectionError("PROXY_HEADER", "The proxy sent no PROXY header: configure it to"),
        );
      }
      const { source, destination } = result.header;
      if (source?.port !== undefined && destination?.port !== undefined) {
        this.#endpoints = {
          remoteAddress: source.address,
          remotePort: source.port,
          localAddress: destination.address,
          localPort: destination.port,
        };
      }
      this.#identified(result.rest);
    });
  }

  /** The client's address is known; `bytes` came behind the PROXY header. */
  #identified(bytes: Uint8Array): void {
    const release = this.#keeper.count(this.#endpoints.remoteAddress);
    if (release === undefined) {
      this.refuse(
        new ConnectionError(
          "TOO_MANY_CONNECTIONS",
          `More than ${this.#options.maxConnectionsPerAddress} connections from one address`,
        ),
      );
      return;
    }
    this.#release = release;
    if (this.#selector === undefined) {
      this.#hold(bytes);
      const connection = this.#connection(this.#raw, pausingFlow(this.#raw), undefined);
      this.#raw.resume();
      this.#admit(connection);
    } else {
      this.#phase = "client hello";
      this.#readClientHello(this.#selector, bytes);
    }
  }

  #readClientHello(selector: Selector, bytes: Uint8Array): void {
    const reader = new ClientHelloReader(MAX_HELLO_BYTES);
    this.#listen((bytes) => {
      const result = reader.push(bytes);
      if (result.state === "need") return;
      if (result.state === "error") return this.#refuseHello(result);
      this.#hello = result.hello;
      if (!selector.sharesVersion(result.hello)) {
        const error = new TlsError("TLS_VERSION", "Client and server share no TLS version");
        return this.#refuseWith(error, alertRecord("protocol_version"));
      }
      this.#phase = "selection";
      this.#hold(reader.bytes);
      this.#select(selector, result.hello);
    }, bytes);
  }

  /** A client that speaks plain HTTP is told so, one that speaks TLS gets an alert. */
  #refuseHello({ error, alert, looksLikeHttp }: BadHello): void {
    if (looksLikeHttp) this.#refuseWith(error, NOT_TLS_ANSWER);
    else if (alert === undefined) this.refuse(error);
    else this.#refuseWith(error, alertRecord(alert));
  }

  #select(selector: Selector, hello: ClientHello): void {
    try {
      const answer = selector.select(hello, this.#endpoints);
      if (isThenable(answer)) {
        answer.then((settled) => this.#selected(settled), (error) => this.#selectionFailed(error));
      } else {
        this.#selected(answer);
      }
    } catch (error) {
      this.#selectionFailed(error as TlsError);
    }
  }

  #selectionFailed(error: TlsError): void {
    if (!this.#over) this.#refuseWith(error, alertRecord("internal_error"));
  }

  #selected(answer: SecurityContext | Refused): void {
    if (this.#over) return; // the client went away, or the deadline passed, during the hook
    if (!(answer instanceof Refused)) {
      this.#context = answer;
      this.#keeper.ready(this);
      return;
    }
    const error = new TlsError("TLS_SELECTION_FAILED", `No certificate: ${answer.alert}`);
    this.#refuseWith(error, alertRecord(answer.alert));
  }

  /** The gate's call: there is room for a handshake. */
  shakeHands(): void {
    const raw = this.#raw;
    const context = this.#context!;
    this.shaking = true;
    this.#phase = "handshake";
    const tlsFlow = this.#options.tlsFlow ?? detectTlsFlow(raw);
    const paced = tlsFlow === "paced" ? new PacedSocket(raw) : undefined;
    const stream: Duplex = paced ?? raw;
    stream.allowHalfOpen = false; // or Deno does not see a client that leaves in the handshake
    context.accept(stream, {
      secured: (socket) => {
        stream.allowHalfOpen = socket.allowHalfOpen = true;
        const flow = paced ?? (tlsFlow === "handle" ? handleFlow(raw) : pausingFlow(socket));
        if (this.#over) socket.destroy();
        else this.#secured(context, socket, flow);
      },
      failed: (error) => this.refuse(error, stream), // the stream lets the alert out first
    });
  }

  #secured(context: SecurityContext, socket: TLSSocket, flow: Flow): void {
    const client = context.clientAuth?.judge(socket) ?? NOT_ASKED;
    if (context.clientAuth?.required && !client.authorized) {
      socket.destroy();
      this.refuse(unauthorized(client));
      return;
    }
    // On Bun the raw socket is closed when the client has ended its side.
    this.#secure = true;
    socket.on("close", this.#free);
    this.#admit(this.#connection(socket, flow, { socket, context, client }));
  }

  #connection(socket: Socket, flow: Flow, secured: Secured | undefined): Connection {
    return new Connection({
      wire: new StreamWire(socket, this.#raw, flow, secured !== undefined),
      endpoints: this.#endpoints,
      tls: secured && readTlsInfo(secured.socket, secured.client, this.#hello?.serverName),
      context: secured?.context,
      sendTimeoutMs: this.#options.sendTimeoutMs,
      lingerMs: this.#options.lingerMs,
      place: this.#place,
      deadlines: this.#options.deadlines,
      unread: this.#options.unread,
    });
  }

  #admit(connection: Connection): void {
    this.#settle();
    this.#hello = undefined; // this object lives on as long as the connection
    this.#keeper.left(this);
    this.#options.admitted(connection);
  }

  /** Feeds `read` with `first` and with what the socket gives, until {@linkcode #hold}. */
  #listen(read: (bytes: Uint8Array) => void, first: Uint8Array = EMPTY): void {
    const begun = this.#read !== undefined;
    this.#read = read;
    if (!begun) this.#raw.on("data", this.#data);
    if (first.length > 0) read(first);
  }

  /** Reads no more; `bytes` go back into the socket for whoever reads it next. */
  #hold(bytes: Uint8Array): void {
    this.#raw.off("data", this.#data);
    this.#read = undefined;
    this.#raw.pause();
    if (bytes.length > 0) this.#raw.unshift(bytes);
  }

  /** What the socket says from here on is for others; the listeners stay, and hear nothing of it. */
  #settle(): void {
    this.#over = true;
    this.#options.deadlines.unwatch(this);
    if (this.#read !== undefined) this.#raw.off("data", this.#data);
  }

  /** Gives the connection's place to others. */
  readonly #free = (): void => {
    if (this.#freed) return;
    this.#freed = true;
    this.#release();
    this.#place.free();
  };
  readonly #data = (bytes: Uint8Array): void => {
    this.heard = true;
    this.#read?.(bytes);
  };
  readonly #failed = (error: Error): void => {
    if (!this.#over) this.refuse(toTlsError(error));
  };
  readonly #closed = (): void => {
    if (!this.#secure) this.#free();
    this.#ended();
  };
  readonly #ended = (): void => {
    if (this.#over) return;
    const error = new TlsError(
      "TLS_PEER_CLOSED",
      "The client closed before the handshake was over",
    );
    // Deno closes the socket before it says what was wrong with the handshake.
    if (this.shaking) setImmediate(() => this.refuse(error));
    else this.refuse(error);
  };
}

/** A socket after its handshake, and what the handshake was decided by. */
interface Secured {
  readonly socket: TLSSocket;
  readonly context: SecurityContext;
  readonly client: ClientVerdict;
}

function unauthorized({ error }: ClientVerdict): TlsError {
  if (error !== undefined) return certificateRefused(error);
  return new TlsError("TLS_CLIENT_CERT_REQUIRED", "The client showed no certificate");
}

/** The longest ClientHello that the runtime's TLS takes: BoringSSL's limit, and that of rustls. */
const MAX_HELLO_BYTES = runtime.name === "bun" ? 16 * 1024 : 64 * 1024;

const EMPTY = new Uint8Array();
