/**
 * Which chunks the stream of a response may give.
 *
 * @module
 */
import { NO_BYTES, utf8, viewOf } from "../bytes.ts";
import { HttpError } from "../errors.ts";
import { runtime } from "../runtime/current.ts";

/**
 * A chunk of a body, which has to be bytes. `Bun.serve` takes texts and everything that holds bytes,
 * `Deno.serve` a `Uint8Array` only: what is served there is served here.
 *
 * @throws {HttpError} `BAD_RESPONSE`
 */
export function chunkBytes(chunk: unknown): Uint8Array {
  if (chunk === undefined) return NO_BYTES;
  if (chunk instanceof Uint8Array) return chunk;
  if (runtime.name === "bun") {
    if (typeof chunk === "string") return utf8(chunk);
    if (chunk instanceof ArrayBuffer || ArrayBuffer.isView(chunk)) return viewOf(chunk);
  }
  throw new HttpError(
    500,
    "BAD_RESPONSE",
    "The Response body gives chunks that are not Uint8Arrays: pipe it through TextEncoderStream",
  );
}
