/** Clients that end their side, whatever waits behind it: each is seen at once, and none stays. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { HttpError, HttpsdError } from "../lib/errors.ts";
import {
  GET,
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
import { engineOf, turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();

stopServersAfterAll();

/** A server whose answers never come, or never go on; time goes as the test says. */
interface Never extends Started {
  readonly clock: TestClock;
  /** Why the next request's signal is aborted. */
  aborted(): Promise<HttpsdError>;
  /** Why sessions have ended, in order. */
  readonly ends: (string | undefined)[];
}

async function never(options: HttpsServerOptions, mode: Mode): Promise<Never> {
  const clock = new TestClock();
  const reasons: HttpsdError[] = [];
  const ends: (string | undefined)[] = [];
  const host = await started(
    (request) => {
      request.signal.addEventListener("abort", () => reasons.push(request.signal.reason.cause));
      if (!request.url.endsWith("/stream")) return new Promise(() => {});
      return new Response(
        new ReadableStream({ start: (its) => its.enqueue(new TextEncoder().encode("begun")) }),
      );
    },
    { closeFn: (_, error) => void ends.push(error?.code), ...options },
    mode,
    clock,
  );
  return {
    ...host,
    clock,
    ends,
    async aborted() {
      await until(() => reasons.length > 0, "the signal is aborted");
      return reasons.shift()!;
    },
  };
}

/** The only session of a server, once there is one. */
async function sessionOf({ server }: Started) {
  await until(() => server.sessions.size === 1, "the session is there");
  return [...server.sessions][0]!;
}

const POST = (length: number): string =>
  `POST /never HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n\r\n`;

/** What waits behind a request when its client ends its side. */
const BEHIND: Record<string, string> = {
  "nothing": GET("/never"),
  "one byte": GET("/never") + "G",
  "a request": GET("/never") + GET("/next"),
  "1,000 requests": GET("/never") + GET("/next").repeat(1_000),
  "a body": POST(100_000) + "x".repeat(100_000),
  "half a body": POST(100_000) + "x".repeat(80_000),
  "a stream and a byte": GET("/stream") + "G",
};

describe("a client that has ended its side", () => {
  for (const mode of MODES) {
    for (const [what, bytes] of Object.entries(BEHIND)) {
      test(`with ${what} behind its request is seen at once, and let go in time, ${mode}`, async () => {
        const host = await never({}, mode);
        const client = await RawClient.connect(host.port, mode);
        client.send(bytes);
        client.end();
        assert.equal((await host.aborted()).code, "CONNECTION_CLOSED");
        await host.clock.advance(30_000 + 4_000); // sendMs, and an eighth
        await until(() => host.server.sessions.size === 0, "the session is over");
        client.destroy();
      });

      if (what.includes("stream")) continue;
      test(`with ${what} behind its request gets the 503 of handlerMs, ${mode}`, async () => {
        const host = await never({ timeouts: { handlerMs: 10_000 } }, mode);
        const client = await RawClient.connect(host.port, mode);
        client.send(bytes);
        client.end();
        await host.aborted();
        await host.clock.advance(12_000);
        await client.expect("HTTP/1.1 503");
        await host.clock.advance(30_000 + 4_000);
        await until(() => host.server.sessions.size === 0, "the session is over");
        client.destroy();
      });
    }

    test(`with a message and no more still gets every answer that it waits for, ${mode}`, async () => {
      const paths = Array.from({ length: 50 }, (_, i) => `/${i}`);
      const { port } = await started(
        async (request) => {
          await sleep(1);
          return new Response(new URL(request.url).pathname);
        },
        {},
        mode,
      );
      const client = await RawClient.connect(port, mode);
      client.send(paths.map(GET).join("") + "G");
      client.end();
      assert.deepEqual(readResponses(await client.rest()).map(({ body }) => body), paths);
      client.destroy();
    });

    test(`with a body that its handler reads later loses none of it, ${mode}`, async () => {
      const { port } = await started(
        async (request, { session }) => {
          await until(() => session.connection.peerEnded, "the client has ended");
          return new Response(`${(await request.bytes()).length}`);
        },
        {},
        mode,
      );
      const client = await RawClient.connect(port, mode);
      client.send(POST(200_000) + "x".repeat(200_000));
      client.end();
      assert.equal(readResponses(await client.rest())[0]?.body, "200000");
      client.destroy();
    });
  }
});

describe("a client whose end is hidden by what it has sent", () => {
  const STOPPING: Record<string, string> = {
    "requests": GET("/never") + GET("/next").repeat(30_000),
    "a body": POST(1_000_000) + "x".repeat(1_000_000),
    "requests behind a stream": GET("/stream") + GET("/next").repeat(30_000),
  };
  const LIMITS: Record<string, HttpsServerOptions> = {
    requestMs: { timeouts: { requestMs: 60_000 } },
    maxConnectionAgeMs: { limits: { maxConnectionAgeMs: 60_000 } },
  };
  for (const mode of MODES) {
    for (const [what, bytes] of Object.entries(STOPPING)) {
      for (const [limit, options] of Object.entries(LIMITS)) {
        test(`behind ${what} is let go by ${limit}, ${mode}`, async () => {
          const host = await never(options, mode);
          const client = await RawClient.connect(host.port, mode);
          client.send(bytes);
          client.end();
          const { connection } = await sessionOf(host);
          await until(() => engineOf(connection).stopped, "the socket is stopped");
          await host.clock.advance(50_000);
          assert.deepEqual(host.ends, []);
          await host.clock.advance(14_000);
          assert.equal((await host.aborted()).code, "CONNECTION_TIMEOUT");
          await host.clock.advance(30_000 + 4_000);
          await until(() => host.server.sessions.size === 0, "the session is over");
          client.destroy();
        });
      }
    }

    test(`behind a body is answered by handlerMs, ${mode}`, async () => {
      const host = await never({ timeouts: { handlerMs: 10_000 } }, mode);
      const client = await RawClient.connect(host.port, mode);
      client.send(STOPPING["a body"]!);
      client.end();
      const { connection } = await sessionOf(host);
      await until(() => engineOf(connection).stopped, "the socket is stopped");
      await host.clock.advance(12_000);
      await client.expect("HTTP/1.1 503");
      await host.clock.advance(4_000);
      await until(() => host.server.sessions.size === 0, "the session is over");
      client.destroy();
    });
  }
});

describe("400 clients that leave, ten at a time", () => {
  const attacks = {
    "with a byte behind": GET("/never") + "G",
    "with 400 KB unread": POST(400_000) + "x".repeat(400_000),
  };
  for (const mode of MODES) {
    for (const [how, bytes] of Object.entries(attacks)) {
      test(`${how} do not lock out a server with a cap of 300, ${mode}`, async () => {
        const clock = new TestClock();
        const { port, server } = await started(
          (request) => request.url.endsWith("/good") ? new Response("x") : new Promise(() => {}),
          {
            limits: { maxConnections: 300 },
            timeouts: { sendMs: 300, requestMs: 300, handshakeMs: 600_000 },
          },
          mode,
          clock,
        );
        /** Connects clients; time passes while they wait in line. */
        const arrivals = async (count: number): Promise<RawClient[]> => {
          const clients: RawClient[] = [];
          const connecting = Array.from({ length: count }, async () => {
            clients.push(await RawClient.connect(port, mode));
          });
          await clock.until(() => clients.length === count, "they are let in");
          await Promise.all(connecting);
          return clients;
        };
        for (let i = 0; i < 40; i++) {
          const clients = await arrivals(10);
          for (const client of clients) {
            client.send(bytes);
            client.end();
          }
        }
        const [good] = await arrivals(1);
        good!.send(GET("/good"));
        await clock.until(() => good!.text.endsWith("\r\n\r\nx"), "it is answered");
        good!.destroy();
        await clock.until(() => server.sessions.size === 0, "no session stays");
      }, 120_000);
    }
  }
});

describe("a client that pipelines and does not read", () => {
  for (const mode of MODES) {
    test(`is sent no more than it reads, however much it asks for, ${mode}`, async () => {
      const ANSWER = 50_000;
      const host = await started(() => new Response("x".repeat(ANSWER)), {}, mode);
      const client = await RawClient.connect(host.port, mode);
      client.socket.pause();
      client.send(GET("/").repeat(2_000));
      const session = await sessionOf(host);
      await until(() => engineOf(session.connection).blocked, "the socket takes no more");
      for (let i = 0; i < 10; i++) {
        await turns(5);
        const { bufferedBytes } = session.connection;
        assert.ok(bufferedBytes < 3 * 2 ** 16, `${bufferedBytes} bytes wait`);
      }
      const before = session.requests;
      assert.ok(before < 2_000, `${before} requests were answered`);
      client.socket.resume();
      await until(() => session.requests === 2_000, "all are served once the client reads", 10_000);
      client.destroy();
    }, 20_000);
  }
});

describe("a body that its client's end cuts", () => {
  const readers: Record<string, (request: Request) => Promise<unknown>> = {
    "text()": (request) => request.text(),
    "json()": (request) => request.json(),
    "formData()": (request) => request.formData(),
    "its stream": async ({ body }) => {
      for await (const piece of body!) assert.ok(piece.length > 0);
    },
    "a pipe": ({ body }) => new Response(body!.pipeThrough(new TransformStream())).text(),
    "a clone": async (request) => await request.clone().text(),
    "a copy": (request) => new Request(request).text(),
  };
  const heads: Record<string, string> = {
    "with a length": "Content-Length: 10\r\n\r\nabc",
    "in chunks": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "of which nothing came": "Content-Length: 10\r\n\r\n",
  };
  const TYPE = "Content-Type: application/x-www-form-urlencoded\r\n";
  const start = (mode: Mode) =>
    started(
      async (request) => new Response(String(await readers[request.headers.get("x")!]!(request))),
      {},
      mode,
    );

  for (const mode of MODES) {
    for (const [what, head] of Object.entries(heads)) {
      test(`${what} is answered 400 where the handler does not catch what its reader throws, ${mode}`, async () => {
        const { port, errors, server } = await start(mode);
        const answered: unknown[] = [];
        server.addEventListener(
          "http:error",
          ({ error }) => answered.push((error as HttpError).status),
        );
        for (const reader of Object.keys(readers)) {
          const client = await RawClient.connect(port, mode);
          client.send(`POST / HTTP/1.1\r\nHost: a\r\nX: ${reader}\r\n${TYPE}${head}`);
          client.end();
          const [response] = readResponses(await client.rest());
          assert.equal(response?.status, 400, reader);
          assert.equal(response.fields["connection"], "close");
          client.destroy();
        }
        const count = Object.keys(readers).length;
        assert.deepEqual(errors.map(({ code }) => code), Array(count).fill("BODY_INCOMPLETE"));
        assert.deepEqual(answered, Array(count).fill(400));
      });
    }

    test(`leaves the answer to a handler that catches it, ${mode}`, async () => {
      const { port, errors } = await started(
        async (request) => {
          const code = await request.text().catch((error) => error.code);
          return new Response(code);
        },
        {},
        mode,
      );
      const client = await RawClient.connect(port, mode);
      client.send(POST(10) + "abc");
      client.end();
      const [response] = readResponses(await client.rest());
      assert.deepEqual([response!.status, response!.body], [200, "BODY_INCOMPLETE"]);
      assert.deepEqual(errors, []);
      client.destroy();
    });
  }
});

describe("data events", () => {
  for (const mode of MODES) {
    test(`count what comes while hooks are asked, from connected on, ${mode}`, async () => {
      const { promise: asked, resolve: ask } = Promise.withResolvers<void>();
      const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
      const host = await started(
        () => new Response("x"),
        {
          openFn: async (session) => {
            session.send(new TextEncoder().encode("hi!"));
            ask();
            await answered;
            return true;
          },
        },
        mode,
      );
      const events: [type: string, bytes: number][] = [];
      host.server.addEventListener("connected", () => void events.push(["connected", 0]));
      host.server.addEventListener("data", ({ bytes }) => void events.push(["data", bytes]));
      host.server.addEventListener("sent", ({ bytes }) => void events.push(["sent", bytes]));
      const client = await RawClient.connect(host.port, mode);
      await asked;
      client.send(GET("/early"));
      await client.expect("hi!");
      await turns(); // and bytes come
      answer();
      await client.expect("\r\n\r\nx");
      client.send(GET("/late"));
      await client.expect(/(\r\n\r\nx[^]*){2}/);
      const sum = (type: string) =>
        events.reduce((bytes, event) => bytes + (event[0] === type ? event[1] : 0), 0);
      assert.deepEqual(events[0], ["connected", 0]);
      assert.equal(sum("data"), GET("/early").length + GET("/late").length);
      assert.equal(sum("sent"), client.text.length);
      client.destroy();
    });
  }
});
