/**
 * Loads the cases of tests/cases/http2_frames.json, and reads and writes as they say;
 * tests/cases/README.md has the format.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { Buffer } from "node:buffer";
import assert from "node:assert/strict";
import { ErrorCode, errorCodeName } from "../lib/http2/error_code.ts";
import { PREFACE } from "../lib/http2/frame_type.ts";
import { type FrameLimits, type FrameReader, FrameStep } from "../lib/http2/frame_reader.ts";
import { FrameWriter } from "../lib/http2/frame_writer.ts";
import { join } from "../lib/net/chunks.ts";

/** The limits of the cases that name no others. */
export const LIMITS: FrameLimits = {
  maxFrameBytes: 16_384,
  maxBlockBytes: 32_768,
  maxContinuations: 8,
  maxSettings: 32,
};

/** Bytes in hex, or a byte that repeats. */
type Hex = string | { byte: string; times: number } | Hex[];

/** A frame with its header spelled out, the preface, the SETTINGS that come first, or bare bytes. */
type Piece =
  | "preface"
  | "settings"
  | string
  | [type: number, flags: number, stream: number, payload?: Hex];

/** Bytes that a client sends, and what the reader shall report. */
export interface ReadCase {
  readonly name: string;
  /** The section of RFC 9113, or another document's, that has the rule. */
  readonly rule: string;
  /** Where it does not begin with `preface` or bytes, preface and empty SETTINGS go before it. */
  readonly input: Piece[];
  readonly limits?: Partial<FrameLimits>;
  /** What {@linkcode sayStep} says of each step, but for that of the preface and the SETTINGS. */
  readonly steps: string[];
  /** Where the reader is at the end: between frames, in one, or in a header block. */
  readonly ends?: "idle" | "frame" | "block";
}

/** What this server writes, and its bytes. */
export interface WriteCase {
  readonly name: string;
  readonly rule: string;
  /** Calls of a `FrameWriter`: the method's name and its arguments, bytes in hex. */
  readonly calls: [method: string, ...unknown[]][];
  readonly maxFrameBytes?: number;
  readonly bytes: Hex;
}

/** The cases of the file. */
export function loadCases(): { read: ReadCase[]; write: WriteCase[] } {
  const file = new URL("./cases/http2_frames.json", import.meta.url);
  return JSON.parse(readFileSync(file, "utf8"));
}

/** Bytes that are written as hex. */
export function bytesOf(hex: Hex): Buffer {
  if (typeof hex === "string") return Buffer.from(hex.replace(/\s+/g, ""), "hex");
  if (Array.isArray(hex)) return Buffer.concat(hex.map(bytesOf));
  return Buffer.alloc(hex.times, bytesOf(hex.byte));
}

/** A frame, whose length is that of its payload. */
export function frame(type: number, flags: number, stream: number, payload: Hex = ""): Buffer {
  const bytes = bytesOf(payload);
  const header = Buffer.alloc(9);
  header.writeUIntBE(bytes.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, bytes]);
}

function pieceOf(piece: Piece): Buffer {
  if (piece === "preface") return Buffer.from(PREFACE);
  if (piece === "settings") return frame(4, 0, 0);
  return typeof piece === "string" ? bytesOf(piece) : frame(...piece);
}

/** Whether a case has its own beginning. */
const isWhole = ({ input }: ReadCase): boolean => typeof input[0] === "string";

/** All bytes of a case. */
export function inputOf(readCase: ReadCase): Buffer {
  const before = isWhole(readCase) ? [] : ["preface", "settings"];
  return Buffer.concat([...before, ...readCase.input].map(pieceOf));
}

/** All steps that a case expects. */
export function stepsOf(readCase: ReadCase): string[] {
  return isWhole(readCase) ? readCase.steps : ["preface", "settings", ...readCase.steps];
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Spells bytes, those that repeat in short. */
function spell(bytes: Uint8Array): string {
  const isLong = bytes.length > 64 && bytes.every((byte) => byte === bytes[0]);
  return isLong ? `${hex(bytes.subarray(0, 1))}*${bytes.length}` : hex(bytes);
}

/** Says what a step is, in a line. */
export function sayStep(reader: FrameReader, step: FrameStep): string {
  const { streamId, endStream, fault } = reader;
  const end = endStream ? " end" : "";
  switch (step) {
    case FrameStep.Preface:
      return "preface";
    case FrameStep.Headers: {
      const broken = fault === undefined ? "" : ` ${sayFault(reader)}`;
      return `headers ${streamId} ${spell(reader.block)}${end}${broken}`;
    }
    case FrameStep.Priority:
      return `priority ${streamId}`;
    case FrameStep.Reset:
      return `reset ${streamId} ${errorCodeName(reader.errorCode)}`;
    case FrameStep.Settings:
      return ["settings", ...reader.settings].join(" ");
    case FrameStep.SettingsAck:
      return "settings ack";
    case FrameStep.Ping:
      return `ping ${hex(reader.opaque)}`;
    case FrameStep.PingAck:
      return `ping ack ${hex(reader.opaque)}`;
    case FrameStep.GoAway:
      return `goaway ${reader.lastStreamId} ${errorCodeName(reader.errorCode)}`;
    case FrameStep.WindowUpdate:
      return `window ${streamId} ${reader.increment}`;
    case FrameStep.PriorityUpdate:
      return `priority update ${streamId} ${reader.priorityField}`;
    case FrameStep.Ignored:
      return "ignored";
    case FrameStep.Fault:
      return sayFault(reader);
    default:
      throw new Error(`No step ${step} is reported here`);
  }
}

function sayFault({ fault }: FrameReader): string {
  assert.ok(fault !== undefined);
  const where = fault.scope === "stream" ? `stream ${fault.streamId}` : "connection";
  return `fault ${where} ${errorCodeName(fault.code)}`;
}

/** Everything that a reader says about some bytes. */
export interface Outcome {
  steps: string[];
  ends: "idle" | "frame" | "block";
}

/** Pushes the pieces one after the other; pieces of one DATA frame are joined. */
export function read(reader: FrameReader, pieces: Iterable<Uint8Array>): Outcome {
  const steps: string[] = [];
  let data: { stream: number; bytes: Buffer; flow: number; end: boolean } | undefined;
  const flush = (): void => {
    if (data === undefined) return;
    const { stream, bytes, flow, end } = data;
    steps.push(`data ${stream} ${spell(bytes)} flow ${flow}${end ? " end" : ""}`);
    data = undefined;
  };
  for (const piece of pieces) {
    reader.push(piece);
    let step = reader.next();
    for (; step !== FrameStep.Need; step = reader.next()) {
      if (step === FrameStep.Data) {
        const { streamId: stream, flowBytes: flow, endStream: end } = reader;
        const bytes = Buffer.from(reader.data);
        const goesOn = data?.stream === stream && !data.end && flow > 0 && data.flow > 0;
        if (!goesOn) flush();
        data = {
          stream,
          bytes: goesOn ? Buffer.concat([data!.bytes, bytes]) : bytes,
          flow: flow + (goesOn ? data!.flow : 0),
          end,
        };
        continue;
      }
      flush();
      steps.push(sayStep(reader, step));
      if (step === FrameStep.Fault && reader.fault!.scope === "connection") {
        assert.equal(reader.next(), FrameStep.Fault, "a fault of the connection is the end");
        return { steps, ends: "idle" };
      }
    }
  }
  flush();
  return { steps, ends: reader.idle ? "idle" : reader.inBlock ? "block" : "frame" };
}

/** What a writer makes of the calls of a case. */
export function write({ calls, maxFrameBytes }: WriteCase): Uint8Array {
  const writer = new FrameWriter();
  if (maxFrameBytes !== undefined) writer.maxFrameBytes = maxFrameBytes;
  for (const [method, ...args] of calls) {
    const call = (writer as unknown as Record<string, (...args: unknown[]) => void>)[method]!;
    call.apply(writer, args.map((argument) => argumentOf(argument)));
  }
  const { pendingBytes } = writer;
  const bytes = join(writer.take(), pendingBytes);
  assert.equal(bytes.length, pendingBytes);
  return bytes;
}

/** An argument of a call: `hex:` before bytes, the name of an error code, or itself. */
function argumentOf(argument: unknown): unknown {
  if (typeof argument === "string" && argument.startsWith("hex:")) {
    return bytesOf(argument.slice(4));
  }
  if (typeof argument === "object" && argument !== null && "byte" in argument) {
    return bytesOf(argument as Hex);
  }
  const code = Object.values(ErrorCode).find((code) => errorCodeName(code) === argument);
  return code ?? argument;
}
