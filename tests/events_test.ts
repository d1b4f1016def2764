/** Events: their order at any cut, and listeners that can do no harm. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import {
  EVENT_IDS,
  type ServerErrorEvent,
  ServerEvent,
  type ServerEventType,
  type SessionEvent,
} from "../lib/events.ts";
import { HttpsServer } from "../lib/server.ts";
import { GET, MODES, RawClient, sleep, started, stopServersAfterAll } from "./http_support.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";
import { certificates, turns, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const PLAIN = {
  hostname: "127.0.0.1",
  port: 0,
  transportMode: "insecure",
  timeouts: { lingerMs: 300 },
} as const;

const TYPES = ["error", "start", "connected", "data", "sent", "disconnected", "stop"] as const;

/** Writes down the events of a server, and fails at the first that is not in order. */
class Ledger {
  readonly events: { type: ServerEventType; session: number | undefined }[] = [];
  readonly wrong: string[] = [];
  readonly #state = new Map<number, "connected" | "disconnected">();
  #running = false;

  constructor(server: HttpsServer) {
    for (const type of TYPES) {
      server.addEventListener(type, (event: ServerEvent) => this.#note(event, server));
    }
  }

  #note(event: ServerEvent, server: HttpsServer): void {
    const { type } = event;
    const { session } = event as Partial<SessionEvent>;
    this.events.push({ type, session: session?.id });
    if (event.id !== EVENT_IDS[type]) this.wrong.push(`${type} has the id ${event.id}`);
    if (event.server !== server) this.wrong.push(`${type} has another server`);
    if (type === "start") this.#running = true;
    else if (!this.#running) this.wrong.push(`${type} while the server does not run`);
    if (type === "stop") {
      this.#running = false;
      const open = [...this.#state.values()].filter((state) => state === "connected").length;
      if (open > 0) this.wrong.push(`stop with ${open} sessions connected`);
    }
    if (session === undefined || type === "error") return;
    const before = this.#state.get(session.id);
    if (type === "connected") {
      if (before !== undefined) this.wrong.push(`connected again`);
      this.#state.set(session.id, "connected");
    } else {
      if (before !== "connected") this.wrong.push(`${type} of a session that is ${before}`);
      if (type === "disconnected") this.#state.set(session.id, "disconnected");
    }
  }

  count(type: ServerEventType): number {
    return this.events.filter((event) => event.type === type).length;
  }
}

describe("events", () => {
  for (const mode of MODES) {
    test(`of one request, in order, with the bytes that went by, ${mode}`, async () => {
      const { server, port } = await started(() => new Response("x"), {}, mode);
      const ledger = new Ledger(server);
      let read = 0;
      let written = 0;
      server.addEventListener("data", ({ bytes }) => void (read += bytes));
      server.addEventListener("sent", ({ bytes }) => void (written += bytes));
      const { promise: over, resolve } = Promise.withResolvers<unknown>();
      server.addEventListener("disconnected", ({ error }) => resolve(error));
      server.dispatchEvent(new ServerEvent("start", server)); // it began before the ledger
      const client = await RawClient.connect(port, mode);
      client.send(GET("/"));
      await client.expect("\r\n\r\nx");
      client.end();
      assert.equal(await over, undefined);
      await server.stop();
      assert.deepEqual(ledger.wrong, []);
      assert.deepEqual(
        ledger.events.map(({ type }) => type),
        ["start", "connected", "data", "sent", "disconnected", "stop"],
      );
      assert.equal(read, GET("/").length);
      assert.equal(written, client.text.length);
      client.destroy();
    });

    test(`stay in order under goodbyes of every kind and a stop in between, ${mode}`, async () => {
      const random = new Random(mode === "tls" ? 42 : 4711).below;
      const handler = async (request: Request): Promise<Response> => {
        await sleep(random(8));
        if (random(5) === 0) throw new Error("mine");
        if (random(5) === 0) await request.text();
        return new Response("x".repeat(random(100_000)));
      };
      const { cert, key } = await certificates();
      const server = new HttpsServer({
        ...PLAIN,
        ...(mode === "tls" && { transportMode: "secure", cert, key }),
      }, handler);
      const ledger = new Ledger(server);
      const clientLife = async (port: number): Promise<void> => {
        const client = await RawClient.connect(port, mode);
        for (let i = random(3); i >= 0; i--) {
          const request = [
            GET("/"),
            "GET / HT",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
            "BAD\r\n\r\n",
          ];
          client.send(request[random(4)]!);
          await sleep(random(6));
        }
        [
          () => client.end(),
          () => client.destroy(),
          () => client.socket.resetAndDestroy(),
          () => client.send(GET("/")),
        ][random(4)]!();
        await sleep(random(10));
        client.destroy();
      };
      for (let round = 0; round < 3; round++) {
        await server.start();
        const { port } = server.address;
        const clients = Array.from({ length: 60 }, async () => {
          await sleep(random(100));
          await clientLife(port).catch(() => {}); // after the stop no client is let in
        });
        const enough = 12 * (round + 1);
        await until(() => ledger.count("connected") >= enough, "clients come");
        await server.stop({ drainMs: random(30) });
        await Promise.all(clients);
      }
      await turns();
      assert.deepEqual(ledger.wrong, []);
      assert.equal(ledger.count("start"), 3);
      assert.equal(ledger.count("stop"), 3);
      assert.equal(ledger.count("connected"), ledger.count("disconnected"));
      assert.equal(ledger.events.at(-1)?.type, "stop");
      assert.equal(server.sessions.size, 0);
    }, 20_000);
  }

  test("of a session that a connected listener cuts come once", async () => {
    const { server, port } = await started(() => new Response("x"));
    const types: string[] = [];
    const all = [
      "connected",
      "http:connected",
      "http:disconnected",
      "disconnected",
      "data",
    ] as const;
    for (const type of all) server.addEventListener(type, () => void types.push(type));
    server.addEventListener("connected", ({ session }) => session.destroy());
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.until(() => client.ended || client.closed);
    await turns();
    assert.deepEqual(types, ["connected", "disconnected"]);
    assert.equal(client.text, "");
  });

  test("of bytes reach a listener that came after the connection", async () => {
    const { server, port } = await started(() => new Response("x"));
    const client = await RawClient.connect(port);
    await until(() => server.sessions.size === 1, "the session begins");
    let bytes = 0;
    server.addEventListener("data", (event) => void (bytes += event.bytes));
    client.send(GET("/"));
    await client.expect("\r\n\r\nx");
    assert.equal(bytes, GET("/").length);
    client.destroy();
  });

  test("are not even made without a listener", async () => {
    const { server, port } = await started(() => new Response("x"));
    const made: string[] = [];
    const dispatch = server.dispatchEvent;
    server.dispatchEvent = (event) => {
      made.push(event.type);
      return dispatch.call(server, event);
    };
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.expect("\r\n\r\nx");
    client.destroy();
    await until(() => server.sessions.size === 0, "the session ends");
    assert.deepEqual(made, []);
  });
});

describe("listeners", () => {
  /** Answers one request and stops, with every type listened to by `listener`. */
  async function live(listener: (event: ServerEvent) => unknown): Promise<ServerErrorEvent[]> {
    const server = new HttpsServer(PLAIN, () => new Response("x"));
    const errors: ServerErrorEvent[] = [];
    for (const type of TYPES) server.addEventListener(type, listener);
    server.addEventListener("error", (event) => void errors.push(event));
    await server.start();
    const client = await RawClient.connect(server.address.port);
    client.send(GET("/"));
    await client.expect("\r\n\r\nx");
    client.end();
    await until(() => server.sessions.size === 0, "the session ends");
    await quietly(() => server.stop());
    client.destroy();
    return errors;
  }

  /** Runs with `console.error` held back; what it was called with is returned. */
  async function quietly(run: () => Promise<unknown>): Promise<unknown[]> {
    const said: unknown[] = [];
    const { error } = console;
    console.error = (...args: unknown[]) => void said.push(args[0]);
    try {
      await run();
      await turns();
    } finally {
      console.error = error;
    }
    return said;
  }

  const failures: [how: string, fail: () => unknown][] = [
    ["throws", () => {
      throw new Error("mine");
    }],
    ["rejects", () => Promise.reject(new Error("mine"))],
  ];
  for (const [how, fail] of failures) {
    test(`one that ${how} does no harm and becomes an error event`, async () => {
      const errors = await live((event) => event.type === "error" ? undefined : fail());
      // The listener of stop has no error event to become: nothing comes after stop.
      assert.equal(errors.length, 5);
      for (const { error } of errors) {
        assert.equal(error.code, "LISTENER_FAILED");
        assert.equal((error.cause as Error).message, "mine");
      }
    });

    test(`one for error that ${how} too is written to the console, once each`, async () => {
      let errors: ServerErrorEvent[] = [];
      const said = await quietly(async () => void (errors = await live(fail)));
      assert.equal(errors.length, 5);
      assert.ok(said.length >= 5, `${said.length} lines`);
    });
  }

  test("with handleEvent, once, signal, and removal work as on any EventTarget", () => {
    const server = new HttpsServer(PLAIN);
    const calls: string[] = [];
    const send = (): boolean => server.dispatchEvent(new ServerEvent("start", server));
    const object = {
      handleEvent(event: ServerEvent) {
        assert.equal(this, object);
        calls.push(`object ${event.type}`);
      },
    };
    const plain = function (this: unknown): void {
      assert.equal(this, server);
      calls.push("plain");
    };
    const controller = new AbortController();
    server.addEventListener("start", object);
    server.addEventListener("start", object); // the same again is one listener
    server.addEventListener("start", plain, { once: true });
    server.addEventListener("start", () => void calls.push("signal"), {
      signal: controller.signal,
    });
    server.addEventListener("stop", plain);
    server.addEventListener("start", null);
    send();
    assert.deepEqual(calls.splice(0), ["object start", "plain", "signal"]);
    controller.abort();
    send();
    assert.deepEqual(calls.splice(0), ["object start"]);
    server.removeEventListener("start", object);
    server.removeEventListener("start", object);
    server.removeEventListener("start", () => {});
    server.removeEventListener("start", null);
    send();
    assert.deepEqual(calls, []);
    server.dispatchEvent(new ServerEvent("stop", server));
    assert.deepEqual(calls, ["plain"]);
  });

  test("a listener for two types is removed from one only", () => {
    const server = new HttpsServer(PLAIN);
    const types: string[] = [];
    const listener = ({ type }: ServerEvent): void => void types.push(type);
    server.addEventListener("start", listener);
    server.addEventListener("stop", listener);
    server.removeEventListener("start", listener);
    server.dispatchEvent(new ServerEvent("start", server));
    server.dispatchEvent(new ServerEvent("stop", server));
    assert.deepEqual(types, ["stop"]);
  });

  test("the numeric ids are the original's", () => {
    const ids = TYPES.map((type) => EVENT_IDS[type]);
    assert.deepEqual(ids, [0, 1, 2, 3, 4, 5, 6]);
  });
});
