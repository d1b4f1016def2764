/**
 * The `Request` that a fetch handler is given: a native one in every respect, which can be traced
 * to its exchange.
 *
 * @module
 */
import { type Aborter, ContainedAbort } from "../contain/abort.ts";
import { transferable } from "../net/streams.ts";
import { bunRequest, type LateParts, latePartsOf } from "../runtime/bun_request.ts";
import { type BodyParts, denoRequest, type RequestParts } from "../runtime/deno_request.ts";
import { readBefore } from "../http/body.ts";
import type { Exchange } from "../http/exchange.ts";
import {
  assertServable,
  fieldLines,
  initOf,
  mayHaveBody,
  streamOf,
  toRequest,
  urlOf,
} from "./request.ts";

/** Whatever a derived constructor is given as `this`: the object that its base returns. */
const Given = function (request: object): object {
  return request;
} as unknown as new (request: object) => object;

/**
 * Notes in a request which exchange it was made for, as a private field, which does not show
 * where it is printed, copied or compared. A `WeakMap` would cost as much as a third of making the
 * request.
 */
class Served extends Given {
  readonly #exchange: Exchange;

  constructor(request: Request, exchange: Exchange) {
    super(request);
    this.#exchange = exchange;
  }

  static exchangeOf(request: object): Exchange | undefined {
    return #exchange in request ? request.#exchange : undefined;
  }
}

/** The parts of a request that the runtime makes itself, each when it is looked at. */
class ExchangeParts implements RequestParts, LateParts {
  /** The exchange that the request was made for. */
  readonly exchange: Exchange;

  constructor(exchange: Exchange) {
    this.exchange = exchange;
  }

  get method(): string {
    return this.exchange.head.method;
  }
  get signal(): AbortSignal {
    return this.exchange.signalBy(ContainedAbort);
  }
  adoptSignal(controller: Aborter): void {
    this.exchange.adoptSignal(ContainedAbort, controller);
  }
  url(): string {
    return urlOf(this.exchange);
  }
  fields(): [name: string, value: string][] {
    return fieldLines(this.exchange);
  }
  body(): BodyParts | null {
    return mayHaveBody(this.method) ? new ExchangeBody(this.exchange) : null;
  }
}

class ExchangeBody implements BodyParts {
  readonly #exchange: Exchange;

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }

  get stream(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return streamOf(this.#exchange);
  }
  async readAll(): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#exchange.bodyUsed) throw readBefore();
    return transferable(await this.#exchange.body.readAll());
  }
}

/**
 * The request of an exchange for a fetch handler.
 *
 * @throws {HttpError} 501 `NOT_IMPLEMENTED` for `CONNECT` and `TRACE`, which a `Request` cannot
 * carry; 400 `BAD_REQUEST` when the target is not a URL, on Deno not before the URL is looked at
 */
export function requestFor(exchange: Exchange): Request {
  assertServable(exchange);
  const fromBun = bunRequest();
  if (fromBun !== undefined) {
    return fromBun(urlOf(exchange), initOf(exchange), new ExchangeParts(exchange));
  }
  const request = denoRequest()?.(new ExchangeParts(exchange)) ?? toRequest(exchange);
  new Served(request, exchange);
  return request;
}

/** Finds the way to make requests, if that was not done before. */
export function prepareRequests(): void {
  if (bunRequest() === undefined) denoRequest();
}

/** The exchange that a request was made for; `undefined` for others, copies among them. */
export function exchangeOf(request: Request): Exchange | undefined {
  const parts = latePartsOf(request);
  return parts instanceof ExchangeParts ? parts.exchange : Served.exchangeOf(request);
}
