/** Flow control of what clients send over HTTP/2 (RFC 9113 sections 6.9.1 to 6.9.3), on sockets. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import type { Http2Options } from "../lib/http2/options.ts";
import { Output } from "../lib/http2/output.ts";
import type { ConnectionEngine } from "../lib/net/engine.ts";
import {
  Code,
  data,
  headers,
  Http2Client,
  ping,
  requestFields,
  reset,
  settingsAck,
  Type,
  webSocketFields,
  windowUpdate,
} from "./http2_client.ts";
import { MODES, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { blocks, digestOf } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const length: FetchHandler = async (request) => {
  if (request.url.endsWith("/hold")) {
    await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
  }
  return new Response(digestOf([await request.bytes()]));
};

/** How much of what came may still be sent: what WINDOW_UPDATE has given. */
function given(client: Http2Client, streamId: number): number {
  return client.frames
    .filter((frame) => frame.type === Type.WINDOW_UPDATE && frame.streamId === streamId)
    .reduce((sum, { payload }) => sum + payload.readUInt32BE(), 0);
}

const post = (streamId: number, path = "/") =>
  headers(streamId, requestFields({ method: "POST", path }), { endStream: false });

/** DATA of so many bytes in frames of 10,000 at most. */
function dataOf(streamId: number, body: Uint8Array, endStream = false): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let at = 0; at < body.length; at += 10_000) {
    const end = endStream && at + 10_000 >= body.length;
    frames.push(data(streamId, body.subarray(at, at + 10_000), { endStream: end }));
  }
  return frames;
}

/** A body of so many bytes in pieces. */
function inPieces(bytes: number, piece: number): ReadableStream<Uint8Array> {
  let left = bytes;
  return new ReadableStream({
    pull(controller) {
      controller.enqueue(new Uint8Array(Math.min(piece, left)));
      left -= piece;
      if (left <= 0) controller.close();
    },
  });
}

test("a long answer earns no flood of frames that carry nothing", () => {
  const connection = { blocked: false } as unknown as ConnectionEngine;
  const output = new Output(connection, 0);
  for (let i = 0; i < 1_000_000; i++) output.mayBeAnswered();
  let answers = 0;
  while (output.takeAnswer()) answers++;
  assert.equal(answers, 262_144);
});

for (const mode of MODES) {
  describe(`a client that gives back each frame of an answer by itself, ${mode},`, () => {
    const BYTES = 4_000_000;
    const bodies: Record<string, () => Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>> = {
      "whole": () => new Uint8Array(BYTES),
      "in pieces as long as a window": () => inPieces(BYTES, 65_536),
      "in long pieces": () => inPieces(BYTES, 1_000_000),
    };
    for (const [what, body] of Object.entries(bodies)) {
      test(`floods nobody, and gets a body ${what}`, async () => {
        const http2 = { controlFrames: { burst: 20, perSecond: 0 } };
        const { port, errors } = await started(() => new Response(body()), { http2 }, mode);
        using client = await Http2Client.connect(port, mode);
        await client.ready();
        const answer = await client.answer(client.request({ path: "/" }));
        assert.deepEqual([answer.body.length, client.goaway], [BYTES, undefined]);
        assert.deepEqual(errors, []);
      });
    }
  });

  test(`a client that sends a PING for each answer, as gRPC does, floods nobody, ${mode}`, async () => {
    const http2 = { controlFrames: { burst: 20, perSecond: 0 } };
    const { port, errors } = await started(() => new Response("hello"), { http2 }, mode);
    using client = await Http2Client.connect(port, mode);
    await client.ready();
    let pings = 0;
    client.onFrame = ({ type, payload }) => {
      if (type === Type.DATA && payload.length > 0) client.send(ping());
      if (type === Type.PING) pings++;
    };
    for (let i = 0; i < 100; i++) await client.answer(client.request({ path: "/" }));
    await client.until(() => pings === 100, "all are acknowledged");
    assert.deepEqual(errors, []);
    for (let i = 0; i < 1_000; i++) client.send(ping()); // more than answers could be
    await client.until(() => client.goaway !== undefined, "the end");
    assert.equal(client.goaway?.code, "ENHANCE_YOUR_CALM");
  });

  test(`a client that ends by a reset what it still sent behind its answer floods nobody, ${mode}`, async () => {
    const http2 = { clientResets: { burst: 2, perSecond: 0 } };
    const { port, errors } = await started(
      () => new Response("no", { status: 401 }),
      { http2 },
      mode,
    );
    using client = await Http2Client.connect(port, mode);
    await client.ready();
    for (let i = 0; i < 20; i++) {
      const id = client.request({ path: "/" }, "begun", { endStream: false });
      assert.equal((await client.answer(id)).status, 401);
      client.send(reset(id, Code.NO_ERROR));
    }
    await client.settled();
    assert.deepEqual([client.goaway, errors], [undefined, []]);
  });

  describe(`HTTP/2's windows, ${mode}`, () => {
    async function client(http2: Http2Options, acknowledge = true): Promise<Http2Client> {
      const { port } = await started(length, { http2 }, mode);
      return await Http2Client.connect(port, mode, { acknowledge });
    }

    test("a stream's is full to the last byte, and one more resets that stream alone", async () => {
      using sender = await client({ streamWindowBytes: 70_000 });
      await sender.ready();
      sender.send(post(1, "/hold"), ...dataOf(1, new Uint8Array(70_000)));
      await sender.settled();
      assert.equal(sender.count(Type.RST_STREAM), 0);
      sender.send(data(1, "1", { endStream: false }));
      assert.equal((await sender.answer(1)).reset, "FLOW_CONTROL_ERROR");
      sender.send(post(3), data(3, "next"));
      assert.equal((await sender.answer(3)).body.toString(), digestOf([Buffer.from("next")]));
    });

    test("padding counts for it", async () => {
      using sender = await client({ streamWindowBytes: 70_000 });
      await sender.ready();
      sender.send(post(1, "/hold"), ...dataOf(1, new Uint8Array(69_990)));
      sender.send(data(1, "1234", { endStream: false, padding: 5 })); // 10 bytes
      await sender.settled();
      assert.equal(sender.count(Type.RST_STREAM), 0);
      sender.send(data(1, "", { endStream: false, padding: 20 }));
      assert.equal((await sender.answer(1)).reset, "FLOW_CONTROL_ERROR");
    });

    test("the connection's is shared, and one byte more ends the connection", async () => {
      using sender = await client({ connectionWindowBytes: 100_000, streamWindowBytes: 80_000 });
      await sender.ready();
      assert.equal(65_535 + given(sender, 0), 100_000);
      sender.send(post(1, "/hold"), ...dataOf(1, new Uint8Array(40_000)));
      sender.send(post(3, "/hold"), ...dataOf(3, new Uint8Array(60_000)));
      await sender.settled();
      sender.send(data(3, "1", { endStream: false }));
      await sender.over();
      assert.equal(sender.goaway?.code, "FLOW_CONTROL_ERROR");
    });

    test("what is thrown away is given back on the connection", async () => {
      using sender = await client({ connectionWindowBytes: 65_535, serverResets: many });
      await sender.ready();
      for (let id = 1; id < 41; id += 2) {
        // Longer than declared, so that each is reset, and its DATA belongs to no stream any more.
        const fields = requestFields({ method: "POST", fields: [["content-length", "1"]] });
        sender.send(headers(id, fields, { endStream: false }), data(id, new Uint8Array(10_000)));
        assert.equal((await sender.answer(id)).reset, "PROTOCOL_ERROR");
        await sender.settled();
      }
      assert.equal(sender.goaway, undefined);
    });

    test("one smaller than the default holds once the client knows of it", async () => {
      using sender = await client({ streamWindowBytes: 1_000 }, false);
      await sender.ready();
      const body = Buffer.concat([...blocks(80_000)]).subarray(0, 66_935);
      // The client has not read SETTINGS: it may send as much as the default (6.9.3).
      sender.send(post(1), ...dataOf(1, body.subarray(0, 65_535)));
      await sender.settled();
      assert.equal(sender.count(Type.RST_STREAM), 0, sender.story());
      // Now its window is below zero, and grows to 1,000 again as the handler reads.
      sender.send(settingsAck());
      await sender.until(() => given(sender, 1) >= 65_535 - 500, "the window");
      const size = 1_000 - 65_535 + given(sender, 1);
      assert.ok(size >= 500 && size <= 1_000, `${size}`);
      sender.send(data(1, body.subarray(65_535, 65_535 + size), { endStream: false }));
      await sender.until(() => given(sender, 1) > 65_535 - 1_000 + size, "the window");
      sender.send(data(1, body.subarray(65_535 + size, 65_535 + size + 500)));
      const sent = body.subarray(0, 65_535 + size + 500);
      assert.equal((await sender.answer(1)).body.toString(), digestOf([sent]));
      // Streams that open now have the smaller one.
      sender.send(post(3, "/hold"), data(3, new Uint8Array(1_000), { endStream: false }));
      await sender.settled();
      assert.equal(sender.soFar(3).reset, undefined);
      sender.send(data(3, "1", { endStream: false }));
      assert.equal((await sender.answer(3)).reset, "FLOW_CONTROL_ERROR");
    });

    test("one smaller than the default is none for a client that does not say it knows", async () => {
      using sender = await client({ streamWindowBytes: 1_000 }, false);
      await sender.ready();
      sender.send(post(1, "/hold"), ...dataOf(1, new Uint8Array(65_535)));
      await sender.settled();
      sender.send(data(1, "1", { endStream: false }));
      assert.equal((await sender.answer(1)).reset, "FLOW_CONTROL_ERROR");
    });

    test("of a stream that opened before and sends after the acknowledgement is the smaller one", async () => {
      using sender = await client({ streamWindowBytes: 1_000 }, false);
      await sender.ready();
      sender.send(post(1, "/hold"), settingsAck(), data(1, new Uint8Array(1_000), more));
      await sender.settled();
      assert.equal(sender.soFar(1).reset, undefined);
      sender.send(data(1, "1", more));
      assert.equal((await sender.answer(1)).reset, "FLOW_CONTROL_ERROR");
    });

    test("longer frames are taken where they were announced", async () => {
      using sender = await client({ maxFrameBytes: 100_000, streamWindowBytes: 200_000 });
      await sender.ready();
      const body = new Uint8Array(60_000).fill(7);
      sender.send(post(1), data(1, body));
      assert.equal((await sender.answer(1)).body.toString(), digestOf([body]));
      sender.send(windowUpdate(0, 1));
      await sender.settled();
    });
  });
}

const more = { endStream: false };
const many = { burst: 1_000, perSecond: 0 };

describe("what a client sends that nothing reads", () => {
  const LONG = `/${"a".repeat(9_000)}`;
  const CONNECT = webSocketFields("/", { fields: [] });
  const UNREAD: Record<string, Uint8Array> = {
    "a request that is refused": post(1, LONG),
    "a CONNECT that is answered as any other": headers(1, CONNECT, { endStream: false }),
    "a request that is answered before its body": post(1),
  };
  for (const [what, head] of Object.entries(UNREAD)) {
    test(`is thrown away up to maxDiscardedBytes behind the answer to ${what}`, async () => {
      const { port } = await started(() => new Response("early"), {
        limits: { maxDiscardedBytes: 20_000 },
      });
      using sender = await Http2Client.connect(port);
      await sender.ready();
      sender.send(head);
      await sender.frame(({ streamId }) => streamId === 1, "the answer");
      for (let i = 0; i < 3; i++) sender.send(...dataOf(1, new Uint8Array(10_000)));
      await sender.frame(({ type }) => type === Type.RST_STREAM, "the reset");
      assert.equal(sender.soFar(1).reset, "NO_ERROR");
    });
  }

  test("takes no more than a stream's window while a refusal is thought about", async () => {
    const { port, server } = await started(() => new Response("never"), {
      http2: { streamWindowBytes: 70_000 },
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    server.onError(414, async (_, request) => {
      await promise;
      request!.status(414).send("too long");
    });
    using sender = await Http2Client.connect(port);
    await sender.ready();
    sender.send(post(1, LONG), ...dataOf(1, new Uint8Array(70_000)));
    await sender.settled();
    assert.equal(given(sender, 1), 0);
    resolve();
    await sender.frame(({ type, streamId }) => type === Type.HEADERS && streamId === 1, "414");
    await sender.settled();
    assert.equal(given(sender, 1), 70_000);
  });

  test("takes no more than a stream's window beyond a body that is too long", async () => {
    const { port } = await started(
      async () => await new Promise<never>(() => {}),
      { limits: { maxBodyBytes: 10_000 }, http2: { streamWindowBytes: 70_000 } },
    );
    using sender = await Http2Client.connect(port);
    await sender.ready();
    await sender.settled();
    sender.send(post(1), ...dataOf(1, new Uint8Array(70_000)));
    await sender.settled();
    assert.equal(given(sender, 1), 0);
  });

  test("is a fault ahead of the answer to an extended CONNECT", async () => {
    const { port } = await started(async () => await new Promise<never>(() => {}));
    using sender = await Http2Client.connect(port);
    sender.send(headers(1, CONNECT, { endStream: false }), data(1, "early", { endStream: false }));
    assert.equal((await sender.answer(1)).reset, "PROTOCOL_ERROR");
  });
});
