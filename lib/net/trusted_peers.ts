/**
 * The peers that may send PROXY headers: addresses, and all clients of a UNIX socket, which have
 * none.
 *
 * @module
 */
import { CidrSet } from "./cidr.ts";

/** How options name the clients of a UNIX socket, as nginx does. */
const UNIX = "unix:";

/** A set of peers. */
export class TrustedPeers {
  readonly #addresses: CidrSet;
  readonly #unix: boolean;
  readonly #onUnixSocket: () => boolean;

  /**
   * Makes a set of addresses, CIDR blocks and `"unix:"`; `onUnixSocket` says whether the server's
   * clients come by such a socket: a TCP socket that was reset has no address any more either.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for one that is malformed
   */
  constructor(peers: readonly string[], onUnixSocket: () => boolean) {
    this.#addresses = new CidrSet(peers.filter((peer) => peer !== UNIX));
    this.#unix = peers.includes(UNIX);
    this.#onUnixSocket = onUnixSocket;
  }

  /** Whether a peer of this address is in the set. */
  has(address: string): boolean {
    return address === "" ? this.#unix && this.#onUnixSocket() : this.#addresses.has(address);
  }
}
