/**
 * A client of HTTP/2 for tests, with nothing of the server's own code: it sends any bytes it is
 * asked to, in the order it is asked to, and keeps every frame that comes. Frames are waited for
 * with a deadline; answers are put together per stream.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import { setImmediate } from "node:timers/promises";
import type { ConnectionOptions, TLSSocket } from "node:tls";
import { Decoder, encode, type Field } from "./http2_hpack.ts";
import { PATIENCE_MS } from "./runtime.ts";
import { connect, connectTcp, type Mode } from "./support.ts";

/** Frame types (RFC 9113 section 6, RFC 9218 section 7.1). */
export const Type = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
  PRIORITY_UPDATE: 16,
} as const;

/** Frame flags. */
export const Flag = {
  NONE: 0,
  ACK: 1,
  END_STREAM: 1,
  END_HEADERS: 4,
  PADDED: 8,
  PRIORITY: 32,
} as const;

/** Error codes (RFC 9113 section 7). */
export const Code = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  SETTINGS_TIMEOUT: 4,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  CANCEL: 8,
  COMPRESSION_ERROR: 9,
  CONNECT_ERROR: 10,
  ENHANCE_YOUR_CALM: 11,
  INADEQUATE_SECURITY: 12,
  HTTP_1_1_REQUIRED: 13,
} as const;

/** The name of one of them. */
export type CodeName = keyof typeof Code;

/** The name of an error code on the wire. */
export function codeName(code: number): string {
  return Object.keys(Code)[code] ?? `code ${code}`;
}

/** Settings (RFC 9113 section 6.5.2, RFC 8441, RFC 9218). */
export const Setting = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
  ENABLE_CONNECT_PROTOCOL: 8,
  NO_RFC7540_PRIORITIES: 9,
} as const;

/** The first bytes of every client (RFC 9113 section 3.4). */
export const PREFACE: Uint8Array = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** What both windows are before anything changes them. */
export const DEFAULT_WINDOW = 65_535;

/** A frame of any type, flags and stream, however wrong; `length` is what its head says. */
export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array | readonly number[] = [],
  length = payload.length,
): Uint8Array {
  const bytes = Buffer.alloc(9 + payload.length);
  bytes.writeUIntBE(length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(streamId >>> 0, 5);
  bytes.set(payload, 9);
  return bytes;
}

/** A number as bytes, the highest first. */
export function uint32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

/** Several pieces as one. */
export function join(...pieces: (Uint8Array | readonly number[])[]): Uint8Array {
  return Buffer.concat(
    pieces.map((piece) => piece instanceof Uint8Array ? piece : Uint8Array.from(piece)),
  );
}

/** What HEADERS and DATA may have beside what they carry. */
export interface FrameOptions {
  /** The last frame of this side; the default of {@linkcode headers} and {@linkcode data}: true. */
  endStream?: boolean;
  /** Whether no CONTINUATION follows; default: true. */
  endHeaders?: boolean;
  /** So many bytes of padding, and the byte that counts them. */
  padding?: number;
  /** The fields of RFC 7540's priority; `weight` as on the wire, 0 to 255. */
  priority?: { dependsOn: number; exclusive?: boolean; weight?: number };
}

/** HEADERS with the given fields or block. */
export function headers(
  streamId: number,
  fields: readonly Field[] | Uint8Array,
  { endStream = true, endHeaders = true, padding, priority }: FrameOptions = {},
): Uint8Array {
  const block = fields instanceof Uint8Array ? fields : encode(fields);
  const flags = (endStream ? Flag.END_STREAM : 0) | (endHeaders ? Flag.END_HEADERS : 0) |
    (padding !== undefined ? Flag.PADDED : 0) | (priority !== undefined ? Flag.PRIORITY : 0);
  return frame(
    Type.HEADERS,
    flags,
    streamId,
    join(
      padding === undefined ? [] : [padding],
      priority === undefined ? [] : priorityFields(priority),
      block,
      new Uint8Array(padding ?? 0),
    ),
  );
}

/** CONTINUATION with the given fields or piece of a block. */
export function continuation(
  streamId: number,
  fields: readonly Field[] | Uint8Array,
  { endHeaders = true }: FrameOptions = {},
): Uint8Array {
  const block = fields instanceof Uint8Array ? fields : encode(fields);
  return frame(Type.CONTINUATION, endHeaders ? Flag.END_HEADERS : 0, streamId, block);
}

/** DATA of a text or bytes. */
export function data(
  streamId: number,
  content: string | Uint8Array = "",
  { endStream = true, padding }: FrameOptions = {},
): Uint8Array {
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  const flags = (endStream ? Flag.END_STREAM : 0) | (padding !== undefined ? Flag.PADDED : 0);
  const payload = padding === undefined ? bytes : join([padding], bytes, new Uint8Array(padding));
  return frame(Type.DATA, flags, streamId, payload);
}

function priorityFields(
  { dependsOn, exclusive = false, weight = 15 }: NonNullable<FrameOptions["priority"]>,
): Uint8Array {
  return join(uint32(dependsOn + (exclusive ? 2 ** 31 : 0)), [weight]);
}

/** PRIORITY as RFC 7540 has it. */
export function priority(
  streamId: number,
  fields: NonNullable<FrameOptions["priority"]>,
): Uint8Array {
  return frame(Type.PRIORITY, 0, streamId, priorityFields(fields));
}

/** RST_STREAM. */
export function reset(streamId: number, code: number = Code.CANCEL): Uint8Array {
  return frame(Type.RST_STREAM, 0, streamId, uint32(code));
}

/** SETTINGS with entries in the given order. */
export function settings(...entries: (readonly [id: number, value: number])[]): Uint8Array {
  const payload = join(...entries.map(([id, value]) => join([id >> 8, id & 255], uint32(value))));
  return frame(Type.SETTINGS, 0, 0, payload);
}

/** The acknowledgement of SETTINGS. */
export function settingsAck(): Uint8Array {
  return frame(Type.SETTINGS, Flag.ACK, 0);
}

/** PING with eight bytes of text. */
export function ping(opaque = "pingping", { ack = false } = {}): Uint8Array {
  return frame(Type.PING, ack ? Flag.ACK : 0, 0, Buffer.from(opaque, "latin1"));
}

/** GOAWAY. */
export function goaway(lastStreamId = 0, code: number = Code.NO_ERROR, debug = ""): Uint8Array {
  return frame(
    Type.GOAWAY,
    0,
    0,
    join(uint32(lastStreamId), uint32(code), Buffer.from(debug, "latin1")),
  );
}

/** WINDOW_UPDATE; stream 0 is the connection. */
export function windowUpdate(streamId: number, increment: number): Uint8Array {
  return frame(Type.WINDOW_UPDATE, 0, streamId, uint32(increment));
}

/** PRIORITY_UPDATE (RFC 9218 section 7.1) for a stream, with a Priority field's value. */
export function priorityUpdate(streamId: number, value: string): Uint8Array {
  return frame(
    Type.PRIORITY_UPDATE,
    0,
    0,
    join(uint32(streamId), Buffer.from(value, "latin1")),
  );
}

/** The fields of a request; members of `fields` come behind the four pseudo-fields. */
export function requestFields(
  { method = "GET", path = "/", scheme = "http", authority = "localhost", fields = [] }: {
    method?: string;
    path?: string;
    scheme?: string;
    authority?: string;
    fields?: readonly Field[];
  } = {},
): Field[] {
  return [
    [":method", method],
    [":scheme", scheme],
    [":path", path],
    [":authority", authority],
    ...fields,
  ];
}

/** The fields of a WebSocket's opening handshake (RFC 8441 section 5). */
export function webSocketFields(
  path = "/ws",
  { scheme = "http", fields = [["sec-websocket-version", "13"]] }: {
    scheme?: string;
    fields?: readonly Field[];
  } = {},
): Field[] {
  return [
    [":method", "CONNECT"],
    [":protocol", "websocket"],
    [":scheme", scheme],
    [":path", path],
    [":authority", "localhost"],
    ...fields,
  ];
}

/** A frame that the server sent. */
export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
  /** The fields of the whole block, on the frame that ended it. */
  readonly fields?: readonly Field[];
}

/** What one frame says, in a line. */
export function describeFrame({ type, flags, streamId, payload, fields }: Frame): string {
  const name = Object.keys(Type).find((key) => Type[key as keyof typeof Type] === type) ?? type;
  const words = [`${name}[${streamId}]`];
  if (type === Type.RST_STREAM) words.push(codeName(payload.readUInt32BE()));
  if (type === Type.GOAWAY) {
    words.push(codeName(payload.readUInt32BE(4)), `last=${payload.readUInt32BE()}`);
    words.push(JSON.stringify(payload.toString("latin1", 8)));
  }
  if (type === Type.WINDOW_UPDATE) words.push(`+${payload.readUInt32BE()}`);
  if (type === Type.DATA) words.push(`${payload.length} bytes`);
  if ((type === Type.SETTINGS || type === Type.PING) && flags & Flag.ACK) words.push("ACK");
  if ((type === Type.HEADERS || type === Type.DATA) && flags & Flag.END_STREAM) words.push("END");
  if (fields !== undefined) words.push(fields[0]?.join(" ") ?? "no fields");
  return words.join(" ");
}

/** What came on one stream. */
export interface Answer {
  /** The final status; 0 while there is none. */
  status: number;
  /** The fields of the final response; several of the same name are joined with a newline. */
  fields: Record<string, string>;
  /** The responses before it (1xx). */
  informational: { status: number; fields: Record<string, string> }[];
  body: Buffer;
  trailers: Record<string, string> | undefined;
  /** Whether the server ended its side with END_STREAM. */
  ended: boolean;
  /** The code of the server's RST_STREAM. */
  reset: CodeName | number | undefined;
}

/** How a client begins and what it does by itself. */
export interface ClientOptions {
  /** What its first SETTINGS hold; `null`: it sends no preface at all. Default: no entries. */
  settings?: readonly (readonly [id: number, value: number])[] | null;
  /** Acknowledges the server's SETTINGS; default: true. */
  acknowledge?: boolean;
  /** Gives back the windows of DATA as it comes; default: true. */
  giveBack?: boolean;
  /** For TLS. */
  tls?: ConnectionOptions;
}

/** A client on a TCP or TLS socket. */
export class Http2Client implements Disposable {
  readonly socket: Socket;
  /** Every frame that has come, in order. */
  readonly frames: Frame[] = [];
  /** The server's settings by number, those of later frames over those of earlier ones. */
  readonly settings = new Map<number, number>();
  /** The decoder of what the server sends. */
  readonly decoder = new Decoder();
  /** How many bytes have come. */
  bytes = 0;
  /** Whether the server has ended its side. */
  ended = false;
  /** Whether the socket is closed. */
  closed = false;
  /** The GOAWAY that came last. */
  goaway: { lastStreamId: number; code: CodeName | number; debug: string } | undefined;
  /** Is called with each frame as it comes. */
  onFrame: ((frame: Frame) => void) | undefined;
  /** What the server sent that no server may send. */
  fault: Error | undefined;
  /** Acknowledges SETTINGS that come from now on. */
  acknowledge: boolean;
  /** Gives back the windows of DATA that comes from now on. */
  giveBack: boolean;
  #unread: Buffer<ArrayBufferLike> = Buffer.alloc(0);
  #block: Buffer[] = [];
  #blockFlags = 0;
  #greeted = false;
  #nextStreamId = 1;
  readonly #waits = new Set<() => void>();
  readonly #maxFrameSize: number;
  /** Frames that wait until others are whole. */
  #waiting: Uint8Array[] | undefined;

  private constructor(socket: Socket, options: ClientOptions) {
    const { acknowledge = true, giveBack = true, settings } = options;
    this.socket = socket;
    this.#maxFrameSize = new Map(settings ?? []).get(Setting.MAX_FRAME_SIZE) ?? 16_384;
    this.acknowledge = acknowledge;
    this.giveBack = giveBack;
    socket.on("data", (bytes: Buffer) => this.#received(bytes));
    socket.on("end", () => {
      this.ended = true;
      this.#wake();
    });
    socket.on("close", () => {
      this.closed = true;
      this.#wake();
    });
  }

  /** Connects to 127.0.0.1, in TLS with ALPN `h2`, and begins as the options say. */
  static async connect(
    port: number,
    mode: Mode = "plain",
    options: ClientOptions = {},
  ): Promise<Http2Client> {
    const socket = mode === "plain"
      ? await connectTcp(port)
      : await connect({ mode, port }, { ALPNProtocols: ["h2"], ...options.tls });
    if (mode === "tls" && options.tls?.ALPNProtocols === undefined) {
      assert.equal((socket as TLSSocket).alpnProtocol, "h2");
    }
    return Http2Client.over(socket, options);
  }

  /** Speaks on a socket that is connected. */
  static over(socket: Socket, options: ClientOptions = {}): Http2Client {
    const client = new Http2Client(socket, options);
    if (options.settings !== null) client.send(PREFACE, settings(...options.settings ?? []));
    return client;
  }

  /** Sends bytes as they are, in one write. */
  send(...pieces: Uint8Array[]): void {
    this.socket.write(join(...pieces));
  }

  /** Sends bytes in pieces of so many, each in its own turn; what is sent by itself waits meanwhile. */
  async drip(bytes: Uint8Array, size: number): Promise<void> {
    this.#waiting = [];
    for (let at = 0; at < bytes.length && !this.closed; at += size) {
      this.send(bytes.subarray(at, at + size));
      await setImmediate();
    }
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting.length > 0) this.send(...waiting);
  }

  /** Sends frames that nothing asked for, between those of others. */
  #reply(...frames: Uint8Array[]): void {
    if (this.#waiting === undefined) this.send(...frames);
    else this.#waiting.push(...frames);
  }

  /** Ends this side: FIN, over TLS behind a close_notify. */
  end(): void {
    this.socket.end();
  }

  /** Resets the connection, as a network may. */
  resetConnection(): void {
    const socket = this.socket as { _parent?: Socket };
    (socket._parent ?? this.socket).resetAndDestroy();
  }

  /** Closes without a word. */
  destroy(): void {
    this.socket.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  /** The next stream that this client may open. */
  nextStreamId(): number {
    const id = this.#nextStreamId;
    this.#nextStreamId += 2;
    return id;
  }

  /** Sends a request with or without a body, which must fit the windows, and gives its stream. */
  request(
    head: Parameters<typeof requestFields>[0] = {},
    body?: string | Uint8Array,
    { endStream = true }: FrameOptions = {},
  ): number {
    const streamId = this.nextStreamId();
    if (body === undefined) {
      this.send(headers(streamId, requestFields(head), { endStream }));
    } else {
      this.send(
        headers(streamId, requestFields({ method: "POST", ...head }), { endStream: false }),
        data(streamId, body, { endStream }),
      );
    }
    return streamId;
  }

  /** Waits until `done` holds; fails with `what` at the deadline, or when the connection is over. */
  async until(done: () => boolean, what: string, ms = PATIENCE_MS): Promise<void> {
    const deadline = performance.now() + ms;
    while (!done()) {
      if (this.fault !== undefined) throw this.fault;
      const left = deadline - performance.now();
      if (left <= 0) assert.fail(`Not in ${ms} ms: ${what}; ${this.story()}`);
      if (this.closed) assert.fail(`The connection closed before ${what}; ${this.story()}`);
      let timer: ReturnType<typeof setTimeout> | undefined;
      await new Promise<void>((resolve) => {
        this.#waits.add(resolve);
        timer = setTimeout(resolve, left);
      });
      clearTimeout(timer);
    }
  }

  /** What has come, in words. */
  story(): string {
    const over = this.closed ? " closed" : this.ended ? " ended" : "";
    const lines = this.frames.slice(-20).map(describeFrame);
    return `${this.frames.length} frames came: ${lines.join(", ")}${over}`;
  }

  /** Waits for the first frame from number `from` on that matches. */
  async frame(
    match: (frame: Frame) => boolean,
    what: string,
    { from = 0, ms }: { from?: number; ms?: number } = {},
  ): Promise<Frame> {
    let found: Frame | undefined;
    let next = from;
    await this.until(
      () => {
        while (found === undefined && next < this.frames.length) {
          const frame = this.frames[next++]!;
          if (match(frame)) found = frame;
        }
        return found !== undefined;
      },
      what,
      ms,
    );
    return found!;
  }

  /** Waits for the server's first SETTINGS and the acknowledgement of the client's. */
  async ready(): Promise<this> {
    await this.until(() => this.settings.size > 0 || this.count(Type.SETTINGS) > 0, "SETTINGS");
    await this.frame(({ type, flags }) => type === Type.SETTINGS && flags === Flag.ACK, "an ACK");
    return this;
  }

  /** Sends a PING and waits for its answer: what was sent before has been read then. */
  async settled(opaque = "settled!", ms?: number): Promise<void> {
    const from = this.frames.length;
    this.send(ping(opaque));
    await this.frame(
      ({ type, flags, payload }) =>
        type === Type.PING && flags === Flag.ACK && payload.toString("latin1") === opaque,
      "the answer of PING",
      { from, ...(ms === undefined ? {} : { ms }) },
    );
  }

  /** How many frames of a type have come, on one stream or on any. */
  count(type: number, streamId?: number): number {
    return this.frames.filter((frame) =>
      frame.type === type && (streamId === undefined || frame.streamId === streamId)
    ).length;
  }

  /** What has come on a stream so far. */
  soFar(streamId: number): Answer {
    const answer: Answer = {
      status: 0,
      fields: {},
      informational: [],
      body: Buffer.alloc(0),
      trailers: undefined,
      ended: false,
      reset: undefined,
    };
    const pieces: Buffer[] = [];
    for (const frame of this.frames) {
      if (frame.streamId !== streamId) continue;
      if (frame.type === Type.RST_STREAM) {
        answer.reset = codeName(frame.payload.readUInt32BE()) as CodeName;
      }
      if (frame.type === Type.DATA) pieces.push(frame.payload);
      if (frame.type === Type.DATA || frame.type === Type.HEADERS) {
        answer.ended ||= (frame.flags & Flag.END_STREAM) !== 0;
      }
      if (frame.fields !== undefined) addSection(answer, frame.fields);
    }
    answer.body = Buffer.concat(pieces);
    return answer;
  }

  /** Waits for the end of what comes on a stream: END_STREAM or RST_STREAM. */
  async answer(streamId: number, ms?: number): Promise<Answer> {
    await this.frame(
      ({ type, flags, streamId: id }) =>
        id === streamId && (type === Type.RST_STREAM ||
          (type === Type.DATA || type === Type.HEADERS) && (flags & Flag.END_STREAM) !== 0),
      `the end of stream ${streamId}`,
      ms === undefined ? {} : { ms },
    );
    if (this.fault !== undefined) throw this.fault;
    return this.soFar(streamId);
  }

  /** Sends a request and waits for its answer; on the next stream, or on the one that is given. */
  async fetch(
    head: Parameters<typeof requestFields>[0] = {},
    body?: string | Uint8Array,
    streamId?: number,
  ): Promise<Answer> {
    if (streamId !== undefined) this.#nextStreamId = streamId;
    return await this.answer(this.request(head, body));
  }

  /** Waits until the server ends its side, or closes. */
  async over(ms?: number): Promise<void> {
    await this.until(() => this.ended || this.closed, "the connection's end", ms);
  }

  #received(bytes: Buffer): void {
    this.bytes += bytes.length;
    this.#unread = this.#unread.length === 0 ? bytes : Buffer.concat([this.#unread, bytes]);
    try {
      let at = 0;
      while (this.#unread.length - at >= 9) {
        const length = this.#unread.readUIntBE(at, 3);
        if (this.#unread.length - at < 9 + length) break;
        this.#frame(this.#unread.subarray(at, at + 9), at + 9, length);
        at += 9 + length;
      }
      this.#unread = this.#unread.subarray(at);
    } catch (error) {
      this.fault ??= error as Error;
    }
    this.#wake();
  }

  #frame(head: Buffer, at: number, length: number): void {
    const type = head[3]!;
    const flags = head[4]!;
    const streamId = head.readUInt32BE(5);
    // A copy: sockets use their memory again.
    const payload = Buffer.from(this.#unread.subarray(at, at + length));
    assert.ok(length <= this.#maxFrameSize, `A frame of ${length} bytes, larger than allowed`);
    if (this.#block.length > 0) assert.equal(type, Type.CONTINUATION, "Nothing but CONTINUATION");
    if (!this.#greeted) assert.equal(type, Type.SETTINGS, "The first frame is SETTINGS");
    this.#greeted = true;
    const fields = this.#fields(type, flags, payload);
    const frame: Frame = { type, flags, streamId, payload, ...(fields && { fields }) };
    this.frames.push(frame);
    this.onFrame?.(frame);
    if (type === Type.SETTINGS && (flags & Flag.ACK) === 0) this.#serverSettings(payload);
    if (type === Type.GOAWAY) {
      this.goaway = {
        lastStreamId: payload.readUInt32BE(),
        code: codeName(payload.readUInt32BE(4)) as CodeName,
        debug: payload.toString("latin1", 8),
      };
    }
    if (type === Type.DATA && this.giveBack && length > 0) {
      const updates = [windowUpdate(0, length)];
      if ((flags & Flag.END_STREAM) === 0) updates.push(windowUpdate(streamId, length));
      this.#reply(...updates);
    }
  }

  #fields(type: number, flags: number, payload: Buffer): Field[] | undefined {
    if (type !== Type.HEADERS && type !== Type.CONTINUATION) return undefined;
    this.#block.push(payload);
    if (type === Type.HEADERS) this.#blockFlags = flags;
    assert.equal(this.#blockFlags & (Flag.PADDED | Flag.PRIORITY), 0, "HEADERS with extras");
    if ((flags & Flag.END_HEADERS) === 0) return undefined;
    const block = Buffer.concat(this.#block.splice(0));
    return this.decoder.decode(block);
  }

  #serverSettings(payload: Buffer): void {
    assert.equal(payload.length % 6, 0);
    for (let at = 0; at < payload.length; at += 6) {
      this.settings.set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    }
    if (this.acknowledge) this.#reply(settingsAck());
  }

  #wake(): void {
    const waits = [...this.#waits];
    this.#waits.clear();
    for (const wake of waits) wake();
  }
}

function addSection(answer: Answer, section: readonly Field[]): void {
  const fields: Record<string, string> = {};
  let status: number | undefined;
  for (const [name, value] of section) {
    if (name === ":status") status = Number(value);
    else fields[name] = name in fields ? `${fields[name]}\n${value}` : value;
  }
  if (status === undefined) answer.trailers = fields;
  else if (status < 200) answer.informational.push({ status, fields });
  else [answer.status, answer.fields] = [status, fields];
}
