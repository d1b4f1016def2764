/**
 * One server that requests are passed on to, by `node:http`: bytes as they are (no body is decoded),
 * with a deadline for each thing that is waited for.
 *
 * @module
 */
import http, { type ClientRequest, type IncomingMessage } from "node:http";
import https from "node:https";
import type { Socket } from "node:net";
import { HttpError, HttpsdError } from "../errors.ts";
import { sendBody, type SentBody } from "./bodies.ts";
import { Deadline } from "./deadline.ts";
import type { ProxyConfig } from "./options.ts";

/** A request for the upstream. */
export interface UpstreamRequest extends SentBody {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly fields: Headers;
  /** Aborted when the client has left. */
  readonly signal: AbortSignal;
}

/** What the upstream answered. */
export interface UpstreamAnswer {
  readonly request: ClientRequest;
  readonly message: IncomingMessage;
  /** The connection, after a 101. */
  readonly tunnel: { readonly socket: Socket; readonly head: Uint8Array } | undefined;
}

/** Methods that may be sent again when a connection was closed before an answer came (RFC 9110 section 9.2.2). */
const IDEMPOTENT = new Set(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]);

/** Methods whose requests need not say that they have no body (RFC 9110 section 8.6). */
const BODY_UNUSUAL = new Set(["GET", "HEAD", "DELETE", "OPTIONS", "TRACE"]);

/** How many unused connections are kept. */
const MAX_FREE_CONNECTIONS = 64;

/** The connections to one upstream. */
export class Upstream {
  readonly #target: URL;
  readonly #config: ProxyConfig;
  readonly #agent: http.Agent;
  readonly #send: typeof http.request;

  constructor(target: URL, config: ProxyConfig) {
    const { limits, timeouts, tls } = config;
    const isSecure = target.protocol === "https:";
    this.#target = target;
    this.#config = config;
    this.#send = isSecure ? https.request : http.request;
    this.#agent = new (isSecure ? https.Agent : http.Agent)({
      keepAlive: true,
      maxSockets: limits.maxConnections,
      maxFreeSockets: MAX_FREE_CONNECTIONS,
      ...tls as https.AgentOptions,
    });
    this.#agent.on("free", (socket: Socket) => socket.setTimeout(timeouts.keepAliveMs));
  }

  /**
   * Sends a request and resolves with the head of the answer. A connection that had been kept, and
   * that the upstream closes just then, costs one more try.
   *
   * @throws {HttpError} 502 `UPSTREAM_FAILED`, 504 `UPSTREAM_TIMEOUT`
   * @throws {StateError} `BODY_USED` when something else has read the body
   * @throws the signal's reason
   */
  async request(request: UpstreamRequest): Promise<UpstreamAnswer> {
    const first = new Attempt(this.#target, this.#config, request);
    try {
      return await first.run(this.#send, this.#agent);
    } catch (error) {
      const mayBeStale = first.isReused && request.body === null &&
        IDEMPOTENT.has(request.method) && error instanceof HttpError && error.status === 502;
      if (!mayBeStale || request.signal.aborted) throw error;
    }
    return await new Attempt(this.#target, this.#config, request).run(this.#send, false);
  }
}

/** One request on one connection, until the head of its answer is there. */
class Attempt {
  readonly #target: URL;
  readonly #config: ProxyConfig;
  readonly #request: UpstreamRequest;
  readonly #answer = Promise.withResolvers<UpstreamAnswer>();
  #isReused = false;

  constructor(target: URL, config: ProxyConfig, request: UpstreamRequest) {
    this.#target = target;
    this.#config = config;
    this.#request = request;
  }

  /** Whether the connection had carried another request before. */
  get isReused(): boolean {
    return this.#isReused;
  }

  async run(send: typeof http.request, agent: http.Agent | false): Promise<UpstreamAnswer> {
    const { signal } = this.#request;
    signal.throwIfAborted();
    const client = this.#open(send, agent);
    const connecting = new Deadline(() => client.destroy(timedOut("accept the connection")));
    const answering = new Deadline(() => client.destroy(timedOut("answer")));
    const abort = () => client.destroy(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    this.#listen(client, connecting);
    answering.set(this.#config.timeouts.responseMs);
    const sent = sendBody(this.#request, client, answering);
    sent.catch((error) => client.destroy(error)); // the client of this server has left
    try {
      return await this.#answer.promise;
    } catch (error) {
      signal.throwIfAborted();
      throw error instanceof HttpsdError ? error : failed(error);
    } finally {
      connecting.clear();
      answering.clear();
      signal.removeEventListener("abort", abort);
    }
  }

  #open(send: typeof http.request, agent: http.Agent | false): ClientRequest {
    const { method, path, fields, length, body } = this.#request;
    const headers = [...fields].flat();
    if (length !== undefined) headers.push("content-length", length);
    else if (body !== null) headers.push("transfer-encoding", "chunked");
    else if (!BODY_UNUSUAL.has(method)) headers.push("content-length", "0");
    const { protocol, hostname, port } = this.#target;
    const { tls } = this.#config;
    const host = hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
    const options = { protocol, host, method, path, headers, agent, ...(port !== "" && { port }) };
    return send({ ...options, ...tls as https.RequestOptions });
  }

  /** Waits for the connection, then for the answer; settles once. */
  #listen(client: ClientRequest, connecting: Deadline): void {
    const { resolve, reject } = this.#answer;
    client.on("socket", (socket: Socket) => {
      this.#isReused = client.reusedSocket;
      // Deno would send it again when the connection ends, also a POST, and one that was destroyed
      // here for its deadline or as the client has left (denoland/deno#36786).
      client.reusedSocket = false;
      if (!socket.connecting) return;
      connecting.set(this.#config.timeouts.connectMs);
      const ready = this.#target.protocol === "https:" ? "secureConnect" : "connect";
      socket.once(ready, () => connecting.clear());
    });
    client.on("response", (message) => {
      // What is left of the upload then has no reader, and nothing would end the wait for one.
      message.on("end", () => client.writableFinished || client.destroy());
      resolve({ request: client, message, tunnel: undefined });
    });
    client.on("upgrade", (message, socket, head) => {
      resolve({ request: client, message, tunnel: { socket: socket as Socket, head } });
    });
    client.on("error", reject); // later ones are reported by the message, too
    client.on("close", () => reject(new Error("The upstream closed the connection")));
  }
}

function timedOut(what: string): HttpError {
  return new HttpError(504, "UPSTREAM_TIMEOUT", `The upstream took too long to ${what}`);
}

/** The error of an upstream that cannot be spoken with. */
export function failed(cause: unknown): HttpError {
  return new HttpError(502, "UPSTREAM_FAILED", "The upstream gave no usable answer", { cause });
}
