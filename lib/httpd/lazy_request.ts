/**
 * The `Request` that a fetch handler is given. Making a real one costs more than all else that the
 * server does for a small request, so this one reads the method, URL and fields from the head when
 * the handler looks at them, and a body that is wanted whole without a stream. It makes the real
 * `Request` for anything else, once.
 *
 * It is an `instanceof Request`, and stands for one wherever the platform takes one, as in
 * `new Request(request)` and `fetch(request)`: Bun reads the properties there; Deno, whose own code
 * keeps what it needs under symbols, finds these passed on too. {@linkcode requestFor} tries that
 * out before it relies on it; where it fails, handlers get real requests.
 *
 * @module
 */
import { transferable } from "../net/streams.ts";
import type { Exchange } from "./exchange.ts";
import { fieldsOf, showsBody, toRequest, urlOf } from "./fetch_request.ts";

/** For whole bodies, so that it can be used by all; drops a byte order mark, as the standard says. */
const decoder = new TextDecoder();

/** The request of an exchange, made of what is looked at. */
class LazyRequest {
  readonly #exchange: Exchange;
  #url: string | undefined;
  #headers: Headers | undefined;
  #real: Request | undefined;
  /** The body was read here, with no real request. */
  #bodyUsed = false;

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }

  /** The platform's own request for the same exchange. */
  static realOf(request: LazyRequest): Request {
    if (request.#real !== undefined) return request.#real;
    const body = request.#bodyUsed ? new Uint8Array() : undefined;
    const real = request.#real = toRequest(request.#exchange, request.headers, body);
    if (request.#bodyUsed) void real.arrayBuffer(); // so that it says that it was used
    return real;
  }

  /** The exchange that a request was made for, when it is one of these. */
  static exchangeOf(request: object): Exchange | undefined {
    return #exchange in request ? request.#exchange : undefined;
  }

  get method(): string {
    return this.#exchange.head.method;
  }

  get url(): string {
    return this.#url ??= urlOf(this.#exchange);
  }

  get headers(): Headers {
    return this.#headers ??= fieldsOf(this.#exchange);
  }

  get signal(): AbortSignal {
    return this.#exchange.signal;
  }

  get bodyUsed(): boolean {
    return this.#real?.bodyUsed ?? this.#bodyUsed;
  }

  /** Whether the platform has to read the body: it was asked for it, or has to refuse. */
  get #bodyIsReals(): boolean {
    return this.#real !== undefined || this.#bodyUsed;
  }

  #readAll(): Uint8Array | Promise<Uint8Array> {
    if (!showsBody(this.#exchange)) return new Uint8Array();
    this.#bodyUsed = true;
    return this.#exchange.body.readAll();
  }

  async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#bodyIsReals) return LazyRequest.realOf(this).bytes();
    return transferable(await this.#readAll());
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    if (this.#bodyIsReals) return LazyRequest.realOf(this).arrayBuffer();
    return transferable(await this.#readAll()).buffer;
  }

  async text(): Promise<string> {
    if (this.#bodyIsReals) return LazyRequest.realOf(this).text();
    return decoder.decode(await this.#readAll());
  }

  async json(): Promise<unknown> {
    if (this.#bodyIsReals) return LazyRequest.realOf(this).json();
    return JSON.parse(decoder.decode(await this.#readAll()));
  }
}

/** Has `LazyRequest` answer for `key` with what the real request has there. */
function passOn(key: string | symbol, isMethod: boolean): void {
  const get = function (this: LazyRequest): unknown {
    return Reflect.get(LazyRequest.realOf(this), key);
  };
  const value = function (this: LazyRequest, ...args: unknown[]): unknown {
    const real = LazyRequest.realOf(this);
    return (Reflect.get(real, key) as (...args: unknown[]) => unknown).apply(real, args);
  };
  Object.defineProperty(LazyRequest.prototype, key, isMethod ? { value } : { get });
}

/** Makes `LazyRequest` a `Request` in all that it does not do itself. */
function inherit(): void {
  Object.setPrototypeOf(LazyRequest.prototype, Request.prototype);
  for (
    const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(Request.prototype))
  ) {
    if (!Object.hasOwn(LazyRequest.prototype, name)) passOn(name, property.value !== undefined);
  }
  const probe = new Request("http://localhost");
  for (const symbol of Object.getOwnPropertySymbols(probe)) passOn(symbol, false);
}

/** Whether the platform takes a lazy request for a real one. */
function standsIn(): boolean {
  const head = {
    method: "PUT",
    host: "a.example",
    path: "/b",
    query: "c",
    form: "origin",
    fieldCount: 1,
    fieldName: () => "x-d",
    fieldValue: () => "e",
  };
  const exchange = { head, session: {}, signal: new AbortController().signal, hasBody: false };
  try {
    const copy = new Request(
      new LazyRequest(exchange as unknown as Exchange) as unknown as Request,
    );
    return copy.method === "PUT" && copy.url === "http://a.example/b?c" &&
      copy.headers.get("x-d") === "e" && copy.body === null;
  } catch {
    return false; // what it threw does not matter: real requests are given instead
  }
}

inherit();
const lazy = standsIn();

/** Requests that had to be real, and what they were made for. */
const real = new WeakMap<Request, Exchange>();

/**
 * The request of an exchange for a fetch handler.
 *
 * @throws {HttpError} 501 `NOT_IMPLEMENTED` for `CONNECT` and `TRACE`, which a `Request` cannot
 * carry
 */
export function requestFor(exchange: Exchange): Request {
  const { method } = exchange.head;
  if (lazy && method !== "CONNECT" && method !== "TRACE") {
    return new LazyRequest(exchange) as unknown as Request;
  }
  const request = toRequest(exchange, fieldsOf(exchange));
  real.set(request, exchange);
  return request;
}

/** The exchange that a request was made for; `undefined` for others, copies among them. */
export function exchangeOf(request: Request): Exchange | undefined {
  return LazyRequest.exchangeOf(request) ?? real.get(request);
}
