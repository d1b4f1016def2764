/**
 * What a `Response` is made of on Bun. Its public properties give the body as a stream only, which
 * costs more than all else that a small answer needs, and do not show whether it was a text or bytes:
 * Bun's own server knows, and gives the one `text/plain` and the other `application/octet-stream`.
 * What is used here instead is how much memory a response takes (`estimateShallowMemoryUsageOf` of `bun:jsc`): the constructor adds the
 * length of a text or of bytes, and nothing for a stream or a `Blob`. Own properties add one each,
 * private ones too, so the estimate of a fresh `clone()` decides: an ASCII text adds its length
 * there as well.
 *
 * A long body's bytes are then memory that nothing else has, which is freed when they were sent: it
 * would lie cold until the collector comes, and each answer would take new pages.
 *
 * A trial with the first response holds all that is used to what Bun 1.4.5 does; where it fails, the
 * public properties are used, and a text without a type leaves without one.
 *
 * @module
 */
import { freeMemory } from "../bytes.ts";
import { runtime } from "./current.ts";
import { onFirstUse } from "../first_use.ts";
import { declareInternal } from "./internals.ts";
import { publicParts, type ResponseParts } from "./response_parts.ts";

/** What is used of Bun. */
export interface BunTools {
  /** The bytes that an object takes, without those that it refers to. */
  readonly sizeOf: (value: object) => number;
  /** What a promise is resolved with, the promise itself while it is pending. */
  readonly peek: <T>(promise: Promise<T>) => T | Promise<T>;
  /** A text that shows an object. */
  readonly inspect: (value: unknown) => string;
  /** Whether bytes are nothing but ASCII (`node:buffer`). */
  readonly isAscii: (bytes: Uint8Array) => boolean;
}

const TEXT = "text/plain;charset=utf-8";
const BYTES = "application/octet-stream";

/** No response has more private properties than this; so what takes more has its body in memory. */
const MANY_PROPERTIES = 1024;

/** From so many bytes on, a copy costs more than knowing whether they were a text saves. */
const LONG_BYTES = 64 * 1024;

/** Bytes are looked at in pieces, so that what is no text, or too much, is seen early. */
const PIECE_BYTES = 64 * 1024;

/** How a body in memory is shown, a `Blob` with its type; that of a `File` comes behind its name. */
const IN_MEMORY = /\n {2}(?:File|Blob) \([^)\n]*\)(?: \{\n {4}type: "(?<type>.*)"\n)?/;

/** Takes responses apart with Bun's own tools. */
class BunResponses {
  readonly #tools: BunTools;
  readonly #base: number;

  constructor(tools: BunTools) {
    this.#tools = tools;
    this.#base = tools.sizeOf(new Response(null));
  }

  /** Takes a response apart; `undefined` when it was used. */
  parts(response: Response): ResponseParts | undefined {
    if (response.bodyUsed) return undefined;
    if (response.url !== "") return publicParts(response); // it, or a clone of it, is of `fetch()`
    const { statusText } = response;
    const base = statusText === "" ? this.#base : this.#sizeOfEmpty(statusText);
    const size = this.#tools.sizeOf(response) - base;
    if (size <= 0) return this.#unknownParts(response);
    if (size > LONG_BYTES && response.headers.has("content-type")) {
      // Not from behind a clone: while two have the bytes, either gets a copy of them.
      const isOwn = this.#typeInMemory(response) !== undefined;
      return withBytes(response, this.#tools.peek(response.bytes()), undefined, isOwn);
    }
    const clone = response.clone();
    if (this.#tools.sizeOf(clone) > base) { // an ASCII text: so are most answers
      return withType(response, this.#tools.peek(response.text()), TEXT);
    }
    if (size <= MANY_PROPERTIES && this.#typeInMemory(clone) === undefined) {
      clone.body?.cancel().catch(() => {}); // it is a stream after all, or was made one
      return withType(response, response.body, undefined);
    }
    const type = response.headers.has("content-type") ? undefined : this.#typeInMemory(clone);
    const isOwn = size > LONG_BYTES && type !== undefined;
    if (isOwn) clone.body?.cancel().catch(() => {}); // lets go of the bytes
    const bytes = this.#tools.peek(response.bytes());
    if (bytes instanceof Promise || type !== BYTES) return withBytes(response, bytes, type, isOwn);
    if (bytes.length === 0) return withType(response, bytes, undefined);
    const bodySize = size - Reflect.ownKeys(response).length;
    // An object of another class may have private properties, which cannot be counted.
    const isExact = Object.getPrototypeOf(response) === Response.prototype;
    const isText = this.#isMadeOfText(bytes, bodySize, isExact);
    return withBytes(response, bytes, isText ? TEXT : BYTES, isOwn);
  }

  /** The parts of a response with a stream or a `Blob`, or without a body. */
  #unknownParts(response: Response): ResponseParts {
    // Looking costs as much as the rest of the answer: only a type that is missing is worth it.
    const isTyped = response.headers.has("content-type");
    const type = isTyped ? undefined : this.#typeInMemory(response);
    return withType(response, response.body, type);
  }

  /** The type of a body in memory, that of bytes where it has none; `undefined` for a stream. */
  #typeInMemory(response: Response): string | undefined {
    const shown = IN_MEMORY.exec(this.#tools.inspect(response));
    return shown === null ? undefined : shown.groups!.type ?? BYTES;
  }

  #sizeOfEmpty(statusText: string): number {
    return this.#tools.sizeOf(new Response(null, { statusText }));
  }

  /**
   * Whether bytes were given as a text, which took one byte for a Latin-1 character and two for any
   * other in a text of others; bytes take what they are long. A text can do so too, when as many of
   * its characters take one byte in UTF-8 as take three: then bytes that are text are taken for one.
   * Where the size is not exact, all that is text is taken for one. A `Blob` adds nothing to the
   * size, and is never taken for a text.
   */
  #isMadeOfText(bytes: Uint8Array, size: number, isExact: boolean): boolean {
    if (size <= 0) return false;
    const isAsLong = size === bytes.length;
    if (isExact && !isAsLong) return true;
    return isAsLong
      ? 2 * this.#charactersOf(bytes, size / 2) === size
      : !Number.isNaN(this.#charactersOf(bytes, Infinity));
  }

  /** How many characters the bytes are in UTF-8, or any number above `most`; NaN: they are no UTF-8. */
  #charactersOf(bytes: Uint8Array, most: number): number {
    const { length } = bytes;
    const piece = (at: number) => bytes.subarray(at, Math.min(length, at + PIECE_BYTES));
    let at = 0;
    while (at < length && at <= most && this.#tools.isAscii(piece(at))) at += PIECE_BYTES;
    let count = Math.min(at, length); // a byte each, and no text is made of them to count them
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    try {
      for (; at < length && count <= most; at += PIECE_BYTES) {
        count += decoder.decode(piece(at), { stream: at + PIECE_BYTES < length }).length;
      }
      return count;
    } catch {
      return NaN;
    }
  }
}

/** The parts of a response with this body, which has this type unless it was given one. */
function withType(
  response: Response,
  body: ResponseParts["body"],
  type: string | undefined,
): ResponseParts {
  const { status, statusText, headers } = response;
  return { status, reason: statusText || undefined, fields: fieldsOf(headers), type, body };
}

const NO_FIELDS: ResponseParts["fields"] = [];

/** How many fields there are: Bun's `Headers` say so. */
function countOf(headers: Headers): number | undefined {
  return (headers as { readonly count?: number }).count;
}

/** The fields: none or a type, which nearly all responses have, are had without an iterator. */
function fieldsOf(headers: Headers): ResponseParts["fields"] {
  const count = countOf(headers);
  if (count === 0) return NO_FIELDS;
  const type = count === 1 ? headers.get("content-type") : null;
  return type === null ? headers : [["content-type", type]];
}

/**
 * The same for what `bytes()` has given: of a body in memory, which `isOwn`, that is what only the
 * response had, or a copy. What is still to come may be a stream's, and belong to the program.
 */
function withBytes(
  response: Response,
  body: Uint8Array | Promise<Uint8Array>,
  type: string | undefined,
  isOwn: boolean,
): ResponseParts {
  const parts = withType(response, body, type);
  return isOwn && body instanceof Uint8Array ? { ...parts, isOwn } : parts;
}

/** Whether responses take as much memory as is expected here, and show their bodies so. */
function isKnown(tools: BunTools): boolean {
  const bytes = () => Uint8Array.of(0xd0, 0x96, 0);
  const cases: [body: BodyInit | null, size: number, cloned: number, isWhole: boolean][] = [
    ["text", 4, 4, true],
    ["ü", 1, 0, true],
    ["\u0416\u20ac", 4, 0, true],
    ["x".repeat(70_000), 70_000, 70_000, true],
    [bytes(), 3, 0, true],
    [bytes().buffer, 3, 0, true],
    [null, 0, 0, false],
    ["", 0, 0, false],
    [new ReadableStream(), 0, 0, false],
    [new Blob(["blob"]), 0, 0, true],
  ];
  const base = tools.sizeOf(new Response(null));
  return cases.every(([body, size, cloned, isWhole]) => {
    const response = new Response(body, { status: 201, headers: { "X-A": "b" } });
    const clone = response.clone();
    return tools.sizeOf(response) === base + size && tools.sizeOf(clone) === base + cloned &&
      IN_MEMORY.test(tools.inspect(clone)) === isWhole;
  }) && tools.peek(new Response("text").text()) === "text" &&
    tools.peek(new Response(bytes()).bytes()) instanceof Uint8Array &&
    tools.sizeOf(new Response(null, { statusText: "abc" })) === base + 3 &&
    tools.isAscii(Uint8Array.of(0, 127)) && !tools.isAscii(Uint8Array.of(97, 128)) &&
    givesOwnBytes(tools) && countsFields();
}

/** Whether the number of fields is that of the lines that the iterator gives, with each cookie. */
function countsFields(): boolean {
  const headers = new Headers();
  const added = [["X-A", "b"], ["x-a", "c"], ["Set-Cookie", "d=e"], ["Set-Cookie", "f=g"]];
  return countOf(headers) === 0 && added.every(([name, value]) => {
    headers.append(name!, value!);
    return countOf(headers) === [...headers].length;
  });
}

/** Whether a long body in memory is given as memory of its own, whatever else has had it. */
function givesOwnBytes({ peek }: BunTools): boolean {
  const given = new Uint8Array(LONG_BYTES).fill(97);
  const response = new Response(given);
  const copy = response.clone();
  response.clone().body?.cancel().catch(() => {});
  for (const read of [response, copy]) {
    const bytes = peek(read.bytes());
    if (bytes instanceof Promise || bytes.length !== LONG_BYTES || bytes[9] !== 97) return false;
    freeMemory(bytes);
  }
  return given[9] === 97;
}

function find(): BunTools | undefined {
  const { Bun, process } = globalThis as {
    Bun?: Pick<BunTools, "peek" | "inspect">;
    process?: { getBuiltinModule?(name: string): unknown };
  };
  if (Bun === undefined) return undefined;
  const jsc = process?.getBuiltinModule?.("bun:jsc") as
    | { estimateShallowMemoryUsageOf: BunTools["sizeOf"] }
    | undefined;
  const buffer = process?.getBuiltinModule?.("node:buffer") as
    | Pick<BunTools, "isAscii">
    | undefined;
  return jsc && buffer && {
    isAscii: buffer.isAscii,
    sizeOf: jsc.estimateShallowMemoryUsageOf,
    peek: Bun.peek,
    inspect: (value) => Bun.inspect(value),
  };
}

/**
 * Takes responses apart, or returns `undefined` for one that was used; is itself `undefined` where
 * the tools are not what they were.
 */
export function chooseBunParts(
  tools: BunTools | undefined,
): ((response: Response) => ResponseParts | undefined) | undefined {
  try {
    if (tools === undefined || !isKnown(tools)) return undefined;
    const responses = new BunResponses(tools);
    return (response) => responses.parts(response);
  } catch {
    return undefined; // what it threw does not matter: the public way works everywhere
  }
}

/** Gives the same with Bun's own tools. */
export const bunParts: () => ReturnType<typeof chooseBunParts> = onFirstUse(() =>
  chooseBunParts(find())
);

declareInternal("bunResponse", () => {
  if (runtime.name !== "bun") return "not needed";
  return bunParts() === undefined ? "fallback" : "in force";
});
