/**
 * A native `Request` on Deno, made as `Deno.serve` makes its own: around an inner request whose
 * parts are made when they are first read. The public constructor costs as much as all else that the
 * server does for a small request. Undocumented are the symbols and the inner objects; a trial with
 * the first request compares the result with a request from the constructor, which is the fallback.
 *
 * @module
 */
import { runtime } from "./current.ts";
import { onFirstUse } from "../first_use.ts";
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

/** The symbols that are used. */
interface Symbols {
  /** Given to the constructor, it makes an instance with nothing in it. */
  readonly brand: symbol;
  /** Where the inner request lies. */
  readonly inner: symbol;
  /** Where the guard of the fields lies. */
  readonly guard: symbol;
  /** Where the signal lies, once it was looked at. */
  readonly signal: symbol;
  /** The method by which a controller aborts a signal. */
  readonly abort: symbol;
}

/** Finds the symbols by what they are called; `undefined` where one is missing. */
function symbolsOf(probe: Request): Symbols | undefined {
  const find = (object: object, name: string) =>
    Object.getOwnPropertySymbols(object).find(({ description }) => description === name);
  const symbols = {
    brand: find(probe, "[[webidl.brand]]"),
    inner: find(probe, "request"),
    guard: find(probe, "headers guard"),
    signal: find(probe, "signalCache"),
    abort: find(AbortSignal.prototype, "[[signalAbort]]"),
  };
  return Object.values(symbols).includes(undefined) ? undefined : symbols as Symbols;
}

type Slots = Record<symbol, unknown>;

/** Makes what Deno calls an inner request. */
function innerRequestClass(
  Body: new (held?: unknown) => InnerBody,
  { signal: SIGNAL, abort: ABORT }: Symbols,
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
      const signal = (this.request as unknown as Slots)[SIGNAL] as AbortSignal;
      const abort = (reason: unknown) =>
        (signal as unknown as Record<symbol, (reason: unknown) => void>)[ABORT]!(reason);
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
  const probe = new Request("http://localhost", { method: "POST", body: "probe" });
  const symbols = symbolsOf(probe);
  if (symbols === undefined) return undefined;
  const { brand, inner, guard } = symbols;
  const held = (probe as unknown as Slots)[inner] as { body?: InnerBody } | undefined;
  const Body = held?.body?.constructor as (new (held?: unknown) => InnerBody) | undefined;
  if (Body === undefined) return undefined;
  const Inner = innerRequestClass(Body, symbols);
  const Native = Request as unknown as new (brand: symbol) => Request;
  return (parts) => {
    const request = new Native(brand);
    const slots = request as unknown as Slots;
    slots[inner] = new Inner(request, parts);
    slots[guard] = "immutable";
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
  given: () => ((parts: RequestParts) => Request) | undefined,
): ((parts: RequestParts) => Request) | undefined {
  try {
    const make = given();
    return make !== undefined && isRight(make) ? make : undefined;
  } catch {
    return undefined; // what it threw does not matter: the constructor works everywhere
  }
}

/** Gives what makes a native request of its parts; `undefined` where only the constructor can. */
export const denoRequest: () => ((parts: RequestParts) => Request) | undefined = onFirstUse(() =>
  runtime.name === "deno" ? chooseDenoRequest(maker) : undefined
);

declareInternal("denoRequest", () => {
  if (runtime.name !== "deno") return "not needed";
  return denoRequest() === undefined ? "fallback" : "in force";
});
