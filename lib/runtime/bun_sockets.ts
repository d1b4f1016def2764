/**
 * Bun's own sockets, `Bun.listen` and `upgradeTLS`: of these Bun makes its `node:net` and `node:tls`,
 * so that a connection over them takes less time for its handshake and less memory.
 *
 * Undocumented: that `upgradeTLS` takes the side of the server (`isServer`), bytes that were read
 * before (`initialData`) and a context of `node:tls` (`tls.secureContext`), and how it reports a
 * handshake that fails. The trial shakes hands twice on the loopback device, once in vain, and
 * compares all that is relied on. Where it fails, the fallback is `node:net` and `node:tls`;
 * `HTTPSD_WIRE=node` in the environment puts it in force, for tests and for comparison.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { generateKeyPairSync, type X509Certificate } from "node:crypto";
import process from "node:process";
import { clearTimeout, setTimeout } from "node:timers";
import { createSecureContext } from "node:tls";
import { runtime } from "./current.ts";
import { declareInternal, type InternalState } from "./internals.ts";

/** A socket of Bun's own, as far as it is used here. */
export interface BunSocket {
  /** What the handlers know the socket by. */
  data: unknown;
  /** The addresses; `undefined` of a socket that was reset at once. */
  readonly remoteAddress?: string;
  readonly remotePort?: number;
  readonly localAddress?: string;
  readonly localPort?: number;
  /** The application protocol agreed on; `false` for none. */
  readonly alpnProtocol: string | false | null;
  /** Writes, and returns how many bytes were taken; -1 where the socket is closed. */
  write(chunk: Uint8Array | string): number;
  /** Ends this side: under TLS with a close_notify. */
  shutdown(): void;
  /** Closes both sides, under TLS when all has left; the handler `close` is called at once then. */
  close(): void;
  /** Closes both sides at once, unless `close()` was called before. */
  terminate(): void;
  /** Reads no more. */
  pause(): void;
  /** Reads again. */
  resume(): void;
  setNoDelay(on: boolean): boolean;
  setKeepAlive(on: boolean, idleMs: number): boolean;
  getTLSVersion(): string;
  getCipher(): { readonly name: string } | undefined;
  isSessionReused(): boolean;
  getPeerX509Certificate(): X509Certificate | undefined;
  /**
   * Lays TLS over the socket; returns the socket below, whose handlers go on to be called, and the
   * one above; `undefined` where it is closed.
   */
  upgradeTLS(options: BunUpgrade): [BunSocket, BunSocket] | undefined;
}

/** What is called of a socket. What one throws is given to `error`. */
export interface BunHandlers {
  open?(socket: BunSocket): void;
  /** The handshake is over. `ok` is `true` of a client that is not authorized, too. */
  handshake?(socket: BunSocket, ok: boolean, error: Error | null): void;
  data(socket: BunSocket, bytes: Uint8Array): void;
  drain(socket: BunSocket): void;
  end(socket: BunSocket): void;
  error(socket: BunSocket, error: Error): void;
  close(socket: BunSocket, error?: Error): void;
}

/** By what a server shakes hands. */
export interface BunTls {
  /** The native context in what `createSecureContext()` returns. */
  readonly secureContext: unknown;
  /** The application protocols, each behind a byte with its length. */
  readonly ALPNProtocols?: Uint8Array;
  readonly requestCert: boolean;
  readonly rejectUnauthorized: boolean;
}

interface BunUpgrade {
  readonly isServer: true;
  readonly initialData: Uint8Array;
  readonly data: unknown;
  readonly tls: BunTls;
  readonly socket: BunHandlers;
}

/** A listening socket of Bun's own. */
export interface BunListener {
  readonly hostname: string;
  readonly port: number;
  /** Accepts no more; with `true` it closes what it has accepted, too. */
  stop(cut: boolean): void;
  /** Lets the process end although the socket listens. */
  unref(): void;
  /** Keeps the process alive. */
  ref(): void;
}

/** Where to listen, and what to call. */
export interface BunListenOptions {
  /** An IP address; `::` for every address, of IPv4 too. */
  readonly hostname: string;
  /** The port; 0 lets the system choose. */
  readonly port: number;
  /** Whether other sockets may listen there. */
  readonly reusePort?: boolean;
  /** What is called of the sockets. */
  readonly socket: BunHandlers;
}

/** What is tried of Bun. */
export interface BunNet {
  listen(options: BunListenOptions & { allowHalfOpen: true }): BunListener;
  connect(options: object): Promise<BunSocket>;
}

const { Bun } = globalThis as unknown as { Bun: BunNet };

/** Listens for connections that may be half open. */
export function listen(options: BunListenOptions): BunListener {
  return Bun.listen({ ...options, allowHalfOpen: true });
}

/** The native context in one of `node:tls`. */
export function nativeContext(context: ReturnType<typeof createSecureContext>): unknown {
  return (context as unknown as { context: unknown }).context;
}

/** Writes application protocols as the handshake has them (RFC 7301 section 3.1). */
export function alpnList(protocols: readonly string[]): Uint8Array {
  return Buffer.concat(
    protocols.flatMap((name) => [Buffer.of(Buffer.byteLength(name)), Buffer.from(name)]),
  );
}

/** Whether an error is a failure of TLS; else a handler has thrown it. */
export function isTlsFault(error: Error): boolean {
  return (error as NodeJS.ErrnoException).code === "EPROTO";
}

/** Why a socket was closed, as Bun's `node:net` reports it. */
export function readFault(error: Error): Error {
  const { code = "ECONNRESET", errno } = error as NodeJS.ErrnoException;
  if (code !== "ECONNRESET") return error;
  const fault = new Error("read ECONNRESET", { cause: error });
  return Object.assign(fault, { code, errno, syscall: "read" });
}

/** A failure of TLS as Bun's `node:tls` reports it. */
export function tlsFault(error: Error): Error {
  if ((error as NodeJS.ErrnoException).code === "ECONNRESET") {
    return Object.assign(new Error("socket hang up", { cause: error }), { code: "ECONNRESET" });
  }
  const parts = /^error:[\da-f]+:([^:]*):([^:]*):(.+)$/i.exec(error.message);
  if (parts === null) return error;
  const [, library, where, reason] = parts;
  const fault = new Error(error.message, { cause: error });
  return Object.assign(fault, { library, function: where, reason, code: `ERR_SSL_${reason}` });
}

let trial: Promise<boolean> | undefined;
let found: InternalState = runtime.name === "bun" ? "untried" : "not needed";

declareInternal("bunSockets", () => isTurnedOff() ? "fallback" : found);

function isTurnedOff(): boolean {
  return runtime.name === "bun" && process.env["HTTPSD_WIRE"] === "node";
}

/** Whether Bun's own sockets can be relied on; the first call makes the trial. Never rejects. */
export async function bunSocketsWork(): Promise<boolean> {
  if (runtime.name !== "bun" || isTurnedOff()) return false;
  const works = await (trial ??= tryBunSockets());
  found = works ? "in force" : "fallback";
  return works;
}

/** How long the trial waits, in ms; it takes a few. */
const TRIAL_MS = 2_000;

/** What a server sees in the trial. */
const EXPECTED = [
  "handshake true trial TLSv1.3 true false no certificate",
  "data ping, 4 taken",
  "end, which is answered",
  "close",
  "handshake false ERR_SSL_NO_APPLICATION_PROTOCOL",
  "close",
].join("\n");

/** Makes the trial, of what is given or of Bun itself. */
export async function tryBunSockets(net: BunNet = Bun): Promise<boolean> {
  let listener: BunListener | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const seen: string[] = [];
  try {
    const closed = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("The trial takes too long")), TRIAL_MS);
    });
    let count = 0;
    listener = net.listen({
      hostname: "127.0.0.1",
      port: 0,
      allowHalfOpen: true,
      socket: trialServer(seen, () => closed[count++]?.resolve()),
    });
    for (const [index, protocol] of ["trial", "other"].entries()) {
      const client = net.connect(trialClient(listener.port, protocol));
      client.catch(() => {}); // the
      await Promise.race([closed[index]!.promise, late]);
    }
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    listener?.stop(true);
  }
  return seen.join("\n") === EXPECTED;
}

function trialServer(seen: string[], closed: () => void): BunHandlers {
  const tls: BunTls = {
    secureContext: nativeContext(createSecureContext(trialPair())),
    ALPNProtocols: alpnList(["trial"]),
    requestCert: true,
    rejectUnauthorized: false,
  };
  const fail = (_: BunSocket, error: Error): void => void seen.push(`error ${error.message}`);
  const above: BunHandlers = {
    handshake(socket, ok, error) {
      seen.push(
        ok
          ? `handshake true ${socket.alpnProtocol} ${socket.getTLSVersion()} ` +
            `${(socket.getCipher()?.name.length ?? 0) > 0} ${socket.isSessionReused()} ` +
            `${socket.getPeerX509Certificate()?.raw === undefined ? "no" : "a"} certificate`
          : `handshake false ${(tlsFault(error!) as NodeJS.ErrnoException).code}`,
      );
    },
    data(socket, bytes) {
      seen.push(`data ${Buffer.from(bytes)}, ${socket.write("pong")} taken`);
    },
    drain() {},
    end(socket) {
      socket.shutdown();
      seen.push(`end, which ${socket.write("") < 0 ? "is" : "is not"} answered`);
    },
    error: fail,
    close() {
      seen.push("close");
      closed();
    },
  };
  const below: BunHandlers = {
    open(socket) {
      socket.data = below;
    },
    data(socket, bytes) {
      if (socket.data !== below) return;
      socket.pause();
      const pair = socket.upgradeTLS({
        isServer: true,
        initialData: bytes,
        data: above,
        tls,
        socket: above,
      });
      pair![0].data = undefined;
      pair![1].resume();
    },
    drain() {},
    end() {},
    error: fail,
    close() {},
  };
  return below;
}

function trialClient(port: number, protocol: string): object {
  return {
    hostname: "127.0.0.1",
    port,
    tls: { rejectUnauthorized: false, ALPNProtocols: alpnList([protocol]) },
    socket: {
      handshake: (socket: BunSocket) => void socket.write("ping"),
      data: (socket: BunSocket) => socket.shutdown(),
      error() {},
      close() {},
    },
  };
}

/**
 * A new key and a certificate for it, of version 1 and without a name, whose signature is none: only
 * the trial's own client gets it, which looks at neither.
 */
function trialPair(): { cert: string; key: string } {
  const { privateKey, publicKey } = generateKeyPairSync("ec", {
    namedCurve: "P-256",
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
    publicKeyEncoding: { type: "spki", format: "der" },
  });
  const algorithm = "300a06082a8648ce3d040302"; // ecdsa-with-SHA256
  const years = "301e170d3234303130313030303030305a170d3439303130313030303030305a";
  const body = `30818e020101${algorithm}3000${years}3000${publicKey.toString("hex")}`;
  const der = Buffer.from(`3081a8${body}${algorithm}0309003006020101020101`, "hex");
  const lines = der.toString("base64").match(/.{1,64}/g)!.join("\n");
  return {
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`,
    key: privateKey,
  };
}
