/** What differs where the platform ends TLS: `server.fetch()` and an edge app, without a socket. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { createEdgeApp, type EdgeApp, type EdgeInfo, type EdgeOptions } from "../lib/edge/mod.ts";
import type { HttpsdError } from "../lib/errors.ts";
import type { RouteHandler } from "../lib/httpd/route.ts";
import type { Session } from "../lib/http/session.ts";
import { connectionInfo, HttpsServer } from "../mod.ts";
import { type Face, open, ORIGIN, streamOf } from "./edge_support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

for (const name of ["server.fetch()", "an edge app"] as const) {
  /** A face with one route, for any path and method. */
  const answering = async (handler: RouteHandler) => {
    const face = await open(name);
    face.app.route({ uri: "/*", method: "ANY", handler });
    return face;
  };
  const aRequest = (init?: RequestInit) => new Request(ORIGIN, init);
  const fetchOf = ({ app }: Face) => (app as HttpsServer | EdgeApp).fetch;

  describe(`without a socket, ${name}`, () => {
    test("throws NOT_SUPPORTED for what needs one", async () => {
      const codes: Record<string, unknown> = {};
      const { ask } = await answering(async (request) => {
        const attempts: Record<string, () => unknown> = {
          rawHead: () => request.rawHead,
          connection: () => request.session.connection,
          send: () => request.session.send(new Uint8Array(1)),
          inform: () => request.inform(103, []),
          sendRaw: () => request.sendRaw("x"),
          ...(name === "an edge app" && { server: () => request.server }),
        };
        for (const [what, attempt] of Object.entries(attempts)) {
          try {
            await attempt();
            codes[what] = "nothing";
          } catch (error) {
            codes[what] = (error as HttpsdError).code;
          }
        }
        request.send();
      });
      await ask("/");
      assert.ok(Object.keys(codes).length >= 5);
      assert.deepEqual(new Set(Object.values(codes)), new Set(["NOT_SUPPORTED"]));
    });

    test("answers a WebSocket handshake with 501", async () => {
      const { ask, app } = await open(name);
      app.route({ uri: "/ws", websocket: {} });
      assert.equal((await ask("/ws", { headers: { upgrade: "websocket" } })).status, 501);
    });

    test("can be called without its object", async () => {
      const { fetch } = { fetch: fetchOf(await answering((request) => request.send("a"))) };
      assert.equal(await (await fetch(aRequest())).text(), "a");
    });

    test("knows the client as Deno and as Bun pass it", async () => {
      const face = await answering(({ session: { remoteAddress, remotePort }, send }) =>
        new Response(`${remoteAddress} ${remotePort} ${typeof send}`)
      );
      const knownAs = async (...platform: unknown[]) =>
        (await (await fetchOf(face)(aRequest(), ...platform)).text()).replace(" function", "");
      assert.equal(
        await knownAs({ remoteAddr: { hostname: "192.0.2.1", port: 7 } }),
        "192.0.2.1 7",
      );
      assert.equal(await knownAs({ requestIP: () => ({ address: "::1", port: 8 }) }), "::1 8");
      assert.equal(await knownAs({ requestIP: () => null }), " 0");
      assert.equal(await knownAs(), " 0");
      assert.equal(await knownAs(undefined), " 0");
    });

    test("passes a Response without a body on as often as it is returned", async () => {
      const response = new Response(null, { status: 404 });
      const face = await open(name, () => response);
      for (let i = 0; i < 3; i++) assert.equal((await fetchOf(face)(aRequest())).status, 404);
    });

    test("gives the fetch handler the very Request, and passes its Response on", async () => {
      const request = aRequest();
      const response = new Response("a");
      let given: Request | undefined;
      const face = await open(name, (request) => {
        given = request;
        return response;
      });
      assert.equal(await fetchOf(face)(request), response);
      assert.equal(given, request);
      assert.equal((await fetchOf(face)(aRequest())).status, 500); // it was sent already
    });

    test("answers while the request still comes, and neither side runs ahead", async () => {
      const { ask } = await answering(async (request) => {
        for (let piece = await request.recv(); piece; piece = await request.recv()) {
          await request.sendChunk(piece);
        }
        request.end();
      });
      let pulled = 0;
      const PIECE = 100;
      const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
        pull(controller) {
          pulled += PIECE;
          controller.enqueue(new Uint8Array(PIECE));
          if (pulled === 10 * PIECE) controller.close();
        },
      }, { highWaterMark: 0 });
      const init: RequestInit & { duplex: "half" } = { method: "POST", body, duplex: "half" };
      const response = await ask("/", init);
      assert.equal((await response.bytes()).length, 10 * PIECE);
    });

    test("makes a handler wait for who does not read", async () => {
      let sent = 0;
      const PIECE = 16 * 1024;
      const { ask } = await answering(async (request) => {
        while (sent < 64 * PIECE) {
          await request.sendChunk(new Uint8Array(PIECE));
          sent += PIECE;
        }
      });
      const reader = (await ask("/")).body!.getReader();
      await reader.read();
      for (let turn = 0; turn < 100; turn++) await new Promise((next) => setTimeout(next));
      assert.ok(sent <= 8 * PIECE, `${sent} bytes were taken`);
      await reader.cancel();
    });

    test("copies what is sent in chunks: the handler may use its bytes again", async () => {
      const { ask } = await answering(async (request) => {
        const bytes = new TextEncoder().encode("a");
        await request.sendChunk(bytes);
        bytes.fill(0);
        request.end();
      });
      assert.equal(await (await ask("/")).text(), "a");
    });

    test("aborts the handler's signal when its reader goes away", async () => {
      const over = Promise.withResolvers<unknown>();
      const face = await answering(async (request) => {
        request.signal.addEventListener(
          "abort",
          () => over.resolve(request.signal.reason.cause.code),
        );
        await request.sendChunk("a");
        await over.promise;
        await request.sendChunk("b"); // goes nowhere
        request.end();
      });
      const reader = (await face.ask("/")).body!.getReader();
      await reader.read();
      await reader.cancel();
      assert.equal(await over.promise, "CONNECTION_CLOSED");
      assert.deepEqual(face.errors, []);
    });

    test("cancels the source of sendStream() when the reader goes away", async () => {
      const cancelled = Promise.withResolvers<void>();
      const { ask } = await answering((request) =>
        request.sendStream(
          new ReadableStream({
            start: (controller) => controller.enqueue(new Uint8Array(1)),
            cancel: () => cancelled.resolve(),
          }),
        )
      );
      const reader = (await ask("/")).body!.getReader();
      await reader.read();
      await reader.cancel();
      await cancelled.promise;
    });

    test("aborts with the request, which is answered with a 499", async () => {
      const { promise: begun, resolve: begin } = Promise.withResolvers<AbortSignal>();
      const face = await answering((request) => {
        begin(request.signal);
        return new Promise(() => {});
      });
      const abort = new AbortController();
      const answer = face.ask("/", { signal: abort.signal });
      const signal = await begun;
      assert.equal(signal.aborted, false);
      abort.abort();
      assert.equal((await answer).status, 499);
      assert.equal(signal.aborted, true);
      assert.deepEqual(face.errors, []);
    });

    test("rejects when the session is destroyed before there is an answer", async () => {
      const face = await answering((request) => request.session.destroy());
      await assert.rejects(face.ask("/"), { code: "CONNECTION_ABORTED" });
    });

    test("waits for no handler whose client is gone", async () => {
      const face = await open(name, undefined, { timeouts: { handlerMs: 20 } });
      face.app.route({ uri: "/", method: "GET", handler: () => new Promise(() => {}) });
      assert.equal((await face.ask("/", { signal: AbortSignal.abort() })).status, 499);
      await new Promise((later) => setTimeout(later, 60));
      assert.deepEqual(face.errors, []);
    });

    test("drops what is written to a session that was destroyed, and cancels its source", async () => {
      const cancelled = Promise.withResolvers<void>();
      const face = await answering((request) =>
        request.sendStream(
          new ReadableStream({
            pull(controller) {
              controller.enqueue(new Uint8Array(1));
              request.session.destroy();
            },
            cancel: () => cancelled.resolve(),
          }, { highWaterMark: 0 }),
        )
      );
      const response = await face.ask("/");
      await assert.rejects(response.text(), { code: "CONNECTION_ABORTED" });
      await cancelled.promise;
      assert.deepEqual(face.errors, []);
    });

    test("fails the body when the session is destroyed in the middle of it", async () => {
      const face = await answering(async (request) => {
        await request.sendChunk("a");
        request.session.destroy();
      });
      const response = await face.ask("/");
      await assert.rejects(response.text(), { code: "CONNECTION_ABORTED" });
    });

    test("keeps a context for the request, and frees it once", async () => {
      const freed: unknown[] = [];
      const sessions: Session[] = [];
      const { ask } = await answering(({ session }) => {
        sessions.push(session);
        session.setContext("a", (context) => freed.push(context));
        return new Response(String(session.context));
      });
      assert.equal(await (await ask("/")).text(), "a");
      assert.deepEqual(freed, ["a"]);
      sessions[0]?.setContext("late", (context) => freed.push(context));
      assert.deepEqual(freed, ["a", "late"]);
    });

    test("throws for a handler whose request was read before", async () => {
      const face = await answering(async (request) => {
        await request.recv();
      });
      const request = aRequest({ method: "POST", body: "a" });
      await request.text();
      assert.equal((await fetchOf(face)(request)).status, 500);
      assert.deepEqual(face.errors, ["BODY_USED"]);
    });

    test("fails the body of a client that ends in the middle of it", async () => {
      const face = await answering(async (request) => {
        while (await request.recv() !== undefined);
      });
      let pulled = false;
      const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
        pull(controller) {
          if (pulled) controller.error(new Error("gone"));
          else controller.enqueue(new Uint8Array(1));
          pulled = true;
        },
      });
      const init: RequestInit & { duplex: "half" } = { method: "POST", body, duplex: "half" };
      assert.equal((await face.ask("/", init)).status, 400);
      assert.deepEqual(face.errors, ["BODY_INCOMPLETE"]);
    });
  });
}

describe("connectionInfo()", () => {
  test("knows requests on sockets and without, and no others", async () => {
    const infos: ReturnType<typeof connectionInfo>[] = [];
    const server = new HttpsServer(
      { transportMode: "insecure", hostname: "127.0.0.1", port: 0 },
      (request, { session }) => {
        const info = connectionInfo(request);
        assert.equal(info?.session, session);
        infos.push(info);
        assert.equal(connectionInfo(new Request(request)), undefined);
        return new Response();
      },
    );
    await server.start();
    try {
      await (await fetch(`http://127.0.0.1:${server.address.port}/`)).text();
      const remoteAddr = { hostname: "192.0.2.1", port: 7 };
      assert.equal((await server.fetch(new Request(ORIGIN), { remoteAddr })).status, 200);
    } finally {
      await server.stop();
    }
    const [socket, none] = infos;
    assert.equal(socket?.remoteAddress, "127.0.0.1");
    assert.ok((socket?.remotePort ?? 0) > 0);
    assert.equal(socket?.tls, undefined);
    assert.deepEqual([none?.remoteAddress, none?.remotePort], ["192.0.2.1", 7]);
    assert.equal(connectionInfo(new Request(ORIGIN)), undefined);
  });
});

describe("server.fetch()", () => {
  test("dispatches http:error and error events whether the server runs or not", async () => {
    const reported: string[] = [];
    const server = new HttpsServer({ transportMode: "insecure" });
    server.addEventListener("error", ({ error }) => void reported.push(`error ${error.code}`));
    server.addEventListener("http:error", ({ error }) => void reported.push(`http ${error.code}`));
    server.route({
      uri: "/",
      method: "GET",
      handler: () => {
        throw new Error("boo");
      },
    });
    await server.fetch(new Request(ORIGIN));
    await server.fetch(new Request(`${ORIGIN}/b`));
    assert.deepEqual(reported, [
      "error HANDLER_FAILED",
      "http HANDLER_FAILED",
      "http ROUTE_NOT_FOUND",
    ]);
  });

  test("resolves completed when the answer is handed over, and rejects it when that was cut", async () => {
    const settled: Promise<string>[] = [];
    const server = new HttpsServer({ transportMode: "insecure" }, (request, info) => {
      settled.push(info.completed.then(() => "completed", (error) => error.code));
      if (request.url.endsWith("/cut")) info.session.destroy();
      return new Response(streamOf("a"));
    });
    await (await server.fetch(new Request(ORIGIN))).text();
    await assert.rejects(server.fetch(new Request(`${ORIGIN}/cut`)), {
      code: "CONNECTION_ABORTED",
    });
    assert.deepEqual(await Promise.all(settled), ["completed", "CONNECTION_ABORTED"]);
  });

  test("gives handlers the server", async () => {
    const server: HttpsServer = new HttpsServer(
      { transportMode: "insecure" },
      (_, info) => new Response(String(info.server === server)),
    );
    server.route({
      uri: "/route",
      method: "GET",
      handler: (request) => request.send(String(request.server === server)),
    });
    for (const path of ["/", "/route"]) {
      assert.equal(await (await server.fetch(new Request(ORIGIN + path))).text(), "true");
    }
  });
});

describe("an edge app", () => {
  test("says that TLS and sockets are not its own", () => {
    const { capabilities } = createEdgeApp();
    assert.equal(capabilities.tls, false);
    assert.equal(capabilities.webSocket, false);
  });

  for (
    const [what, options] of [
      ["port", { port: 443 }],
      ["limits.maxBodyBytes", { limits: { maxBodyBytes: -1 } }],
      ["trustForwardedCertificates", { trustForwardedCertificates: true }],
    ] as const
  ) {
    test(`refuses option ${what} as it was given`, () => {
      assert.throws(() => createEdgeApp(options as unknown as EdgeOptions), {
        code: "INVALID_CONFIG",
        message: new RegExp(what),
      });
    });
  }

  test("gives the fetch handler what the platform gave", async () => {
    let info: EdgeInfo | undefined;
    const app = createEdgeApp({}, (_, given) => {
      info = given;
      return new Response();
    });
    await app.fetch(new Request(ORIGIN), { KEY: "value" }, { waitUntil: true });
    assert.deepEqual(info?.platform, [{ KEY: "value" }, { waitUntil: true }]);
  });

  test("lives on when reportError throws", async () => {
    const reportError = () => {
      throw new Error("boo");
    };
    const app = createEdgeApp({ reportError }, () => {
      throw new Error("own");
    });
    const { error } = console;
    const logged: unknown[] = [];
    console.error = (...what) => void logged.push(what);
    try {
      assert.equal((await app.fetch(new Request(ORIGIN))).status, 500);
    } finally {
      console.error = error;
    }
    assert.equal(logged.length, 1);
  });
});
