/**
 * What the tests of WebSockets on real sockets share: servers with a route, and a client that sends
 * any bytes it likes and reads frames as they are on the wire.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { Clock } from "../lib/net/clock.ts";
import type { CloseInfo, ServerWebSocket, WebSocketOptions } from "../lib/websocket/mod.ts";
import { type Mode, RawClient, type Started, started } from "./http_support.ts";
import { connect, connectTcp } from "./support.ts";
import { type ClientFrame, clientFrame } from "./websocket_cases.ts";

/** A frame from the server. */
export interface ServerFrame {
  op: number;
  fin: boolean;
  rsv: number;
  payload: Buffer;
}

/** The fields of a valid opening handshake, besides Host. */
export const HANDSHAKE = {
  "Upgrade": "websocket",
  "Connection": "Upgrade",
  "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
  "Sec-WebSocket-Version": "13",
};

/** The bytes of an opening handshake; `undefined` leaves a field out. */
export function handshake(
  path: string,
  fields: Record<string, string | undefined> = {},
  line = `GET ${path} HTTP/1.1`,
): Buffer {
  const all: Record<string, string | undefined> = { Host: "a", ...HANDSHAKE, ...fields };
  let head = `${line}\r\n`;
  for (const [name, value] of Object.entries(all)) {
    if (value !== undefined) head += `${name}: ${value}\r\n`;
  }
  return Buffer.from(`${head}\r\n`, "latin1");
}

/** A client whose handshake was answered with 101. */
export class FrameClient {
  readonly socket: Socket;
  /** The head of the 101 answer. */
  head = "";
  /** Whether the server has ended its side. */
  ended = false;
  /** How many frames have come. */
  received = 0;
  #input: Buffer = Buffer.alloc(0);
  #frames: ServerFrame[] = [];
  #wake: () => void = () => {};

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (bytes: Buffer) => this.#take(bytes));
    for (const event of ["end", "close"]) {
      socket.on(event, () => {
        this.ended = true;
        this.#wake();
      });
    }
    socket.on("error", () => {}); // tests look at what arrived
  }

  /** Connects and shakes hands; `rest` goes in the handshake's segment. */
  static async open(
    port: number,
    { mode = "plain", path = "/ws", fields = {}, rest = [], bytewise = false }: {
      mode?: Mode;
      path?: string;
      fields?: Record<string, string>;
      rest?: ClientFrame[];
      bytewise?: boolean;
    } = {},
  ): Promise<FrameClient> {
    const socket = mode === "tls" ? await connect({ mode, port }) : await connectTcp(port);
    const client = new FrameClient(socket);
    const bytes = Buffer.concat([handshake(path, fields), ...rest.map(clientFrame)]);
    if (bytewise) await client.trickle(bytes);
    else socket.write(bytes);
    await client.#until(() => client.head !== "");
    if (!client.head.startsWith("HTTP/1.1 101 ")) throw new Error(client.head);
    return client;
  }

  /** Sends frames in one write. */
  send(...frames: (ClientFrame | Uint8Array)[]): void {
    this.socket.write(
      Buffer.concat(frames.map((f) => f instanceof Uint8Array ? f : clientFrame(f))),
    );
  }

  /** Sends bytes one by one, each in a segment of its own. */
  async trickle(bytes: Uint8Array): Promise<void> {
    for (const byte of bytes) {
      this.socket.write(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** The next frame; `undefined` at the end. */
  async next(): Promise<ServerFrame | undefined> {
    await this.#until(() => this.#frames.length > 0);
    return this.#frames.shift();
  }

  /** The next frame as opcode and text; `"end"` at the end. */
  async text(): Promise<string> {
    const frame = await this.next();
    return frame === undefined ? "end" : `${frame.op} ${frame.payload.toString("utf8")}`;
  }

  /** The next frame, which has to be a Close frame, as code and reason. */
  async close(): Promise<[code: number | undefined, reason: string]> {
    const frame = await this.next();
    if (frame?.op !== 8) throw new Error(`No Close frame: ${JSON.stringify(frame)}`);
    if (frame.payload.length === 0) return [undefined, ""];
    return [frame.payload.readUInt16BE(0), frame.payload.toString("utf8", 2)];
  }

  /** Waits for the server's end; throws when a frame comes before. */
  async end(): Promise<void> {
    const frame = await this.next();
    if (frame !== undefined) throw new Error(`No end: ${JSON.stringify(frame)}`);
  }

  async #until(done: () => boolean): Promise<void> {
    while (!done() && !this.ended) await new Promise<void>((resolve) => this.#wake = resolve);
  }

  #take(bytes: Buffer): void {
    this.#input = Buffer.concat([this.#input, bytes]);
    if (this.head === "") this.#takeHead();
    if (this.head !== "") { while (this.#takeFrame()); }
    this.#wake();
  }

  #takeHead(): void {
    const end = this.#input.indexOf("\r\n\r\n");
    if (end < 0) return;
    this.head = this.#input.toString("latin1", 0, end + 2);
    this.#input = this.#input.subarray(end + 4);
  }

  #takeFrame(): boolean {
    const input = this.#input;
    if (input.length < 2) return false;
    if (input[1]! >= 0x80) throw new Error("The server masks");
    let length = input[1]!;
    let start = 2;
    if (length === 126) {
      if (input.length < 4) return false;
      length = input.readUInt16BE(2);
      start = 4;
    } else if (length === 127) {
      if (input.length < 10) return false;
      length = Number(input.readBigUInt64BE(2));
      start = 10;
    }
    if (input.length < start + length) return false;
    const first = input[0]!;
    this.#frames.push({
      op: first & 0x0f,
      fin: first >= 0x80,
      rsv: first >> 4 & 7,
      payload: input.subarray(start, start + length),
    });
    this.received++;
    this.#input = input.subarray(start + length);
    return true;
  }
}

/** Sends a handshake that is not accepted; gives the whole answer. */
export async function refusedHandshake(port: number, bytes: Uint8Array): Promise<string> {
  const client = await RawClient.connect(port);
  client.send(bytes);
  await client.expect(/\r\n\r\n/);
  client.end();
  return await client.rest();
}

/** A server with one WebSocket route at `/ws`, and what became of its sockets. */
export async function withRoute(
  websocket: WebSocketOptions,
  options: HttpsServerOptions = {},
  mode: Mode = "plain",
  clock?: Clock,
): Promise<Started & { closes: CloseInfo[]; sockets: ServerWebSocket[] }> {
  const host = await started(undefined, options, mode, clock);
  const closes: CloseInfo[] = [];
  const sockets: ServerWebSocket[] = [];
  host.server.route({
    uri: "/ws",
    websocket: {
      ...websocket,
      onOpen(ws, request) {
        sockets.push(ws);
        return websocket.onOpen?.(ws, request);
      },
      onClose(ws, info) {
        closes.push(info);
        return websocket.onClose?.(ws, info);
      },
    },
  });
  return { ...host, closes, sockets };
}

/** Sends back what comes. */
export const echo: WebSocketOptions = { onMessage: (ws, message) => ws.send(message) };

/** The payload of a Close frame in hex. */
export function closePayload(code: number, reason = ""): string {
  return code.toString(16).padStart(4, "0") + Buffer.from(reason).toString("hex");
}

/** A Close frame of the ordinary kind. */
export const CLOSE: ClientFrame = { op: 8, hex: closePayload(1000) };
