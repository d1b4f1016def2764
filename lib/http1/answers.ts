/**
 * The writers of answers, which are used again: most answers are over as soon as they have begun, and
 * memory that was in use just now costs a busy server less than new memory.
 *
 * A writer comes back when its exchange is over and its handler has returned; the exchange has
 * `OVER` in its place from then on. What handlers are given has the exchange, never a writer, and no
 * code keeps one across a wait, so that none can write into the answer of another.
 *
 * @module
 */
import { ResponseWriter } from "../http/response.ts";
import type { ConnectionEngine } from "../net/engine.ts";
import { type AnsweredRequest, Http1ResponseSink, type WriteObserver } from "./response_sink.ts";

/** So many are kept: as many as there are handlers at a time that take a while. */
const MAX_KEPT = 64;

/** A writer and the sink that it writes into. */
class Answer extends ResponseWriter {
  readonly sink: Http1ResponseSink;

  constructor(sink = new Http1ResponseSink()) {
    super(sink);
    this.sink = sink;
  }
}

const kept: Answer[] = [];

/** The writer of the answer to `request`; to be given back at its end, if it is spent then. */
export function answerTo(
  connection: ConnectionEngine,
  request: AnsweredRequest,
  observer: WriteObserver,
): ResponseWriter {
  const answer = kept.pop() ?? new Answer();
  answer.sink.answer(connection, request, observer);
  return answer;
}

/** Takes back the writer of an answer that is spent. It keeps nothing of that. */
export function giveBack(answer: ResponseWriter): void {
  if (!(answer instanceof Answer) || kept.length === MAX_KEPT) return;
  answer.reset();
  answer.sink.reset();
  kept.push(answer);
}
