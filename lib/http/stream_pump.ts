/**
 * A stream as the body of a response: the one way in which a source is read for a client, and is
 * told when the client leaves.
 *
 * @module
 */
import { NO_BYTES, utf8, viewOf } from "../bytes.ts";
import { ignore } from "../contain/callbacks.ts";
import { HttpError } from "../errors.ts";
import { runtime } from "../runtime/current.ts";
import type { Exchange } from "./exchange.ts";

/** What reads the source of a body. */
export type BodyReader = ReadableStreamDefaultReader<Uint8Array>;

/** What was read before the head was sent. */
export interface Beginning {
  /** The first bytes, which may be none. */
  readonly bytes: Uint8Array;
  /** A read that goes on behind them. */
  readonly next?: ReturnType<BodyReader["read"]> | undefined;
}

/** What is reported of a source that threw or rejected when it was cancelled. */
export const CANCEL_FAILED = "The body's source threw when cancelled";

/**
 * Sends a stream. `begin` sends the head, or the whole response, for which it returns `undefined`.
 * The source is cancelled when the client leaves, when nothing of it is needed, and when the
 * response fails.
 *
 * @throws {ConnectionError} `CONNECTION_CLOSED` (as all of these, as a rejection) when the client
 * has left
 * @throws {HttpError} `BAD_RESPONSE` for chunks that are no bytes, or of the wrong length in all
 */
export async function pump(
  exchange: Exchange,
  source: ReadableStream<Uint8Array>,
  begin: (reader: BodyReader) => Beginning | undefined | Promise<Beginning | undefined>,
): Promise<void> {
  const { response } = exchange;
  const reader = source.getReader();
  const cancel = (reason?: unknown): void =>
    void reader.cancel(reason).catch((error) => {
      if (error === reason) return;
      const failed = () => exchange.callbackFailed(CANCEL_FAILED, error);
      // A stream that had failed before rejects with that, which its reads have shown.
      reader.closed.then(failed, ignore);
    });
  const forget = exchange.onClosed(cancel);
  try {
    if (response.gone) await response.write(NO_BYTES); // which rejects
    const beginning = await begin(reader);
    if (beginning === undefined) return;
    if (response.bodiless) {
      cancel();
      return response.end();
    }
    await response.write(beginning.bytes);
    let piece = await (beginning.next ?? reader.read());
    for (; !piece.done; piece = await reader.read()) await response.write(bytesOf(piece.value));
    if (response.gone) await response.write(NO_BYTES); // the source was cancelled, and has not ended
    response.end();
  } catch (error) {
    if (!response.gone) cancel(error);
    throw error;
  } finally {
    forget();
  }
}

/**
 * A chunk of a body, which has to be bytes. `Bun.serve` takes texts and everything that holds bytes,
 * `Deno.serve` a `Uint8Array` only: what is served there is served here.
 *
 * @throws {HttpError} `BAD_RESPONSE`
 */
export function bytesOf(chunk: unknown): Uint8Array {
  if (chunk === undefined) return NO_BYTES;
  if (chunk instanceof Uint8Array) return chunk;
  if (runtime.name === "bun") {
    if (typeof chunk === "string") return utf8(chunk);
    if (chunk instanceof ArrayBuffer || ArrayBuffer.isView(chunk)) return viewOf(chunk);
  }
  throw new HttpError(
    500,
    "BAD_RESPONSE",
    "The Response body gives chunks that are no Uint8Array: pipe it through TextEncoderStream",
  );
}
