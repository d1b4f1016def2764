/**
 * A fetch handler's `Response` onto the wire (Fetch standard; RFC 9112).
 *
 * @module
 */
import type { Exchange } from "./exchange.ts";
import type { ResponseHead } from "../http/response.ts";
import { partsOf } from "./response_parts.ts";
import { type Beginning, type BodyReader, bytesOf, EMPTY, pump } from "./stream_pump.ts";
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
  if (body instanceof ReadableStream) return sendStream(exchange, head, body);
  if (body instanceof Promise) return body.then((bytes) => exchange.response.send(head, bytes));
  exchange.response.send(head, body ?? "");
}

/**
 * A body that is all there leaves with its head and its length; one that takes its time is streamed
 * behind a head that does not wait for it.
 */
function sendStream(
  exchange: Exchange,
  head: ResponseHead,
  stream: ReadableStream<Uint8Array>,
): Promise<void> {
  const { response } = exchange;
  return pump(exchange, stream, async (reader) => {
    const beginning = await beginningOf(reader);
    if (beginning.next === undefined) response.send(head, beginning.bytes);
    else response.start(head, undefined);
    return beginning.next && beginning;
  });
}

/** How many turns of the microtask queue a body that is all there may take to say so. */
const SETTLING_TURNS = 16;

function beginningOf(reader: BodyReader): Promise<Beginning> {
  return new Promise((resolve, reject) => {
    let bytes: Uint8Array = EMPTY;
    let next = reader.read();
    let settled = false;
    const settle = (end: typeof next | undefined): void => {
      settled = true;
      resolve({ bytes, next: end });
    };
    const take = ({ done, value }: Awaited<typeof next>): void => {
      if (settled) return; // it took its time: whoever has `next` goes on with it
      if (done) return settle(undefined);
      if (bytes !== EMPTY) return settle(next);
      bytes = bytesOf(value);
      next = reader.read();
      next.then(take, reject);
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
