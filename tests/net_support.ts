/**
 * Pairs of connections, and what is read from and written to them.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { ConnectionError } from "../lib/errors.ts";
import type { ConnectionEngine } from "../lib/net/engine.ts";
import { connect, type Transport } from "./support.ts";

export const MIB = 2 ** 20;

/** Connects a client, and gives both ends of the connection. */
export async function pair(
  transport: Transport,
): Promise<{ client: Socket; connection: ConnectionEngine }> {
  const [client, connection] = await Promise.all([connect(transport), transport.accept()]);
  return { client, connection };
}

/** Writes to a socket as a polite client does, one block after the other. */
export async function push(socket: Socket, chunks: Iterable<Uint8Array>): Promise<void> {
  for (const chunk of chunks) {
    if (!socket.write(chunk)) await new Promise((resolve) => socket.once("drain", resolve));
  }
}

export const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

export const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));

/** What `promise` rejects with. */
export async function rejection(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail("It was fulfilled");
}

export function assertConnectionError(error: unknown, code: string): void {
  assert.ok(error instanceof ConnectionError, `${error}`);
  assert.equal(error.code, code);
}
