/**
 * Listens by Bun's own sockets.
 *
 * @module
 */
import { type BunListener, listen } from "../runtime/bun_sockets.ts";
import { type Acceptor, type Address, EVERY_ADDRESS, type ListenOptions } from "./acceptor.ts";
import type { Arrival } from "./arrival.ts";
import { arrivalHandlers } from "./bun_arrival.ts";

/** Listens by Bun's own sockets, on a port. */
export class BunAcceptor implements Acceptor {
  readonly #listener: BunListener;
  readonly unix = false;
  readonly address: Address;

  /** Opens the socket, and calls `accepted` with each that it accepts. */
  constructor(
    options: ListenOptions,
    address: string | undefined,
    accepted: (arrival: Arrival) => void,
  ) {
    const { port, reusePort = false } = options;
    const hostname = address ?? EVERY_ADDRESS;
    this.#listener = listen({ hostname, port, reusePort, socket: arrivalHandlers(accepted) });
    this.address = { hostname: this.#listener.hostname, port: this.#listener.port };
  }

  renew(): void {} // Bun accepts again by itself

  unref(): void {
    this.#listener.unref();
  }

  ref(): void {
    this.#listener.ref();
  }

  close(): void {
    this.#listener.stop(false);
  }
}
