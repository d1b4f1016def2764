/**
 * The gate's second step under TLS: what the client asks for, read before the runtime's TLS sees it.
 *
 * @module
 */
import { type HttpsdError, TlsError } from "../../errors.ts";
import { runtime } from "../../runtime/current.ts";
import { NOT_TLS_ANSWER } from "../../tls/alerts.ts";
import type { ClientHello } from "../../tls/client_hello.ts";
import { type BadHello, ClientHelloReader } from "../../tls/client_hello_reader.ts";
import type { Selector } from "../../tls/selector.ts";
import { TurnedAway } from "./farewell.ts";

/** The longest ClientHello that the runtime's TLS takes: BoringSSL's limit, and that of rustls. */
const MAX_HELLO_BYTES = runtime.name === "bun" ? 16 * 1024 : 64 * 1024;

/** A ClientHello that has come. */
export interface HelloRead {
  /** What it says. */
  readonly hello: ClientHello;
  /** All bytes that were read, which the runtime's TLS is to read again. */
  readonly bytes: Uint8Array;
}

/** Reads what a client sends in plain HTTP; returns what it gets, once that is decided. */
export interface PlainReader {
  push(bytes: Uint8Array): Uint8Array | undefined;
}

/** Reads a ClientHello. */
export class ClientHelloStep {
  readonly #reader = new ClientHelloReader(MAX_HELLO_BYTES);
  readonly #readPlain: (() => PlainReader) | undefined;
  /** What reads on when it is plain HTTP. */
  #plain: { readonly reader: PlainReader; readonly error: HttpsdError } | undefined;

  /** Makes the step; `readPlain` makes what reads plain HTTP, which gets a hint otherwise. */
  constructor(readPlain?: () => PlainReader) {
    this.#readPlain = readPlain;
  }

  /** Takes the next bytes; returns `undefined` until there is something to decide. */
  push(bytes: Uint8Array): HelloRead | TurnedAway | undefined {
    if (this.#plain !== undefined) return this.#pushPlain(bytes);
    const result = this.#reader.push(bytes);
    if (result.state === "need") return undefined;
    if (result.state === "error") {
      if (!result.looksLikeHttp || this.#readPlain === undefined) return turnAway(result);
      this.#plain = { reader: this.#readPlain(), error: result.error };
      return this.#pushPlain(this.#reader.bytes);
    }
    return { hello: result.hello, bytes: this.#reader.bytes };
  }

  #pushPlain(bytes: Uint8Array): TurnedAway | undefined {
    const { reader, error } = this.#plain!;
    const answer = reader.push(bytes);
    return answer && new TurnedAway(error, answer);
  }
}

/** Refuses a client that shares no version with the server; `undefined` if it shares one. */
export function checkVersion(selector: Selector, hello: ClientHello): TurnedAway | undefined {
  if (selector.sharesVersion(hello)) return undefined;
  const error = new TlsError("TLS_VERSION", "Client and server share no TLS version");
  return TurnedAway.withAlert(error, "protocol_version");
}

/** A client that speaks plain HTTP gets an answer in plain HTTP, one that speaks TLS an alert. */
function turnAway({ error, alert, looksLikeHttp }: BadHello): TurnedAway {
  if (looksLikeHttp) return new TurnedAway(error, NOT_TLS_ANSWER);
  return alert === undefined ? new TurnedAway(error) : TurnedAway.withAlert(error, alert);
}
