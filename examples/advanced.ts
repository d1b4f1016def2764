/**
 * The server that ESP-IDF tests itself with (`http_server/advanced_tests`): content types, statuses,
 * fields, bodies read in whole and in part, sums kept in the session, and an answer from the work
 * queue.
 *
 *     deno run -A examples/advanced.ts
 *     bun examples/advanced.ts
 *
 * Then, for example: `curl -k https://localhost:1234/hello`. examples/run.ts describes `PORT` and
 * `CERTS`.
 */
import { Buffer } from "node:buffer";
import { type HttpdRequest, HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { run } from "./run.ts";

/** Makes the server; a connection beyond the cap waits until another one is closed. */
export function createServer(options: HttpsServerOptions): HttpsServer {
  return new HttpsServer({
    http2: false, // sendTwice() writes past HTTP/1.1's framing
    ...options,
    limits: {
      maxConnections: 7,
      lruPurge: false,
      maxBodyBytes: 1024 * 1024, // /echo holds a body in memory
      ...options.limits,
    },
  })
    .route({
      uri: "/hello/type_html",
      method: "GET",
      handler: (request) => request.type("text/html").send(HELLO),
    })
    .route({ uri: "/test_header", method: "GET", handler: sendSecondHeader })
    .route({ uri: "/hello", method: "GET", handler: (request) => request.send(HELLO) })
    .route({
      uri: "/hello/status_500",
      method: "GET",
      handler: (request) => request.status(500).send(HELLO),
    })
    .route({ uri: "/echo", method: "POST", handler: sendEcho })
    .route({ uri: "/echo", method: "PUT", handler: sendEcho })
    .route({ uri: "/leftover_data", method: "POST", handler: sendFirstBytes })
    .route({ uri: "/adder", method: "POST", handler: sendSum })
    .route({ uri: "/async_data", method: "GET", handler: sendTwice });
}

const HELLO = "Hello World!";

function sendSecondHeader(request: HttpdRequest): void {
  if (request.get("Header1") !== "Value1" || request.get("Header3") !== "Value3") {
    return request.sendError(400, "Send Header1: Value1 and Header3: Value3");
  }
  request.send(request.get("Header2"));
}

/** The body comes back whole, and the field `Custom` with it. */
async function sendEcho(request: HttpdRequest): Promise<void> {
  const body = await new Response(request.body).bytes();
  const custom = request.get("Custom");
  if (custom !== undefined) request.header("Custom", custom);
  request.send(body);
}

/** Reads ten bytes; the server gets rid of the rest. */
async function sendFirstBytes(request: HttpdRequest): Promise<void> {
  const pieces: Uint8Array[] = [];
  let missing = 10;
  while (missing > 0) {
    const piece = await request.recv(missing); // which may be shorter
    if (piece === undefined) break;
    pieces.push(piece);
    missing -= piece.length;
  }
  request.send(Buffer.concat(pieces));
}

/** The sum of all numbers that came on this connection. */
async function sendSum(request: HttpdRequest): Promise<void> {
  const text = await new Response(request.body).text();
  if (!/^-?\d{1,9}$/.test(text)) return request.sendError(400, "Send a whole number");
  const { session } = request;
  session.context = ((session.context as number | undefined) ?? 0) + Number(text);
  request.send(String(session.context));
}

/**
 * Answers, and has the work queue write a second response past HTTP's framing: the test's client
 * reads both. Others take it for the answer to their next request, so never do this in earnest.
 */
function sendTwice(request: HttpdRequest): void {
  const { server, session } = request;
  request.send(HELLO);
  void server.queueWork(() => {
    const body = "Hello Double World!";
    const head = `HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: ${body.length}`;
    session.send(Buffer.from(`${head}\r\n\r\n${body}`));
  });
}

if (import.meta.main) await run(createServer, { port: 1234 });
