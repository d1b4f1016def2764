/** Hono's own routes in telemetry: templates, over HTTP/1.1, HTTP/2, without sockets and on edge. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Hono } from "hono";
import { createEdgeApp } from "../lib/edge/mod.ts";
import { type HttpsdEnv, routeTemplate } from "../lib/hono/mod.ts";
import { HttpsServer } from "../lib/server.ts";
import { metrics } from "../lib/telemetry/metrics.ts";
import { Http2Client } from "./http2_client.ts";
import { GET, MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

/** An app of some size, with middleware that answers and a part with error handling of its own. */
function makeApp() {
  const app = new Hono<HttpsdEnv>();
  app.use(routeTemplate());
  app.use("/admin/*", async (c, next) => {
    if (c.req.query("user") === undefined) return c.text("who?", 401);
    return await next();
  });
  app.get("/", (c) => c.text("root"));
  app.get("/items/:id{[0-9]+}", (c) => c.text(`${c.env.route}`));
  app.get("/admin/:page", (c) => c.text("admin"));
  app.all("/any/*", (c) => c.text("any"));
  app.get("/missing/:id", (c) => c.notFound());
  const api = new Hono<HttpsdEnv>();
  api.onError((_, c) => c.text("api failed", 500));
  api.get("/users/:name", (c) => c.text("user"));
  api.get("/throws/:name", () => {
    throw new Error("meant");
  });
  app.route("/api", api);
  return app;
}

/** What is asked for, and the status and template that it gets. */
const REQUESTS: Readonly<Record<string, string>> = {
  "/": "200 /",
  "/items/17": "200 /items/:id{[0-9]+}",
  "/items/no": "404 undefined",
  "/admin/x": "401 /admin/*",
  "/admin/x?user=me": "200 /admin/:page",
  "/any/thing": "200 /any/*",
  "/missing/1": "404 /missing/:id",
  "/api/users/me": "200 /api/users/:name",
  "/api/throws/me": "500 /api/throws/:name",
  "/none": "404 undefined",
};

describe("routes of a Hono app have their templates", () => {
  for (const mode of MODES) {
    test(`in events and metrics, over both versions of HTTP, ${mode}`, async () => {
      const { server, port } = await started(makeApp().fetch, {}, mode);
      const exposed = metrics(server);
      const seen: string[] = [];
      server.addEventListener(
        "http:exchange",
        ({ exchange: { target, status, route } }) => void seen.push(`${target} ${status} ${route}`),
      );
      const expected = Object.entries(REQUESTS).map(([path, answer]) => `${path} ${answer}`);
      const client = await RawClient.connect(port, mode);
      for (const [index, path] of Object.keys(REQUESTS).entries()) {
        client.send(GET(path));
        await until(() => seen.length === index + 1, path);
      }
      client.destroy();
      assert.deepEqual(seen.splice(0), expected);
      using streams = await Http2Client.connect(port, mode);
      await streams.ready();
      for (const path of Object.keys(REQUESTS)) {
        await streams.answer(streams.request({ path }));
      }
      await until(() => seen.length === expected.length, "the events");
      assert.deepEqual(seen, expected);
      const text = exposed.text();
      assert.match(text, /_count\{[^}]*http_route="\/items\/:id\{\[0-9\]\+\}"[^}]*"2"/);
      assert.ok(!text.includes("items/17"));
    });
  }

  test("of server.fetch() and of an edge app", async () => {
    const app = makeApp();
    const server = new HttpsServer({ transportMode: "insecure" }, app.fetch);
    const edge = createEdgeApp({ reportError: () => {} }, app.fetch as never);
    for (const face of [server, edge]) {
      const seen: string[] = [];
      face.observe({
        begin: () => ({ ended: ({ status, route }) => void seen.push(`${status} ${route}`) }),
      });
      for (const path of Object.keys(REQUESTS)) {
        await (await face.fetch(new Request(`http://a${path}`))).text();
      }
      assert.deepEqual(seen, Object.values(REQUESTS));
    }
  });

  test("no longer change once the request is over, and are texts", async () => {
    const routes: (string | undefined)[] = [];
    let refused: unknown;
    const server = new HttpsServer({ transportMode: "insecure" }, (_, info) => {
      info.route = "/named";
      void info.completed.then(() => info.route = "/late");
      try {
        info.route = 7 as never;
      } catch (error) {
        refused = error;
      }
      return new Response("x");
    });
    let kept: { readonly route: string | undefined } | undefined;
    server.addEventListener("http:exchange", ({ exchange }) => {
      kept = exchange;
      routes.push(exchange.route);
    });
    await (await server.fetch(new Request("http://a/x"))).text();
    await until(() => routes.length === 1, "the event");
    await new Promise((resolve) => setTimeout(resolve));
    assert.deepEqual([...routes, kept?.route], ["/named", "/named"]);
    assert.match(String(refused), /must be a template, not 7/);
  });

  test("are refused where another server calls the app", async () => {
    const app = new Hono().use(routeTemplate()).onError((error, c) => c.text(error.message));
    assert.match(await (await app.request("/")).text(), /^c\.env has no session/);
  });
});
