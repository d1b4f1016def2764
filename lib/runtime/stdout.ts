/**
 * Standard output that blocks nothing: where its reader is stuck, the promise waits and the event
 * loop goes on. On Deno `process.stdout` and `node:fs` write in the event loop itself, and a pipe
 * that is full stops the process until its reader goes on; `Deno.stdout` does not.
 *
 * @module
 */
import process from "node:process";
import { utf8 } from "../bytes.ts";

/** The part of Deno that writes. */
interface AsyncWriter {
  write(bytes: Uint8Array): Promise<number>;
}

/** Writes a text; resolves when it was taken, and rejects when it cannot be. One call at a time. */
export function writeToStdout(text: string): Promise<void> {
  const { Deno } = globalThis as { Deno?: { stdout: AsyncWriter } };
  return Deno === undefined ? writeInNode(text) : writeAll(Deno.stdout, utf8(text));
}

async function writeAll(writer: AsyncWriter, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await writer.write(bytes.subarray(at));
}

let isHeard = false;

function writeInNode(text: string): Promise<void> {
  if (!isHeard) process.stdout.on("error", () => {}); // each write rejects with it
  isHeard = true;
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => error ? reject(error) : resolve());
  });
}
