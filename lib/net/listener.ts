/**
 * Opens the listening socket and passes every accepted one on: Bun's own sockets for TLS on a port on
 * Bun, if the trial shows that they can be relied on, else those of `node:net`.
 *
 * @module
 */
import { isIPv4, isIPv6 } from "node:net";
import { clearInterval, clearTimeout, setInterval, setTimeout } from "node:timers";
import { ListenError, type ListenErrorCode } from "../errors.ts";
import {
  type Acceptor,
  type AcceptorHost,
  type Address,
  EVERY_ADDRESS,
  type ListenOptions,
} from "./acceptor.ts";
import type { Arrival } from "./arrival.ts";
import { NodeAcceptor } from "./node_acceptor.ts";
import { NodeArrival } from "./node_arrival.ts";
import { hasSpareFile } from "./open_files.ts";

/** How often to check whether connections can be accepted, in ms … */
const CHECK_MS = 500;
/** … and how soon where it may just have failed. */
const SOON_MS = 10;

export type { Address, ListenOptions } from "./acceptor.ts";

/** Receives accepted sockets. */
type Accept = (arrival: Arrival) => void;

/** A listening socket, TCP or UNIX. */
export class Listener {
  readonly #acceptor: Acceptor;
  readonly #checks: ReturnType<typeof setInterval>;
  #soon: ReturnType<typeof setTimeout> | undefined;
  readonly #starvation: Starvation;
  #closed = false;

  private constructor(acceptor: Acceptor, starvation: Starvation) {
    this.#acceptor = acceptor;
    this.#starvation = starvation;
    this.#checks = setInterval(() => this.#check(), CHECK_MS);
    this.#checks.unref(); // the socket keeps the process alive, unless that is not wanted
  }

  /**
   * Listens, and calls `accepted` with each new socket. No bytes are read from it until it is told
   * to read. `failed` is called when the system cannot accept, once until it can again:
   * with `TOO_MANY_OPEN_FILES` when the process has no file descriptor left.
   *
   * @throws {ListenError} `ADDRESS_IN_USE`, `ADDRESS_NOT_AVAILABLE`, `PERMISSION_DENIED`, or
   * `LISTEN_FAILED` for anything else, such as a name that does not exist
   */
  static async open(
    options: ListenOptions,
    accepted: Accept,
    failed: (error: ListenError) => void,
  ): Promise<Listener> {
    const starvation = new Starvation(failed);
    try {
      return new Listener(await openAcceptor(options, accepted, starvation), starvation);
    } catch (cause) {
      throw cause instanceof ListenError
        ? cause
        : listenError(cause as NodeJS.ErrnoException, options);
    }
  }

  /**
   * Makes sure soon that connections can be accepted; to be called when sockets were cut that had
   * just been accepted: Deno gives their descriptors back only after it has accepted all that wait.
   */
  checkSoon(): void {
    if (this.#closed) return;
    this.#soon ??= setTimeout(() => this.#check(), SOON_MS);
  }

  #check(): void {
    clearTimeout(this.#soon);
    this.#soon = undefined;
    if (hasSpareFile() === false) this.#starvation.begin();
    else this.#acceptor.renew(this.#starvation.end());
  }

  /** Whether clients come by a UNIX socket, which gives them no address. */
  get unix(): boolean {
    return this.#acceptor.unix;
  }

  /** The address that is listened on, with the port that the system chose. */
  get address(): Address {
    return this.#acceptor.address;
  }

  /** Lets the process end although the socket listens. */
  unref(): void {
    this.#acceptor.unref();
  }

  /** Keeps the process alive, as at first. */
  ref(): void {
    this.#acceptor.ref();
  }

  /** Accepts no more; accepted sockets live on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#checks);
    clearTimeout(this.#soon);
    this.#acceptor.close();
  }
}

/** Reports that the process can open no more files, once until it can again. */
class Starvation implements AcceptorHost {
  readonly failed: (error: ListenError) => void;
  #lasts = false;

  constructor(failed: (error: ListenError) => void) {
    this.failed = failed;
  }

  acceptFailed(cause: NodeJS.ErrnoException): void {
    if (cause.code === "EMFILE" || cause.code === "ENFILE") return this.begin(cause);
    this.failed(new ListenError("LISTEN_FAILED", `Cannot accept: ${cause.message}`, { cause }));
  }

  begin(cause?: Error): void {
    if (this.#lasts) return;
    this.#lasts = true;
    this.failed(
      new ListenError(
        "TOO_MANY_OPEN_FILES",
        "Cannot accept: the process has as many files open as it may; raise the limit (ulimit -n), " +
          "lower limits.maxConnections, or find what opens them",
        { cause },
      ),
    );
  }

  /** Files can be opened; returns whether they could not before. */
  end(): boolean {
    const lasted = this.#lasts;
    this.#lasts = false;
    return lasted;
  }
}

/** Opens what suits the runtime, or what tests ask for. */
async function openAcceptor(
  options: ListenOptions,
  accepted: Accept,
  host: AcceptorHost,
): Promise<Acceptor> {
  const { hostname, path, fd, tls } = options;
  const isPort = path === undefined && fd === undefined;
  let address: string | undefined;
  if (isPort) {
    address = hostname === undefined ? undefined : await addressOf(hostname);
    await assertPermitted(address ?? EVERY_ADDRESS, options.port);
  }
  const sockets = options.sockets ?? (tls && isPort && await useBunSockets() ? "bun" : "node");
  if (sockets === "bun") {
    const { BunAcceptor } = await import("./bun_acceptor.ts"); // of no use on Deno
    return new BunAcceptor(options, address, accepted);
  }
  if (tls) {
    const { tlsParent } = await import("../runtime/tls_parent.ts");
    await tlsParent.try();
  }
  const flow = sockets === "paced" ? "paced" : undefined;
  return await NodeAcceptor.open(
    options,
    address,
    (raw) => accepted(new NodeArrival(raw, flow)),
    host,
  );
}

/** The address of a name, or of one in any form. */
async function addressOf(hostname: string): Promise<string> {
  if (isIPv4(hostname)) return hostname;
  const { lookup } = await import("node:dns/promises"); // most servers listen on an address
  return (await lookup(hostname)).address;
}

/** Whether Bun's own sockets can be relied on for TLS, of which a server without has no need. */
async function useBunSockets(): Promise<boolean> {
  const { bunSocketsWork } = await import("../runtime/bun_sockets.ts");
  return await bunSocketsWork();
}

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

const NOT_OURS = "it is not an address of this machine: choose one that is";
const REFUSED =
  "the system or the runtime refused: choose a port above 1023, run with the right, Deno with --allow-net";

const LISTEN_CODES: Record<string, [ListenErrorCode, string]> = {
  EADDRINUSE: ["ADDRESS_IN_USE", "another process listens there: choose another port"],
  EADDRNOTAVAIL: ["ADDRESS_NOT_AVAILABLE", NOT_OURS],
  EINVAL: ["ADDRESS_NOT_AVAILABLE", NOT_OURS], // what Deno makes of it
  EACCES: ["PERMISSION_DENIED", REFUSED],
  EPERM: ["PERMISSION_DENIED", REFUSED], // what Deno makes of a name that may not be looked up
  NotCapable: ["PERMISSION_DENIED", REFUSED], // what Deno makes of a path
};

/** The same where they mean something else for a path … */
const PATH_CODES: typeof LISTEN_CODES = {
  EINVAL: ["LISTEN_FAILED", "the path of its folder is too long: choose a shorter one"],
  EACCES: ["PERMISSION_DENIED", "this user may not create files there"],
  ENOENT: ["LISTEN_FAILED", "there is no such folder: create it"],
  NotCapable: [
    "PERMISSION_DENIED",
    "give Deno --allow-net, and --allow-read and --allow-write there",
  ],
};

/** … or a descriptor. */
const FD_CODES: typeof LISTEN_CODES = {
  EINVAL: ["LISTEN_FAILED", "it is no socket, or not one that can listen"],
};

function listenError(cause: NodeJS.ErrnoException, options: ListenOptions): ListenError {
  const { fd, path, hostname, port } = options;
  const [special, where] = fd !== undefined
    ? [FD_CODES, `descriptor ${fd}`]
    : path !== undefined
    ? [PATH_CODES, path]
    : [{}, `${hostname ?? "every address"}, port ${port}`];
  const key = cause.code ?? cause.name;
  const [code, advice] = special[key] ?? LISTEN_CODES[key] ?? ["LISTEN_FAILED", cause.message];
  return new ListenError(code, `Cannot listen on ${where}: ${advice}`, { cause });
}
