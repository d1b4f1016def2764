/**
 * A message between servers, as bytes: `hb`, the version 1, the opcode, who sent it (12 bytes), its
 * number among the sender's messages on the channel (6 bytes, big-endian), and the payload. The
 * number 0 begins to count, also again. What is anything else was not sent by a server.
 *
 * @module
 */
import { Buffer, isUtf8 } from "node:buffer";
import { randomBytes } from "node:crypto";
import { Opcode } from "../opcode.ts";

const MAGIC = 0x6862;
const VERSION = 1;
const ORIGIN_AT = 4;
const NUMBER_AT = 16;

/** How long an envelope is without its payload. */
export const ENVELOPE_BYTES = 22;

/** A message of a server. */
export interface Envelope {
  /** Text or Binary. */
  readonly opcode: Opcode;
  /** The sender, as 12 characters of Latin-1. */
  readonly origin: string;
  /** Which of the sender's messages on the channel it is. */
  readonly number: number;
  /** The message; a view of the bytes that came. */
  readonly payload: Uint8Array;
}

/** Makes the name of a sender: random, and 12 characters of Latin-1. */
export function makeOrigin(): string {
  return randomBytes(NUMBER_AT - ORIGIN_AT).toString("latin1");
}

/** Returns a message as bytes. */
export function encodeEnvelope({ opcode, origin, number, payload }: Envelope): Uint8Array {
  const bytes = Buffer.allocUnsafe(ENVELOPE_BYTES + payload.length);
  bytes.writeUInt16BE(MAGIC, 0);
  bytes[2] = VERSION;
  bytes[3] = opcode;
  bytes.write(origin, ORIGIN_AT, "latin1");
  bytes.writeUIntBE(number, NUMBER_AT, 6);
  bytes.set(payload, ENVELOPE_BYTES);
  return bytes;
}

/** Reads a message; `undefined` for bytes that no server has sent, or longer than `maxBytes`. */
export function decodeEnvelope(bytes: unknown, maxBytes: number): Envelope | undefined {
  if (!(bytes instanceof Uint8Array)) return undefined;
  if (bytes.length < ENVELOPE_BYTES || bytes.length - ENVELOPE_BYTES > maxBytes) return undefined;
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.readUInt16BE(0) !== MAGIC || view[2] !== VERSION) return undefined;
  const opcode = view[3]!;
  if (opcode !== Opcode.Text && opcode !== Opcode.Binary) return undefined;
  const payload = bytes.subarray(ENVELOPE_BYTES);
  // Clients close a WebSocket on which text comes that is none.
  if (opcode === Opcode.Text && !isUtf8(payload)) return undefined;
  return {
    opcode,
    origin: view.toString("latin1", ORIGIN_AT, NUMBER_AT),
    number: view.readUIntBE(NUMBER_AT, 6),
    payload,
  };
}
