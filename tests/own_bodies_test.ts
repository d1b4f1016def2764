/**
 * The memory of long bodies that the server alone holds is freed behind the answer (on Bun, whose
 * responses give it away); the program's own never is, and what is still on its way neither.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { Socket } from "node:net";
import { afterAll, describe, test } from "bun:test";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import { bunParts, type BunTools, chooseBunParts } from "../lib/runtime/bun_response.ts";
import {
  headers,
  Http2Client,
  requestFields,
  reset,
  Setting,
  windowUpdate,
} from "./http2_client.ts";
import { GET, MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { bunTools } from "./bun_tools.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { overNodeSockets, turns, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();
bunParts(); // whose trial frees some memory too

const LENGTH = 1_000_000;
const source = new Uint8Array(LENGTH).map((_, i) => i * 7);
const expected = Buffer.from(source);
const intact = (bytes: Uint8Array) => assert.ok(expected.equals(bytes), "other bytes");

/** The lengths of the buffers that were freed, in order. */
const freed: number[] = [];
const { transfer } = ArrayBuffer.prototype;
ArrayBuffer.prototype.transfer = function (length) {
  if (length === 0) {
    freed.push(this.byteLength);
    new Uint8Array(this).fill(0xee); // what still reads it shows that
  }
  return transfer.call(this, length);
};
afterAll(() => void (ArrayBuffer.prototype.transfer = transfer));

/** What is freed of one answer with bytes. */
const ONE = runtime === "bun" ? [LENGTH] : [];

async function bodyOver1(port: number, mode: (typeof MODES)[number]): Promise<Buffer> {
  const client = await RawClient.connect(port, mode);
  client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const message = Buffer.from(await client.rest(), "latin1");
  client.destroy();
  return message.subarray(message.indexOf("\r\n\r\n") + 4);
}

async function bodyOver2(port: number, mode: (typeof MODES)[number]): Promise<Buffer> {
  using client = await Http2Client.connect(port, mode);
  await client.ready();
  const streamId = client.request();
  return (await client.answer(streamId)).body;
}

for (const mode of MODES) {
  for (const [version, body] of [["1.1", bodyOver1], ["2", bodyOver2]] as const) {
    describe(`over HTTP/${version}, ${mode}`, () => {
      const run = async (handler: FetchHandler): Promise<Buffer> => {
        freed.length = 0;
        const { port } = await started(handler, {}, mode);
        return await body(port, mode);
      };

      test("a body of bytes is freed once, and what it was made of is not", async () => {
        intact(await run(() => new Response(source)));
        await until(() => freed.length === ONE.length, "it is freed");
        intact(await run(() => new Response(source, { headers: { "Content-Type": "a/b" } })));
        await until(() => freed.length === ONE.length, "it is freed");
        await turns();
        assert.deepEqual(freed, ONE);
        intact(source);
      });

      test("a body whose stream was looked at is whole", async () => {
        intact(
          await run(() => {
            const response = new Response(source);
            assert.ok(response.body instanceof ReadableStream);
            return response;
          }),
        );
      });

      test("a clone that the program keeps has its bytes", async () => {
        let clone: Response | undefined;
        intact(
          await run(() => {
            const response = new Response(source);
            clone = response.clone();
            return response;
          }),
        );
        await turns();
        intact(await clone!.bytes());
      });
    });
  }

  test(`a client that leaves in the middle frees nothing, HTTP/1.1, ${mode}`, async () => {
    freed.length = 0;
    const long = new Uint8Array(32_000_000);
    const { port, server } = await started(() => new Response(long), {}, mode);
    const left = new Promise((resolve) => server.addEventListener("disconnected", resolve));
    const client = await RawClient.connect(port, mode);
    client.send(GET("/"));
    await client.expect("200 OK");
    client.destroy();
    await left;
    await turns();
    assert.deepEqual(freed, []);
  });

  test(`a stream that is reset in the middle frees nothing, ${mode}`, async () => {
    freed.length = 0;
    const { port } = await started(() => new Response(source), {}, mode);
    using client = await Http2Client.connect(port, mode, {
      giveBack: false,
      settings: [[Setting.INITIAL_WINDOW_SIZE, 100_000]],
    });
    await client.ready();
    client.send(windowUpdate(0, 10_000_000));
    const cut = client.request();
    await client.until(() => client.bytes > 100_000, "its window is used up");
    client.send(reset(cut));
    const other = client.nextStreamId();
    client.send(headers(other, requestFields()), windowUpdate(other, LENGTH));
    intact((await client.answer(other)).body);
    await until(() => freed.length === ONE.length, "the other one is freed");
    await turns();
    assert.deepEqual(freed, ONE);
  });
}

/** Reads one piece in each turn of the event loop, so that the server is far ahead. */
function readSlowly(socket: Socket): void {
  socket.on("data", () => {
    socket.pause();
    setImmediate(() => socket.resume());
  });
}

/** On Bun alone: elsewhere nothing is freed. */
const SERVED = runtime === "bun"
  ? { "Bun's own sockets": started, "sockets of node:net": startedOnNode }
  : {};

function startedOnNode(...given: Parameters<typeof started>): ReturnType<typeof started> {
  return overNodeSockets(() => started(...given));
}

for (const [name, start] of Object.entries(SERVED)) {
  test(`a slow client gets all, though memory is overwritten as it is freed, over ${name}`, async () => {
    freed.length = 0;
    const lengths = [5_000_000, 100_000, 3_000_001, 65_536];
    const bodies = lengths.map((length) =>
      Buffer.from(new Uint8Array(length).map((_, i) => i * 7))
    );
    const { port } = await start(
      ({ url }) => new Response(bodies[Number(new URL(url).pathname.slice(1))]),
      {},
      "tls",
    );
    const client = await RawClient.connect(port, "tls");
    readSlowly(client.socket);
    client.send(bodies.map((_, i) => `GET /${i} HTTP/1.1\r\nHost: a\r\n\r\n`).join(""));
    client.end();
    const received = Buffer.from(await client.rest(), "latin1");
    let at = 0;
    for (const body of bodies) {
      at = received.indexOf("\r\n\r\n", at) + 4;
      assert.ok(body.equals(received.subarray(at, at += body.length)), `${body.length} bytes`);
    }

    using other = await Http2Client.connect(port, "tls");
    readSlowly(other.socket);
    await other.ready();
    const streams = bodies.map((_, i) => other.request({ path: `/${i}` }));
    for (const [i, id] of streams.entries()) {
      assert.ok(bodies[i]!.equals((await other.answer(id)).body), `${lengths[i]} bytes`);
    }
    for (const [i, body] of bodies.entries()) {
      assert.equal(body[8], 56, `body ${i} is the program's`);
    }
  });
}

test("what a stream gives is the program's, in one piece as well", async () => {
  await turns(); // the last of the tests before may be freed only now
  freed.length = 0;
  const piece = new Uint8Array(source);
  // So many properties that it takes more memory than a long body does.
  const many = Object.fromEntries(Array.from({ length: 70_000 }, (_, i) => [`p${i}`, i]));
  for (const init of [{}, { headers: { "Content-Type": "a/b" } }]) {
    const stream = new ReadableStream({
      start(controller) {
        controller.enqueue(piece);
        controller.close();
      },
    });
    const { port } = await started(() => Object.assign(new Response(stream, init), many));
    intact(await bodyOver1(port, "plain"));
  }
  await turns();
  assert.deepEqual(freed, []);
  intact(piece);
});

if (runtime === "bun") {
  const tools = bunTools();

  test("where bytes are not given as their own, nothing is taken apart so", () => {
    assert.notEqual(chooseBunParts(tools), undefined);
    const length = 64 * 1024;
    const kept = new Uint8Array(length).fill(97);
    const peek: BunTools["peek"] = (promise) => {
      const value = tools.peek(promise);
      return value instanceof Uint8Array && value.length === length ? kept as never : value;
    };
    assert.equal(chooseBunParts({ ...tools, peek }), undefined);
  });
}
