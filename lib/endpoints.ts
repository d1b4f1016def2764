/**
 * Where a connection comes from and goes to.
 *
 * @module
 */
import type { Socket } from "node:net";

/** The two ends of a connection. */
export interface Endpoints {
  /** The client's address; behind a trusted proxy, what its PROXY header says. */
  readonly remoteAddress: string;
  /** The client's port. */
  readonly remotePort: number;
  /** The address that the client connected to. */
  readonly localAddress: string;
  /** The port that the client connected to. */
  readonly localPort: number;
}

/** Returns the addresses of a socket as it is now; one that was reset at once has none any more. */
export function endpointsOf(raw: Socket): Endpoints {
  return {
    remoteAddress: raw.remoteAddress ?? "",
    remotePort: raw.remotePort ?? 0,
    localAddress: raw.localAddress ?? "",
    localPort: raw.localPort ?? 0,
  };
}
