/**
 * Text as UTF-8 bytes.
 *
 * @module
 */
import { runtime } from "../runtime/current.ts";

const encoder = new TextEncoder();

/** Looked for and not imported: there are platforms without it. */
const { Buffer } = globalThis as {
  Buffer?: { from(text: string, encoding: "utf8"): Uint8Array };
};

/** Text as UTF-8, in the way that is faster on the running runtime. */
export const utf8: (text: string) => Uint8Array = runtime.name === "bun" || Buffer === undefined
  ? (text) => encoder.encode(text)
  : (text) => Buffer.from(text, "utf8");

/** Longer text is made bytes without a look: looking would cost more than it spares. */
const MAX_TEXT = 4096;

const ASCII = /^[\0-\x7f]*$/;

/** Whether `text` can be written as it is. */
export function isAscii(text: string): boolean {
  return text.length <= MAX_TEXT && ASCII.test(text);
}
