/**
 * What tests of responses share.
 *
 * @module
 */
import { type Mode, RawClient } from "./http_support.ts";
import { openRelay } from "./support.ts";

/** A client, and what it can do to its connection. */
interface Leaver {
  readonly client: RawClient;
  /** Resets the connection. */
  reset(): void;
  /** Reads no more. */
  stall(): void;
}

/** A client behind a relay: a TLS socket can neither reset the one under it, nor stop it on Deno. */
export async function leaver(port: number, mode: Mode): Promise<Leaver> {
  const relay = await openRelay(port);
  const connecting = RawClient.connect(relay.port, mode);
  const { client: ours, server: theirs } = await relay.accept();
  ours.pipe(theirs);
  theirs.pipe(ours);
  const client = await connecting;
  return {
    client,
    reset() {
      theirs.resetAndDestroy();
      client.destroy();
      void relay[Symbol.asyncDispose]();
    },
    stall() {
      theirs.unpipe();
      theirs.pause();
    },
  };
}
