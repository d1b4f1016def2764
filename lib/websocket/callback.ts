/**
 * Calls of a socket's callbacks: what one throws or rejects with goes to the socket, which it closes.
 *
 * @module
 */
import { isThenable } from "../contain/callbacks.ts";

/** The socket, as its callbacks' failures see it. */
export interface CallbackHost {
  /** Closes the socket, since a callback threw `cause` or rejected with it. */
  callbackFailed(cause: unknown): void;
}

/**
 * Calls `callback` with a socket and what came on it. Returns a promise if that one does, which never
 * rejects.
 */
export function call<W, T>(
  host: CallbackHost,
  callback: (ws: W, item: T) => unknown,
  ws: W,
  item: T,
): void | Promise<void> {
  try {
    return settled(host, callback(ws, item));
  } catch (cause) {
    host.callbackFailed(cause);
  }
}

/** Runs a callback, as {@linkcode call} does. */
export function run(host: CallbackHost, callback: () => unknown): void | Promise<void> {
  try {
    return settled(host, callback());
  } catch (cause) {
    host.callbackFailed(cause);
  }
}

function settled(host: CallbackHost, result: unknown): void | Promise<void> {
  if (!isThenable(result)) return;
  return Promise.resolve(result).then(() => {}, (cause) => host.callbackFailed(cause));
}
