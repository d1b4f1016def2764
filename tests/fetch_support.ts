/**
 * Bodies of fetch handlers in pieces.
 *
 * @module
 */
import { sleep } from "./http_support.ts";

/** A stream of text; with `delayMs` each piece takes its time. */
export function streamOf(
  pieces: unknown[],
  delayMs?: number,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const rest = [...pieces];
  return new ReadableStream({
    async pull(controller) {
      if (delayMs !== undefined) await sleep(delayMs);
      const piece = rest.shift();
      if (piece === undefined) controller.close();
      else if (piece instanceof Error) throw piece;
      else {controller.enqueue(
          typeof piece === "string"
            ? new TextEncoder().encode(piece)
            : piece as Uint8Array<ArrayBuffer>,
        );}
    },
  });
}
