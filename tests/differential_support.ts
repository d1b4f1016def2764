/**
 * What the differential tests share: a seeded generator of cases, the runtime's own server beside
 * ours, and a client that reads what is on the wire without making anything of it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { once } from "node:events";
import net from "node:net";
import process from "node:process";
import tls from "node:tls";
import { HttpsServer } from "../lib/server.ts";
import { certificates } from "./support.ts";

/** The seed of this run: always the same, unless `HTTPSD_SEED` says another. */
export const seed = Number(process.env["HTTPSD_SEED"] ?? 20261127);

/** Answers requests, on both servers. */
export type Handler = (request: Request) => Response | Promise<Response>;

/** A server under comparison. */
export interface Peer {
  readonly name: "httpsd" | "native";
  readonly port: number;
  readonly secure: boolean;
  stop(): Promise<void>;
}

/** Starts httpsd. */
export async function startOurs(handler: Handler, secure: boolean): Promise<Peer> {
  const { cert, key } = await certificates();
  const server = new HttpsServer({
    hostname: "127.0.0.1",
    port: 0,
    timeouts: { lingerMs: 500 },
    ...(secure ? { cert, key } : { transportMode: "insecure" }),
  }, handler);
  server.addEventListener("error", () => {}); // what comes on the wire is compared
  await server.start();
  return {
    name: "httpsd",
    port: server.address.port,
    secure,
    stop: () => server.stop({ drainMs: 0 }),
  };
}

interface NativeRuntimes {
  Deno?: {
    serve(options: object, handler: Handler): { addr: { port: number }; shutdown(): Promise<void> };
  };
  Bun?: { serve(options: object): { port: number; stop(force: boolean): Promise<void> } };
}

/** Starts the runtime's own server. */
export async function startNative(handler: Handler, secure: boolean): Promise<Peer> {
  const { cert, key } = await certificates();
  const { Deno, Bun } = globalThis as unknown as NativeRuntimes;
  const where = { hostname: "127.0.0.1", port: 0 };
  const failed = () => new Response("The handler failed", { status: 500 });
  if (Deno !== undefined) {
    const server = Deno.serve(
      { ...where, ...(secure && { cert, key }), onListen: () => {}, onError: failed },
      handler,
    );
    return { name: "native", port: server.addr.port, secure, stop: () => server.shutdown() };
  }
  const server = Bun!.serve({
    ...where,
    ...(secure && { tls: { cert, key } }),
    fetch: handler,
    error: failed,
    development: false,
  });
  return { name: "native", port: server.port, secure, stop: () => server.stop(true) };
}

/** What is compared of an answer. */
export interface Answer {
  readonly status: number;
  /** Without those of the connection and the framing; by name, then in the order sent. */
  readonly fields: (readonly [name: string, value: string])[];
  readonly body: string;
}

/** Fields that belong to the connection, the framing or the clock. */
const NOT_COMPARED = new Set([
  "connection",
  "content-length",
  "date",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** A client that sends requests one after another, on one connection while that lasts. */
export class WireClient {
  readonly #peer: Peer;
  #socket: net.Socket | undefined;
  #bytes = Buffer.alloc(0);
  #ended = false;
  #wake: () => void = () => {};

  constructor(peer: Peer) {
    this.#peer = peer;
  }

  /** Sends a request and reads its final answer. */
  async ask(request: string, method: string): Promise<Answer> {
    if (this.#socket === undefined || this.#ended) await this.#connect();
    this.#socket!.write(Buffer.from(request, "latin1"));
    const head = await this.#head();
    const lines = head.split("\r\n");
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(lines[0]!)?.[1]);
    const all = lines.slice(1).map((line): [string, string] => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    });
    const values = new Map(all);
    const bodiless = method === "HEAD" || status === 204 || status === 304;
    const body = bodiless ? "" : await this.#body(values);
    if (/close/i.test(values.get("connection") ?? "")) this.close();
    const fields = all.filter(([name]) => !NOT_COMPARED.has(name));
    return { status, fields: fields.toSorted(([a], [b]) => a < b ? -1 : a > b ? 1 : 0), body };
  }

  /** Closes the connection. */
  close(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  async #connect(): Promise<void> {
    this.close();
    this.#bytes = Buffer.alloc(0);
    this.#ended = false;
    const { port, secure } = this.#peer;
    const { ca } = await certificates();
    const socket = secure
      ? tls.connect({ port, host: "127.0.0.1", servername: "localhost", ca })
      : net.connect({ port, host: "127.0.0.1" });
    this.#socket = socket;
    socket.on("data", (bytes: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, bytes]);
      this.#wake();
    });
    const over = () => {
      if (this.#socket !== socket) return;
      this.#ended = true;
      this.#wake();
    };
    socket.on("end", over);
    socket.on("close", over);
    socket.on("error", over);
    await once(socket, secure ? "secureConnect" : "connect");
  }

  async #more(): Promise<void> {
    if (this.#ended) {
      throw new Error(`Cut by ${this.#peer.name}: ${this.#bytes.toString("latin1")}`);
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    await promise;
  }

  #take(length: number): string {
    const text = this.#bytes.toString("latin1", 0, length);
    this.#bytes = this.#bytes.subarray(length);
    return text;
  }

  /** Everything up to and with `end`, without it. */
  async #upTo(end: string): Promise<string> {
    for (;;) {
      const at = this.#bytes.indexOf(end, 0, "latin1");
      if (at >= 0) return this.#take(at + end.length).slice(0, at);
      await this.#more();
    }
  }

  async #exactly(length: number): Promise<string> {
    while (this.#bytes.length < length) await this.#more();
    return this.#take(length);
  }

  async #head(): Promise<string> {
    for (;;) {
      const head = await this.#upTo("\r\n\r\n");
      if (!/^HTTP\/1\.1 1(?!01)/.test(head)) return head;
    }
  }

  async #body(values: ReadonlyMap<string, string>): Promise<string> {
    if (values.get("transfer-encoding") !== "chunked") {
      const length = values.get("content-length");
      if (length === undefined) throw new Error(`No framing from ${this.#peer.name}`);
      return await this.#exactly(Number(length));
    }
    let body = "";
    for (;;) {
      const size = parseInt(await this.#upTo("\r\n"), 16);
      body += await this.#exactly(size);
      await this.#upTo("\r\n");
      if (size === 0) return body;
    }
  }
}

/** A text without what is random in it: the boundary of a form. */
export function withoutBoundary(text: string): string {
  return text.replaceAll(
    /-{4,}(?:WebKit|geckoformboundary|)\w*(?:Boundary)?[\da-f]{16,}/gi,
    "BOUNDARY",
  );
}
