/**
 * The body of a `Response` that is all there, read without a stream: making and draining one costs
 * more than all else that a small answer needs.
 *
 * Bun tells no such thing. Deno keeps a body made of text or bytes under symbols until a stream is
 * asked for; they are looked for in probes, and where they are not found, streams do.
 *
 * @module
 */
import { utf8 } from "./utf8.ts";

/** Deno: where a body of text lies until anything else of the response is touched. */
const LAZY = symbolOf(new Response("probe"), "lazy static body");
/** Deno: where the inner response lies, with its body. */
const INNER = symbolOf(new Response("probe"), "response");

function symbolOf(response: Response, description: string): symbol | undefined {
  return Object.getOwnPropertySymbols(response).find((it) => it.description === description);
}

/** The parts of Deno's inner response that hold a body. */
interface InnerResponse {
  body?: { streamOrStatic?: { body?: unknown; consumed?: unknown } } | null;
}

/** The bytes of an unused body that is all there; `undefined` when only its stream tells. */
export function knownBody(response: Response): Uint8Array | undefined {
  if (LAZY === undefined || INNER === undefined) return undefined;
  const slots = response as unknown as Record<symbol, unknown>;
  const lazy = slots[LAZY];
  if (typeof lazy === "string") return utf8(lazy);
  const held = (slots[INNER] as InnerResponse | undefined)?.body?.streamOrStatic;
  if (held?.consumed !== false) return undefined;
  if (typeof held.body === "string") return utf8(held.body);
  return held.body instanceof Uint8Array ? held.body : undefined;
}
