/**
 * Bodies both ways, no faster than they are read.
 *
 * @module
 */
import type { ClientRequest, IncomingMessage } from "node:http";
import { HttpError } from "../errors.ts";
import { readBefore } from "../http/body.ts";
import { Deadline } from "./deadline.ts";

/** How much of an answer waits in this process for the client to read, in bytes. */
const WAITING_BYTES = 65_536;

/** A body for the upstream. */
export interface SentBody {
  /** How long it is; `undefined`: not known. */
  readonly length: string | undefined;
  readonly body: ReadableStream<Uint8Array> | null;
}

/**
 * Sends a body to the upstream and ends the request; `answering` runs while the upstream is waited
 * for, and not while the client is, whose time the server limits. Resolves also when the upstream
 * takes no more of it: its answer says why.
 *
 * @throws what reading the body fails with
 * @throws {StateError} `BODY_USED` when something reads it, or has read a part of it: the upstream,
 * told of more, would take the next request on the connection for the rest
 */
export async function sendBody(
  { body, length }: SentBody,
  request: ClientRequest,
  answering: Deadline,
): Promise<void> {
  if (body === null) {
    request.end();
    return;
  }
  if (body.locked) throw readBefore();
  const reader = body.getReader();
  let left = length === undefined ? undefined : Number(length);
  while (!request.destroyed) {
    answering.pause();
    const { done, value } = await reader.read();
    if (!request.destroyed) answering.renew();
    if (done) {
      if (left !== undefined && left > 0) throw readBefore();
      request.end();
      return;
    }
    if (left !== undefined) left -= value.length;
    if (!request.write(value)) await drained(request);
  }
  await reader.cancel();
}

function drained(request: ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      request.off("drain", settle);
      request.off("close", settle);
      resolve();
    };
    request.on("drain", settle);
    request.on("close", settle);
  });
}

/**
 * The body of an answer as a stream. Cancelling it ends the request; where the upstream ends it
 * early, or is silent for `idleMs` while the client reads, the stream fails.
 */
export function answerBody(
  message: IncomingMessage,
  request: ClientRequest,
  idleMs: number,
): ReadableStream<Uint8Array> {
  const deadline = new Deadline(() => {
    const error = new HttpError(
      504,
      "UPSTREAM_TIMEOUT",
      "The upstream sends no more of its answer",
    );
    message.destroy(error);
  });
  let isOver = false;
  const finish = (end: () => void) => {
    if (isOver) return;
    isOver = true;
    deadline.clear();
    end();
  };
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const fail = (cause?: unknown) =>
        finish(() => controller.error(cause instanceof HttpError ? cause : endedEarly(cause)));
      message.on("data", (chunk: Uint8Array) => {
        if (isOver) return;
        controller.enqueue(chunk);
        if (controller.desiredSize! > 0) return deadline.renew();
        message.pause();
        deadline.clear(); // the client does not read
      });
      message.on("end", () => finish(() => controller.close()));
      message.on("error", fail);
      message.on("close", () => fail());
      request.on("error", fail);
      message.pause();
    },
    pull() {
      deadline.set(idleMs);
      message.resume();
    },
    cancel() {
      finish(() => request.destroy());
    },
  }, new ByteLengthQueuingStrategy({ highWaterMark: WAITING_BYTES }));
}

function endedEarly(cause: unknown): HttpError {
  const message = "The upstream ended its answer early";
  return new HttpError(502, "UPSTREAM_FAILED", message, { cause });
}
