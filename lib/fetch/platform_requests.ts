/**
 * The requests that a platform made, whose sessions have no socket.
 *
 * @module
 */
import type { Session } from "../http/session.ts";

/** What is known of a platform's request. */
export interface PlatformRequest {
  /** Its session. */
  readonly session: Session;
  /** What the platform passed besides the request. */
  readonly given: readonly unknown[];
}

const known = new WeakMap<Request, PlatformRequest>();

/** Takes note of a platform's request. */
export function addPlatformRequest(request: Request, facts: PlatformRequest): void {
  known.set(request, facts);
}

/** Returns what is known of a request; `undefined` for one that came on a socket, and for copies. */
export function platformRequest(request: Request): PlatformRequest | undefined {
  return known.get(request);
}
