/** How answers are written: to clients that have left, that read or do not, over any transport. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { createEdgeApp } from "../lib/edge/mod.ts";
import type { HttpsdError } from "../lib/errors.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import {
  latin1,
  type Mode,
  MODES,
  RawClient,
  readResponses,
  sleep,
  type Started,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { openRelay, until } from "./support.ts";

assertRuntime();

stopServersAfterAll();

/** So many writes in a row without a turn of the event loop starve it. */
const STARVING = 300_000;

/** A write loop that gives up where nothing else would stop it. */
class EndlessWriter {
  /** What ended the loop. */
  readonly ended: Promise<HttpsdError | "starved">;
  writes = 0;
  readonly #write: (request: HttpdRequest) => Promise<unknown>;
  #end!: (how: HttpsdError | "starved") => void;

  constructor(write: (request: HttpdRequest) => Promise<unknown>) {
    this.#write = write;
    this.ended = new Promise((resolve) => this.#end = resolve);
  }

  readonly handler = async (request: HttpdRequest): Promise<void> => {
    let writesInTurn = 0;
    const turns = setInterval(() => writesInTurn = 0, 1);
    try {
      for (;;) {
        this.writes++;
        if (++writesInTurn > STARVING) return this.#end("starved");
        await this.#write(request);
      }
    } catch (error) {
      this.#end(error as HttpsdError);
      throw error;
    } finally {
      clearInterval(turns);
    }
  };
}

const BYTES = new Uint8Array(1_000).fill(97);

/** How a handler can write for ever. */
const WRITES: Record<string, (request: HttpdRequest) => Promise<unknown>> = {
  "sendChunk()": (request) => request.sendChunk(BYTES),
  "sendChunk() of a text": (request) => request.sendChunk("a"),
  "sendChunk() with a length": (request) => {
    if (!request.sent) request.header("Content-Length", "9007199254740991");
    return request.sendChunk(BYTES);
  },
  "sendRaw()": (request) => request.sendRaw(BYTES),
  "sendStream()": (request) => request.sendStream(endless()),
};

function endless(): ReadableStream<Uint8Array> {
  return new ReadableStream({ pull: (controller) => controller.enqueue(BYTES) }, {
    highWaterMark: 0,
  });
}

/** Starts a server whose every GET, HEAD and POST goes to `handler`. */
async function serving(
  handler: (request: HttpdRequest) => Response | void | Promise<Response | void>,
  mode: Mode = "plain",
  options: Parameters<typeof started>[1] = {},
): Promise<Started> {
  const host = await started(undefined, { ...options, uriMatch: () => true }, mode);
  for (const method of ["GET", "HEAD", "POST"]) host.server.route({ uri: "/", method, handler });
  return host;
}

/** A client, and what it can do to its connection. */
interface Leaver {
  readonly client: RawClient;
  /** Resets the connection. */
  reset(): void;
  /** Reads no more. */
  stall(): void;
}

/** A client behind a relay: a TLS socket can neither reset the one under it, nor stop it on Deno. */
async function leaver(port: number, mode: Mode): Promise<Leaver> {
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

describe("a handler that writes for ever", () => {
  const requests = {
    "a GET": "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "an HTTP/1.0 GET": "GET / HTTP/1.0\r\n\r\n",
    "a HEAD": "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
  };
  for (const mode of MODES) {
    for (const [what, request] of Object.entries(requests)) {
      for (const [how, write] of Object.entries(WRITES)) {
        if (what === "a HEAD" && how === "sendRaw()") continue; // which knows no HEAD
        if (what === "a HEAD" && how === "sendStream()") continue; // which ends with the head
        test(`${how} to ${what} is told CONNECTION_CLOSED after a reset, ${mode}`, async () => {
          const writer = new EndlessWriter(write);
          const { server, port, errors } = await serving(writer.handler, mode);
          const { client, reset } = await leaver(port, mode);
          client.send(request);
          await client.expect(how === "sendRaw()" ? "a" : "\r\n\r\n");
          reset();
          const end = await writer.ended;
          assert.notEqual(end, "starved");
          assert.equal((end as HttpsdError).code, "CONNECTION_CLOSED");
          await until(() => server.sessions.size === 0, "the session is over");
          assert.deepEqual(errors, []);
        });
      }
    }
  }

  test("holds up no timer while its client reads", async () => {
    const writer = new EndlessWriter(WRITES["sendChunk() of a text"]!);
    const { port } = await serving(writer.handler);
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await client.expect("a\r\n1\r\na");
    for (let turns = 0; turns < 20; turns++) await sleep(1);
    client.destroy();
    assert.equal((await writer.ended as HttpsdError).code, "CONNECTION_CLOSED");
  });

  for (const mode of MODES) {
    test(`is told CONNECTION_CLOSED when its client reads no more, ${mode}`, async () => {
      const writer = new EndlessWriter(WRITES["sendChunk()"]!);
      const { server, port } = await serving(writer.handler, mode, { sendWaitTimeoutMs: 200 });
      const { client, stall, reset } = await leaver(port, mode);
      stall();
      client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      assert.equal((await writer.ended as HttpsdError).code, "CONNECTION_CLOSED");
      await until(() => server.sessions.size === 0, "the session is over");
      reset();
    });
  }

  test("and goes on whatever it is told holds up no timer", async () => {
    let writes = 0;
    let over = false;
    const rejections = new Set<string>();
    const { server, port } = await serving(async (request) => {
      while (!over && writes < 3 * STARVING) {
        writes++;
        await request.sendChunk("a").catch((error) => rejections.add(error.code));
      }
    });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await client.expect("a\r\n1\r\na");
    client.socket.resetAndDestroy();
    await until(() => server.sessions.size === 0, "the session is over");
    for (let turns = 0; turns < 20; turns++) await sleep(1);
    over = true;
    assert.ok(writes < 3 * STARVING, "it starved the event loop");
    assert.deepEqual([...rejections], ["CONNECTION_CLOSED"]);
  });

  test("without waiting does not end the process when its client leaves", async () => {
    const { server, port, errors } = await serving((request) => {
      request.detach();
      for (let i = 0; i < 200; i++) void request.sendChunk(new Uint8Array(100_000));
      void request.sendStream(endless()).catch(() => {});
    });
    const client = await RawClient.connect(port);
    client.socket.pause();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await until(() => [...server.sessions].some(({ busy }) => busy), "the handler runs");
    client.socket.resetAndDestroy();
    await until(() => server.sessions.size === 0, "the session is over");
    await sleep(20); // for rejections that nothing handles
    assert.deepEqual(errors, []);
  });

  for (const name of ["sendChunk()", "sendStream()"]) {
    test(`${name} without a socket is told CONNECTION_CLOSED when the reader leaves`, async () => {
      const writer = new EndlessWriter(WRITES[name]!);
      const errors: HttpsdError[] = [];
      const app = createEdgeApp({ reportError: (error) => void errors.push(error) });
      app.route({ uri: "/", method: "GET", handler: writer.handler });
      const reader = (await app.fetch(new Request("http://a/"))).body!.getReader();
      await reader.read();
      await reader.cancel();
      const end = await writer.ended;
      assert.notEqual(end, "starved");
      assert.equal((end as HttpsdError).code, "CONNECTION_CLOSED");
      assert.deepEqual(errors, []);
    });
  }
});

describe("205", () => {
  const FIELD = /\r\nContent-Length: 0\r\n/;

  for (
    const [how, answer] of Object.entries<(request: HttpdRequest) => unknown>({
      "send()": (request) => request.status(205).send("a body"),
      "sendChunk()": async (request) => {
        await request.status(205).sendChunk("a body");
        request.end();
      },
      "sendStream()": (request) => request.status(205).sendStream(new Blob(["a body"]).stream()),
      "sendError()": (request) => request.sendError(205, "a body"),
    })
  ) {
    test(`by ${how} has no body, and says so`, async () => {
      const { port, errors } = await serving(async (request) => void await answer(request));
      const client = await RawClient.connect(port);
      client.send(latin1("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2)));
      await client.until(() => client.text.split(FIELD).length === 3);
      const responses = readResponses(client.text);
      assert.deepEqual(responses.map(({ status, body }) => [status, body]), [[205, ""], [205, ""]]);
      assert.deepEqual(errors, []);
      client.destroy();
    });
  }

  test("without a socket has none either", async () => {
    const app = createEdgeApp();
    app.route({
      uri: "/",
      method: "GET",
      handler: (request) => request.status(205).send("a body"),
    });
    const response = await app.fetch(new Request("http://a/"));
    assert.deepEqual([response.status, response.body], [205, null]);
  });
});
