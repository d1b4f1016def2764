/**
 * A native `Request` on Deno, made as `Deno.serve` makes its own: around an inner request whose
 * parts are made when they are first read. The public constructor costs as much as all else that the
 * server does for a small request. Undocumented are the symbols and the inner objects; a trial at
 * start compares the result with a request from the constructor, which is the fallback.
 *
 * @module
 */
import { runtime } from "./current.ts";
import { declareInternal } from "./internals.ts";

/** What a request is made of; each is called for when the handler first reads it. */
export interface RequestParts {
  readonly method: string;
  /** Takes over the signal, which was made because the handler reads it; it has no listeners yet. */
  adoptSignal(controller: Pick<AbortController, "signal" | "abort">): void;
  /** The URL in normal form. */
  url(): string;
  /** The fields in the order sent. */
  fields(): [name: string, value: string][];
  /** The body; `null` when there is none. */
  body(): BodyParts | null;
}

/** A body, to be read in one of two ways. */
export interface BodyParts {
  readonly stream: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** All of it, in a buffer of its own. */
  readAll(): Promise<Uint8Array<ArrayBuffer>>;
}

/** Deno's class of bodies, as far as it is used here. */
interface InnerBody {
  streamOrStatic: ReadableStream | { body: Uint8Array; consumed: boolean };
  readonly stream: ReadableStream;
  unusable(): boolean;
  consumed(): boolean;
  consume(): Promise<Uint8Array> | Uint8Array | string;
  clone(): InnerBody;
  createProxy(): InnerBody;
}

const probe = runtime.name === "deno"
  ? new Request("http://localhost", { method: "POST", body: "probe" })
  : {};

function symbolOf(description: string): symbol | undefined {
  const symbols = Object.getOwnPropertySymbols(probe);
  return symbols.find((symbol) => symbol.description === description);
}

/** Given to the constructor, it makes an instance with nothing in it. */
const BRAND = symbolOf("[[webidl.brand]]");
/** Where the inner request lies. */
const INNER = symbolOf("request");
/** Where the guard of the fields lies. */
const GUARD = symbolOf("headers guard");
/** Where the signal lies, once it was looked at. */
const SIGNAL = symbolOf("signalCache");
/** The method by which a controller aborts a signal. */
const ABORT = Object.getOwnPropertySymbols(AbortSignal.prototype)
  .find(({ description }) => description === "[[signalAbort]]");

type Slots = Record<symbol, unknown>;

function innerBodyClass(): (new (held?: unknown) => InnerBody) | undefined {
  const inner = INNER && (probe as unknown as Slots)[INNER] as { body?: InnerBody } | undefined;
  return (inner && inner.body)?.constructor as (new (held?: unknown) => InnerBody) | undefined;
}

/** Makes what Deno calls an inner request. */
function innerRequestClass(
  Body: new (held?: unknown) => InnerBody,
): new (request: Request, parts: RequestParts) => object {
  /** A body that is read whole without a stream, and through one in any other way. */
  class ServedBody extends Body {
    readonly #parts: BodyParts;
    #untouched = true;

    constructor(parts: BodyParts) {
      super();
      this.#parts = parts;
    }

    #touch(): void {
      if (!this.#untouched) return;
      this.#untouched = false;
      this.streamOrStatic = this.#parts.stream;
    }

    override get stream(): ReadableStream {
      this.#touch();
      return super.stream;
    }
    override consume(): Promise<Uint8Array> | Uint8Array | string {
      if (!this.#untouched) return super.consume();
      this.#untouched = false;
      this.streamOrStatic = { body: new Uint8Array(), consumed: true };
      return this.#parts.readAll();
    }
    override clone(): InnerBody {
      this.#touch();
      return super.clone();
    }
    override createProxy(): InnerBody {
      this.#touch();
      return super.createProxy();
    }
  }

  return class {
    readonly request: Request;
    readonly #parts: RequestParts;
    #fields: [name: string, value: string][] | undefined;
    #body: InnerBody | null | undefined;

    constructor(request: Request, parts: RequestParts) {
      this.request = request;
      this.#parts = parts;
    }
    /** Called when the signal is looked at, and so made, for the first time. */
    onCancel(): void {
      const signal = (this.request as unknown as Slots)[SIGNAL!] as AbortSignal;
      const abort = (reason: unknown) =>
        (signal as unknown as Record<symbol, (reason: unknown) => void>)[ABORT!]!(reason);
      this.#parts.adoptSignal({ signal, abort });
    }
    get method(): string {
      return this.#parts.method;
    }
    url(): string {
      return this.#parts.url();
    }
    get headerList(): [name: string, value: string][] {
      return this.#fields ??= this.#parts.fields();
    }
    get body(): InnerBody | null {
      if (this.#body === undefined) {
        const body = this.#parts.body();
        this.#body = body && new ServedBody(body);
      }
      return this.#body;
    }
  };
}

function maker(): ((parts: RequestParts) => Request) | undefined {
  const Body = innerBodyClass();
  if ([BRAND, INNER, GUARD, SIGNAL, ABORT, Body].includes(undefined)) return undefined;
  const Inner = innerRequestClass(Body!);
  const Native = Request as unknown as new (brand: symbol) => Request;
  return (parts) => {
    const request = new Native(BRAND!);
    const slots = request as unknown as Slots;
    slots[INNER!] = new Inner(request, parts);
    slots[GUARD!] = "immutable";
    return request;
  };
}

/** The parts of a request for the trial. */
function triedParts(adopted: Pick<AbortController, "signal" | "abort">[] = []): RequestParts {
  const bytes = new TextEncoder().encode('{"a":"b"}');
  return {
    method: "PUT",
    adoptSignal: (controller) => void adopted.push(controller),
    url: () => "http://a.example/b?c",
    fields: () => [["X-D", "e"], ["x-d", "f"], ["Content-Type", "text/plain"]],
    body: () => ({
      stream: new Response(bytes).body!,
      readAll: () => Promise.resolve(bytes),
    }),
  };
}

/** Whether a request made so is what the constructor makes. */
function isRight(make: (parts: RequestParts) => Request): boolean {
  const request = make(triedParts());
  const expected = new Request("http://a.example/b?c", {
    method: "PUT",
    headers: [["X-D", "e"], ["x-d", "f"], ["Content-Type", "text/plain"]],
    body: "x",
  });
  const copies = [request, request.clone(), new Request(make(triedParts()))];
  const changed = new Request(make(triedParts()), { method: "POST", body: null });
  return request instanceof Request && copies.every((copy) => facts(copy) === facts(expected)) &&
    changed.method === "POST" && isWhole(make(triedParts())) && isAbortable(make);
}

/** Whether the signal is made when it is looked at, and can be aborted. */
function isAbortable(make: (parts: RequestParts) => Request): boolean {
  const adopted: Pick<AbortController, "signal" | "abort">[] = [];
  const request = make(triedParts(adopted));
  const { signal } = request;
  if (adopted.length !== 1 || adopted[0]!.signal !== signal || signal.aborted) return false;
  adopted[0]!.abort("reason");
  return signal.aborted && signal.reason === "reason" && request.signal === signal;
}

function facts({ method, url, headers, body, bodyUsed, cache, mode }: Request): string {
  const shown = [method, url, ...headers, body instanceof ReadableStream, bodyUsed, cache, mode];
  return JSON.stringify(shown);
}

/** Whether reading the body whole marks it as used, and is refused the second time. */
function isWhole(request: Request): boolean {
  const before = request.bodyUsed;
  const first = request.text();
  const second = request.text();
  second.catch(() => {}); // it has to be refused
  return !before && request.bodyUsed && first instanceof Promise;
}

/** Makes the function that makes requests; `undefined` where that fails its trial. */
export function chooseDenoRequest(
  make: ((parts: RequestParts) => Request) | undefined,
): ((parts: RequestParts) => Request) | undefined {
  try {
    return make !== undefined && isRight(make) ? make : undefined;
  } catch {
    return undefined; // what it threw does not matter: the constructor works everywhere
  }
}

/** Makes a native request of its parts; `undefined` where only the constructor can. */
export const denoRequest: ((parts: RequestParts) => Request) | undefined = runtime.name === "deno"
  ? chooseDenoRequest(maker())
  : undefined;

declareInternal("denoRequest", () => {
  if (runtime.name !== "deno") return "not needed";
  return denoRequest === undefined ? "fallback" : "in force";
});
