/** A Hono app of some size on real sockets, and its client certificates. */
import "reflect-metadata";
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type tls from "node:tls";
import { gunzipSync } from "node:zlib";
import { afterAll, describe, test } from "bun:test";
import { Hono, type MiddlewareHandler } from "hono";
import { bodyLimit } from "hono/body-limit";
import { compress as honoCompress } from "hono/compress";
import { deleteCookie, getCookie, getSignedCookie, setCookie, setSignedCookie } from "hono/cookie";
import { cors } from "hono/cors";
import { etag } from "hono/etag";
import { HTTPException } from "hono/http-exception";
import { requestId, type RequestIdVariables } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import { stream, streamSSE, streamText } from "hono/streaming";
import { timeout } from "hono/timeout";
import {
  clientCertificate,
  getConnInfo,
  hsts,
  type HttpsdEnv,
  requireClientCertificate,
} from "../lib/hono/mod.ts";
import type { HttpsServerOptions } from "../lib/config.ts";
import { type HttpsServer, serve } from "../lib/server.ts";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import { peerCertificate } from "../lib/tls/peer_certificate.ts";
import { compress } from "../lib/web/compress.ts";
import { serveFiles } from "../lib/web/files.ts";
import { serverSentEvents } from "../lib/web/sse.ts";
import { app as exampleApp } from "../examples/hono.ts";
import { clientCa, infoWith, pump } from "./hono_support.ts";
import { RawClient, readResponses, type WireResponse } from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { certificates, connect, until } from "./support.ts";

assertRuntime();

const directory = mkdtempSync(join(tmpdir(), "httpsd-hono-"));

writeFileSync(join(directory, "page.html"), "<h1>static</h1>");

writeFileSync(join(directory, "data.json"), JSON.stringify({ text: "x".repeat(3000) }));

const servers: HttpsServer[] = [];
afterAll(async () => {
  await Promise.all(servers.map((server) => server.stop({ drainMs: 0 })));
  rmSync(directory, { recursive: true });
});

const otherCa = await createCertificateAuthority({ name: "Other CA" });

const stranger = await otherCa.issue({ usage: "client", subject: "CN=stranger" });

type Env = HttpsdEnv & { Variables: RequestIdVariables };

/** An app as they are: groups of routes, middleware for some and for all, every kind of body. */
function makeApp() {
  const app = new Hono<Env>();
  app.use(requestId());
  app.use(hsts({ includeSubDomains: true }));
  app.use(secureHeaders({ strictTransportSecurity: false }));
  app.get("/", (c) => c.text(`hello ${getConnInfo(c).remote.address}`));
  app.get("/facts", (c) => {
    const { session, server } = c.env;
    const { protocol, alpn, sni } = session.tls!;
    return c.json({ protocol, alpn, sni, running: server.state === "running", id: session.id });
  });

  const api = new Hono<Env>();
  api.use(cors({ origin: "https://app.example", allowMethods: ["GET", "PUT"], credentials: true }));
  api.use("/cached/*", etag());
  api.use("/zipped/*", honoCompress());
  api.get("/cached/:id{[0-9]+}", (c) => c.json({ id: Number(c.req.param("id")) }));
  api.get("/zipped/text", (c) => c.text("zip ".repeat(1000)));
  api.put("/items/:id", async (c) => {
    const { name } = await c.req.json<{ name: string }>();
    return c.json({ id: c.req.param("id"), name, q: c.req.queries("tag") }, 201);
  });
  app.route("/api/v1", api);

  const session = new Hono<Env>();
  session.post("/login", async (c) => {
    const { user } = await c.req.parseBody();
    await setSignedCookie(c, "user", String(user), "secret", {
      httpOnly: true,
      secure: true,
      sameSite: "Lax",
    });
    setCookie(c, "theme", "dark");
    return c.redirect("/session/me", 303);
  });
  session.get("/me", async (c) => {
    const user = await getSignedCookie(c, "secret", "user");
    return user ? c.json({ user, theme: getCookie(c, "theme") }) : c.json({ user: null }, 401);
  });
  session.post("/logout", (c) => {
    deleteCookie(c, "user");
    return c.body(null, 204);
  });
  app.route("/session", session);

  app.post("/upload", bodyLimit({ maxSize: 1_000_000 }), async (c) => {
    const form = await c.req.formData();
    const file = form.get("file") as File;
    const bytes = new Uint8Array(await file.arrayBuffer());
    const sum = bytes.reduce((total, byte) => total + byte, 0);
    return c.json({ title: form.get("title"), name: file.name, type: file.type, sum });
  });
  app.get("/kinds/json", (c) => c.json({ a: "<b>" }));
  app.get("/kinds/text", (c) => c.text("<b>"));
  app.get("/kinds/html", (c) => c.html("<b>"));
  app.get("/kinds/body", (c) => c.body("<b>", 200, { "Content-Type": "a/b", "X-A": "c" }));
  app.get("/kinds/cookies", (c) => c.json(getCookie(c)));
  const seen = async (request: Request) => [
    request.method,
    await request.text(),
    request.headers.get("content-type"),
    request.constructor.name,
  ];
  app.put(
    "/rebuilt/limited",
    bodyLimit({ maxSize: 10 }),
    async (c) => c.json(await seen(c.req.raw)),
  );
  app.put("/rebuilt/clone", async (c) => c.json(await seen(c.req.raw.clone())));
  app.put("/rebuilt/copy", async (c) => c.json(await seen(new Request(c.req.raw, {}))));
  app.put("/rebuilt/copy with headers", async (c) => {
    const headers = new Headers(c.req.raw.headers);
    headers.set("x-new", "1");
    return c.json(await seen(new Request(c.req.raw, { headers })));
  });
  app.post("/echo", (c) => stream(c, (out) => out.pipe(c.req.raw.body!)));
  app.get("/lines", (c) =>
    streamText(c, async (out) => {
      for (let i = 0; i < 3; i++) {
        await out.writeln(`line ${i}`);
        await out.sleep(1);
      }
    }));
  app.get("/events/hono", (c) =>
    streamSSE(c, async (out) => {
      for (let i = 0; i < 2; i++) await out.writeSSE({ id: String(i), data: `event ${i}` });
    }));
  app.get("/events/ours", (c) =>
    serverSentEvents(c.req.raw, async ({ send, lastEventId }) => {
      const first = Number(lastEventId ?? -1) + 1;
      for (let i = first; i < first + 2; i++) await send({ id: String(i), data: `event ${i}` });
    }));

  const files = serveFiles(directory, { prefix: "/static" });
  app.get("/static/*", async (c) => await compress(await files(c.req.raw), c.req.raw));

  app.get(
    "/certificate",
    clientCertificate(),
    (c) => c.text(c.var.clientCertificate?.subject ?? "nobody"),
  );
  const fleet = new Hono<Env>();
  fleet.use(requireClientCertificate({ san: "PUMP7.example.com", issuer: "CN=Fleet CA" }));
  fleet.get("/", (c) => c.text(`welcome ${c.var.clientCertificate!.subject}`));
  app.route("/fleet", fleet);
  app.get("/nobody", requireClientCertificate({ san: "other.example.com" }), (c) => c.text("?"));

  app.get("/slow", timeout(20), async (c) => {
    await new Promise((resolve) => setTimeout(resolve, 2000).unref?.());
    return c.text("too late");
  });
  app.get("/fails", () => {
    throw new RangeError("It broke");
  });
  app.get("/teapot", () => {
    throw new HTTPException(418, { message: "short and stout" });
  });
  app.notFound((c) => c.json({ missing: c.req.path }, 404));
  app.onError((error, c) =>
    error instanceof HTTPException
      ? c.text(error.message, error.status)
      : c.json({ error: error.name, id: c.var.requestId }, 500)
  );
  return app;
}

async function start(options: HttpsServerOptions, app: Hono<Env>): Promise<number> {
  const server = await serve(
    { hostname: "127.0.0.1", port: 0, timeouts: { lingerMs: 500 }, ...options },
    app.fetch,
  );
  server.addEventListener("error", () => {}); // the tests look at what clients get
  servers.push(server);
  return server.address.port;
}

const { cert, key } = await certificates();

const port = await start(
  { cert, key, clientAuth: { ca: clientCa.cert, mode: "optional" } },
  makeApp(),
);

interface Asked {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array;
  client?: tls.ConnectionOptions;
}

/** Asks the app over TLS, on a connection of its own. */
async function ask(path: string, asked: Asked = {}): Promise<WireResponse> {
  const { method = "GET", headers = {}, body = "", client: options } = asked;
  const bytes = Buffer.from(body);
  const fields = { Host: "localhost", Connection: "close", ...headers };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const length = bytes.length > 0 ? `Content-Length: ${bytes.length}\r\n` : "";
  const client = new RawClient(await connect({ mode: "tls", port }, options));
  client.send(`${method} ${path} HTTP/1.1\r\n${lines}${length}\r\n`);
  if (bytes.length > 0) client.send(bytes);
  const responses = readResponses(await client.rest(), [method]);
  client.destroy();
  assert.equal(responses.length, 1);
  return responses[0]!;
}

describe("a Hono app", () => {
  test("answers, with the middleware of all routes", async () => {
    const { status, fields, body } = await ask("/");
    assert.deepEqual([status, body], [200, "hello 127.0.0.1"]);
    assert.match(fields["x-request-id"]!, /^[\w-]{36}$/);
    assert.equal(fields["strict-transport-security"], "max-age=31536000; includeSubDomains");
    assert.equal(fields["x-frame-options"], "SAMEORIGIN");
  });

  test("sees the session and the server in c.env", async () => {
    const facts = JSON.parse((await ask("/facts")).body);
    assert.match(facts.protocol, /^TLSv1\.[23]$/);
    assert.equal(facts.sni, "localhost");
    assert.equal(facts.running, true);
    assert.equal(typeof facts.id, "number");
  });

  test("routes groups, parameters, queries and JSON", async () => {
    const made = await ask("/api/v1/items/a%20b?tag=x&tag=y", {
      method: "PUT",
      headers: { "Content-Type": "application/json" },
      body: '{"name":"ü"}',
    });
    assert.equal(made.status, 201);
    const text = Buffer.from(made.body, "latin1").toString();
    assert.deepEqual(JSON.parse(text), { id: "a b", name: "ü", q: ["x", "y"] });
    const missing = await ask("/api/v1/cached/abc");
    assert.deepEqual([missing.status, missing.body], [404, '{"missing":"/api/v1/cached/abc"}']);
  });

  test("answers HEAD", async () => {
    const { status, fields, body } = await ask("/api/v1/cached/1", { method: "HEAD" });
    assert.deepEqual([status, body], [200, ""]);
    assert.equal(fields["content-type"], "application/json");
  });

  test("uses cors()", async () => {
    const headers = { Origin: "https://app.example", "Access-Control-Request-Method": "PUT" };
    const preflight = await ask("/api/v1/items/1", { method: "OPTIONS", headers });
    assert.equal(preflight.status, 204);
    assert.equal(preflight.fields["access-control-allow-origin"], "https://app.example");
    assert.equal(preflight.fields["access-control-allow-methods"], "GET,PUT");
    assert.equal(preflight.fields["access-control-allow-credentials"], "true");
  });

  test("uses etag()", async () => {
    const { fields } = await ask("/api/v1/cached/7");
    const headers = { "If-None-Match": fields["etag"]! };
    const again = await ask("/api/v1/cached/7", { headers });
    assert.deepEqual([again.status, again.body], [304, ""]);
    assert.equal((await ask("/api/v1/cached/8", { headers })).status, 200);
  });

  test("uses compress()", async () => {
    const headers = { "Accept-Encoding": "gzip" };
    const { fields, body } = await ask("/api/v1/zipped/text", { headers });
    assert.equal(fields["content-encoding"], "gzip");
    assert.equal(unzipped(body), "zip ".repeat(1000));
  });

  test("uses cookies", async () => {
    assert.equal((await ask("/session/me")).status, 401);
    const login = await ask("/session/login", {
      method: "POST",
      headers: { "Content-Type": "application/x-www-form-urlencoded" },
      body: "user=alice",
    });
    assert.equal(login.status, 303);
    assert.equal(login.fields["location"], "/session/me");
    const set = login.fields["set-cookie"]!.split("\n");
    assert.equal(set.length, 2);
    assert.match(set[0]!, /; HttpOnly; Secure; SameSite=Lax$/);
    const Cookie = set.map((cookie) => cookie.split(";", 1)[0]).join("; ");
    const me = await ask("/session/me", { headers: { Cookie } });
    assert.deepEqual(JSON.parse(me.body), { user: "alice", theme: "dark" });
    const forged = await ask("/session/me", {
      headers: { Cookie: Cookie.replace("alice", "admin") },
    });
    assert.equal(forged.status, 401);
    const logout = await ask("/session/logout", { method: "POST", headers: { Cookie } });
    assert.equal(logout.status, 204);
    assert.match(logout.fields["set-cookie"]!, /^user=; Max-Age=0/);
  });

  test("takes uploads, to their limit", async () => {
    const file = new Uint8Array(300_000).map((_, i) => i);
    const form = new FormData();
    form.set("title", "a picture");
    form.set("file", new File([file], "pic.png", { type: "image/png" }));
    const encoded = new Request("http://x", { method: "POST", body: form });
    const headers = { "Content-Type": encoded.headers.get("content-type")! };
    const body = new Uint8Array(await encoded.arrayBuffer());
    const { status, body: answer } = await ask("/upload", { method: "POST", headers, body });
    assert.equal(status, 200);
    assert.deepEqual(JSON.parse(answer), {
      title: "a picture",
      name: "pic.png",
      type: "image/png",
      sum: file.reduce((total, byte) => total + byte, 0),
    });
    const large = { method: "POST", headers: { ...headers, "Content-Length": "1000001" } };
    assert.equal((await ask("/upload", large)).status, 413);
  });

  test("gives c.json(), c.text() and c.html() their types, and their headers", async () => {
    const facts = await ask("/kinds/json");
    assert.equal(facts.fields["content-type"], "application/json");
    assert.equal(facts.body, '{"a":"<b>"}');
    const text = await ask("/kinds/text");
    assert.match(text.fields["content-type"]!, /^text\/plain; ?charset=utf-8$/i);
    const html = await ask("/kinds/html");
    assert.match(html.fields["content-type"]!, /^text\/html; ?charset=utf-8$/i);
    const body = await ask("/kinds/body");
    assert.deepEqual([body.fields["content-type"], body.fields["x-a"]], ["a/b", "c"]);
  });

  test("sees several Cookie fields as one", async () => {
    const client = new RawClient(await connect({ mode: "tls", port }));
    client.send(
      "GET /kinds/cookies HTTP/1.1\r\nHost: localhost\r\nCookie: a=1\r\nCookie: b=2; c=3\r\n" +
        "Connection: close\r\n\r\n",
    );
    const [response] = readResponses(await client.rest());
    assert.deepEqual(JSON.parse(response!.body), { a: "1", b: "2", c: "3" });
  });

  for (const framing of ["Content-Length", "chunks"]) {
    test(`keeps method and body of what bodyLimit() and others rebuild: ${framing}`, async () => {
      const uses = ["limited", "clone", "copy", "copy with headers"];
      for (const use of uses) {
        const client = new RawClient(await connect({ mode: "tls", port }));
        const head = `PUT /rebuilt/${encodeURIComponent(use)} HTTP/1.1\r\nHost: localhost\r\n` +
          "Content-Type: text/x-y\r\nConnection: close\r\n";
        client.send(
          framing === "chunks"
            ? `${head}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n`
            : `${head}Content-Length: 4\r\n\r\nabcd`,
        );
        const [response] = readResponses(await client.rest());
        assert.deepEqual(JSON.parse(response!.body), ["PUT", "abcd", "text/x-y", "Request"], use);
      }
      const client = new RawClient(await connect({ mode: "tls", port }));
      client.send(
        "PUT /rebuilt/limited HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n" +
          "Connection: close\r\n\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n",
      );
      assert.equal(readResponses(await client.rest())[0]?.status, 413);
    });
  }

  test("streams both ways", async () => {
    assert.equal((await ask("/lines")).body, "line 0\nline 1\nline 2\n");
    const body = Buffer.alloc(500_000, "0123456789abcdef");
    const echoed = await ask("/echo", { method: "POST", body });
    assert.equal(echoed.body, body.toString("latin1"));
  });

  test("echoes a body that is still being sent", async () => {
    const client = new RawClient(await connect({ mode: "tls", port }));
    client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\none");
    await client.expect(/\r\n\r\n[^]*one/);
    client.send("two");
    await client.expect(/two\r\n0\r\n\r\n$/);
    client.destroy();
  });

  test("sends events, by Hono's helper and by ours", async () => {
    const expected = "id: 0\ndata: event 0\n\nid: 1\ndata: event 1\n\n";
    const theirs = await ask("/events/hono");
    assert.equal(theirs.fields["content-type"], "text/event-stream");
    assert.equal(theirs.body.replaceAll(/^(data: .*)\n(id: .*)\n/gm, "$2\n$1\n"), expected);
    assert.equal((await ask("/events/ours")).body, `:\n\n${expected}`);
    const resumed = await ask("/events/ours", { headers: { "Last-Event-ID": "4" } });
    assert.match(resumed.body, /^:\n\nid: 5\n/);
  });

  test("serves files, by our helper and by Hono's", async () => {
    assert.equal((await ask("/static/page.html")).body, "<h1>static</h1>");
    assert.equal((await ask("/static/%2e%2e/x")).status, 404);
    const part = await ask("/static/page.html", { headers: { Range: "bytes=0-3" } });
    assert.deepEqual([part.status, part.body], [206, "<h1>"]);
    const zipped = await ask("/static/data.json", { headers: { "Accept-Encoding": "gzip" } });
    assert.equal(zipped.fields["content-encoding"], "gzip");
    assert.equal(JSON.parse(unzipped(zipped.body)).text.length, 3000);

    const { serveStatic } = await import(runtime === "deno" ? "hono/deno" : "hono/bun") as {
      serveStatic: (options: { root: string }) => MiddlewareHandler;
    };
    const app = new Hono<Env>().use("/*", serveStatic({ root: directory }));
    assert.equal(await (await app.request("/page.html")).text(), "<h1>static</h1>");
  });

  test("answers its own errors, and lives on", async () => {
    const failed = await ask("/fails");
    assert.equal(failed.status, 500);
    assert.equal(JSON.parse(failed.body).error, "RangeError");
    const teapot = await ask("/teapot");
    assert.deepEqual([teapot.status, teapot.body], [418, "short and stout"]);
    assert.equal((await ask("/slow")).status, 504);
    assert.equal((await ask("/")).status, 200);
  });

  test("calls onAbort when the client leaves", async () => {
    let aborted = false;
    const app = new Hono<Env>().get("/", (c) => {
      c.req.raw.signal.addEventListener("abort", () => aborted = true);
      return new Promise<Response>(() => {});
    });
    const ownPort = await start({ cert, key }, app);
    const client = new RawClient(await connect({ mode: "tls", port: ownPort }));
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await until(
      () => [...servers.at(-1)!.sessions].some(({ requests }) => requests > 0),
      "It came",
    );
    client.destroy();
    await until(() => aborted, "onAbort is called");
  });
});

function unzipped(body: string): string {
  return gunzipSync(new Uint8Array(Buffer.from(body, "latin1"))).toString();
}

describe("client certificates over TLS", () => {
  const asPump = { client: { cert: pump.cert, key: pump.key } };
  const asStranger = { client: { cert: stranger.cert, key: stranger.key } };

  test("are shown to handlers when they are verified", async () => {
    assert.equal((await ask("/certificate", asPump)).body, "CN=pump 7");
    assert.equal((await ask("/certificate")).body, "nobody");
  });

  test("are required", async () => {
    const welcome = await ask("/fleet", asPump);
    assert.deepEqual([welcome.status, welcome.body], [200, "welcome CN=pump 7"]);
    const without = await ask("/fleet");
    assert.deepEqual([without.status, without.body], [403, "A client certificate is needed"]);
    const wrong = await ask("/nobody", asPump);
    assert.deepEqual([wrong.status, wrong.body], [403, "This client certificate may not do this"]);
  });

  test("of another authority do not pass", async () => {
    // Deno ends such a handshake; Bun lets it through as not authorized.
    const result = await ask("/fleet", asStranger).catch(() => undefined);
    assert.ok(result === undefined || result.status === 403);
  });
});

test("examples/hono.ts greets, and opens /fleet to verified certificates", async () => {
  const pumps = peerCertificate(pump.certDer);
  assert.match(
    await (await exampleApp.request("/", {}, infoWith(pumps))).text(),
    /^Hello ::1 port 9/,
  );
  assert.equal((await exampleApp.request("/fleet", {}, infoWith(undefined))).status, 403);
  const welcome = await exampleApp.request("/fleet", {}, infoWith(pumps));
  assert.equal(await welcome.text(), "Welcome CN=pump 7\n");
});
