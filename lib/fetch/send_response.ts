/**
 * A fetch handler's `Response` onto the wire (Fetch standard; RFC 9112).
 *
 * @module
 */
import { NO_BYTES } from "../bytes.ts";
import { watch } from "../contain/callbacks.ts";
import { HttpError } from "../errors.ts";
import type { Exchange } from "../http/exchange.ts";
import { chunkBytes } from "./body_chunk.ts";
import { partsOf, type ResponseParts } from "./response_parts.ts";
import { type Beginning, type BodyReader, pump } from "../http/stream_pump.ts";

/**
 * Writes a handler's response; at once when its body is all there. One that comes after the handler
 * was given up is let go of: that it took too long was reported.
 *
 * @throws {HttpError} `HANDLER_FAILED` when it is not a usable response, `BAD_RESPONSE` when it
 * breaks HTTP; or whatever its body stream fails with
 */
export function sendResponse(exchange: Exchange, result: unknown): void | Promise<void> {
  const parts = partsOf(result);
  const { body } = parts;
  if (exchange.gaveUp) return letGo(exchange, body);
  if (body instanceof ReadableStream) return sendStream(exchange, parts, body);
  if (body instanceof Promise) return body.then((whole) => sendWhole(exchange, parts, whole));
  sendWhole(exchange, parts, body ?? "");
}

function letGo(exchange: Exchange, body: ResponseParts["body"]): void {
  const ending = body instanceof ReadableStream ? body.cancel() : body;
  watch(ending, (cause) => exchange.cancelFailed(cause));
}

function sendWhole({ response }: Exchange, head: ResponseParts, body: string | Uint8Array): void {
  try {
    response.send(head, body, head.isOwn);
  } catch (error) {
    throw explained(error, head);
  }
}

/** Names the likely cause of a wrong length: a body that `fetch()` decoded, with its old fields. */
function explained(error: unknown, { fields }: ResponseParts): unknown {
  if (!(error instanceof HttpError) || error.code !== "BAD_RESPONSE") return error;
  const names = new Set(Array.from(fields, ([name]) => name.toLowerCase()));
  if (!names.has("content-encoding") || !names.has("content-length")) return error;
  return new HttpError(
    500,
    "BAD_RESPONSE",
    `${error.message}. If the body comes from fetch(), it was decoded: return the Response that ` +
      "fetch() gave, or remove Content-Encoding and Content-Length",
    { cause: error },
  );
}

/**
 * A body that is all there leaves with its head and its length; one that takes its time is streamed
 * behind a head that does not wait for it.
 */
async function sendStream(
  exchange: Exchange,
  head: ResponseParts,
  stream: ReadableStream<Uint8Array>,
): Promise<void> {
  try {
    const begin = async (reader: BodyReader): Promise<Beginning | undefined> => {
      const beginning = await beginningOf(reader);
      if (beginning.next === undefined) exchange.response.send(head, beginning.bytes);
      else exchange.response.start(head, undefined);
      return beginning.next && beginning;
    };
    await pump(exchange, stream, { begin, chunkBytes });
  } catch (error) {
    throw explained(error, head);
  }
}

/** How many turns of the microtask queue a body that is all there may take to say so. */
const SETTLING_TURNS = 16;

function beginningOf(reader: BodyReader): Promise<Beginning> {
  return new Promise((resolve, reject) => {
    let bytes: Uint8Array = NO_BYTES;
    let next = reader.read();
    let settled = false;
    const settle = (end: typeof next | undefined): void => {
      settled = true;
      resolve({ bytes, next: end });
    };
    const take = ({ done, value }: Awaited<typeof next>): void => {
      if (settled) return; // it came late: the holder of `next` goes on with it
      if (done) return settle(undefined);
      if (bytes !== NO_BYTES) return settle(next);
      bytes = chunkBytes(value);
      next = reader.read();
      next.then(take).catch(reject);
    };
    next.then(take).catch(reject);
    let turns = SETTLING_TURNS;
    const wait = (): void => {
      if (settled) return;
      if (turns-- > 0) queueMicrotask(wait);
      else settle(next);
    };
    wait();
  });
}
