/**
 * Generated requests for the differential test, and what a handler looks at in them.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { inspect } from "node:util";
import { chance, encoder, type ResponseCase, some, streamOf } from "./differential_responses.ts";
import type { Answer } from "./differential_support.ts";
import type { Random } from "./random.ts";

// ---------------------------------------------------------------- requests

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const TARGETS = [
  "/",
  "/a%20b?c=d&e",
  "/a/./b/../c",
  "/?q='x'",
  "/%41",
  "//double",
  "/ü".slice(0, 1),
];
const REQUEST_FIELDS: string[][] = [
  ["Cookie: a=1"],
  ["Cookie: a=1", "cookie: b=2"],
  ["Cookie: a=1; b=2", "X-Between: y", "COOKIE: c=3", "Cookie: d=4"],
  ["X-One: 1", "X-One: 2", "x-one: 1"],
  ["Accept: a/b", "Accept: c/d;q=0.5"],
  ["Accept-Language: de"],
  ["User-Agent: Test/1.0 (x; y)"],
  ["X-Empty:"],
  ["X-Spaces:   a  b   "],
  ["Set-Cookie: odd=1", "Set-Cookie: odd=2"],
  ['If-None-Match: "a", W/"b"'],
  ['X-Quote: "a, b", c'],
  ["Authorization: Bearer x.y"],
  ["__proto__: x", "constructor: y", "toString: z"],
  ["Referer: http://r.example/"],
  ["Range: bytes=0-1"],
];

export const PAYLOADS: Record<string, [type: string | undefined, bytes: string]> = {
  "text": ["text/plain", "hello"],
  "untyped": [undefined, "hello"],
  "UTF-8": ["text/plain; charset=utf-8", "gr\xc3\xbc\xc3\x9fe \xf0\x9f\x98\x80"],
  "no UTF-8": ["application/octet-stream", "\xff\x00\x80a"],
  "BOM": ["application/json", '\xef\xbb\xbf{"a":"\xc3\xa4"}'],
  "JSON": ["application/json", '{"a":[1,2,{"b":null}]}'],
  "no JSON": ["application/json", "{"],
  "form": ["application/x-www-form-urlencoded", "a=b+c&%C3%BC=%26"],
  "multipart": [
    "multipart/form-data; boundary=xyz",
    '--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' +
    '--xyz\r\nContent-Disposition: form-data; name="f"; filename="f.bin"\r\n' +
    "Content-Type: x/y\r\n\r\n\x00\xff\r\n--xyz--\r\n",
  ],
  "long": ["text/plain", "0123456789".repeat(10_000)],
  "empty": ["text/plain", ""],
};

const READERS = ["text", "json", "bytes", "arrayBuffer", "blob", "formData"] as const;

/** What is done with a request, and what is seen of it. */
const OPERATIONS: Record<string, (request: Request) => unknown> = {
  "properties": shown,
  "own": (request) => [
    Object.keys(request),
    Object.getOwnPropertyNames(request),
    JSON.stringify(request),
    Object.entries({ ...request }),
  ],
  "class": (request) => [
    request instanceof Request,
    request.constructor === Request,
    request.constructor.name,
    Object.getPrototypeOf(request) === Request.prototype,
    Object.prototype.toString.call(request),
    String(request),
    "method" in request,
    "nothing" in request,
  ],
  "enumerate": (request) => {
    const names: string[] = [];
    for (const name in request) names.push(name);
    return names.toSorted();
  },
  "getters of the prototype": (request) =>
    prototypeNames().map((name) => {
      const { get } = Object.getOwnPropertyDescriptor(Request.prototype, name)!;
      return get && [name, kindOf(get.call(request))];
    }),
  "methods of the prototype": async (request) => [
    typeof Request.prototype.clone.call(request).method,
    await Request.prototype.text.call(request),
  ],
  "print": (request) => printed(request),
  "print after a look": (request) => [request.headers.get("host"), request.url, printed(request)],
  "structuredClone": (request) => structuredClone(request),
  "signal": ({ signal }) => [signal instanceof AbortSignal, signal.aborted, signal.reason],
  "same twice": (request) => [
    request.headers === request.headers,
    request.signal === request.signal,
    request.body === request.body,
  ],
  "assign": (request) => {
    (request as { method: string }).method = "X";
    return request.method;
  },
  "add a property": (request) => [Object.assign(request, { note: 1 }).note, Object.keys(request)],
  "fields by the getter of the prototype": (request) => {
    const { get } = Object.getOwnPropertyDescriptor(Request.prototype, "headers")!;
    return [...get!.call(request) as Headers];
  },
  "headers": ({ headers }) => [
    ...headers,
    headers.getSetCookie(),
    headers.get("COOKIE"),
    headers.get("X-One"),
    headers.has("nothing"),
    headers instanceof Headers,
    headers.constructor.name,
  ],
  "print headers": ({ headers }) => inspect(headers),
  "change headers": ({ headers }) => {
    headers.set("x-new", "1");
    headers.append("x-one", "3");
    headers.delete("host");
    return [...headers];
  },
  "copy": (request) => shown(new Request(request)),
  "copy and read both": async (request) => {
    const copy = new Request(request);
    return [await read(copy, "text"), request.bodyUsed, await read(request, "text")];
  },
  "copy with {}": async (request) => {
    const copy = new Request(request, {});
    return [shown(copy), await read(copy, "text")];
  },
  "copy with undefined": (request) => shown(new Request(request, undefined)),
  "copy with method": (request) => shown(new Request(request, { method: "PUT" })),
  "copy with headers": (request) =>
    shown(new Request(request, { headers: { "x-new": "1", "content-type": "a/b" } })),
  "copy with body": async (request) => {
    const copy = new Request(request, { method: "POST", body: "new" });
    return [shown(copy), await read(copy, "text"), request.bodyUsed];
  },
  "copy with body null": async (request) => {
    const copy = new Request(request, { body: null });
    return [shown(copy), await read(copy, "text")];
  },
  "copy with a stream": async (request) => {
    const copy = new Request(request, {
      method: "POST",
      body: streamOf(["st", "ream"], true),
      duplex: "half",
    } as RequestInit);
    return [shown(copy), await read(copy, "text")];
  },
  "copy with signal": (request) => {
    const controller = new AbortController();
    const copy = new Request(request, { signal: controller.signal });
    controller.abort();
    return [copy.signal.aborted, request.signal.aborted, shown(copy)];
  },
  "copy with the rest": (request) =>
    shown(
      new Request(request, {
        redirect: "manual",
        credentials: "omit",
        cache: "no-store",
        mode: "cors",
        referrer: "http://r.example/",
        referrerPolicy: "no-referrer",
        integrity: "sha256-x",
        keepalive: true,
      }),
    ),
  "copy after reading": async (request) => {
    await request.text();
    return shown(new Request(request));
  },
  "copy to another URL": (request) => shown(new Request("http://b.example/c", request)),
  "copy of a copy": async (request) => {
    const copy = new Request(new Request(request), { headers: { a: "b" } });
    return [shown(copy), await read(copy, "arrayBuffer")];
  },
  "clone": (request) => [shown(request.clone()), shown(request)],
  "clone and read both": async (request) => {
    const clone = request.clone();
    return [await read(clone, "text"), request.bodyUsed, await read(request, "text")];
  },
  "clone and read the first": async (request) => {
    const clone = request.clone();
    return [await read(request, "json"), clone.bodyUsed, await read(clone, "json")];
  },
  "clone after reading": async (request) => {
    await request.text();
    return shown(request.clone());
  },
  "clone while reading": async (request) => {
    const reading = request.text();
    try {
      return shown(request.clone());
    } finally {
      await reading;
    }
  },
  "read through the body": async (request) => {
    if (request.body === null) return null;
    const texts: Buffer[] = [];
    for await (const piece of request.body) {
      assert.ok(piece instanceof Uint8Array);
      texts.push(Buffer.from(piece));
    }
    return [Buffer.concat(texts).toString("latin1"), request.bodyUsed];
  },
  "read after a look at the body": async (request) => [
    request.body?.locked,
    request.bodyUsed,
    await read(request, "text"),
    request.body?.locked,
  ],
  "lock and read": async (request) => {
    const reader = request.body?.getReader();
    const seen = [request.bodyUsed, await read(request, "text")];
    await reader?.cancel();
    return seen;
  },
  "tee": async (request) => {
    const [one, other] = request.body?.tee() ?? [];
    return [await new Response(one).text(), await new Response(other).text(), request.bodyUsed];
  },
  "cancel": async (request) => {
    await request.body?.cancel();
    return [request.bodyUsed, await read(request, "text")];
  },
  "as a response": async (request) => await new Response(request.body).text(),
  "blob's type": async (request) => {
    const blob = await request.blob();
    return [blob.type, blob.size, blob.constructor.name];
  },
  "read twice at once": async (request) => {
    const first = read(request, "text");
    const second = read(request, "json");
    return [await first, await second];
  },
};

for (const reader of READERS) {
  OPERATIONS[reader] = async (request) => [
    request.bodyUsed,
    await read(request, reader),
    request.bodyUsed,
  ];
  OPERATIONS[`${reader} twice`] = async (request) => [
    await read(request, reader),
    await read(request, reader),
  ];
}

/** Those that every platform has. */
function prototypeNames(): string[] {
  return Object.getOwnPropertyNames(Request.prototype).filter((name) => name !== "constructor");
}

function kindOf(value: unknown): unknown {
  return typeof value === "object" && value !== null ? value.constructor.name : value;
}

function shown(request: Request): unknown {
  return [
    ...prototypeNames().map((name) => {
      const value = Reflect.get(request, name) as unknown;
      return [name, typeof value === "function" ? value.name : kindOf(value)];
    }),
    [...request.headers],
  ];
}

function printed(request: Request): unknown {
  const { Deno, Bun } = globalThis as {
    Deno?: { inspect(value: unknown): string };
    Bun?: { inspect(value: unknown): string };
  };
  return [inspect(request), (Deno ?? Bun)!.inspect(request)];
}

async function read(request: Request, reader: (typeof READERS)[number]): Promise<unknown> {
  try {
    return await dataOf(await request[reader]());
  } catch (error) {
    return errorOf(error);
  }
}

async function dataOf(value: unknown): Promise<unknown> {
  if (value instanceof Blob) return [value.type, await dataOf(await value.arrayBuffer())];
  if (value instanceof ArrayBuffer) return ["ArrayBuffer", Buffer.from(value).toString("latin1")];
  if (value instanceof Uint8Array) {
    const isWhole = value.byteLength === value.buffer.byteLength;
    return [value.constructor.name, isWhole, Buffer.from(value).toString("latin1")];
  }
  if (!(value instanceof FormData)) return value;
  const entries: unknown[] = [];
  for (const [name, entry] of value) {
    entries.push([name, typeof entry === "string" ? entry : [entry.name, await dataOf(entry)]]);
  }
  return entries;
}

function errorOf(error: unknown): unknown {
  const { name, message } = error as Error;
  return { error: `${name}: ${message}`, isTypeError: error instanceof TypeError };
}

/** A request, as data. */
interface RequestCase {
  method: string;
  target: string;
  fields: string[];
  payload: string | undefined;
  chunked: boolean;
  operation: string;
}

export function requestCase(random: Random): RequestCase {
  const method = random.pick(METHODS);
  const hasBody = chance(random, method === "GET" || method === "HEAD" ? 0.1 : 0.8);
  return {
    method,
    target: random.pick(TARGETS),
    fields: some(random, REQUEST_FIELDS, 4).flat(),
    payload: hasBody ? random.pick(Object.keys(PAYLOADS)) : undefined,
    chunked: chance(random, 0.4),
    operation: random.pick(Object.keys(OPERATIONS)),
  };
}

export function requestText(
  { method, target, fields, payload, chunked }: RequestCase,
  i: number,
): string {
  const lines = [`${method} ${target} HTTP/1.1`, "Host: a.example:8443", `X-Case: ${i}`, ...fields];
  const [type, bytes] = payload === undefined ? [undefined, ""] : PAYLOADS[payload]!;
  if (type !== undefined) lines.push(`Content-Type: ${type}`);
  if (payload === undefined) return `${lines.join("\r\n")}\r\n\r\n`;
  if (!chunked) {
    return `${[...lines, `Content-Length: ${bytes.length}`].join("\r\n")}\r\n\r\n${bytes}`;
  }
  const half = Math.ceil(bytes.length / 2);
  const chunks = [bytes.slice(0, half), bytes.slice(half)].filter((chunk) => chunk !== "");
  const body = chunks.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join("");
  return `${[...lines, "Transfer-Encoding: chunked"].join("\r\n")}\r\n\r\n${body}0\r\n\r\n`;
}

export async function observed(spec: RequestCase, request: Request): Promise<Response> {
  let seen: unknown;
  try {
    seen = await OPERATIONS[spec.operation]!(request);
  } catch (error) {
    seen = errorOf(error);
  }
  const text = JSON.stringify(seen, (_, value) => value === undefined ? "undefined" : value, 1);
  const headers = { "Content-Type": "a/b" };
  if (request.method !== "HEAD") return new Response(encoder.encode(text), { headers });
  return new Response(null, { headers: { ...headers, "X-Seen": encodeURIComponent(text) } });
}

// ---------------------------------------------------------------- comparison

export type Case = { response: ResponseCase } | { request: RequestCase };

/** What two answers to a case look like, where they differ. */
export interface Seen {
  readonly response: ResponseCase | undefined;
  readonly request: RequestCase | undefined;
  readonly ours: Answer;
  readonly native: Answer;
}
