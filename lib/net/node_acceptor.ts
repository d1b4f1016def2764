/**
 * Listens by `node:net`: on a port, a UNIX socket or an inherited descriptor.
 *
 * @module
 */
import {
  type AddressInfo,
  createServer,
  type ListenOptions as NodeListenOptions,
  type Server,
  type Socket,
} from "node:net";
import { ListenError } from "../errors.ts";
import type { Acceptor, AcceptorHost, Address, ListenOptions } from "./acceptor.ts";
import type { UnixPath } from "./unix_path.ts";
import { UnixQueue } from "./unix_queue.ts";

/** A listening socket of `node:net`. */
export class NodeAcceptor implements Acceptor {
  #server: Server;
  readonly #path: UnixPath | undefined;
  readonly #backlog: number;
  readonly #accepted: (raw: Socket) => void;
  readonly #host: AcceptorHost;
  readonly #acceptFailed: (cause: NodeJS.ErrnoException) => void;
  /** The system's queue of a UNIX socket, where it has to be watched. */
  #queue: UnixQueue | undefined;
  #hasAccepted = false;
  #closed = false;
  #referenced = true;

  private constructor(
    server: Server,
    { path, fd, backlog }: { path?: UnixPath; fd?: number; backlog: number },
    accepted: (raw: Socket) => void,
    host: AcceptorHost,
  ) {
    this.#server = server;
    this.#path = path;
    this.#backlog = backlog;
    this.#accepted = accepted;
    this.#host = host;
    if (this.unix && "Deno" in globalThis) {
      this.#queue = path === undefined ? UnixQueue.of(fd!) : UnixQueue.boundTo(path.boundTo);
      server.on("connection", () => this.#hasAccepted = true);
    }
    this.#acceptFailed = (cause) => host.acceptFailed(cause);
    server.on("error", this.#acceptFailed);
  }

  /** Listens; `address` is what the hostname means, if one was given. */
  static async open(
    options: ListenOptions,
    address: string | undefined,
    accepted: (raw: Socket) => void,
    host: AcceptorHost,
  ): Promise<NodeAcceptor> {
    const server = createServer(SOCKET_OPTIONS, accepted);
    const { path: at, pathMode, backlog, port, reusePort = false, fd } = options;
    try {
      if (fd !== undefined) {
        await listening(server, { fd, backlog });
        return new NodeAcceptor(server, { fd, backlog }, accepted, host);
      }
      if (at === undefined) {
        await listening(server, {
          port,
          backlog,
          ...(address !== undefined && { host: address }),
          ...(reusePort && { reusePort }),
        });
        return new NodeAcceptor(server, { backlog }, accepted, host);
      }
      const { UnixPath } = await import("./unix_path.ts"); // most servers listen on a port
      const path = new UnixPath(at, pathMode);
      await path.take((path) => listening(server, { path, backlog }));
      return new NodeAcceptor(server, { path, backlog }, accepted, host);
    } catch (cause) {
      server.close();
      throw cause;
    }
  }

  renew(recovered: boolean): void {
    if (!("Deno" in globalThis)) return;
    if (!this.unix) return this.#listenAnew();
    const isStuck = this.#queue?.isStuck(this.#hasAccepted) === true;
    this.#hasAccepted = false;
    if (recovered || isStuck) void this.#reopen();
  }

  /**
   * Deno 2.9.6 never accepts again after `accept` has failed once, as it does where no more files
   * can be opened, and reports nothing. Another server that listens on the same handle
   * works; connections that wait in the system's queue are kept.
   */
  #listenAnew(): void {
    const server = createServer(SOCKET_OPTIONS, this.#accepted);
    server.on("error", this.#acceptFailed);
    server.listen(this.#server, this.#backlog);
    if (!this.#referenced) server.unref();
    this.#server = server;
  }

  /** For a UNIX socket that way fails on Deno, so another socket takes its path. */
  async #reopen(): Promise<void> {
    const backlog = this.#backlog;
    const server = createServer(SOCKET_OPTIONS, this.#accepted);
    try {
      if (this.#path === undefined) {
        this.#queue = undefined; // it stays so, which is reported once
        throw new Error("Deno cannot use its descriptor again");
      }
      await this.#path.retake((path) => listening(server, { path, backlog }));
    } catch (cause) {
      server.close();
      if (cause instanceof ListenError) this.#queue = undefined; // the path is another's: the same
      const message = "Cannot accept any more: start the server again";
      return this.#host.failed(new ListenError("LISTEN_FAILED", message, { cause }));
    }
    if (this.#closed) return void server.close();
    server.on("error", this.#acceptFailed);
    server.on("connection", () => this.#hasAccepted = true);
    this.#queue = UnixQueue.boundTo(this.#path.boundTo);
    if (!this.#referenced) server.unref();
    this.#server.close();
    this.#server = server;
  }

  get unix(): boolean {
    return this.#path !== undefined || !hasPort(this.#server.address());
  }

  get address(): Address {
    if (this.#path !== undefined) return { hostname: "", port: 0, path: this.#path.path };
    const address = this.#server.address();
    if (hasPort(address)) return { hostname: address.address, port: address.port };
    return { hostname: "", port: 0 };
  }

  unref(): void {
    this.#referenced = false;
    this.#server.unref();
  }

  ref(): void {
    this.#referenced = true;
    this.#server.ref();
  }

  close(): void {
    this.#closed = true;
    try {
      this.#path?.remove(); // before the socket is closed: a path is recognized by its inode
    } catch (cause) {
      const message = `Cannot remove ${this.#path?.path}: remove it by hand`;
      this.#host.failed(new ListenError("LISTEN_FAILED", message, { cause }));
    }
    this.#server.close();
  }
}

/** Whether an address is that of a TCP socket; of an inherited UNIX socket the runtimes know none. */
function hasPort(address: ReturnType<Server["address"]>): address is AddressInfo {
  return typeof address === "object" && typeof address?.port === "number";
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
