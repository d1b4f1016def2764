/** A connection on a wire of memory, by which tests see what it does. */
import type { Chunk } from "../lib/net/chunks.ts";
import { Deadlines } from "../lib/net/deadlines.ts";
import { ConnectionEngine } from "../lib/net/engine.ts";
import { UNCOUNTED } from "../lib/net/place.ts";
import { Unread } from "../lib/net/unread.ts";
import { Unsent } from "../lib/net/unsent.ts";
import type { Wire, WireReader } from "../lib/net/wire.ts";
import { RecordingConsumer } from "./support.ts";
import { TestClock } from "./test_clock.ts";

/** A wire that writes down what it is asked for. */
export class MemoryWire implements Wire {
  readonly calls: string[] = [];
  readonly letsGo: boolean = false; // what was written is looked at afterwards
  /** What was written, which the wire keeps and does not copy. */
  readonly written: Chunk[] = [];
  full = false;
  reader!: WireReader;

  get bufferedBytes(): number {
    return 0;
  }
  open(reader: WireReader): void {
    this.reader = reader;
  }
  write(chunk: Chunk): boolean {
    this.calls.push(`write ${chunk.length}`);
    this.written.push(chunk);
    return !this.full;
  }
  end(): void {
    this.calls.push("end");
  }
  destroy(): void {
    if (!this.calls.includes("destroy")) this.calls.push("destroy");
  }
  reset(): void {
    this.calls.push("reset");
  }
  stop(): void {
    this.calls.push("stop");
  }
  start(): void {
    this.calls.push("start");
  }
  override(): Wire {
    throw new Error("Nothing is put between here");
  }
}

export const SEND_MS = 1_000;
export const LINGER_MS = 3_000;

/** Opens a connection on a wire, with a consumer that records what it is told. */
export async function openedOn<W extends Wire>(wire: W) {
  const clock = new TestClock();
  const unread = new Unread(Infinity);
  const engine = new ConnectionEngine({
    wire,
    endpoints: { remoteAddress: "192.0.2.1", remotePort: 1, localAddress: "", localPort: 2 },
    proxy: undefined,
    tls: undefined,
    context: undefined,
    sendTimeoutMs: SEND_MS,
    lingerMs: LINGER_MS,
    place: UNCOUNTED,
    deadlines: new Deadlines([SEND_MS], clock),
    unread,
    unsent: new Unsent(Infinity, clock),
  });
  const consumer = new RecordingConsumer();
  engine.attach(consumer);
  await Promise.resolve();
  return { wire, clock, unread, engine, consumer };
}
