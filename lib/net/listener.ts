/**
 * Opens the listening socket and passes every accepted one to the gate.
 *
 * @module
 */
import { lookup } from "node:dns/promises";
import {
  type AddressInfo,
  createServer,
  isIPv6,
  type ListenOptions as NodeListenOptions,
  type Server,
  type Socket,
} from "node:net";
import { clearInterval, clearTimeout, setInterval, setTimeout } from "node:timers";
import { ListenError, type ListenErrorCode } from "../errors.ts";
import { hasSpareFile } from "./open_files.ts";
import { UnixPath } from "./unix_path.ts";

/** How often to check whether connections can be accepted, in ms … */
const CHECK_MS = 500;
/** … and how soon where it may just have failed. */
const SOON_MS = 10;

/** Where to listen: a descriptor, else a path, else a hostname and port. */
export interface ListenOptions {
  /** The name or address to listen on; `undefined`: every address of this machine. */
  readonly hostname: string | undefined;
  /** The port; 0 lets the system choose. */
  readonly port: number;
  /** How many connections the system may hold before they are accepted. */
  readonly backlog: number;
  /** Whether other sockets of this user may listen on the same port. */
  readonly reusePort?: boolean;
  /** The path of a UNIX socket. */
  readonly path?: string | undefined;
  /** The permissions of that path. */
  readonly pathMode?: number | undefined;
  /** The descriptor of a socket that another program has opened. */
  readonly fd?: number | undefined;
}

/** An address that is listened on. */
export interface Address {
  /** The IP address; empty for a UNIX socket. */
  readonly hostname: string;
  /** The port; 0 for a UNIX socket. */
  readonly port: number;
  /** The path of a UNIX socket that the server has made; absent for any other socket. */
  readonly path?: string;
}

/** A listening socket, TCP or UNIX. */
export class Listener {
  #server: Server;
  readonly #path: UnixPath | undefined;
  readonly #options: ListenOptions;
  readonly #accepted: (raw: Socket) => void;
  readonly #failed: (error: ListenError) => void;
  readonly #checks: ReturnType<typeof setInterval>;
  #soon: ReturnType<typeof setTimeout> | undefined;
  /** Whether it was reported that no more files can be opened, and that is still true. */
  #starved = false;
  #closed = false;
  #referenced = true;

  private constructor(
    server: Server,
    path: UnixPath | undefined,
    options: ListenOptions,
    accepted: (raw: Socket) => void,
    failed: (error: ListenError) => void,
  ) {
    this.#server = server;
    this.#path = path;
    this.#options = options;
    this.#accepted = accepted;
    this.#failed = failed;
    server.on("error", this.#acceptFailed);
    this.#checks = setInterval(() => this.#check(), CHECK_MS);
    this.#checks.unref(); // the socket keeps the process alive, unless that is not wanted
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
    const { path: at, pathMode } = options;
    try {
      if (at === undefined || options.fd !== undefined) {
        await listen(server, options);
        return new Listener(server, undefined, options, accepted, failed);
      }
      const path = new UnixPath(at, pathMode);
      const { backlog } = options;
      await path.take((path) => listening(server, { path, backlog }));
      return new Listener(server, path, options, accepted, failed);
    } catch (cause) {
      server.close();
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
    this.#soon ??= setTimeout(() => this.#check(), SOON_MS);
  }

  #check(): void {
    clearTimeout(this.#soon);
    this.#soon = undefined;
    if (hasSpareFile() === false) return this.#tellStarved();
    const recovered = this.#starved;
    this.#starved = false;
    if (!("Deno" in globalThis)) return;
    if (!this.unix) this.#listenAnew();
    else if (recovered) void this.#reopen();
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
    if (!this.#referenced) server.unref();
    this.#server = server;
  }

  /** For a UNIX socket that way fails on Deno, so another socket takes its path. */
  async #reopen(): Promise<void> {
    const { backlog } = this.#options;
    const server = createServer(SOCKET_OPTIONS, this.#accepted);
    try {
      if (this.#path === undefined) throw new Error("Deno cannot use its descriptor again");
      await this.#path.retake((path) => listening(server, { path, backlog }));
    } catch (cause) {
      const message = "Cannot accept any more: start the server again";
      return this.#failed(new ListenError("LISTEN_FAILED", message, { cause }));
    }
    if (this.#closed) return void server.close();
    server.on("error", this.#acceptFailed);
    if (!this.#referenced) server.unref();
    this.#server.close();
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

  /** Whether clients come by a UNIX socket, which gives them no address. */
  get unix(): boolean {
    return this.#path !== undefined || !hasPort(this.#server.address());
  }

  /** The address that is listened on, with the port that the system chose. */
  get address(): Address {
    if (this.#path !== undefined) return { hostname: "", port: 0, path: this.#path.path };
    const address = this.#server.address();
    if (hasPort(address)) return { hostname: address.address, port: address.port };
    return { hostname: "", port: 0 };
  }

  /** Lets the process end although the socket listens. */
  unref(): void {
    this.#referenced = false;
    this.#server.unref();
  }

  /** Keeps the process alive, as at first. */
  ref(): void {
    this.#referenced = true;
    this.#server.ref();
  }

  /** Accepts no more; accepted sockets live on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#checks);
    clearTimeout(this.#soon);
    try {
      this.#path?.remove(); // before the socket is closed: a path is recognized by its inode
    } catch (cause) {
      const message = `Cannot remove ${this.#path?.path}: remove it by hand`;
      this.#failed(new ListenError("LISTEN_FAILED", message, { cause }));
    }
    this.#server.close();
  }
}

/** Whether an address is that of a TCP socket; of an inherited UNIX socket the runtimes know none. */
function hasPort(address: ReturnType<Server["address"]>): address is AddressInfo {
  return typeof address === "object" && typeof address?.port === "number";
}

/** Listens on a descriptor, or a hostname and port. */
async function listen(server: Server, options: ListenOptions): Promise<void> {
  const { hostname, port, backlog, reusePort = false, fd } = options;
  if (fd !== undefined) return await listening(server, { fd, backlog });
  const host = hostname === undefined ? undefined : (await lookup(hostname)).address;
  await assertPermitted(host ?? EVERY_ADDRESS, port);
  await listening(server, {
    port,
    backlog,
    ...(host !== undefined && { host }),
    ...(reusePort && { reusePort }),
  });
}

/** What Node documents, and its types call a property of any object. */
interface FdOptions {
  readonly fd: number;
  readonly backlog: number;
}

/** Listens; resolves when it does. */
async function listening(server: Server, where: NodeListenOptions | FdOptions): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("listening", resolve);
  server.once("error", reject);
  server.listen(where);
  await promise;
  server.off("error", reject);
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
