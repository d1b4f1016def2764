/**
 * Limits how many requests one client may make: middleware for fetch handlers, routes and Hono, with
 * the fields of draft-ietf-httpapi-ratelimit-headers-10 and `Retry-After` (RFC 9110 section 10.2.3).
 *
 * @module
 */
import { createHash } from "node:crypto";
import { isIPv6 } from "node:net";
import * as v from "valibot";
import { contain, isThenable } from "../contain/callbacks.ts";
import { normalizeAddress } from "../endpoints.ts";
import { ConfigError } from "../errors.ts";
import type { RouteHandler } from "../httpd/route.ts";
import type { Session } from "../http/session.ts";
import {
  adviceFrom,
  checkOptions,
  count,
  either,
  hook,
  members,
  milliseconds,
  oneOf,
  shown,
} from "../options.ts";
import { changeable } from "../runtime/response_parts.ts";
import { rateOf } from "../share.ts";
import { MemoryStore, memoryStore, type RateLimitCount, type RateLimitStore } from "./store.ts";

/** What is looked at of a request: both `Request` and the requests of routes have it. */
export interface LimitedRequest {
  /** The method. */
  readonly method: string;
  /** The fields. */
  readonly headers: Headers;
}

/** Returns the name of the client that a request counts for; `undefined`: it is not limited. */
export type RateLimitKey = (
  request: LimitedRequest,
  session: Session,
) => string | undefined | Promise<string | undefined>;

/** The options of {@linkcode rateLimit}. */
export interface RateLimitOptions {
  /**
   * What a client is. `"address"`: its IP address, and with IPv6 the /64 that it is in, of which one
   * client may have every address. `"clientCertificate"`: the certificate that was verified, and the
   * address of a client without. Or a function. Default: `"address"`.
   */
  readonly by?: "address" | "clientCertificate" | RateLimitKey;
  /**
   * How many requests a client may make in a window. A worker of a cluster that counts in memory
   * allows its part of them, at least one.
   */
  readonly limit: number;
  /** How long a window is, in ms. It begins with the client's first request. */
  readonly windowMs: number;
  /**
   * The policy's name, in the fields and in the store: limits of one name and one store share their
   * counts. Letters, digits, `-` and `_`. Default: `"default"`.
   */
  readonly name?: string;
  /** Where it is counted: `redisStore()`, or a store of your own. Default: `memoryStore()`. */
  readonly store?: RateLimitStore;
  /**
   * What becomes of a request that cannot be counted: `"refuse"` answers 503, `"allow"` lets it
   * pass. Default: `"refuse"`.
   */
  readonly whenStoreFails?: "allow" | "refuse";
  /**
   * Called with what the store failed with, once until it works again. Default: a line on the
   * console.
   */
  readonly reportError?: (error: unknown) => void;
}

/** What was decided about a request. */
export interface RateLimitDecision {
  /** The answer to a request that is refused: 429, or 503; `undefined` when it may pass. */
  readonly refusal: Response | undefined;
  /** `RateLimit-Policy` and `RateLimit`, for the answer to a request that may pass. */
  readonly fields: readonly (readonly [name: string, value: string])[];
}

/** A fetch handler of a server or of an edge app. */
export type LimitedHandler<I> = (request: Request, info: I) => Response | Promise<Response>;

/** What a fetch handler is given that is limited. */
export interface LimitedInfo {
  /** The session that the request came on. */
  readonly session: Session;
}

/** What is used of Hono's context. */
export interface LimitedContext {
  /** What the server passed to `app.fetch`. */
  readonly env: unknown;
  /** The request. */
  readonly req: { readonly raw: Request };
  /** Sets a field of the answer. */
  header(name: string, value: string): void;
}

/** A limit, to be put before handlers. One limit before several handlers counts for all of them. */
export interface RateLimit {
  /** Puts the limit before a fetch handler, or an app with a `fetch`; of edge apps too. */
  fetch<I extends LimitedInfo>(
    handler: LimitedHandler<I> | { fetch: LimitedHandler<I> },
  ): LimitedHandler<I>;
  /** Puts the limit before the handler of a route. */
  route<S>(handler: RouteHandler<S>): RouteHandler<S>;
  /** The limit as middleware for Hono: `app.use(limit.hono)`. */
  readonly hono: (c: LimitedContext, next: () => Promise<void>) => Promise<Response | void>;
  /**
   * Counts a request, for what is no handler, as a WebSocket's `onUpgrade`:
   * `async (request) => (await limit.take(request, request.session)).refusal`.
   */
  take(request: LimitedRequest, session: Session): Promise<RateLimitDecision>;
}

const CALLEE = "rateLimit()";

const OPTIONS = members({
  by: v.optional(
    either<RateLimitKey, "address" | "clientCertificate">(
      (value) => typeof value === "function",
      v.custom<RateLimitKey>((value) => typeof value === "function"),
      v.picklist(
        ["address", "clientCertificate"],
        'must be "address", "clientCertificate" or a function',
      ),
    ),
    "address",
  ),
  limit: count(),
  windowMs: milliseconds(),
  name: v.optional(
    v.pipe(
      v.string("must be text"),
      v.regex(/^[\w-]{1,64}$/, "must be 1 to 64 letters, digits, - and _"),
    ),
    "default",
  ),
  store: v.optional(v.custom<RateLimitStore>(isStore, "must be a store, with a method hit()")),
  whenStoreFails: v.optional(oneOf("allow", "refuse"), "refuse"),
  reportError: hook<(error: unknown) => void>(),
}, {
  advice: adviceFrom({
    max: "write limit",
    window: "write windowMs",
    keyGenerator: "write by",
    key: "write by",
    passOnStoreError: 'write whenStoreFails: "allow"',
    skip: "return undefined from by",
    maxKeys: "write store: memoryStore({ maxKeys })",
    standardHeaders: "leave it out: they are always sent",
  }),
});

function isStore(value: unknown): boolean {
  return typeof (Object(value) as Partial<RateLimitStore>).hit === "function";
}

/**
 * Makes a limit for the requests of each client: what is more is answered 429, with `Retry-After`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function rateLimit(options: RateLimitOptions): RateLimit {
  return new Limiter(checkOptions(CALLEE, OPTIONS, options));
}

type Options = v.InferOutput<typeof OPTIONS>;

class Limiter implements RateLimit {
  readonly #options: Options;
  readonly #store: RateLimitStore;
  readonly #policy: readonly [name: string, value: string];
  /** How many requests: where they are counted in this worker alone, its part of them. */
  readonly #limit: number;
  /** Whether the store has failed, and has not worked since. */
  #hasFailed = false;

  constructor(options: Options) {
    this.#options = options;
    this.#store = options.store ?? memoryStore();
    const { name, windowMs } = options;
    const limit = this.#store instanceof MemoryStore ? rateOf(options.limit) : options.limit;
    this.#limit = limit;
    this.#policy = ["RateLimit-Policy", `"${name}";q=${limit};w=${seconds(windowMs)}`];
  }

  fetch<I extends LimitedInfo>(
    handler: LimitedHandler<I> | { fetch: LimitedHandler<I> },
  ): LimitedHandler<I> {
    const handle = typeof handler === "function"
      ? handler
      : (request: Request, info: I) => handler.fetch(request, info);
    if (typeof handler !== "function" && typeof Object(handler).fetch !== "function") {
      throw invalid(`fetch() of ${CALLEE} takes a handler or an app, not ${shown(handler)}`);
    }
    return async (request, info) => {
      const { refusal, fields } = await this.take(request, sessionOf(info));
      return refusal ?? withFields(await handle(request, info), fields);
    };
  }

  route<S>(handler: RouteHandler<S>): RouteHandler<S> {
    if (typeof handler !== "function") {
      throw invalid(`route() of ${CALLEE} takes a handler, not ${shown(handler)}`);
    }
    return async (request) => {
      const { refusal, fields } = await this.take(request, request.session);
      if (refusal !== undefined) return refusal;
      for (const [name, value] of fields) request.header(name, value); // for what it sends itself
      return withFields(await handler(request), fields);
    };
  }

  readonly hono = async (
    c: LimitedContext,
    next: () => Promise<void>,
  ): Promise<Response | void> => {
    const { refusal, fields } = await this.take(c.req.raw, sessionOf(c.env));
    if (refusal !== undefined) return refusal;
    await next();
    for (const [name, value] of fields) c.header(name, value);
  };

  async take(request: LimitedRequest, session: Session): Promise<RateLimitDecision> {
    const { name, windowMs } = this.#options;
    const limit = this.#limit;
    const client = await this.#clientOf(request, session);
    if (client === undefined) return { refusal: undefined, fields: [] };
    let counted: RateLimitCount;
    try {
      const answer = this.#store.hit(`${name}:${client}`, windowMs);
      counted = usable(isThenable(answer) ? await answer : answer);
      this.#hasFailed = false;
    } catch (cause) {
      return this.#failed(cause);
    }
    const left = Math.max(0, limit - counted.count);
    const reset = seconds(Math.min(counted.resetMs, windowMs));
    const fields = [this.#policy, ["RateLimit", `"${name}";r=${left};t=${reset}`]] as const;
    if (counted.count <= limit) return { refusal: undefined, fields };
    return {
      refusal: new Response("Too many requests\n", {
        status: 429,
        headers: [...fields.map(([...field]) => field), ["Retry-After", String(reset)], PLAIN],
      }),
      fields,
    };
  }

  async #clientOf(request: LimitedRequest, session: Session): Promise<string | undefined> {
    const { by } = this.#options;
    if (by === "address") return addressKey(session);
    if (by === "clientCertificate") return certificateKey(session) ?? addressKey(session);
    const key: unknown = await by(request, session);
    if (key === undefined) return undefined;
    if (typeof key !== "string") {
      throw invalid(`Option by of ${CALLEE} returned ${shown(key)}: return text, or undefined`);
    }
    // What a client may have chosen takes no memory of its own length.
    return key.length <= LONGEST_KEY
      ? `key:${key}`
      : `hash:${createHash("sha256").update(key).digest("base64url")}`;
  }

  #failed(cause: unknown): RateLimitDecision {
    const { whenStoreFails, reportError = logFailure } = this.#options;
    const isFirst = !this.#hasFailed;
    this.#hasFailed = true;
    if (isFirst) contain(() => reportError(cause), (error) => console.error(error));
    if (whenStoreFails === "allow") return { refusal: undefined, fields: [] };
    const headers: [string, string][] = [["Retry-After", "1"], PLAIN];
    const refusal = new Response("Service unavailable\n", { status: 503, headers });
    return { refusal, fields: [] };
  }
}

/** What a store has answered, which may be any program's. */
function usable(answer: unknown): RateLimitCount {
  const { count, resetMs } = Object(answer) as Partial<RateLimitCount>;
  if (Number.isFinite(count) && Number.isFinite(resetMs)) return answer as RateLimitCount;
  throw new TypeError("The store's hit() gave no numbers: return { count, resetMs }");
}

const LONGEST_KEY = 128;

const PLAIN: [string, string] = ["Content-Type", "text/plain; charset=utf-8"];

function logFailure(cause: unknown): void {
  console.error("httpsd: requests cannot be counted, the store of rateLimit() fails:", cause);
}

/** Whole seconds, of which the last has begun. */
function seconds(ms: number): number {
  return Math.max(1, Math.ceil(ms / 1000));
}

/** The client's address, or of an IPv6 address its /64, which is what one client has at the least. */
function addressKey({ remoteAddress }: Session): string {
  const address = normalizeAddress(remoteAddress) ?? remoteAddress;
  return `address:${isIPv6(address) ? network64(address) : address}`;
}

/** The first 64 bits of an IPv6 address in its normal form. */
function network64(address: string): string {
  const [head = "", tail] = address.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = Array<string>(tail === undefined ? 0 : 8 - left.length - right.length).fill("0");
  return `${[...left, ...zeros, ...right].slice(0, 4).join(":")}::/64`;
}

function certificateKey({ tls }: Session): string | undefined {
  return tls?.authorized ? `certificate:${tls.peerCertificate?.fingerprint256}` : undefined;
}

/** @throws {ConfigError} `INVALID_CONFIG` when the handler was called by another server than httpsd */
function sessionOf(info: unknown): Session {
  const { session } = Object(info) as Partial<LimitedInfo>;
  if (session !== undefined) return session;
  throw invalid(
    `A handler behind ${CALLEE} was called without a session: serve it with httpsd, or call ` +
      "handler(request, { session })",
  );
}

/** Adds fields to a response, or to a copy of one whose fields cannot be changed. */
function withFields<R>(response: R, fields: RateLimitDecision["fields"]): R | Response {
  if (!(response instanceof Response)) return response; // there is none, or the server says why not
  let answer: Response = response;
  for (const [name, value] of fields) {
    try {
      answer.headers.set(name, value);
    } catch {
      answer = changeable(response);
      answer.headers.set(name, value);
    }
  }
  return answer;
}

function invalid(message: string): ConfigError {
  return new ConfigError("INVALID_CONFIG", message);
}
