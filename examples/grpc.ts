/**
 * gRPC without a library: a message is five bytes and itself, and how a call ended is in the
 * trailers. What a program would generate from a `.proto` is left out: the messages here are texts.
 *
 *     deno run -A examples/grpc.ts
 *     bun examples/grpc.ts
 *
 * tests/grpc_test.ts has a client. examples/run.ts describes `PORT` and `CERTS`.
 */
import { Buffer } from "node:buffer";
import {
  type HttpdRequest,
  HttpsServer,
  type HttpsServerOptions,
  type RouteHandler,
} from "../mod.ts";
import { run } from "./run.ts";

/** Statuses of gRPC, the ones that are needed here. */
export const Status = {
  OK: 0,
  INVALID_ARGUMENT: 3,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
} as const;

/** What a call throws to end with another status than OK. */
export class GrpcError extends Error {
  /** One of {@linkcode Status}. */
  readonly status: number;

  /** Makes an error whose message the client gets. */
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** A call of any kind: messages in, messages out; `signal` is aborted when the client cancels. */
export type Call = (
  messages: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
) => AsyncIterable<string | Uint8Array>;

/** The longest message that is taken, in bytes. */
const MAX_MESSAGE_BYTES = 4 * 1024 * 1024;
const HEAD_BYTES = 5;

/** Makes a route's handler of a call. */
export function grpc(call: Call): RouteHandler {
  return async (request) => {
    request.type("application/grpc");
    try {
      for await (const message of call(messagesOf(request), request.signal)) {
        await request.sendChunk(framed(message));
      }
      request.end([["grpc-status", String(Status.OK)]]);
    } catch (error) {
      if (request.signal.aborted) return; // the client has cancelled
      if (!(error instanceof GrpcError)) console.error(error);
      fail(request, error instanceof GrpcError ? error : new GrpcError(Status.INTERNAL, "Failed"));
    }
  };
}

/** Ends a call with a status: in the trailers, or, when nothing was sent yet, in the head. */
function fail(request: HttpdRequest, { status, message }: GrpcError): void {
  const fields: [name: string, value: string][] = [
    ["grpc-status", String(status)],
    ["grpc-message", encodeURI(message)],
  ];
  if (request.sent) return request.end(fields);
  for (const [name, value] of fields) request.header(name, value);
  request.send();
}

async function* messagesOf(request: HttpdRequest): AsyncGenerator<Uint8Array> {
  for (let head; (head = await take(request, HEAD_BYTES)) !== undefined;) {
    if (head[0] !== 0) throw new GrpcError(Status.UNIMPLEMENTED, "Compression is not supported");
    const length = Buffer.from(head).readUInt32BE(1);
    if (length > MAX_MESSAGE_BYTES) {
      throw new GrpcError(Status.RESOURCE_EXHAUSTED, `More than ${MAX_MESSAGE_BYTES} bytes`);
    }
    const message = await take(request, length);
    if (message === undefined) throw new GrpcError(Status.INTERNAL, "A message has no end");
    yield message;
  }
}

/** Takes so many bytes of the body; `undefined` where it ends before them. */
async function take(request: HttpdRequest, length: number): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const piece = await request.recv(length - at);
    if (piece === undefined) return undefined;
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

function framed(message: string | Uint8Array): Uint8Array {
  const bytes = Buffer.from(message);
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** One message in, one out. */
async function* greet(messages: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  for await (const name of messages) {
    if (name.length === 0) throw new GrpcError(Status.INVALID_ARGUMENT, "Who are you?");
    yield `Hello ${Buffer.from(name)}`;
  }
}

/** Answers each message as it comes. */
async function* chat(messages: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let count = 0;
  for await (const message of messages) yield `${++count}: ${Buffer.from(message)}`;
}

function unimplemented(): Response {
  return new Response(null, {
    headers: { "Content-Type": "application/grpc", "grpc-status": String(Status.UNIMPLEMENTED) },
  });
}

/** Makes the server. */
export function createServer(options: HttpsServerOptions): HttpsServer {
  const server = new HttpsServer({
    http1: false,
    ...options,
    // A call may be quiet for long, and have any number of messages.
    limits: { minBodyBytesPerSecond: 0, maxBodyBytes: Infinity, ...options.limits },
    timeouts: { receiveMs: 3_600_000, requestMs: Infinity, ...options.timeouts },
  }, unimplemented);
  server.route({ uri: "/httpsd.Greeter/Greet", method: "POST", handler: grpc(greet) });
  server.route({ uri: "/httpsd.Greeter/Chat", method: "POST", handler: grpc(chat) });
  return server;
}

if (import.meta.main) await run(createServer);
