/** The writer's states: what each of its methods does in each of them, over a sink that records. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { ConnectionError, type HttpsdError } from "../lib/errors.ts";
import { ResponseWriter } from "../lib/http/response.ts";
import type { HeadEnd, ResponseSink } from "../lib/http/response_sink.ts";
import type { Chunk } from "../lib/net/chunks.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

/** Writes down the calls; takes body bytes while it is not `full`. */
class RecordingSink implements ResponseSink {
  readonly calls: string[] = [];
  full = false;
  keepAlive = true;
  queuedBytes = 0;

  get blocked(): boolean {
    return this.full;
  }
  closeAfterwards(): void {
    this.keepAlive = false;
  }
  informational(status: number): void {
    this.calls.push(`informational ${status}`);
  }
  switchProtocols(): number {
    this.calls.push("switchProtocols");
    return 101;
  }
  raw(): void {
    this.calls.push("raw");
  }
  begin(status: number): void {
    this.calls.push(`begin ${status}`);
  }
  field(name: string, value: string): void {
    this.calls.push(`${name}: ${value}`);
  }
  offer(protocols: string): void {
    this.calls.push(`offer ${protocols}`);
  }
  open({ length, hasBody }: HeadEnd): void {
    this.calls.push(`open ${length} ${hasBody}`);
  }
  whole({ length, hasBody }: HeadEnd, body: Chunk): boolean {
    this.calls.push(`whole ${length} ${hasBody} ${body.length}`);
    return !this.full;
  }
  data(chunk: Chunk): boolean {
    this.calls.push(`data ${chunk.length}`);
    return !this.full;
  }
  end(): boolean {
    this.calls.push("end");
    return !this.full;
  }
  resume(): boolean {
    return !this.full;
  }
  abort(): void {
    this.calls.push("abort");
  }
  gone(): void {
    this.calls.push("gone");
  }
}

interface Written {
  readonly writer: ResponseWriter;
  readonly sink: RecordingSink;
  readonly progress: string[];
}

function writing(method = "GET"): Written {
  const sink = new RecordingSink();
  const progress: string[] = [];
  const writer = new ResponseWriter(sink);
  writer.begin(method, {
    defaultFields: undefined,
    starting: () => void progress.push("starting"),
    done: () => void progress.push("done"),
    blocked: () => void progress.push("blocked"),
    wrote: () => {},
    cutShort: () => {},
  });
  return { writer, sink, progress };
}

const LEFT = new ConnectionError("CONNECTION_RESET", "The client has reset");
const BYTES = new Uint8Array(3);

/** The ways into each state. */
const STATES: Record<string, (written: Written) => void> = {
  unsent: () => {},
  open: ({ writer }) => writer.start({ status: 200 }, undefined),
  ending: ({ writer, sink }) => {
    sink.full = true;
    writer.send({ status: 200 }, BYTES);
  },
  ended: ({ writer }) => writer.send({ status: 200 }, BYTES),
  aborted: ({ writer }) => {
    writer.start({ status: 200 }, undefined);
    writer.abort(LEFT);
  },
  "gone, unsent": ({ writer }) => writer.leave(LEFT),
  "gone, open": ({ writer }) => {
    writer.start({ status: 200 }, undefined);
    writer.leave(LEFT);
  },
};

/** What each method does: what the sink is called with, or what is thrown or rejected with. */
const METHODS: Record<string, (writer: ResponseWriter) => unknown> = {
  "inform()": (writer) => writer.inform(103),
  "switchProtocols()": (writer) => writer.switchProtocols([]),
  "startRaw()": (writer) => writer.startRaw(),
  "send()": (writer) => writer.send({ status: 201 }, BYTES),
  "start()": (writer) => writer.start({ status: 201 }, 3),
  "write()": (writer) => writer.write(BYTES),
  "end()": (writer) => writer.end(),
  "abort()": (writer) => writer.abort(LEFT),
  "leave()": (writer) => writer.leave(LEFT),
};

const SENT = "throws ALREADY_SENT";
const TABLE: Record<string, Record<string, string>> = {
  "inform()": { unsent: "informational 103" },
  "switchProtocols()": {
    unsent: "switchProtocols",
    open: SENT,
    ending: SENT,
    ended: SENT,
    aborted: SENT,
  },
  "startRaw()": { unsent: "raw", open: SENT, ending: SENT, ended: SENT, aborted: SENT },
  "send()": {
    unsent: "begin 201, whole 3 true 3",
    open: SENT,
    ending: SENT,
    ended: SENT,
    aborted: SENT,
  },
  "start()": {
    unsent: "begin 201, open 3 true",
    open: SENT,
    ending: SENT,
    ended: SENT,
    aborted: SENT,
  },
  "write()": {
    unsent: "throws undefined",
    open: "data 3",
    ending: SENT,
    ended: SENT,
    aborted: SENT,
    "gone, unsent": "throws CONNECTION_CLOSED",
    "gone, open": "throws CONNECTION_CLOSED",
  },
  "end()": { open: "end" },
  "abort()": { unsent: "abort", open: "abort", ending: "abort" },
  "leave()": { unsent: "gone", open: "gone", ending: "gone" },
};

describe("the response writer", () => {
  for (const [method, call] of Object.entries(METHODS)) {
    for (const [state, enter] of Object.entries(STATES)) {
      const expected = TABLE[method]![state] ?? "";
      test(`${method} when ${state}: ${expected || "nothing"}`, async () => {
        const written = writing();
        enter(written);
        const { writer, sink } = written;
        sink.calls.length = 0;
        const did = await Promise.try(() => call(writer)).then(
          () => sink.calls.join(", "),
          (error) => `throws ${(error as HttpsdError).code}`,
        );
        assert.equal(did, expected);
      });
    }
  }

  for (
    const [status, method, length, expected] of [
      [200, "GET", 3, "whole 3 true 3"],
      [200, "HEAD", 3, "whole 3 false 0"],
      [200, "HEAD", 0, "whole undefined false 0"],
      [204, "GET", 3, "whole undefined false 0"],
      [204, "HEAD", 3, "whole undefined false 0"],
      [205, "GET", 3, "whole 0 false 0"],
      [205, "HEAD", 3, "whole 0 false 0"],
      [304, "GET", 3, "whole undefined false 0"],
      [304, "HEAD", 3, "whole undefined false 0"],
    ] as const
  ) {
    test(`sends ${status} with ${length} bytes to ${method}: ${expected}`, () => {
      const { writer, sink, progress } = writing(method);
      writer.send({ status }, new Uint8Array(length));
      assert.deepEqual(sink.calls, [`begin ${status}`, expected]);
      assert.deepEqual(progress, ["starting", "done"]);
    });
  }

  test("takes a head back that is not allowed, and sends another", () => {
    const { writer, sink, progress } = writing();
    const fields: [string, string][] = [["Content-Length", "4"]];
    assert.throws(() => writer.send({ status: 200, fields }, BYTES), { code: "BAD_RESPONSE" });
    assert.throws(() => writer.start({ status: 199 }, 3), { code: "BAD_RESPONSE" });
    assert.deepEqual([writer.started, progress], [false, []]);
    sink.calls.length = 0;
    writer.send({ status: 500 }, BYTES);
    assert.deepEqual(sink.calls, ["begin 500", "whole 3 true 3"]);
  });

  test("resolves a write when what waited was read, and ends only then", async () => {
    const { writer, sink, progress } = writing();
    writer.start({ status: 200 }, undefined);
    sink.full = true;
    let went = false;
    const written = writer.write(BYTES).then(() => went = true);
    writer.end();
    await Promise.resolve();
    assert.deepEqual([went, writer.answered, writer.ended], [false, true, false]);
    sink.full = false;
    writer.wake();
    await written;
    assert.equal(writer.ended, true);
    assert.deepEqual(progress, ["starting", "blocked", "blocked", "done"]);
  });

  test("rejects what waits when the client leaves, with the reason as its cause", async () => {
    const { writer, sink } = writing();
    writer.start({ status: 200 }, undefined);
    sink.full = true;
    const written = writer.write(BYTES);
    writer.leave(LEFT);
    await assert.rejects(written, { code: "CONNECTION_CLOSED", cause: LEFT });
  });
});
