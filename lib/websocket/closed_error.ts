/**
 * The errors of sending or reading on a socket that is over, and which side closed it: a program
 * cannot know that its client is about to leave, but it knows what it has closed itself.
 *
 * @module
 */
import { WebSocketError } from "../errors.ts";
import { CloseCode } from "./close.ts";

const ofOthers = new WeakSet<object>();

/** Makes the `WS_CLOSED` of a socket, which the program has closed if `byProgram`. */
export function closedError(byProgram: boolean): WebSocketError {
  const by = byProgram ? "The program has closed the WebSocket" : "The WebSocket is closed";
  const message = `${by}: nothing can be sent`;
  const error = new WebSocketError(CloseCode.Abnormal, "WS_CLOSED", message);
  return byProgram ? error : endedByOthers(error);
}

/** Marks the error of a socket that was not ended by the program. */
export function endedByOthers(error: WebSocketError): WebSocketError {
  ofOthers.add(error);
  return error;
}

/** Whether a callback threw `cause` only because the client had left. */
export function isOfOthers(cause: unknown): cause is WebSocketError {
  return typeof cause === "object" && cause !== null && ofOthers.has(cause);
}
