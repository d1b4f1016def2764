/**
 * Opens the listening socket and passes every accepted one to the gate.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import { createServer, isIPv6, type Server, type Socket } from "node:net";
import { ListenError, type ListenErrorCode } from "../errors.ts";
import { hasSpareFile } from "./open_files.ts";

/** How often to check whether connections can be accepted, in ms … */
const CHECK_MS = 500;
/** … and how soon where it may just have failed. */
const SOON_MS = 10;

/** Where to listen. */
export interface ListenOptions {
  /** The name or address to listen on; `undefined`: every address of this machine. */
  readonly hostname: string | undefined;
  /** The port; 0 lets the system choose. */
  readonly port: number;
  /** How many connections the system may hold before they are accepted. */
  readonly backlog: number;
}

/** An address that is listened on. */
export interface Address {
  /** The IP address. */
  readonly hostname: string;
  /** The port. */
  readonly port: number;
}

/** A listening TCP socket. */
export class Listener {
  #server: Server;
  readonly #options: ListenOptions;
  readonly #accepted: (raw: Socket) => void;
  readonly #failed: (error: ListenError) => void;
  readonly #checks: ReturnType<typeof setInterval>;
  #soon: ReturnType<typeof setTimeout> | undefined;
  /** Whether it was reported that no more files can be opened, and that is still true. */
  #starved = false;

  private constructor(
    server: Server,
    options: ListenOptions,
    accepted: (raw: Socket) => void,
    failed: (error: ListenError) => void,
  ) {
    this.#server = server;
    this.#options = options;
    this.#accepted = accepted;
    this.#failed = failed;
    server.on("error", this.#acceptFailed);
    this.#checks = setInterval(() => this.#check(), CHECK_MS);
  }

  /**
   * Listens, and calls `accepted` with each new socket. No bytes are read from it until a `data`
   * listener is added. `failed` is called when the system cannot accept, once until it can again:
   * with `TOO_MANY_OPEN_FILES` when the process has no file descriptor left.
   *
   * @throws {ListenError} `ADDRESS_IN_USE`, `ADDRESS_NOT_AVAILABLE`, `PERMISSION_DENIED`, or
   * `LISTEN_FAILED` for anything else, such as a name that does not exist
   */
  static async open(
    options: ListenOptions,
    accepted: (raw: Socket) => void,
    failed: (error: ListenError) => void,
  ): Promise<Listener> {
    const server = createServer(SOCKET_OPTIONS, accepted);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("listening", resolve);
    server.once("error", reject);
    try {
      const { hostname, port, backlog } = options;
      const host = hostname === undefined ? undefined : (await lookup(hostname)).address;
      await assertPermitted(host ?? EVERY_ADDRESS, port);
      server.listen({ port, backlog, ...(host !== undefined && { host }) });
      await promise;
    } catch (cause) {
      server.close();
      throw listenError(cause as NodeJS.ErrnoException, options);
    }
    server.off("error", reject);
    return new Listener(server, options, accepted, failed);
  }

  /**
   * Makes sure soon that connections can be accepted; to be called when sockets were cut that had
   * just been accepted: Deno gives their descriptors back only after it has accepted all that wait.
   */
  checkSoon(): void {
    this.#soon ??= setTimeout(() => this.#check(), SOON_MS);
  }

  #check(): void {
    clearTimeout(this.#soon);
    this.#soon = undefined;
    if (hasSpareFile() === false) return this.#tellStarved();
    this.#starved = false;
    if ("Deno" in globalThis) this.#listenAnew();
  }

  /**
   * Deno 2.9.6 never accepts again after `accept` has failed once, as it does where no more files
   * can be opened, and reports nothing. Another server that listens on the same handle
   * works; connections that wait in the system's queue are kept.
   */
  #listenAnew(): void {
    const server = createServer(SOCKET_OPTIONS, this.#accepted);
    server.on("error", this.#acceptFailed);
    server.listen(this.#server, this.#options.backlog);
    this.#server = server;
  }

  readonly #acceptFailed = (cause: NodeJS.ErrnoException): void => {
    if (cause.code === "EMFILE" || cause.code === "ENFILE") return this.#tellStarved(cause);
    this.#failed(new ListenError("LISTEN_FAILED", `Cannot accept: ${cause.message}`, { cause }));
  };

  #tellStarved(cause?: Error): void {
    if (this.#starved) return;
    this.#starved = true;
    this.#failed(
      new ListenError(
        "TOO_MANY_OPEN_FILES",
        "Cannot accept: the process has as many files open as it may; raise the limit (ulimit -n), " +
          "lower limits.maxConnections, or find what opens them",
        { cause },
      ),
    );
  }

  /** The address that is listened on, with the port that the system chose. */
  get address(): Address {
    const address = this.#server.address();
    if (address === null || typeof address === "string") {
      throw new ListenError("LISTEN_FAILED", "The listening socket has no address any more");
    }
    return { hostname: address.address, port: address.port };
  }

  /** Accepts no more; accepted sockets live on. */
  close(): void {
    clearInterval(this.#checks);
    clearTimeout(this.#soon);
    this.#server.close();
  }
}

const SOCKET_OPTIONS = { allowHalfOpen: true, noDelay: true };

/** Deno throws a refused permission where it cannot be caught, so it is asked for beforehand. */
async function assertPermitted(address: string, port: number): Promise<void> {
  const { Deno } = globalThis as {
    Deno?: { permissions: { request(it: object): Promise<{ state: string }> } };
  };
  if (Deno === undefined) return;
  const host = `${isIPv6(address) ? `[${address}]` : address}:${port}`;
  const { state } = await Deno.permissions.request({ name: "net", host });
  if (state !== "granted") throw Object.assign(new Error("Denied by Deno"), { code: "EPERM" });
}

/** What the runtimes listen on when they are given no address. */
const EVERY_ADDRESS = "::";

const NOT_OURS = "it is not an address of this machine: choose one that is";
const REFUSED =
  "the system or the runtime refused: choose a port above 1023, run with the right, Deno with --allow-net";

const LISTEN_CODES: Record<string, [ListenErrorCode, string]> = {
  EADDRINUSE: ["ADDRESS_IN_USE", "another process listens there: choose another port"],
  EADDRNOTAVAIL: ["ADDRESS_NOT_AVAILABLE", NOT_OURS],
  EINVAL: ["ADDRESS_NOT_AVAILABLE", NOT_OURS], // what Deno makes of it
  EACCES: ["PERMISSION_DENIED", REFUSED],
  EPERM: ["PERMISSION_DENIED", REFUSED], // what Deno makes of a name that may not be looked up
};

function listenError(cause: NodeJS.ErrnoException, options: ListenOptions): ListenError {
  const [code, advice] = LISTEN_CODES[cause.code ?? ""] ?? ["LISTEN_FAILED", cause.message];
  const where = `${options.hostname ?? "every address"}, port ${options.port}`;
  return new ListenError(code, `Cannot listen on ${where}: ${advice}`, { cause });
}
