/**
 * Where to listen, and what accepts the sockets there: `node:net` in node_acceptor.ts, or Bun itself.
 *
 * @module
 */
import type { ListenError } from "../errors.ts";

/** Where to listen: a descriptor, else a path, else a hostname and port. */
export interface ListenOptions {
  /** The name or address to listen on; `undefined`: every address of this machine. */
  readonly hostname: string | undefined;
  /** The port; 0 lets the system choose. */
  readonly port: number;
  /** How many connections the system may hold before they are accepted; Bun takes no number. */
  readonly backlog: number;
  /** Whether other sockets of this user may listen on the same port. */
  readonly reusePort?: boolean;
  /** The path of a UNIX socket. */
  readonly path?: string | undefined;
  /** The permissions of that path. */
  readonly pathMode?: number | undefined;
  /** The descriptor of a socket that another program has opened. */
  readonly fd?: number | undefined;
  /** Whether TLS is spoken. */
  readonly tls: boolean;
  /** For tests: which sockets are asked for, in place of what suits the runtime. */
  readonly sockets?: Sockets | undefined;
}

/** What the runtimes listen on when they are given no address. */
export const EVERY_ADDRESS = "::";

/** Bun's own sockets, those of `node:net`, or these with the fallback of runtime/read_switch.ts. */
export type Sockets = "bun" | "node" | "paced";

/** An address that is listened on. */
export interface Address {
  /** The IP address; empty for a UNIX socket. */
  readonly hostname: string;
  /** The port; 0 for a UNIX socket. */
  readonly port: number;
  /** The path of a UNIX socket that the server has made; absent for any other socket. */
  readonly path?: string;
}

/** What accepts the sockets of a listener. */
export interface Acceptor {
  /** Whether clients come by a UNIX socket. */
  readonly unix: boolean;
  /** The address that is listened on. */
  readonly address: Address;
  /** Makes sure that sockets are accepted after `accept` may have failed, or has (`recovered`). */
  renew(recovered: boolean): void;
  /** Lets the process end although the socket listens. */
  unref(): void;
  /** Keeps the process alive. */
  ref(): void;
  /** Accepts no more. */
  close(): void;
}

/** What an {@linkcode Acceptor} reports to. */
export interface AcceptorHost {
  /** The system could not accept. */
  acceptFailed(cause: NodeJS.ErrnoException): void;
  /** Something else has failed. */
  failed(error: ListenError): void;
}
