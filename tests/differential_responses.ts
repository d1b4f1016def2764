/**
 * Generated responses for the differential test: every kind of body, field, status and copy.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { inspect } from "node:util";
import type { Random } from "./random.ts";

export const encoder = new TextEncoder();

// ---------------------------------------------------------------- responses

const BODIES: Record<string, () => unknown> = {
  "null": () => null,
  "undefined": () => undefined,
  "an empty text": () => "",
  "a text": () => "<b>text</b>",
  "JSON": () => '{"a":1}',
  "a Latin-1 text": () => "grüße",
  "a Cyrillic text": () => "привет",
  "a Chinese text": () => "你好, welt",
  "a balanced text": () => "\u0416a\u20ac",
  "an emoji": () => "a😀",
  "half a character": () => "a\ud800b",
  "a byte order mark": () => "\ufefftext",
  "a balanced byte order mark": () => "\ufeffa",
  "a text of 5,000": () => "x".repeat(5_000),
  "a text of 100,000": () => "ü".repeat(50_000),
  "a built text": () => "built ".repeat(3) + String(1 + 1),
  "bytes": () => encoder.encode("bytes"),
  "bytes beyond UTF-8": () => Uint8Array.of(0, 255, 128, 10),
  "no bytes": () => new Uint8Array(),
  "a part of a buffer": () => encoder.encode("a part").subarray(2),
  "a node Buffer": () => Buffer.from("node"),
  "100,000 bytes": () => new Uint8Array(100_000).fill(97),
  "a number": () => 42,
  "an object": () => ({ a: 1 }),
  "an ArrayBuffer": () => encoder.encode("buffer").buffer,
  "a DataView": () => new DataView(encoder.encode("a view").buffer, 2),
  "a Blob with a type": () => new Blob(["blob"], { type: "Text/CSS" }),
  "a File": () => new File(["file"], "a.txt", { type: "text/csv" }),
  "URLSearchParams": () => new URLSearchParams({ a: "b c", "ü": "&" }),
  "FormData": () => {
    const form = new FormData();
    form.append("a", "b");
    form.append("file", new File(["f"], "f.bin", { type: "x/y" }));
    return form;
  },
  "a stream at once": () => streamOf(["ab", "cd"], false),
  "a slow stream": () => streamOf(["ab", "cd"], true),
  "an empty stream": () => streamOf([], false),
  "a byte stream": () =>
    new ReadableStream({
      type: "bytes",
      start(controller) {
        controller.enqueue(encoder.encode("byte stream"));
        controller.close();
      },
    }),
  "a stream of texts": () => new ReadableStream({ start: enqueued(["te", "xt ü"]) }),
  "a stream of numbers": () => new ReadableStream({ start: enqueued([1, 2]) }),
  "a stream of buffers": () => new ReadableStream({ start: enqueued([new ArrayBuffer(2)]) }),
  "a stream of wide views": () => new ReadableStream({ start: enqueued([new Uint16Array(2)]) }),
  "the body of another": () => new Response("another").body,
  "the stream of a Blob": () => new Blob(["blob"], { type: "text/css" }).stream(),
  "the stream of another": () => new Response(streamOf(["an", "other"], true)).body,
  "a transformed stream": () => streamOf(["ab"], true).pipeThrough(new TransformStream()),
};

function enqueued(chunks: unknown[]): (controller: ReadableStreamDefaultController) => void {
  return (controller) => {
    for (const chunk of chunks) controller.enqueue(chunk);
    controller.close();
  };
}

export function streamOf(texts: string[], slow: boolean): ReadableStream<Uint8Array> {
  const rest = [...texts];
  return new ReadableStream({
    async pull(controller) {
      if (slow) await new Promise((resolve) => setTimeout(resolve));
      const text = rest.shift();
      if (text === undefined) controller.close();
      else controller.enqueue(encoder.encode(text));
    },
  });
}

const TYPE_NAMES = ["content-type", "Content-Type", "CONTENT-TYPE"];
const TYPES = [
  "application/json",
  "application/json; charset=UTF-8",
  "text/plain",
  "text/plain;charset=UTF-8",
  "text/plain;charset=utf-8",
  "text/plain; charset=latin1",
  "Text/HTML; Charset=UTF-8",
  "text/html",
  "image/svg+xml",
  "application/octet-stream",
  "multipart/form-data; boundary=x",
  "application/x-www-form-urlencoded",
  "x",
  " text/css ",
];
const FIELDS: [name: string, value: string][] = [
  ["X-A", "1"],
  ["x-a", "2"],
  ["Set-Cookie", "a=1; Path=/"],
  ["set-cookie", "b=2, c"],
  ["Cache-Control", "no-store"],
  ["ETag", 'W/"x"'],
  ["Vary", "Accept"],
  ["Location", "/a?b#c"],
  ["X-Latin", "grüße"],
  ["X-Empty", ""],
  ["Content-Language", "de"],
  ["Server", "mine"],
  ["__proto__", "x"],
  ["constructor", "y"],
];

const WAYS = ["nothing", "an object", "Headers", "pairs", "a Response", "set", "append"] as const;
const MAKERS = ["Response", "Response", "Response", "json", "redirect", "subclass"] as const;
const STATUSES = [200, 201, 202, 203, 206, 301, 302, 307, 400, 401, 404, 418, 451, 503, 599];
const TOUCHES = [
  "nothing",
  "nothing",
  "nothing",
  "headers",
  "delete the type",
  "bodyUsed",
  "getters",
  "body",
  "clone",
  "clone and read",
  "be a clone",
  "print",
  "add a property",
  "read",
  "read a part",
  "read all by pieces",
  "cancel",
  "lock",
  "lock and release",
] as const;

/** Whether something of this probability happens. */
export function chance(random: Random, probability: number): boolean {
  return random.fraction() < probability;
}

/** Up to `most` different values. */
export function some<T>(random: Random, values: readonly T[], most: number): T[] {
  const rest = [...values];
  return Array.from(
    { length: random.below(most + 1) },
    () => rest.splice(random.below(rest.length), 1)[0]!,
  );
}

/** A response, as data. */
export interface ResponseCase {
  method: string;
  maker: (typeof MAKERS)[number];
  body: string;
  way: (typeof WAYS)[number];
  fields: [name: string, value: string][];
  status: number | undefined;
  statusText: string | undefined;
  touch: (typeof TOUCHES)[number];
}

export function responseCase(random: Random): ResponseCase {
  const fields = some(random, FIELDS, 3);
  if (chance(random, 0.5)) fields.push([random.pick(TYPE_NAMES), random.pick(TYPES)]);
  const isNull = chance(random, 0.06);
  return {
    method: random.pick(["GET", "GET", "GET", "POST", "HEAD"]),
    maker: isNull ? "Response" : random.pick(MAKERS),
    body: isNull ? "null" : random.pick(Object.keys(BODIES)),
    way: random.pick(WAYS),
    fields: chance(random, 0.25) ? [] : fields,
    status: isNull
      ? random.pick([204, 304])
      : chance(random, 0.5)
      ? undefined
      : random.pick(STATUSES),
    statusText: chance(random, 0.1) ? random.pick(["So Be It", "ü", ""]) : undefined,
    touch: random.pick(TOUCHES),
  };
}

class Page extends Response {
  readonly kind = "page";
  readonly #secret = [1, 2, 3];
  get secret(): number {
    return this.#secret.length;
  }
}

function initOf({ way, fields, status, statusText }: ResponseCase): ResponseInit | undefined {
  const init: { status?: number; statusText?: string; headers?: HeadersInit } = {};
  if (status !== undefined) init.status = status;
  if (statusText !== undefined) init.statusText = statusText;
  if (way === "a Response") {
    return new Response(null, { ...init, headers: fields });
  }
  if (way === "an object") init.headers = Object.fromEntries(fields.filter(isOrdinary));
  if (way === "Headers") init.headers = new Headers(fields);
  if (way === "pairs") init.headers = fields;
  return Object.keys(init).length === 0 && way !== "nothing" ? undefined : init;
}

/** `Object.fromEntries` is about values, and takes the same name only once. */
function isOrdinary([name]: [string, string], i: number, all: [string, string][]): boolean {
  return name !== "__proto__" &&
    all.findIndex(([other]) => other.toLowerCase() === name.toLowerCase()) === i;
}

function made(spec: ResponseCase): Response {
  const init = initOf(spec);
  const body = BODIES[spec.body]!() as BodyInit | null;
  switch (spec.maker) {
    case "json":
      return Response.json({ body: spec.body, "ü": "€" }, init);
    case "redirect":
      return Response.redirect("http://a.example/ü?b", 307);
    case "subclass":
      return new Page(body, init);
    case "Response":
      return new Response(body, init);
  }
}

export async function respond(spec: ResponseCase): Promise<Response> {
  const response = made(spec);
  if (spec.maker !== "redirect") {
    for (const [name, value] of spec.fields) {
      if (spec.way === "set") response.headers.set(name, value);
      if (spec.way === "append") response.headers.append(name, value);
    }
  }
  switch (spec.touch) {
    case "nothing":
      break;
    case "headers":
      response.headers.get("content-type");
      break;
    case "delete the type":
      if (spec.maker !== "redirect") response.headers.delete("content-type");
      break;
    case "bodyUsed":
      assert.equal(response.bodyUsed, false);
      break;
    case "getters":
      assert.equal(
        [response.ok, response.type, response.url, response.redirected, response.status].length,
        5,
      );
      break;
    case "body":
      assert.notEqual(response.body, undefined);
      break;
    case "clone":
      response.clone();
      break;
    case "clone and read":
      await response.clone().arrayBuffer().catch(() => {}); // of a stream that is no bytes
      break;
    case "be a clone":
      return response.clone();
    case "print":
      inspect(response);
      break;
    case "add a property":
      Object.assign(response, { note: "mine" });
      break;
    case "read":
      await response.text().catch(() => {}); // of a stream that is no bytes
      break;
    case "read a part": {
      const reader = response.body?.getReader();
      await reader?.read();
      reader?.releaseLock();
      break;
    }
    case "read all by pieces":
      for await (const piece of response.body ?? []) assert.notEqual(piece, undefined);
      break;
    case "cancel":
      await response.body?.cancel();
      break;
    case "lock":
      response.body?.getReader();
      break;
    case "lock and release":
      response.body?.getReader().releaseLock();
      break;
  }
  return response;
}
