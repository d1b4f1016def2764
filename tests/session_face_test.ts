/** What handlers do with a session: its context, its end, its bytes; and what `stop()` does. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { ConnectionError } from "../lib/errors.ts";
import type { Session } from "../lib/http/session.ts";
import type { ByteStreams } from "../lib/net/wire.ts";
import { connected, last, textFor } from "./dispatcher_support.ts";
import {
  answering,
  GET,
  MODES,
  RawClient,
  readResponses,
  type Started,
  stopServersAfterAll,
} from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { engineOf, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

describe("a session's context", () => {
  for (const mode of MODES) {
    test(`is freed when it is replaced and when the session ends, once each, ${mode}`, async () => {
      const log: string[] = [];
      const host = await answering(
        (request) => {
          const { session } = request;
          const name = request.rawQuery;
          if (name === "") session.setContext(undefined);
          else if (session.context !== name) {
            session.setContext(name, (freed) => void log.push(freed));
          }
          request.send(String(session.context));
        },
        {},
        mode,
      );
      const { client } = await connected(host, mode);
      for (const [name, freed] of [["a", ""], ["a", ""], ["b", "a"], ["", "ab"], ["c", "ab"]]) {
        client.text = "";
        client.send(GET(`/?${name}`));
        await client.expect(/\r\n\r\n\w/);
        assert.equal(log.join(""), freed);
      }
      client.destroy();
      await until(() => log.length === 3, "the last context is freed");
      assert.deepEqual(log, ["a", "b", "c"]);
    });

    test(`closeFn, http:disconnected, free, close, disconnected come in this order, ${mode}`, async () => {
      const log: string[] = [];
      const host = await answering(
        (request) => {
          request.session.setContext("c", () => void log.push("free"));
          request.send();
        },
        {
          closeFn: (session) => void log.push(`closeFn ${session.context}`),
          userCallback: ({ state }) => void log.push(state),
          globalUserContext: "global",
          globalUserContextFree: (context) => void log.push(`free ${context}`),
        },
        mode,
      );
      const { server } = host;
      for (const type of ["http:disconnected", "disconnected", "http:stop", "stop"] as const) {
        server.addEventListener(type, () => log.push(type));
      }
      assert.equal(server.context, "global");
      const { client } = await connected(host, mode);
      client.send(GET("/"));
      await client.expect("200");
      await server.stop();
      const tls = mode === "tls";
      assert.deepEqual(log, [
        ...(tls ? ["create"] : []),
        "closeFn c",
        "http:disconnected",
        "free",
        ...(tls ? ["close"] : []),
        "disconnected",
        "free global",
        "http:stop",
        "stop",
      ]);
      client.destroy();
    });
  }

  test("is freed too when a hook set it and refused, and at once on a session that is over", async () => {
    let freed = 0;
    let refused: Session | undefined;
    const { port } = await answering((request) => request.send(), {
      openFn(session) {
        refused = session;
        session.setContext({}, () => void freed++);
        return false;
      },
    });
    const client = await RawClient.connect(port);
    await client.rest();
    await until(() => freed === 1, "the context is freed");
    refused!.setContext({}, () => void freed++);
    assert.deepEqual([freed, refused!.context], [2, undefined]);
    client.destroy();
  });

  test("whose free throws or rejects does no harm", async () => {
    const host = await answering((request) => {
      const free = request.path === "/1"
        ? () => {
          throw new Error("no");
        }
        : () => Promise.reject(new Error("no"));
      request.session.setContext({}, free);
      request.send(request.path);
    });
    const { client } = await connected(host);
    client.send(GET("/1") + GET("/2"));
    await client.expect("/2");
    client.destroy();
    await until(() => host.errors.length === 2, "both are reported");
    assert.deepEqual(host.errors.map(({ code }) => code), ["HOOK_FAILED", "HOOK_FAILED"]);
  });

  test("persists over requests of a connection and no further, as the adder's", async () => {
    const { port } = await answering(async (request) => {
      const { session } = request;
      if (session.context === undefined) session.setContext({ sum: 0 });
      const counter = session.context as { sum: number };
      const body = await request.recv();
      counter.sum += Number(new TextDecoder().decode(body));
      request.send(String(counter.sum));
    });
    const clients = await Promise.all([1, 2, 3].map(() => RawClient.connect(port)));
    const add = (n: number) => `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n${n}`;
    clients.forEach((client, i) => client.send(add(i + 1) + add(i + 1) + add(i + 1)));
    for (const [i, client] of clients.entries()) {
      await client.until(() => client.text.split("HTTP/1.1").length === 4);
      const sums = readResponses(client.text).map(({ body }) => Number(body));
      assert.deepEqual(sums, [i + 1, 2 * (i + 1), 3 * (i + 1)]);
      client.destroy();
    }
  });
});

describe("sessions", () => {
  for (const mode of MODES) {
    test(`are listed with id, kind and state, ${mode}`, async () => {
      const states: string[] = [];
      const { promise: asleep, resolve: wake } = Promise.withResolvers<void>();
      const host = await answering(
        async (request) => {
          await asleep;
          request.header("Connection", "close").send();
        },
        { openFn: (session) => states.push(session.state) > 0 },
        mode,
      );
      const { client, session } = await connected(host, mode);
      const other = await connected(host, mode);
      states.push(session.state);
      client.send(GET("/"));
      await until(() => session.busy, "the handler runs");
      states.push(session.state);
      wake();
      await client.rest();
      await until(() => session.state === "closing", "the session closes");
      client.destroy();
      await until(() => host.server.sessions.size === 1, "the session is over");
      states.push(session.state, other.session.state);
      assert.deepEqual(states, ["opening", "opening", "idle", "busy", "closing", "idle"]);
      assert.deepEqual([session.kind, session.id < other.session.id], ["http", true]);
      other.client.destroy();
    });

    test(`close(reason) ends the one and no other, and its reason is reported, ${mode}`, async () => {
      const reported: unknown[] = [];
      const host = await answering(
        (request) => request.send(),
        { closeFn: (_, error) => void reported.push(error) },
        mode,
      );
      host.server.addEventListener("disconnected", ({ error }) => reported.push(error));
      const fresh = await connected(host, mode);
      const other = await connected(host, mode);
      const reason = new ConnectionError("CONNECTION_ABORTED", "Logged out");
      fresh.session.close(reason); // the original does nothing for one without a request
      await fresh.client.rest();
      fresh.client.destroy();
      await until(() => reported.length === 2, "the end is reported");
      assert.deepEqual(reported, [reason, reason]);
      const newer = await connected(host, mode);
      fresh.session.close(); // the original may hit the newer one, which has the same descriptor
      fresh.session.destroy();
      for (const { client } of [other, newer]) {
        client.send(GET("/"));
        await client.expect("200");
        client.destroy();
      }
    });
  }

  test("close() in a request lets it be answered", async () => {
    const { port } = await answering((request) => {
      request.session.close();
      request.send("bye");
    });
    const [answer] = readResponses(await textFor(port, GET("/") + GET("/")));
    assert.deepEqual([answer?.body, answer?.fields["connection"]], ["bye", "close"]);
  });
});

/** Streams that change each byte by `mask` on its way, in both directions. */
function masked({ readable, writable }: ByteStreams, mask = 0x5a): ByteStreams {
  const change = () =>
    new TransformStream<Uint8Array, Uint8Array>({
      transform: (bytes, controller) => controller.enqueue(bytes.map((byte) => byte ^ mask)),
    });
  const out = change();
  void out.readable.pipeTo(writable).catch(() => {});
  return { readable: readable.pipeThrough(change()), writable: out.writable };
}

const maskedText = (text: string) =>
  [...text].map((c) => String.fromCharCode(c.charCodeAt(0) ^ 0x5a)).join("");

/** A hook that masks all bytes of its connection, and lets it in. */
function masks({ connection }: Session): true {
  connection.override(masked);
  return true;
}

describe("a transport override", () => {
  test("is between a plain connection and its socket, and requests pass through it", async () => {
    const { server, port } = await answering(async (request) => {
      let length = 0;
      for await (const bytes of request.body) length += bytes.length;
      request.send(`${length} ${"x".repeat(200_000)}`);
    }, { openFn: masks });
    const client = await RawClient.connect(port);
    const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n";
    client.send(maskedText(post + "y".repeat(300_000) + last(GET("/"))));
    const [first, second] = readResponses(maskedText(await client.rest()));
    assert.equal(first?.body.length, 200_007);
    assert.ok(first?.body.startsWith("300000 x"));
    assert.ok(second?.body.startsWith("0 x"));
    client.end();
    await until(() => server.sessions.size === 0, "the session is over");
    client.destroy();
  });

  test("can begin in a session, with what has come and was not taken", async () => {
    const { promise: come, resolve: allCame } = Promise.withResolvers<void>();
    const host = await answering((request) => request.send(request.path), {
      async openFn({ connection }) {
        await until(() => engineOf(connection).queuedBytes > 0, "bytes wait");
        connection.override(masked);
        allCame();
        return true;
      },
    });
    const client = await RawClient.connect(host.port);
    const [first, ...rest] = maskedText(GET("/1") + last(GET("/2")));
    client.send(first!);
    await come;
    client.send(rest.join(""));
    const bodies = readResponses(maskedText(await client.rest())).map(({ body }) => body);
    assert.deepEqual(bodies, ["/1", "/2"]);
    client.destroy();
  });

  test("of a connection whose client has ended its side throws CONNECTION_CLOSED", async () => {
    const codes: string[] = [];
    const { port } = await answering(async (request) => {
      const { signal } = request;
      await until(() => signal.aborted, "the client's end is seen");
      try {
        request.session.connection.override(masked);
      } catch (error) {
        codes.push((error as ConnectionError).code);
      }
      request.send("x");
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    client.end();
    await client.expect("\r\n\r\nx");
    assert.deepEqual(codes, ["CONNECTION_CLOSED"]);
    client.destroy();
  });

  test("that fails ends the connection", async () => {
    const { server, port } = await answering((request) => request.send("x"), {
      openFn({ connection }) {
        connection.override(({ writable }) => ({
          readable: new ReadableStream({
            start: (controller) => controller.error(new Error("broken")),
          }),
          writable,
        }));
        return true;
      },
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.rest().catch(() => "");
    await until(() => server.sessions.size === 0, "the session is over");
    client.destroy();
  });

  test("of a TLS connection throws NOT_SUPPORTED", async () => {
    const errors: unknown[] = [];
    const host = await answering(
      (request) => request.send(),
      {
        openFn({ connection }) {
          try {
            connection.override(masked);
          } catch (error) {
            errors.push((error as { code: string }).code);
          }
          return true;
        },
      },
      "tls",
    );
    const { client } = await connected(host, "tls");
    client.send(GET("/"));
    await client.expect("200");
    assert.deepEqual(errors, ["NOT_SUPPORTED"]);
    client.destroy();
  });
});

describe("stop()", () => {
  const places: [where: string, arrange: (host: Started, stop: () => void) => Promise<void>][] = [
    ["queued work", async ({ server }, stop) => void (await server.queueWork(stop))],
    ["a connected listener", async ({ server, port }, stop) => {
      server.addEventListener("connected", stop);
      (await RawClient.connect(port)).send(GET("/"));
    }],
    ["an http:header listener", async ({ server, port }, stop) => {
      server.addEventListener("http:header", stop);
      (await RawClient.connect(port)).send(GET("/"));
    }],
    ["a context's free", async (host, stop) => {
      const { client, session } = await connected(host);
      session.setContext({}, stop);
      client.destroy();
    }],
    ["an error handler", async ({ server, port }, stop) => {
      server.onError(404, stop);
      (await RawClient.connect(port)).send(GET("/none"));
    }],
  ];
  for (const [where, arrange] of places) {
    test(`in ${where} stops, bounded, with stop as the last event`, async () => {
      const host = await answering((request) => request.send(), { timeouts: { drainMs: 300 } });
      const { server } = host;
      const events: string[] = [];
      for (const type of ["connected", "disconnected", "http:stop", "stop"] as const) {
        server.addEventListener(type, () => events.push(type));
      }
      const { promise, resolve } = Promise.withResolvers<Promise<void>>();
      await arrange(host, () => resolve(server.stop()));
      await (await promise);
      assert.deepEqual([server.state, server.sessions.size], ["idle", 0]);
      assert.deepEqual(events.slice(-2), ["http:stop", "stop"]);
      const count = (type: string) => events.filter((event) => event === type).length;
      assert.ok(count("disconnected") - count("connected") <= 1);
    });
  }

  for (const hook of ["openFn", "closeFn", "userCallback"] as const) {
    test(`in ${hook} stops, bounded`, async () => {
      const { promise, resolve } = Promise.withResolvers<Promise<void>>();
      const stop = () => {
        resolve(server.stop({ drainMs: 300 }));
        return true;
      };
      const { server, port } = await answering(
        (request) => request.send(),
        { [hook]: () => stop() },
        "tls",
      );
      const client = await RawClient.connect(port, "tls").catch(() => undefined);
      client?.send(last(GET("/")));
      await (await promise);
      assert.deepEqual([server.state, server.sessions.size], ["idle", 0]);
      client?.destroy();
    });
  }
});
