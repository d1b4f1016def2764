/**
 * A fetch handler's `Response` onto the wire (Fetch standard; RFC 9112).
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import type { Exchange } from "./exchange.ts";
import type { ResponseHead } from "./response.ts";
import { partsOf } from "./response_parts.ts";
import { usableResponse } from "./usable_response.ts";

/**
 * Writes a handler's response; at once when its body is all there.
 *
 * @throws {HttpError} `HANDLER_FAILED` when it is no usable response, `BAD_RESPONSE` when it breaks
 * HTTP; or whatever its body stream fails with
 */
export function sendResponse(exchange: Exchange, result: unknown): void | Promise<void> {
  const response = usableResponse(result);
  const { head, body } = partsOf(response);
  if (body !== undefined) exchange.response.send(head, body ?? "");
  else return sendStream(exchange, head, response.body!);
}

async function sendStream(
  exchange: Exchange,
  head: ResponseHead,
  stream: ReadableStream<Uint8Array>,
): Promise<void> {
  const reader = stream.getReader();
  exchange.onClosed((reason) => void reader.cancel(reason).catch(ignore));
  try {
    await sendBody(exchange, head, reader);
  } catch (error) {
    void reader.cancel(error).catch(ignore);
    throw error;
  }
}

/** A body source that fails while it is cancelled has nobody left to tell. */
function ignore(): void {}

const EMPTY = new Uint8Array();

type BodyReader = ReadableStreamDefaultReader<Uint8Array>;

/**
 * A body that is all there leaves with its head and its length; one that takes its time is streamed
 * behind a head that does not wait for it.
 */
async function sendBody(exchange: Exchange, head: ResponseHead, reader: BodyReader): Promise<void> {
  const { response } = exchange;
  let next = reader.read();
  const first = await settledNow(next);
  const bytes = bytesOf(first?.value);
  if (first?.done) return response.send(head, bytes);
  if (first !== undefined) {
    next = reader.read();
    if ((await settledNow(next))?.done) return response.send(head, bytes);
  }
  response.start(head, undefined);
  if (response.bodiless) {
    void reader.cancel().catch(ignore);
    return response.end();
  }
  await response.write(bytes);
  for (let piece = await next; !piece.done; piece = await reader.read()) {
    await response.write(bytesOf(piece.value));
  }
  response.end();
}

/** How many turns of the microtask queue a body that is all there may take to say so. */
const SETTLING_TURNS = 8;

/** What a promise settles with that is about to; `undefined` when it has to be waited for. */
async function settledNow<T>(promise: Promise<T>): Promise<T | undefined> {
  let settled = false;
  const settle = (): void => {
    settled = true;
  };
  promise.then(settle, settle);
  for (let turn = 0; turn < SETTLING_TURNS && !settled; turn++) await undefined;
  return settled ? promise : undefined;
}

function bytesOf(chunk: unknown): Uint8Array {
  if (chunk === undefined) return EMPTY;
  if (chunk instanceof Uint8Array) return chunk;
  throw new HttpError(
    500,
    "BAD_RESPONSE",
    "The Response body gives chunks that are no Uint8Array: pipe it through TextEncoderStream",
  );
}
