/**
 * Response heads and chunks as bytes (RFC 9112 sections 4, 6 and 7.1), sans I/O.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { assertFieldName, assertFieldValue, assertStatus, type Fields } from "./response_rules.ts";
import { REASONS } from "./status.ts";
import { utf8 } from "./utf8.ts";

/**
 * Encodes a response head. Every field is checked, so that nothing a handler says can break the
 * wire.
 *
 * @throws {HttpError} `BAD_RESPONSE` for a name, value, status or reason that HTTP does not allow
 */
export function encodeHead(status: number, reason: string | undefined, fields: Fields): Uint8Array {
  assertStatus(status);
  if (reason !== undefined) assertFieldValue("reason", reason);
  let head = `HTTP/1.1 ${status} ${reason ?? REASONS[status] ?? ""}\r\n`;
  for (const [name, value] of fields) head += fieldLine(name, value);
  return latin1Bytes(head + "\r\n");
}

const ASCII = /^[\0-\x7f]*$/;

/** Text as Latin-1. Nearly all of it is ASCII, for which UTF-8 is the same and faster. */
function latin1Bytes(text: string): Uint8Array {
  return ASCII.test(text) ? utf8(text) : Buffer.from(text, "latin1");
}

function fieldLine(name: string, value: string): string {
  assertFieldName(name);
  assertFieldValue(name, value);
  return `${name}: ${value}\r\n`;
}

/** The line before a chunk of `length` bytes. */
export function chunkHead(length: number): Buffer {
  return Buffer.from(`${length.toString(16)}\r\n`, "latin1");
}

/** The line end behind a chunk. */
export const CHUNK_END: Buffer = Buffer.from("\r\n");

/** The last chunk with its trailer section. */
export function lastChunk(trailers: Fields = []): Buffer {
  let text = "0\r\n";
  for (const [name, value] of trailers) text += fieldLine(name, value);
  return Buffer.from(text + "\r\n", "latin1");
}

let dateSecond = 0;
let dateText = "";

/** Now as an HTTP date (RFC 9110 section 5.6.7); made once a second. */
export function httpDate(): string {
  const second = Math.floor(Date.now() / 1000);
  if (second !== dateSecond) {
    dateSecond = second;
    dateText = new Date(second * 1000).toUTCString();
  }
  return dateText;
}
