/**
 * WebSockets that are kept alive, greeted and looked at (ESP-IDF's `https_server/wss_server`):
 * `/ws` is the original's, whose handler answers every frame itself; `/` is a page where browsers
 * see each other's ping-pong and write to all.
 *
 *     deno run -A examples/wss_server.ts
 *     bun examples/wss_server.ts
 *
 * Then open https://localhost:8443/ in some windows. examples/run.ts describes `PORT` and `CERTS`.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { Opcode, type ServerWebSocket, type WebSocketFrame } from "../lib/websocket/mod.ts";
import { run } from "./run.ts";

/** The settings of this example besides the server's options; times are in ms. */
export interface WssOptions {
  /** From the last sign of life of a client to its next Ping. Default: 5,000, as the original. */
  readonly pingPeriodMs?: number;
  /** How long a client may give no sign of life. Default: 10,000, as the original. */
  readonly notAliveMs?: number;
  /** From one "Hello client" to the next. Default: 10,000, as the original. */
  readonly helloMs?: number;
  /** From one Ping of the page to the next. Default: 2,000. */
  readonly pulseMs?: number;
  /** Takes what the server has to say. Default: `console.log`. */
  readonly log?: (line: string) => void;
}

const PAGE = readFileSync(new URL("wss_chat.html", import.meta.url), "utf8");

/** The longest message that the page's clients may send to all, in characters. */
const MAX_TEXT = 500;

/** Makes the server. */
export function createServer(
  options: HttpsServerOptions,
  {
    pingPeriodMs = 5_000,
    notAliveMs = 10_000,
    helloMs = 10_000,
    pulseMs = 2_000,
    log = console.log,
  }: WssOptions = {},
): HttpsServer {
  let members = 0;
  const server = new HttpsServer(options)
    .route({ uri: "/", method: "GET", handler: () => page() })
    .route({
      uri: "/ws",
      websocket: { pingPeriodMs, notAliveMs, manualControlFrames: true, onFrame: answerFrame },
    })
    .route({
      uri: "/chat",
      websocket: {
        pingPeriodMs,
        notAliveMs,
        limits: { maxPayloadBytes: 4 * MAX_TEXT },
        onUpgrade: ({ headers }) => isOwnPage(headers) ? undefined : forbidden(),
        onOpen: (ws) => join(server, ws, ++members),
        onMessage: (ws, text) => say(server, ws, text),
        onPong: (ws) => tellPulse(server, ws),
        onClose: (ws) => void server.publish(CHAT, event({ type: "left", id: memberOf(ws).id })),
      },
    });

  server.addEventListener("connected", ({ session }) => log(`New client connected ${session.id}`));
  server.addEventListener("disconnected", ({ session, error }) => {
    if (error?.code === "CONNECTION_TIMEOUT") log(`Client not alive, closing ${session.id}`);
    log(`Client disconnected ${session.id}`);
  });

  server.addEventListener("start", () => {
    const greeting = setInterval(() => {
      server.broadcast("Hello client", ({ topics }) => !topics.has(CHAT));
      server.publish(CHAT, event({ type: "hello" }));
    }, helloMs);
    const pulse = setInterval(() => {
      for (const ws of server.websockets) if (ws.topics.has(CHAT)) ping(ws);
    }, pulseMs);
    server.addEventListener("stop", () => {
      clearInterval(greeting);
      clearInterval(pulse);
    }, { once: true });
  });
  return server;
}

/** The original's handler: what comes goes back, and control frames are answered by hand. */
async function answerFrame(ws: ServerWebSocket, frame: WebSocketFrame): Promise<void> {
  const { opcode, final, payload } = frame; // long frames come in pieces, which go as fragments
  switch (opcode) {
    case Opcode.Text:
    case Opcode.Binary:
    case Opcode.Continuation:
      return await ws.sendFrame({ opcode, final, payload });
    case Opcode.Ping:
      return await ws.sendFrame({ opcode: Opcode.Pong, payload });
    case Opcode.Close:
      return ws.close();
  }
}

/** The topic of all clients that have the page open. */
const CHAT = "chat";

/** What the page's sockets keep. */
interface Member {
  /** Its number: over HTTP/2 the sockets of one browser share a session. */
  readonly id: number;
  /** When the last Ping left, on the `performance.now()` clock. */
  pingedAt: number;
}

/** Something that happened, as the page understands it. */
type ChatEvent =
  | { type: "welcome"; id: number; ids: number[] }
  | { type: "joined" | "left"; id: number }
  | { type: "pong"; id: number; ms: number }
  | { type: "say"; id: number; text: string }
  | { type: "hello" };

function event(of: ChatEvent): string {
  return JSON.stringify(of);
}

function memberOf(ws: ServerWebSocket): Member {
  return ws.context as Member;
}

async function join(server: HttpsServer, ws: ServerWebSocket, id: number): Promise<void> {
  ws.context = { id, pingedAt: 0 } satisfies Member;
  server.publish(CHAT, event({ type: "joined", id }));
  ws.subscribe(CHAT);
  const members = [...server.websockets].filter(({ topics }) => topics.has(CHAT));
  await ws.send(event({ type: "welcome", id, ids: members.map((member) => memberOf(member).id) }));
  ping(ws);
}

function say(server: HttpsServer, ws: ServerWebSocket, message: string | Uint8Array): void {
  if (typeof message !== "string" || message.length > MAX_TEXT) return ws.close(1003, "Text only");
  server.publish(CHAT, event({ type: "say", id: memberOf(ws).id, text: message }));
}

function ping(ws: ServerWebSocket): void {
  memberOf(ws).pingedAt = performance.now();
  void ws.ping();
}

function tellPulse(server: HttpsServer, ws: ServerWebSocket): void {
  const { id, pingedAt } = memberOf(ws);
  const ms = Math.round((performance.now() - pingedAt) * 100) / 100;
  server.publish(CHAT, event({ type: "pong", id, ms }));
}

/** Browsers let any page open a WebSocket to anywhere, and name the page in Origin. */
function isOwnPage(headers: Headers): boolean {
  const origin = headers.get("origin");
  return origin === null || URL.parse(origin)?.host === headers.get("host");
}

function forbidden(): Response {
  return new Response("This WebSocket is for this server's own page\n", { status: 403 });
}

function page(): Response {
  return new Response(PAGE, {
    headers: {
      "cache-control": "no-store",
      "content-security-policy": CONTENT_SECURITY_POLICY,
      "content-type": "text/html; charset=utf-8",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
    },
  });
}

/** The page may use its own style and script, and talk to this server. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  `style-src ${hashOf("style")}`,
  `script-src ${hashOf("script")}`,
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** The hash of the page's one element of this name. */
function hashOf(element: string): string {
  const text = new RegExp(`<${element}>(.*?)</${element}>`, "s").exec(PAGE)?.[1] ?? "";
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

if (import.meta.main) await run((options) => createServer(options));
