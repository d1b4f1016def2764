/**
 * WebSocket frames as they come: echoed, taken in parts, sent from elsewhere, and behind a token
 * (ESP-IDF's `http_server/ws_echo_server`).
 *
 *     deno run -A examples/ws_echo_server.ts
 *     bun examples/ws_echo_server.ts
 *
 * Then connect a WebSocket client to wss://localhost:8443/ws. `/ws` echoes each frame, but answers
 * "Trigger async" with "Async data" and "Ping" with a Ping; `/ws_partial` echoes what it reads in
 * parts of 64 bytes as fragments; `/auth?token=valid` lets in, and says welcome. examples/run.ts
 * describes `PORT` and `CERTS`.
 */
import { HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { Opcode, type ServerWebSocket, type WebSocketFrame } from "../lib/websocket/mod.ts";
import { run } from "./run.ts";

/** The settings of this example besides the server's options. */
export interface EchoOptions {
  /** Takes what the handlers have to say. Default: `console.log`. */
  readonly log?: (line: string) => void;
}

/** Makes the server. */
export function createServer(
  options: HttpsServerOptions,
  { log = console.log }: EchoOptions = {},
): HttpsServer {
  const server = new HttpsServer(options);

  async function echoFrame(ws: ServerWebSocket, frame: WebSocketFrame): Promise<void> {
    const { opcode, final, payload } = frame;
    const text = opcode === Opcode.Text && final ? new TextDecoder().decode(payload) : undefined;
    log(`Session ${ws.session.id}: opcode ${opcode}, ${payload.length} bytes`);
    if (text === "Trigger async") {
      await server.queueWork(() => ws.send("Async data"));
    } else if (text === "Ping") {
      await server.queueWork(() => ws.ping("Ping"));
    } else if (opcode !== Opcode.Close) {
      await ws.sendFrame({ opcode, final, payload });
    }
  }

  return server
    .route({
      uri: "/ws",
      websocket: {
        maxPieceBytes: Infinity, // frames come whole; maxPayloadBytes is their limit
        onOpen: (ws) => log(`Session ${ws.session.id}: handshake done`),
        onFrame: echoFrame,
      },
    })
    .route({
      uri: "/ws_partial",
      websocket: { maxPieceBytes: 64, onFrame: echoPiece },
    })
    .route({
      uri: "/auth",
      websocket: {
        onUpgrade: ({ query }) =>
          query.get("token") === "valid" ? undefined : new Response("Bad token", { status: 401 }),
        onOpen: (ws) => ws.send("Welcome to the WebSocket Echo Server (post-handshake)!"),
        onMessage: (ws, message) => ws.send(message),
      },
    });
}

/** Sends a piece of a frame as a fragment. */
async function echoPiece(ws: ServerWebSocket, frame: WebSocketFrame): Promise<void> {
  const { opcode, final, payload } = frame;
  if (opcode !== Opcode.Close) await ws.sendFrame({ opcode, final, payload });
}

if (import.meta.main) await run((options) => createServer(options));
