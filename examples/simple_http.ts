/**
 * The httpd API in one server: fields, queries, bodies in pieces, routes that come and go, an error
 * handler, a password, and events (ESP-IDF's `http_server/simple`).
 *
 *     deno run -A examples/simple_http.ts
 *     bun examples/simple_http.ts
 *
 * Then, for example: `curl -k 'https://localhost:8443/hello?query1=a%20b' -H 'Test-Header-1: x'`.
 * `BASIC_AUTH=user:password` adds the route /basic_auth. examples/run.ts describes `PORT` and
 * `CERTS`.
 */
import { Buffer } from "node:buffer";
import { createHash, timingSafeEqual } from "node:crypto";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { type HttpdRequest, HttpsServer, type HttpsServerOptions, type Route } from "../mod.ts";
import { run } from "./run.ts";

/** The settings of this example besides the server's options. */
export interface SimpleOptions {
  /** `user:password` for /basic_auth. Default: there is no such route. */
  readonly basicAuth?: string | undefined;
  /** Takes what the handlers have to say. Default: `console.log`. */
  readonly log?: (line: string) => void;
}

/** Makes the server; the least recently used connection goes when there are more than seven. */
export function createServer(
  options: HttpsServerOptions,
  { basicAuth, log = console.log }: SimpleOptions = {},
): HttpsServer {
  const server = new HttpsServer({ ...options, limits: { maxConnections: 7, ...options.limits } });
  const hello: Route = {
    uri: "/hello",
    method: "GET",
    context: "Hello World!",
    handler: (request) => sendHello(request, log),
  };
  const echo: Route = { uri: "/echo", method: "POST", handler: sendEcho };

  let registered = true;
  async function control(request: HttpdRequest): Promise<void> {
    const [first] = await request.recv(1) ?? [];
    if (first === undefined) return request.sendError(400, "Send 0 or 1");
    const wanted = first !== "0".charCodeAt(0);
    if (wanted !== registered) {
      if (wanted) server.route(hello).route(echo).onError(404, null);
      else server.unroute("/hello").unroute("/echo").onError(404, tellUnavailable);
      registered = wanted;
    }
    request.send();
  }

  server.route(hello).route(echo)
    .route({ uri: "/ctrl", method: "PUT", handler: control })
    .route({ uri: "/any", method: "ANY", handler: (request) => request.send("Hello World!") })
    .route({ uri: "/sse", method: "GET", handler: sendUptime });
  if (basicAuth !== undefined) {
    const handler = (request: HttpdRequest) => checkPassword(request, basicAuth);
    server.route({ uri: "/basic_auth", method: "GET", handler });
  }
  return server;
}

function sendHello(request: HttpdRequest, log: (line: string) => void): void {
  for (const name of ["Host", "Test-Header-1", "Test-Header-2"]) {
    const value = request.get(name);
    if (value !== undefined) log(`${name}: ${value}`);
  }
  if (request.rawQuery !== "") log(`Query as sent: ${request.rawQuery}`);
  for (const name of ["query1", "query3", "query2"]) {
    const value = request.query.get(name);
    if (value !== null) log(`Query parameter ${name}: ${value}`);
  }
  request.header("Custom-Header-1", "Custom-Value-1")
    .header("Custom-Header-2", "Custom-Value-2")
    .send(request.routeContext as string);
  log(`After the response, Host is still ${request.get("Host")}`);
}

/** Sends each piece of the body back as it comes: a body of any length passes through. */
async function sendEcho(request: HttpdRequest): Promise<void> {
  for (let piece = await request.recv(100); piece; piece = await request.recv(100)) {
    await request.sendChunk(piece);
  }
  request.end();
}

/** After /hello the connection can go on; after anything else it is closed. */
function tellUnavailable(_error: Error, request: HttpdRequest | undefined): void {
  if (request === undefined) return; // what has no request gets the standard answer
  if (request.path === "/hello") return request.sendError(404, "/hello URI is not available");
  request.header("Connection", "close").sendError(
    404,
    request.path === "/echo" ? "/echo URI is not available" : "Nothing is here now",
  );
}

/** The password as RFC 7617 has it. */
function checkPassword(request: HttpdRequest, basicAuth: string): void {
  const expected = `Basic ${Buffer.from(basicAuth).toString("base64")}`;
  if (!equalInConstantTime(request.get("Authorization") ?? "", expected)) {
    request.header("WWW-Authenticate", 'Basic realm="Hello"').sendError(401);
    return;
  }
  request.sendJson({ authenticated: true, user: basicAuth.slice(0, basicAuth.indexOf(":")) });
}

/** Takes the same time wherever the texts differ. */
function equalInConstantTime(a: string, b: string): boolean {
  const [left, right] = [a, b].map((text) => createHash("sha256").update(text).digest());
  return timingSafeEqual(left!, right!);
}

/** Server-sent events by hand; examples/sse.ts has the helper for them. */
async function sendUptime(request: HttpdRequest): Promise<void> {
  request.type("text/event-stream").header("Cache-Control", "no-cache");
  while (!request.signal.aborted) {
    await request.sendChunk(`data: Time since boot: ${Math.floor(process.uptime())} seconds\n\n`);
    await delay(1000);
  }
  request.end();
}

if (import.meta.main) {
  await run((options) => createServer(options, { basicAuth: process.env["BASIC_AUTH"] }));
}
