/** What handlers and listeners see of their server: all of it, in each kind of handler. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Hono } from "hono";
import type { HttpsdEnv } from "../lib/hono/mod.ts";
import {
  type FetchHandler,
  type HttpdRequest,
  HttpsServer,
  type RouteHandler,
  type ServerErrorEvent,
} from "../mod.ts";
import { RawClient, readResponses } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { FrameClient } from "./websocket_support.ts";

assertRuntime();

/** What all handlers do here with the server that they are given. */
function use(server: HttpsServer, name: string): string {
  const uri = `/by-${name}`;
  server.route({ uri, method: "GET", handler: (request) => request.send(`added by ${name}`) });
  return `${server.websockets.size} ${server.sessions.size} ${server.state}`;
}

const OPTIONS = { hostname: "127.0.0.1", port: 0, transportMode: "insecure" } as const;

async function bodyAt({ address }: HttpsServer, path: string): Promise<string | undefined> {
  const client = await RawClient.connect(address.port);
  client.send(`GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
  const [response] = readResponses(await client.rest());
  client.destroy();
  return response?.body;
}

describe("handlers see the whole server", () => {
  test("in a fetch handler, a route, an error handler, a WebSocket and a listener", async () => {
    const given: HttpsServer[] = [];
    const server = new HttpsServer(OPTIONS, (request, info) => {
      if (!new URL(request.url).pathname.endsWith("fetch")) throw new Error("thrown");
      given.push(info.server);
      return new Response(use(info.server, "fetch"));
    });
    server.route({
      uri: "/route",
      method: "GET",
      handler: (request) => {
        given.push(request.server);
        request.send(use(request.server, "route"));
      },
    });
    server.onError(500, (_, request) => {
      given.push(request!.server);
      request!.send(use(request!.server, "error"));
    });
    server.route({
      uri: "/ws",
      websocket: {
        onUpgrade: (request) => void given.push(request.server),
        onOpen: (ws, request) => {
          given.push(request.server);
          ws.send(use(request.server, "ws"));
        },
      },
    });
    server.addEventListener("error", (event) => {
      given.push(event.server);
      use(event.server, "listener");
    });
    await server.start();
    try {
      assert.equal(await bodyAt(server, "/fetch"), "0 1 running");
      assert.equal(await bodyAt(server, "/route"), "0 1 running");
      assert.equal(await bodyAt(server, "/other"), "0 1 running");
      const client = await FrameClient.open(server.address.port);
      assert.equal(await client.text(), "1 1 1 running");
      client.socket.destroy();
      for (const name of ["fetch", "route", "error", "ws", "listener"]) {
        assert.equal(await bodyAt(server, `/by-${name}`), `added by ${name}`);
      }
      assert.equal(given.length, 6);
      assert.ok(given.every((each) => each === server));
    } finally {
      await server.stop({ drainMs: 0 });
    }
  });

  test("in a Hono app whose environment names it", async () => {
    const app = new Hono<HttpsdEnv<HttpsServer>>();
    app.get("/", (c) => c.text(use(c.env.server, "hono")));
    const server = new HttpsServer(OPTIONS, app);
    await server.start();
    try {
      assert.equal(await bodyAt(server, "/"), "0 1 running");
      assert.equal(await bodyAt(server, "/by-hono"), "added by hono");
    } finally {
      await server.stop({ drainMs: 0 });
    }
  });

  test("where the type of a handler that is written elsewhere says so, and a part of it else", async () => {
    const whole: RouteHandler<HttpsServer> = ({ server }) => new Response(use(server, "whole"));
    const part: RouteHandler = ({ server }) => new Response(server.state);
    // @ts-expect-error: only the server's own type has this
    const wrong = ({ server }: HttpdRequest) => server.websockets;
    const handle: FetchHandler = (_, { server }) => new Response(server.state);
    const listener = ({ server }: ServerErrorEvent) => server.state;
    const server = new HttpsServer(OPTIONS, handle)
      .route({ uri: "/whole", method: "GET", handler: whole })
      .route({ uri: "/part", method: "GET", handler: part });
    server.addEventListener("error", listener);
    assert.equal(typeof wrong, "function");
    const ask = async (path: string) =>
      await (await server.fetch(new Request(`http://a${path}`))).text();
    assert.equal(await ask("/whole"), "0 0 idle");
    assert.equal(await ask("/part"), "idle");
    assert.equal(await ask("/else"), "idle");
    assert.equal(await ask("/by-whole"), "added by whole");
  });
});
