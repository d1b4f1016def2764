/** What is said about a mistake in a handler, a hook or a WebSocket's callback. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { once } from "node:events";
import { Readable } from "node:stream";
import WsClient from "ws";
import type { OutgoingFrame } from "../lib/websocket/socket.ts";
import { createEdgeApp } from "../lib/edge/mod.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import type { HttpsdError } from "../lib/errors.ts";
import { HttpsServer } from "../lib/server.ts";
import { GET, RawClient, readResponses, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

test("a hook that answers neither true nor false is written to the console without a listener", async () => {
  const openFn = (() => {}) as () => never;
  const options = { transportMode: "insecure", hostname: "127.0.0.1", port: 0, openFn } as const;
  await using server = new HttpsServer(options);
  await server.start();
  const lines = await consoleOf(async () => {
    const client = await RawClient.connect(server.address.port);
    await client.rest();
    client.destroy();
  });
  const [line] = lines as [HttpsdError];
  assert.equal(lines.length, 1);
  assert.equal(line.code, "HOOK_FAILED");
  assert.match(line.message, /^Hook openFn returned undefined, .*: return true or false$/);
});

/** What is written to `console.error` meanwhile. */
async function consoleOf(run: () => Promise<void>): Promise<unknown[]> {
  const lines: unknown[] = [];
  const { error } = console;
  console.error = (line) => void lines.push(line);
  try {
    await run();
  } finally {
    console.error = error;
  }
  return lines;
}

/** A request whose methods take anything, as a JavaScript program may call them. */
type Loose = Record<keyof HttpdRequest, (...given: unknown[]) => unknown>;

/** What a handler does wrong before anything is sent. */
const UNSENT: [what: string, run: (request: Loose) => unknown, code: string, message: RegExp][] = [
  [
    "send({})",
    (r) => r.send({}),
    "BAD_RESPONSE",
    /^send\(\) takes text or bytes, and was given an o/,
  ],
  ["send(42)", (r) => r.send(42), "BAD_RESPONSE", /was given 42: use sendJson\(\), or String\(\)$/],
  ["send(true)", (r) => r.send(true), "BAD_RESPONSE", /was given true: use sendJson/],
  ["send(null)", (r) => r.send(null), "BAD_RESPONSE", /was given null/],
  ["send([])", (r) => r.send([]), "BAD_RESPONSE", /was given an array: use sendJson/],
  ["send(1n)", (r) => r.send(1n), "BAD_RESPONSE", /was given a bigint/],
  ["send(f)", (r) => r.send(() => "x"), "BAD_RESPONSE", /was given a function/],
  [
    "send(promise)",
    (r) => r.send(Promise.resolve("x")),
    "BAD_RESPONSE",
    /a promise: await it first$/,
  ],
  [
    "send(Response)",
    (r) => r.send(new Response("x")),
    "BAD_RESPONSE",
    /return it from the handler$/,
  ],
  ["send(stream)", (r) => r.send(new Blob(["x"]).stream()), "BAD_RESPONSE", /use sendStream\(\)$/],
  [
    "send(Blob)",
    (r) => r.send(new Blob(["x"])),
    "BAD_RESPONSE",
    /use sendStream\(blob\.stream\(\)/,
  ],
  [
    "send(ArrayBuffer)",
    (r) => r.send(new ArrayBuffer(1)),
    "BAD_RESPONSE",
    /new Uint8Array\(buffer\)$/,
  ],
  [
    "send(Uint16Array)",
    (r) => r.send(new Uint16Array(1)),
    "BAD_RESPONSE",
    /a Uint8Array of its buf/,
  ],
  [
    "sendJson()",
    (r) => r.sendJson(undefined),
    "BAD_RESPONSE",
    /undefined, which is not JSON: send nu/,
  ],
  ["sendJson(f)", (r) => r.sendJson(() => 1), "BAD_RESPONSE", /a function, which is not JSON/],
  ["sendJson(promise)", (r) => r.sendJson(Promise.resolve(1)), "BAD_RESPONSE", /await it first$/],
  ["sendJson(1n)", (r) => r.sendJson(1n), "HANDLER_FAILED", /^The handler threw$/],
  ["sendChunk(42)", (r) => r.sendChunk(42), "BAD_RESPONSE", /^sendChunk\(\) takes text or bytes/],
  [
    "sendChunk(promise)",
    (r) => r.sendChunk(Promise.resolve("x")),
    "BAD_RESPONSE",
    /await it first$/,
  ],
  ["sendRaw({})", (r) => r.sendRaw({}), "BAD_RESPONSE", /^sendRaw\(\) takes text or bytes/],
  [
    "sendStream(text)",
    (r) => r.sendStream("x"),
    "BAD_RESPONSE",
    /a ReadableStream, .*: use send\(\)$/,
  ],
  [
    "sendStream({})",
    (r) => r.sendStream({}),
    "BAD_RESPONSE",
    /give ReadableStream\.from\(source\)/,
  ],
  ["sendStream(node)", (r) => r.sendStream(Readable.from([])), "BAD_RESPONSE", /Readable\.toWeb\(/],
  [
    "sendStream(_, '1')",
    (r) => r.sendStream(new Blob(["x"]).stream(), "1"),
    "BAD_RESPONSE",
    /^The length of sendStream\(\) is a string: give bytes, or leave it out$/,
  ],
  [
    "sendError('404')",
    (r) => r.sendError("404"),
    "BAD_RESPONSE",
    /a string is not an error status: use a num/,
  ],
  ["sendError(200)", (r) => r.sendError(200), "BAD_RESPONSE", /^Status 200 is not an error status/],
  [
    "sendError(_, {})",
    (r) => r.sendError(404, {}),
    "BAD_RESPONSE",
    /text of sendError\(\) is an obj/,
  ],
  [
    "status('200')",
    (r) => r.status("200"),
    "BAD_RESPONSE",
    /^Status a string is not a final status: use a num/,
  ],
  ["status(101)", (r) => r.status(101), "BAD_RESPONSE", /^Status 101 is not a final status/],
  ["status(NaN)", (r) => r.status(NaN), "BAD_RESPONSE", /^Status NaN is not a final status/],
  [
    "type(undefined)",
    (r) => r.type(undefined),
    "BAD_RESPONSE",
    /^Field Content-Type is undefined: gi/,
  ],
  [
    "header(_, 1)",
    (r) => r.header("X", 1),
    "BAD_RESPONSE",
    /^Field X is 1: give text, such as Stri/,
  ],
  ["header(_, null)", (r) => r.header("X", null), "BAD_RESPONSE", /^Field X is null: give text/],
  [
    "header(undefined)",
    (r) => r.header(undefined, "x"),
    "BAD_RESPONSE",
    /^Field name is undefined: g/,
  ],
  ["inform(200)", (r) => r.inform(200, []), "BAD_RESPONSE", /^Status 200 is not an interim status/],
  [
    "inform(103, {})",
    (r) => r.inform(103, { a: "b" }),
    "BAD_RESPONSE",
    /^Fields are an object: give pa/,
  ],
  ["end({})", (r) => r.end({ a: "b" }), "BAD_RESPONSE", /^Fields are an object: give pairs/],
  [
    "recv(0)",
    (r) => r.recv(0),
    "INVALID_CONFIG",
    /^recv\(\) takes the most bytes to give, .*not 0$/,
  ],
  ["recv('1')", (r) => r.recv("1"), "INVALID_CONFIG", /not a string$/],
  ["recv(NaN)", (r) => r.recv(NaN), "INVALID_CONFIG", /not NaN$/],
  [
    "detach('1')",
    (r) => r.detach("1"),
    "INVALID_CONFIG",
    /^detach\(\) takes a deadline in ms, .*stri/,
  ],
  ["detach(0)", (r) => r.detach(0), "INVALID_CONFIG", /not 0$/],
  ["complete()", (r) => r.complete(), "NOT_DETACHED", /is not detached: call detach\(\) before$/],
  ["returning text", () => "x", "HANDLER_FAILED", /a string, .*: return new Response\(text\)$/],
  ["returning {}", () => ({}), "HANDLER_FAILED", /an object, .*: return Response\.json\(value\)$/],
  ["returning null", () => null, "HANDLER_FAILED", /returned null, .*: return one$/],
  ["returning 1", () => 1, "HANDLER_FAILED", /returned 1, which is not a Response: return one$/],
  ["returning itself", (r) => r.status(201), "HANDLER_FAILED", /returned an object/],
  [
    "returning nothing",
    () => {},
    "HANDLER_FAILED",
    /without a whole response: send one, await what/,
  ],
];

/** What a handler does wrong after `send("first")`. */
const SECOND: [what: string, run: (request: Loose) => unknown, code?: string][] = [
  ["send()", (r) => r.send("second")],
  ["sendJson()", (r) => r.sendJson({})],
  ["sendChunk()", (r) => r.sendChunk("second")],
  ["sendRaw()", (r) => r.sendRaw("second")],
  ["sendStream()", (r) => r.sendStream(new Blob(["second"]).stream())],
  ["sendError()", (r) => r.sendError(404)],
  ["status()", (r) => r.status(404)],
  ["header()", (r) => r.header("X", "x")],
  ["type()", (r) => r.type("x/y")],
  ["inform()", (r) => r.inform(103, [])],
  ["detach()", (r) => r.detach()],
  ["returning a Response", () => new Response("second")],
  ["returning a stream", () => new Response(new Blob(["second"]).stream())],
  ["returning text", () => "second", "HANDLER_FAILED"],
  ["a throw", () => {
    throw new Error("second");
  }, "HANDLER_FAILED"],
  ["complete()", (r) => r.complete(), "NOT_DETACHED"],
];

describe("A handler's mistake", () => {
  /** How a handler may come to its mistake: with its call, later, and without waiting for it. */
  const ways: Record<string, (run: () => unknown) => unknown> = {
    "at once": (run) => run(),
    "later": async (run) => {
      await Promise.resolve();
      return await run();
    },
    "without waiting": (run) => void run(),
  };

  /** The console and the answer, without a listener; and that the next request is served. */
  async function outcome(handler: (request: Loose) => unknown) {
    await using server = new HttpsServer({
      transportMode: "insecure",
      hostname: "127.0.0.1",
      port: 0,
    });
    server.route({ uri: "/bad", method: "GET", handler: handler as never });
    server.route({ uri: "/good", method: "GET", handler: (request) => request.send("good") });
    await server.start();
    let text = "";
    const lines = await consoleOf(async () => {
      const client = await RawClient.connect(server.address.port);
      client.send(GET("/bad") + GET("/good").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
      text = await client.rest();
      client.destroy();
    });
    return { answers: readResponses(text), errors: lines as HttpsdError[] };
  }

  for (const [what, run, code, message] of UNSENT) {
    for (const [way, call] of Object.entries(ways)) {
      if (way === "without waiting" && what.startsWith("returning")) continue;
      test(`${what} ${way} is a whole 500 and in the console`, async () => {
        const { answers, errors } = await outcome((request) => call(() => run(request)));
        assert.deepEqual(answers.map(({ status }) => status), [500, 200]);
        assert.doesNotMatch(answers[0]!.body, /takes|given|promise/, "the client sees why");
        const found = errors.find((error) => error.code === code);
        assert.ok(found !== undefined, String(errors.map((error) => error.code)));
        assert.match(found.message, message);
        assert.ok(errors.length === 1 || way === "without waiting", String(errors));
      });
    }
  }

  for (const [what, run, code = "ALREADY_SENT"] of SECOND) {
    for (const [way, call] of Object.entries(ways)) {
      if (way === "without waiting" && what.startsWith("returning")) continue;
      test(`${what} ${way} after an answer leaves that whole, and is in the console`, async () => {
        const { answers, errors } = await outcome((request) => {
          request.send("first");
          return call(() => run(request));
        });
        assert.deepEqual(answers.map(({ status, body }) => [status, body]), [
          [200, "first"],
          [200, "good"],
        ]);
        assert.deepEqual(errors.map((error) => error.code), [code]);
      });
    }
  }

  test("after detach() is a 500, and reported, without waiting too", async () => {
    const { answers, errors } = await outcome((request) => {
      request.detach();
      setTimeout(() => void request.sendChunk(42), 1);
    });
    assert.deepEqual(answers.map(({ status }) => status), [500, 200]);
    assert.deepEqual(errors.map(({ code }) => code), ["BAD_RESPONSE"]);
  });

  test("is reported to an edge app's reportError, and answered in the same way", async () => {
    for (const [what, run, code] of UNSENT) {
      const errors: HttpsdError[] = [];
      const app = createEdgeApp({ reportError: (error) => void errors.push(error) });
      app.route({ uri: "/", method: "GET", handler: ((r: Loose) => run(r)) as never });
      const { status } = await app.fetch(new Request("http://a/"));
      assert.equal(status, 500, what);
      const expected = /^(?:inform|sendRaw)/.test(what) ? [code, "NOT_SUPPORTED"] : [code];
      assert.ok(errors.length === 1 && expected.includes(errors[0]!.code), `${what}: ${errors}`);
    }
    for (const [what, run, code = "ALREADY_SENT"] of SECOND) {
      const errors: HttpsdError[] = [];
      const app = createEdgeApp({ reportError: (error) => void errors.push(error) });
      const handler = (request: Loose) => {
        request.send("first");
        return run(request);
      };
      app.route({ uri: "/", method: "GET", handler: handler as never });
      const response = await app.fetch(new Request("http://a/"));
      assert.equal(await response.text(), "first", what);
      await until(() => errors.length === 1, `${what} is reported`);
      assert.equal(errors[0]!.code, code, what);
    }
  });
});

describe("A mistake with WebSockets", () => {
  interface LooseSocket {
    send(...given: unknown[]): Promise<void>;
    sendFrame(...given: unknown[]): Promise<void>;
    ping(...given: unknown[]): Promise<void>;
    close(...given: unknown[]): void;
    subscribe(...given: unknown[]): void;
  }
  type Server = Record<"broadcast" | "publish", (...given: unknown[]) => number>;

  const mistakes: [what: string, run: (ws: LooseSocket, server: Server) => unknown, RegExp][] = [
    ["send(42)", (ws) => ws.send(42), /^send\(\) takes text or bytes, and was given 42: use JSON/],
    ["send({})", (ws) => ws.send({}), /was given an object: use JSON\.stringify/],
    ["send()", (ws) => ws.send(), /was given undefined/],
    ["send(promise)", (ws) => ws.send(Promise.resolve("x")), /a promise: await it first$/],
    ["compres", (ws) => ws.send("x", { compres: true }), /compres of send\(\) .* mean compress\?$/],
    ["compress: 1", (ws) => ws.send("x", { compress: 1 }), /is 1: it must be true or false$/],
    ["sendFrame({})", (ws) => ws.sendFrame({}), /^Option opcode of sendFrame\(\) is missing: give/],
    [
      "fin",
      (ws) => ws.sendFrame({ opcode: 1, fin: false }),
      /fin of sendFrame\(\) .* write final$/,
    ],
    ["opcode: 3", (ws) => ws.sendFrame({ opcode: 3 }), /opcode .* is 3: it must be one of Opcode$/],
    [
      "a number",
      (ws) => ws.sendFrame({ opcode: 1, payload: 1 }),
      /^sendFrame\(\) takes text or byt/,
    ],
    [
      "a piece",
      (ws) => ws.sendFrame({ opcode: 1, payload: "x", remaining: 5 }),
      /remaining .* is 5: it must be 0: send a piece of a frame as a fragment$/,
    ],
    ["ping(1)", (ws) => ws.ping(1), /takes text or bytes, and was given 1/],
    ["close('bye')", (ws) => ws.close("bye"), /^Close code bye may not be sent/],
    ["close(_, {})", (ws) => ws.close(1000, {}), /^The close reason is not text/],
    ["subscribe(1)", (ws) => ws.subscribe(1), /^subscribe\(\) takes a topic as text, not 1$/],
    [
      "publish(1)",
      (_, server) => server.publish(1, "x"),
      /^publish\(\) takes a topic as text, not/,
    ],
    [
      "publish('x')",
      (_, server) => server.publish("x"),
      /^publish\(\) takes text or bytes, .* undef/,
    ],
    ["broadcast(1)", (_, server) => server.broadcast(1), /^broadcast\(\) takes text or bytes/],
    [
      "a filter",
      (_, server) => server.broadcast("x", {}),
      /^The filter of broadcast\(\) is an objec/,
    ],
    [
      "an async filter",
      (_, server) => server.broadcast("secret", () => Promise.resolve(false)),
      /^The filter of broadcast\(\) returned a promise: return true or false$/,
    ],
    [
      "a truthy filter",
      (_, server) => server.broadcast("secret", () => 1),
      /^The filter of broadcast\(\) returned 1: return true or false$/,
    ],
  ];
  for (const [what, run, message] of mistakes) {
    for (const waits of [true, false]) {
      test(`${what} closes the socket and is reported, ${waits ? "waited for" : "or not"}`, async () => {
        const { server, port, errors } = await started(undefined);
        server.route({
          uri: "/ws",
          websocket: {
            onMessage(ws) {
              const result = run(ws as never, server as never);
              return waits ? result as Promise<void> : undefined;
            },
          },
        });
        const client = new WsClient(`ws://127.0.0.1:${port}/ws`);
        const received: string[] = [];
        client.on("message", (data) => received.push(String(data)));
        await once(client, "open");
        client.send("go");
        const [code] = await once(client, "close");
        assert.equal(code, 1011);
        assert.deepEqual(received, []);
        assert.deepEqual(errors.map((error) => error.code), ["WS_CALLBACK_FAILED"]);
        assert.match((errors[0]!.cause as Error).message, message);
      });
    }
  }

  test("is none where a whole frame goes back as it came", async () => {
    const { server, port } = await started(undefined);
    server.route({
      uri: "/ws",
      websocket: { onFrame: (ws, frame) => ws.sendFrame(frame as OutgoingFrame) },
    });
    const client = new WsClient(`ws://127.0.0.1:${port}/ws`);
    await once(client, "open");
    client.send("back");
    const [data] = await once(client, "message");
    assert.equal(String(data), "back");
    client.terminate();
  });
});
