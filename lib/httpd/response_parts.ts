/**
 * What a handler's `Response` is made of: its head, and its body where that is all there. Making
 * and draining a stream costs more than all else that a small answer needs, and Deno's iterator of
 * `Headers` costs as much as parsing a request.
 *
 * Bun tells of a body through its stream only, so what was given for it is remembered. Deno keeps a
 * body made of text or bytes, and the fields as a list, under symbols. They are used after a trial;
 * where that fails, the public properties do.
 *
 * @module
 */
import { rememberedBody } from "./remembered_bodies.ts";
import type { ResponseHead } from "../http/response.ts";
import type { Fields } from "../http/response_rules.ts";

/** A response, taken apart. */
export interface ResponseParts {
  /** Its status, reason and fields. */
  readonly head: ResponseHead;
  /** Its body: all of it, or its stream where only that tells; `null` when there is none. */
  readonly body:
    | string
    | Uint8Array
    | Promise<Uint8Array>
    | ReadableStream<Uint8Array>
    | null;
}

/** Deno: where the inner response lies. */
const INNER = symbolOf("response");
/** Deno: where a body of text lies until anything else of the response is touched. */
const LAZY = symbolOf("lazy static body");
/** Deno: the type of such a body; `null` for that of a text. */
const LAZY_TYPE = symbolOf("lazy static content type");

function symbolOf(description: string): symbol | undefined {
  const symbols = Object.getOwnPropertySymbols(new Response("probe"));
  return symbols.find((symbol) => symbol.description === description);
}

/** Deno's inner response, as far as it is used here. */
interface InnerResponse {
  readonly status: number;
  readonly statusMessage: string;
  readonly headerList: readonly [name: string, value: string][];
  readonly body?: { readonly streamOrStatic?: { body?: unknown; consumed?: unknown } } | null;
}

const TEXT: Fields = [["Content-Type", "text/plain;charset=UTF-8"]];

function innerParts(response: Response): ResponseParts {
  const slots = response as unknown as Record<symbol, unknown>;
  const inner = slots[INNER!] as InnerResponse;
  const { status, statusMessage } = inner;
  const lazy = slots[LAZY!];
  if (typeof lazy === "string") {
    const type = slots[LAZY_TYPE!] as string | null;
    return {
      head: { status, fields: type === null ? TEXT : [["Content-Type", type]] },
      body: lazy,
    };
  }
  const head = { status, reason: statusMessage || undefined, fields: inner.headerList };
  return { head, body: heldBody(inner) ?? response.body };
}

function heldBody({ body }: InnerResponse): string | Uint8Array | undefined {
  const held = body?.streamOrStatic;
  if (held?.consumed !== false) return undefined;
  return typeof held.body === "string" || held.body instanceof Uint8Array ? held.body : undefined;
}

function publicParts(response: Response): ResponseParts {
  return {
    head: {
      status: response.status,
      reason: response.statusText || undefined,
      fields: response.headers,
    },
    body: rememberedBody(response) ?? response.body,
  };
}

/** Whether the inside of responses is what is expected here. */
function innerIsKnown(): boolean {
  if (INNER === undefined || LAZY === undefined || LAZY_TYPE === undefined) return false;
  const changed = new Response("c");
  changed.headers.set("X-D", "e");
  const trials: [Response, unknown][] = [
    [new Response("a"), "a"],
    [Response.json("b"), '"b"'],
    [changed, "c"],
    [new Response("f", { status: 201, statusText: "G", headers: { "X-H": "i" } }), "f"],
    [new Response(Uint8Array.of(1)), Uint8Array.of(1)],
    [new Response(null, { status: 204 }), null],
    [new Response(new ReadableStream()), new ReadableStream()],
  ];
  try {
    return trials.every(([response, body]) => {
      const inner = innerParts(response); // before anything public is touched, which changes it
      return String(inner.body) === String(body) && facts(inner) === facts(publicParts(response));
    });
  } catch {
    return false; // what it threw does not matter: the public way works everywhere
  }
}

function facts({ head }: ResponseParts): string {
  const fields = [...head.fields!].map(([name, value]) => `${name.toLowerCase()}: ${value}`);
  return JSON.stringify([head.status, head.reason, fields.toSorted()]);
}

/** Takes an unused response apart. */
export const partsOf: (response: Response) => ResponseParts = innerIsKnown()
  ? innerParts
  : publicParts;
