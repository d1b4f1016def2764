/**
 * What the WebSocket tests share: the client's masking encoder, the cases of
 * `cases/websocket.json` and the readers that run them.
 *
 * A case's `input` is a list of frames: hex as it travels, or an object (`op`, `fin`, `rsv`, `mask`,
 * `bits` for a forced form of the length; payload as `text`, `hex` or `repeat: [hex, times]`).
 * `expect` lists messages and control frames, payloads in hex except for text; `failsAt` is the
 * number of input bytes after which, and not earlier, the reader must have failed.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import type { WebSocketErrorCode } from "../lib/errors.ts";
import { Inflater } from "../lib/websocket/deflate.ts";
import type { FrameLimits } from "../lib/websocket/frame_parser.ts";
import { MessageReader, MessageStep } from "../lib/websocket/message_reader.ts";

/** A payload that is the same bytes many times. */
type Repeat = { repeat: [hex: string, times: number] };

/** A frame as a client sends it, right or wrong. */
export interface ClientFrame {
  op: number;
  fin?: boolean;
  rsv?: number;
  /** The masking key in hex; null sends it unmasked. */
  mask?: string | null;
  bits?: 7 | 16 | 64;
  text?: string;
  hex?: string;
  repeat?: Repeat["repeat"];
}

/** What a reader reports. */
export type Report =
  | [kind: "text" | "binary" | "ping" | "pong", payload: string]
  | [kind: "close", code: number, reason: string];

/** What reading some bytes came to. */
export interface Outcome {
  reports: Report[];
  error?: { closeCode: number; code: WebSocketErrorCode };
  /** How many bytes had been pushed when the reader failed. */
  failedAt?: number;
}

/** One entry of the case file. */
export interface WebSocketCase {
  name: string;
  rule: string;
  deflate?: boolean;
  takeover?: boolean;
  limits?: { maxPayloadBytes?: number | null; maxFragments?: number };
  input: (string | ClientFrame)[];
  expect: (Report | [kind: "text" | "binary" | "ping" | "pong", payload: Repeat])[];
  error?: { closeCode: number; code: WebSocketErrorCode };
  failsAt?: number;
}

const DEFAULT_KEY = "37fa213d";

/** Reads the case file. */
export function loadCases(): WebSocketCase[] {
  return JSON.parse(readFileSync(new URL("./cases/websocket.json", import.meta.url), "utf8"));
}

/** Bytes of hex, with or without spaces. */
export function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));
}

/** Makes a frame as a client sends it: masked, unless asked otherwise. */
export function clientFrame(frame: ClientFrame): Uint8Array {
  const payload = payloadOf(frame);
  const length = payload.length;
  const bits = frame.bits ?? (length < 126 ? 7 : length < 0x10000 ? 16 : 64);
  const masked = frame.mask === null ? 0 : 0x80;
  const first = (frame.fin ?? true ? 0x80 : 0) | (frame.rsv ?? 0) << 4 | frame.op;
  const head = [first, masked | (bits === 7 ? length : bits === 16 ? 126 : 127)];
  for (let shift = bits - 8; bits !== 7 && shift >= 0; shift -= 8) {
    head.push(shift > 31 ? 0 : length >>> shift & 0xff);
  }
  if (masked === 0) return Buffer.concat([Uint8Array.from(head), payload]);
  const key = hex(frame.mask ?? DEFAULT_KEY);
  return Buffer.concat([
    Uint8Array.from(head),
    key,
    payload.map((byte, i) => byte ^ key[i % 4]!),
  ]);
}

function payloadOf({ text = "", hex: digits, repeat }: ClientFrame): Uint8Array {
  if (repeat !== undefined) return filled(repeat);
  return digits === undefined ? new TextEncoder().encode(text) : hex(digits);
}

/** The same bytes again and again, without their digits being read each time. */
function filled([digits, times]: Repeat["repeat"]): Uint8Array {
  const once = hex(digits);
  return Buffer.alloc(once.length * times, once);
}

function repeated({ repeat: [digits, times] }: Repeat): string {
  return digits.repeat(times);
}

/** The bytes of a case's input. */
export function inputOf({ input }: WebSocketCase): Uint8Array {
  return Buffer.concat(
    input.map((part) => typeof part === "string" ? hex(part) : clientFrame(part)),
  );
}

/** What a case expects, written out. */
export function expectedOf({ expect, error }: WebSocketCase): Omit<Outcome, "failedAt"> {
  const reports = expect.map((report): Report => {
    const [kind, payload] = report;
    if (kind === "close" || typeof payload === "string") return report as Report;
    const digits = repeated(payload as Repeat);
    return [kind, kind === "text" ? Buffer.from(digits, "hex").toString() : digits];
  });
  return error === undefined ? { reports } : { reports, error };
}

/** A reader as a case wants it. */
export function readerFor({ deflate = false, takeover = false, limits = {} }: {
  deflate?: boolean;
  takeover?: boolean;
  limits?: WebSocketCase["limits"];
}): MessageReader {
  const all: Omit<FrameLimits, "deflate"> = {
    maxPayloadBytes: limits.maxPayloadBytes === null
      ? Infinity
      : limits.maxPayloadBytes ?? 1024 * 1024,
    maxFragments: limits.maxFragments ?? 1024,
  };
  const inflater = new Inflater({ clientContextTakeover: takeover, clientMaxWindowBits: 15 });
  return new MessageReader(all, deflate ? inflater : undefined);
}

/** Pushes copies of the pieces until the reader fails, and collects what it reports. */
export function read(reader: MessageReader, pieces: Iterable<Uint8Array>): Outcome {
  const reports: Report[] = [];
  let pushed = 0;
  for (const piece of pieces) {
    reader.push(Uint8Array.from(piece));
    pushed += piece.length;
    let step = reader.next();
    for (; step !== MessageStep.Need && step !== MessageStep.Fail; step = reader.next()) {
      reports.push(report(reader, step));
    }
    if (step === MessageStep.Fail) {
      const { closeCode, code } = reader.error!;
      return { reports, error: { closeCode, code }, failedAt: pushed };
    }
  }
  return { reports };
}

function report(reader: MessageReader, step: MessageStep): Report {
  switch (step) {
    case MessageStep.Text:
      return ["text", reader.text];
    case MessageStep.Binary:
      return ["binary", Buffer.from(reader.bytes).toString("hex")];
    case MessageStep.Ping:
      return ["ping", Buffer.from(reader.bytes).toString("hex")];
    case MessageStep.Pong:
      return ["pong", Buffer.from(reader.bytes).toString("hex")];
    default:
      return ["close", reader.closeStatus!.code, reader.closeStatus!.reason];
  }
}

/** The bytes one at a time. */
export function* bytewise(bytes: Uint8Array): Generator<Uint8Array> {
  for (let i = 0; i < bytes.length; i++) yield bytes.subarray(i, i + 1);
}
