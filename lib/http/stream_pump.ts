/**
 * Sends a stream as the body of a response: the one place where a source is read for a client, and
 * cancelled when the client leaves.
 *
 * @module
 */
import { NO_BYTES } from "../bytes.ts";
import { ignore } from "../contain/callbacks.ts";
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

/** How a stream is sent. */
export interface PumpOptions {
  /** Sends the head, or the whole response, for which it returns `undefined`. */
  readonly begin: (reader: BodyReader) => Beginning | undefined | Promise<Beginning | undefined>;
  /** Returns the bytes of a chunk; throws for a value that is not a chunk. */
  readonly chunkBytes: (chunk: unknown) => Uint8Array;
}

/**
 * Sends a stream. The source is cancelled when the client leaves, when nothing of it is needed, and
 * when the response fails.
 *
 * @throws {ConnectionError} `CONNECTION_CLOSED` (as all of these, as a rejection) when the client
 * has left
 * @throws {HttpError} `BAD_RESPONSE` for a body of the wrong length; or what `begin` and
 * `chunkBytes` throw
 */
export async function pump(
  exchange: Exchange,
  source: ReadableStream<Uint8Array>,
  { begin, chunkBytes }: PumpOptions,
): Promise<void> {
  const reader = source.getReader();
  const cancel = (reason?: unknown): void =>
    void reader.cancel(reason).catch((error) => {
      if (error === reason) return;
      const failed = () => exchange.cancelFailed(error);
      // A stream that had failed before rejects with that, which its reads have shown.
      reader.closed.then(failed, ignore);
    });
  const forget = exchange.onClosed(cancel);
  try {
    if (exchange.response.gone) await exchange.response.write(NO_BYTES); // which rejects
    const beginning = await begin(reader);
    if (beginning === undefined) return;
    if (exchange.response.bodiless) {
      cancel();
      return exchange.response.end();
    }
    await exchange.response.write(beginning.bytes);
    let piece = await (beginning.next ?? reader.read());
    for (; !piece.done; piece = await reader.read()) {
      await exchange.response.write(chunkBytes(piece.value));
    }
    if (exchange.response.gone) await exchange.response.write(NO_BYTES); // the source was cancelled, and has not ended
    exchange.response.end();
  } catch (error) {
    if (!exchange.response.gone) cancel(error);
    throw error;
  } finally {
    forget();
  }
}
