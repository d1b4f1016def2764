/**
 * A native `Request` on Bun whose fields and signal are made when they are looked at: both together
 * cost as much as all else that the server does for a small request. It is of a hidden class whose
 * accessors make them. Nothing documents that Bun reads an object of such a class by its properties
 * wherever it takes a `Request` (`new Request(request)`, `fetch(request)`); a trial with the first
 * request compares what comes of that with one from the constructor, which is used where it fails.
 *
 * @module
 */
import { runtime } from "./current.ts";
import { onFirstUse } from "../first_use.ts";
import { declareInternal } from "./internals.ts";

/** What a request is made of when somebody looks; the same each time. */
export interface LateParts {
  readonly signal: AbortSignal;
  /** The fields in the order sent. */
  fields(): [name: string, value: string][];
}

/** Makes a native request, of what is its own from the start and of what is made late. */
export type BunRequest = (
  url: string,
  init: RequestInit | undefined,
  parts: LateParts,
) => Request;

/** A request with a body: Bun forgets the type of its `blob()`, or says that it is a text. */
export class BodyRequest extends Request {
  override async blob(): Promise<Blob> {
    const type = this.headers.get("content-type") ?? "";
    const blob = await super.blob();
    return blob.type === type ? blob : blob.slice(0, blob.size, type);
  }
}

/** A request whose fields and signal are made when they are looked at. */
class LateRequest extends BodyRequest {
  readonly #parts: LateParts;
  #headers: Headers | undefined;

  constructor(url: string, init: RequestInit | undefined, parts: LateParts) {
    super(url, init);
    this.#parts = parts;
  }

  /** The native fields, filled at the first look. */
  #settle(): Headers {
    if (this.#headers !== undefined) return this.#headers;
    const headers = this.#headers = super.headers;
    for (const [name, value] of this.#parts.fields()) headers.append(name, value);
    return headers;
  }

  override get headers(): Headers {
    return this.#settle();
  }

  override get signal(): AbortSignal {
    return this.#parts.signal;
  }

  override formData(): Promise<FormData> {
    this.#settle(); // one of them has the boundary
    return super.formData();
  }

  override clone(): Request {
    this.#settle();
    return new Request(super.clone(), { signal: this.signal });
  }

  /** What a request was made of; `undefined` for others, copies among them. */
  static partsOf(request: object): LateParts | undefined {
    return #parts in request ? request.#parts : undefined;
  }

  /** Makes all that Bun prints, which it then does as for any request. */
  static settle(request: LateRequest): void {
    request.#settle();
  }
}

/** The method by which an object is printed. */
const PRINT = Symbol.for("nodejs.util.inspect.custom");

/** The same until it is printed: Bun prints natively what has no method for that. */
class UnprintedRequest extends LateRequest {
  [PRINT](): this {
    LateRequest.settle(this);
    return Object.setPrototypeOf(this, LateRequest.prototype);
  }
}

// It differs from other requests by its prototype only.
for (const { prototype } of [BodyRequest, LateRequest, UnprintedRequest]) {
  Object.defineProperty(prototype, "constructor", { value: Request });
  for (const name of ["blob", "headers", "signal", "formData", "clone"]) {
    if (Object.hasOwn(prototype, name)) {
      Object.defineProperty(prototype, name, { enumerable: true });
    }
  }
}

/** Whether a request made so is what the constructor makes, also where Bun takes it for one. */
function isRight(make: BunRequest): boolean {
  const url = "http://a.example/b?c";
  const fields: [name: string, value: string][] = [["X-D", "e"], ["x-d", "f"], ["Cookie", "g=h"]];
  const { signal } = new AbortController();
  const made = (): Request => make(url, { method: "PUT" }, { signal, fields: () => fields });
  const expected = facts(new Request(url, { method: "PUT", headers: fields, signal }));
  const copies = [
    made(),
    made().clone(),
    new Request(made()),
    new Request(made(), {}),
    new Request(url, made()),
  ];
  return copies.every((copy) => copy instanceof Request && facts(copy) === expected) &&
    isAbortable(make) && isPrinted(make) && isFetched(make);
}

function facts({ method, url, headers, signal, body, bodyUsed, cache, mode }: Request): string {
  return JSON.stringify([method, url, ...headers, signal.aborted, body, bodyUsed, cache, mode]);
}

/** Whether the signal is the one that was given, and copies have one that follows it. */
function isAbortable(make: BunRequest): boolean {
  const controller = new AbortController();
  const { signal } = controller;
  const request = make("http://a.example/", undefined, { signal, fields: () => [] });
  const copies = [request, request.clone(), new Request(request)];
  controller.abort("reason");
  return request.signal === signal && copies.every((copy) => copy.signal.reason === "reason");
}

/** Whether it is printed as another is, and is one afterwards. */
function isPrinted(make: BunRequest): boolean {
  const { Bun } = globalThis as { Bun?: { inspect(value: unknown): string } };
  const headers = { "x-d": "e" };
  const { signal } = new AbortController();
  const request = make("http://a.example/", undefined, { signal, fields: () => [["X-D", "e"]] });
  const expected = Bun!.inspect([new Request("http://a.example/", { headers })]);
  return Bun!.inspect([request]) === expected && Bun!.inspect([request]) === expected &&
    request.signal === signal;
}

/** As it was before the program could replace it, which would see the trial. */
const { fetch } = globalThis;

/** Whether `fetch()` looks at both; it is aborted before it begins. */
function isFetched(make: BunRequest): boolean {
  const seen: string[] = [];
  const parts: LateParts = {
    get signal() {
      seen.push("signal");
      return AbortSignal.abort();
    },
    fields() {
      seen.push("fields");
      return [];
    },
  };
  fetch(make("about:blank", undefined, parts)).catch(() => {}); // it has to be aborted
  return seen.includes("signal") && seen.includes("fields");
}

/** The function that makes requests; `undefined` where that fails its trial. */
export function chooseBunRequest(make: BunRequest): BunRequest | undefined {
  try {
    return isRight(make) ? make : undefined;
  } catch {
    return undefined; // what it threw does not matter: the constructor works everywhere
  }
}

/** What a request was made of by {@linkcode lateRequest}; `undefined` for others, copies among them. */
export function latePartsOf(request: object): LateParts | undefined {
  return LateRequest.partsOf(request);
}

/** Makes a native request of its parts. */
export const lateRequest: BunRequest = (url, init, parts) => new UnprintedRequest(url, init, parts);

/** Gives the same, `undefined` where only the constructor can. */
export const bunRequest: () => BunRequest | undefined = onFirstUse(() =>
  runtime.name === "bun" ? chooseBunRequest(lateRequest) : undefined
);

declareInternal("bunRequest", () => {
  if (runtime.name !== "bun") return "not needed";
  return bunRequest() === undefined ? "fallback" : "in force";
});
