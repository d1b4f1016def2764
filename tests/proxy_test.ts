/** lib/proxy/: one upstream behind a server, real sockets on both sides. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { serve } from "../lib/server.ts";
import { proxy, type ProxyOptions, type UpstreamTls } from "../lib/proxy/mod.ts";
import {
  GET,
  MODES,
  RawClient,
  readResponses,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { Http2Client } from "./http2_client.ts";
import {
  ask,
  behind,
  listening,
  mirror,
  request,
  stopUpstreamsAfterAll,
  urlOf,
} from "./proxy_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connect, openDescriptors, until } from "./support.ts";
import { alice, clientCa, localhost, mallory, serverCa } from "./tls_support.ts";

assertRuntime();
stopServersAfterAll();
stopUpstreamsAfterAll();

describe("requests reach the upstream", () => {
  for (const mode of MODES) {
    test(`with their line, fields and body: ${mode}`, async () => {
      const { port } = await behind(mirror, {}, { mode, path: "/base" });
      const text = request(
        "POST /a/b?c=d",
        { "Content-Length": "5", "X-One": "1", Cookie: "a=b" },
        "hello",
      );
      const { status, body } = await ask(port, text, mode);
      const seen = JSON.parse(body);
      assert.deepEqual([status, seen.method, seen.url, seen.body], [
        200,
        "POST",
        "/base/a/b?c=d",
        "hello",
      ]);
      const { fields } = seen;
      assert.deepEqual(
        [fields["x-one"], fields["cookie"], fields["content-length"], fields["transfer-encoding"]],
        ["1", "a=b", "5", undefined],
      );
      const proto = mode === "tls" ? "https" : "http";
      assert.equal(fields["x-forwarded-for"], "127.0.0.1");
      assert.equal(fields["x-forwarded-host"], "shop.example");
      assert.equal(fields["x-forwarded-proto"], proto);
      assert.equal(fields["forwarded"], `for=127.0.0.1;host="shop.example";proto=${proto}`);
      assert.match(fields["via"], /^1\.1 httpsd-[\da-f]{8}$/);
    });
  }
  test("with bodies of unknown length, whatever the method", async () => {
    const { port } = await behind(mirror);
    for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
      const text = request(
        `${method} /`,
        { "Transfer-Encoding": "chunked" },
        "3\r\nabc\r\n0\r\n\r\n",
      );
      const seen = JSON.parse((await ask(port, text)).body);
      assert.deepEqual([seen.method, seen.body], [method, "abc"]);
      assert.equal(seen.fields["transfer-encoding"], "chunked");
    }
  });
  test("with the bodies of GET and HEAD, which Request has not", async () => {
    const urls: unknown[] = [];
    const { port } = await behind((request, response) => {
      let body = "";
      request.on("data", (piece) => body += piece);
      request.on("end", () => {
        urls.push([request.method, request.url, body]);
        response.end();
      });
    });
    const chunked = { "Transfer-Encoding": "chunked" };
    for (const method of ["GET", "HEAD"]) {
      assert.equal(
        (await ask(port, request(`${method} /length`, { "Content-Length": "5" }, "hello"))).status,
        200,
      );
      const pieces = "3\r\nabc\r\n0\r\n\r\n";
      assert.equal((await ask(port, request(`${method} /pieces`, chunked, pieces))).status, 200);
    }
    assert.deepEqual(urls, [
      ["GET", "/length", "hello"],
      ["GET", "/pieces", "abc"],
      ["HEAD", "/length", "hello"],
      ["HEAD", "/pieces", "abc"],
    ]);
  });
  test("never with a length that is not their body's", async () => {
    const seen: string[] = [];
    const upstream = await listening(net.createServer((socket) => {
      socket.on("data", (bytes: Buffer) => {
        seen.push(bytes.toString("latin1"));
        const isOver = /hello$|\r\n0\r\n\r\n$/.test(seen.join(""));
        if (isOver) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
      });
    }));
    const pass = proxy(urlOf(upstream));
    const { port, errors } = await started(async (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/other") return await pass(new Request(request, { body: "longer" }));
      if (pathname !== "/") {
        const reader = request.body!.getReader();
        if (pathname === "/read") {
          while (!(await reader.read()).done);
          reader.releaseLock();
        }
      }
      return await pass(request);
    });
    const statuses: number[] = [];
    for (const path of ["/", "/read", "/locked", "/other"]) {
      const text = request(`POST ${path}`, { "Content-Length": "5" }, "hello");
      statuses.push((await ask(port, text)).status);
    }
    assert.deepEqual(statuses, [200, 500, 500, 200]);
    assert.deepEqual(errors.map(({ code }) => code), ["BODY_USED", "BODY_USED"]);
    const heads = seen.join("");
    assert.equal(heads.match(/content-length: 5\r\n/g)?.length, 1, heads);
    assert.match(heads, /transfer-encoding: chunked\r\n[^]*6\r\nlonger\r\n0\r\n\r\n/);
  });
  test("without a body where the client has none", async () => {
    const { port } = await behind(mirror);
    for (const method of ["POST", "PROPFIND"]) {
      const { fields } = JSON.parse((await ask(port, request(`${method} /`))).body);
      assert.deepEqual([fields["content-length"], fields["transfer-encoding"]], ["0", undefined]);
    }
    for (const method of ["GET", "DELETE", "OPTIONS"]) {
      const { fields } = JSON.parse((await ask(port, request(`${method} /`))).body);
      assert.deepEqual([fields["content-length"], fields["transfer-encoding"]], [
        undefined,
        undefined,
      ]);
    }
  });
  test("over HTTP/2", async () => {
    const { port } = await behind(mirror, {}, { mode: "tls" });
    const client = await Http2Client.connect(port, "tls");
    const answer = await client.fetch({ path: "/two", fields: [["x-one", "1"]] });
    const seen = JSON.parse(answer.body.toString());
    assert.deepEqual([answer.status, seen.url, seen.fields["x-one"]], [200, "/two", "1"]);
    assert.equal(seen.fields["x-forwarded-proto"], "https");
    client.socket.destroy();
  });
  test("with the Host that was asked for", async () => {
    const own = await behind(mirror);
    const seen = JSON.parse((await ask(own.port, request("GET /"))).body);
    assert.equal(`http://${seen.fields.host}`, urlOf(own.upstream));
    const client = await behind(mirror, { host: "client" });
    assert.equal(
      JSON.parse((await ask(client.port, request("GET /"))).body).fields.host,
      "shop.example",
    );
  });
  test("without an address where the client's socket has a path", async () => {
    const upstream = await listening(http.createServer(mirror));
    const directory = mkdtempSync(join(tmpdir(), "httpsd-proxy-"));
    const path = join(directory, "socket");
    const server = await serve({ transportMode: "insecure", path }, proxy(urlOf(upstream)));
    const client = new RawClient(net.connect(path));
    client.send(request("GET /"));
    const { fields } = JSON.parse(readResponses(await client.rest(), ["GET"])[0]!.body);
    client.destroy();
    await server.stop({ drainMs: 0 });
    rmSync(directory, { recursive: true });
    assert.deepEqual([fields["forwarded"], fields["x-forwarded-for"]], [
      'host="shop.example";proto=http',
      undefined,
    ]);
  });
  test("without a prefix, and no others", async () => {
    const { port } = await behind(mirror, { stripPrefix: "/api" }, { path: "/v1/" });
    const urls: unknown[] = [];
    for (const path of ["/api/x?y", "/api", "/apix", "/"]) {
      const { status, body } = await ask(port, request(`GET ${path}`));
      urls.push(status === 200 ? JSON.parse(body).url : status);
    }
    assert.deepEqual(urls, ["/v1/x?y", "/v1/", 404, 404]);
  });
  test("without a prefix that URLs escape", async () => {
    const { port } = await behind(mirror, { stripPrefix: "/a ü" });
    assert.equal(JSON.parse((await ask(port, request("GET /a%20%C3%BC/x"))).body).url, "/x");
  });
  test("never with what is left of a body", async () => {
    const upstream = await listening(http.createServer(mirror));
    const pass = proxy(urlOf(upstream));
    const { port, errors } = await started(async (request) => {
      const reader = request.body!.getReader();
      await reader.read();
      reader.releaseLock();
      return await pass(request);
    });
    const chunked = { "Transfer-Encoding": "chunked" };
    const { status } = await ask(port, request("POST /", chunked, "3\r\nabc\r\n0\r\n\r\n"));
    assert.deepEqual([status, errors.map(({ code }) => code)], [500, ["BODY_USED"]]);
  });
  test("never outside the upstream's path", async () => {
    const { port } = await behind(mirror, {}, { path: "/base" });
    for (const path of ["/../secret", "/a/%2e%2e/%2e%2e/secret", "/..%2fsecret", "//evil/x"]) {
      const { url } = JSON.parse((await ask(port, request(`GET ${path}`))).body);
      assert.ok(url.startsWith("/base/"), url);
      assert.ok(!/\/base\/(?:\.\.|%2e%2e)\//i.test(url), url);
    }
  });
  test("with what onRequest makes of the fields; what it throws is a 500", async () => {
    const { port, errors } = await behind(mirror, {
      onRequest(fields, { url }) {
        if (url.endsWith("/no")) throw new Error("not this one");
        fields.set("authorization", "Bearer x");
      },
    });
    assert.equal(
      JSON.parse((await ask(port, request("GET /"))).body).fields.authorization,
      "Bearer x",
    );
    assert.equal((await ask(port, request("GET /no"))).status, 500);
    assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_FAILED"]);
  });
});

describe("what a client says of itself is not passed on", () => {
  const FORGED = [
    "Client-Cert",
    "Client-Cert-Chain",
    "client_cert",
    "CLIENT.CERT",
    "Forwarded",
    "X-Real-IP",
    "X-Forwarded-For",
    "X-Forwarded-Client-Cert",
    "X_Forwarded_For",
    "X-Forwarded-Anything",
    "Proxy",
    "X-SSL-Client-Verify",
    "SSL-Client-Cert",
    "True-Client-IP",
    "X-Original-URL",
  ];
  test("by any name, in any spelling", async () => {
    const { port } = await behind(mirror);
    for (const name of FORGED) {
      const { fields } = JSON.parse((await ask(port, request("GET /", { [name]: "forged" }))).body);
      assert.ok(!JSON.stringify(fields).includes("forged"), name);
    }
  });
  test("nor what concerns one connection", async () => {
    const { port } = await behind(mirror);
    const hops = {
      Connection: "close, X-Hop, keep-alive",
      "X-Hop": "forged",
      "Keep-Alive": "forged",
      TE: "forged",
      "Proxy-Authorization": "forged",
      "Proxy-Connection": "forged",
      Trailer: "forged",
      "HTTP2-Settings": "forged",
      Upgrade: "forged",
    };
    const { fields } = JSON.parse((await ask(port, request("GET /", hops))).body);
    assert.ok(!JSON.stringify(fields).includes("forged"), JSON.stringify(fields));
  });
  test("and a certificate is shown when it was verified, and only then", async () => {
    const upstream = await listening(http.createServer(mirror));
    const { port } = await started(
      proxy(urlOf(upstream)),
      {
        cert: localhost.cert,
        key: localhost.key,
        clientAuth: { ca: clientCa.cert, mode: "optional" },
      },
      "tls",
    );
    const shown: (string | undefined)[] = [];
    for (const pair of [alice, mallory, undefined]) {
      const socket = await connect({ mode: "tls", port }, { ca: serverCa.cert, ...pair });
      const client = new RawClient(socket);
      client.send(request("GET /", { "Client-Cert": ":Zm9yZ2Vk:" }));
      await client.until(() => client.ended || client.closed).catch(() => {});
      const body = client.text === "" ? "{}" : readResponses(client.text, ["GET"])[0]!.body;
      shown.push(JSON.parse(body).fields?.["client-cert"]);
      client.destroy();
    }
    const der = alice.cert.split("-----")[2]!.replace(/\s/g, "");
    assert.deepEqual(shown, [`:${der}:`, undefined, undefined]);
  });
});

describe("answers reach the client", () => {
  test("as they are: status, fields, repeated ones, compressed bodies", async () => {
    const body = gzipSync("hello ".repeat(100));
    const { port } = await behind((_, response) => {
      response.writeHead(418, {
        "content-encoding": "gzip",
        "content-type": "text/plain",
        "etag": '"e"',
        "set-cookie": ["a=1", "b=2"],
        "connection": "x-hop",
        "x-hop": "1",
        "content-length": body.length,
      });
      response.end(body);
    });
    const { status, fields, body: got } = await ask(port, request("GET /"));
    assert.deepEqual([status, fields["content-encoding"], fields["etag"], fields["x-hop"]], [
      418,
      "gzip",
      '"e"',
      undefined,
    ]);
    assert.equal(fields["content-length"], String(body.length));
    assert.equal(got, body.toString("latin1"));
    assert.equal(fields["set-cookie"], "a=1\nb=2");
  });
  test("without a body where there is none", async () => {
    const { port } = await behind(({ url }, response) => {
      response.writeHead(Number(url!.slice(1)), url === "/200" ? { "content-length": 7 } : {});
      response.end();
    });
    const head = await ask(port, request("HEAD /200"));
    assert.deepEqual([head.status, head.fields["content-length"], head.body], [200, "7", ""]);
    for (const status of [204, 304]) {
      const answer = await ask(port, request(`GET /${status}`));
      assert.deepEqual([answer.status, answer.body], [status, ""]);
    }
  });
  test("without the body of a 205, which may not end", async () => {
    let closed = false;
    const upstream = await listening(net.createServer((socket) => {
      socket.on("close", () => closed = true);
      socket.once("data", () => {
        socket.write("HTTP/1.1 205 Reset\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
      });
    }));
    const { port, errors } = await started(proxy(urlOf(upstream)));
    const { status, body } = await ask(port, request("GET /"));
    assert.deepEqual([status, body, errors], [205, "", []]);
    await until(() => closed, "the upstream's end");
  });
  test("with redirects that lead back", async () => {
    const { port, upstream } = await behind(
      (request, response) => {
        const to = new URL(request.url!, "http://a").searchParams.get("to")!;
        response.writeHead(302, { location: to.replace("SELF", urlOf(upstream)) }).end();
      },
      { stripPrefix: "/api" },
      { path: "/base" },
    );
    const found: Record<string, string | undefined> = {};
    for (
      const to of [
        "SELF/base/x?y#z",
        "/base/x",
        "/other",
        "SELF/other",
        "https://else/",
        "x",
        "//h/p",
      ]
    ) {
      const answer = await ask(port, request(`GET /api/?to=${encodeURIComponent(to)}`));
      found[to] = answer.fields["location"]?.replace(urlOf(upstream), "SELF");
    }
    assert.deepEqual(found, {
      "SELF/base/x?y#z": "http://shop.example/api/x?y#z",
      "/base/x": "/api/x",
      "/other": "/other",
      "SELF/other": "SELF/other",
      "https://else/": "https://else/",
      "x": "x",
      "//h/p": "//h/p",
    });
  });
  test("with redirects whose URL is in UTF-8", async () => {
    const utf8 = Buffer.from("/é?é").toString("latin1");
    const upstream = await listening(net.createServer((socket) => {
      socket.once("data", (bytes: Buffer) => {
        const to = bytes.includes("/absolute") ? `${urlOf(upstream)}${utf8}` : utf8;
        const head = `HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ${to}\r\n\r\n`;
        socket.end(head, "latin1");
      });
    }));
    const { port } = await started(proxy(urlOf(upstream)));
    const found: (string | undefined)[] = [];
    for (const path of ["/", "/absolute"]) {
      found.push((await ask(port, request(`GET ${path}`))).fields["location"]);
    }
    assert.deepEqual(found, ["/%C3%A9?%C3%A9", "http://shop.example/%C3%A9?%C3%A9"]);
  });
  test("piece by piece, as the upstream sends them", async () => {
    let go = () => {};
    const { port } = await behind((_, response) => {
      response.write("first");
      go = () => response.end("second");
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.until(() => client.text.includes("first"));
    go();
    await client.until(() => client.text.includes("second"));
    client.destroy();
  });
  test("before the upload is over, where the upstream will not have it", async () => {
    const { port } = await behind((_, response) => response.writeHead(413).end("too much"));
    const client = await RawClient.connect(port);
    client.send(request("POST /", { "Content-Length": "1000000" }, "a".repeat(1000)));
    await client.until(() => client.text.includes("too much"));
    assert.match(client.text, /^HTTP\/1\.1 413 /);
    client.destroy();
  });
});

describe("an upstream that fails", () => {
  const codes = (errors: readonly { code: string }[]) => errors.map(({ code }) => code);

  test("is down: 502, and nothing of it is shown", async () => {
    const upstream = await listening(net.createServer());
    const url = urlOf(upstream);
    upstream.close();
    await once(upstream, "close");
    const { port, errors } = await started(proxy(url));
    const { status, body } = await ask(port, request("GET /"));
    assert.equal(status, 502);
    assert.ok(!body.includes("127.0.0.1"));
    assert.deepEqual(codes(errors), ["UPSTREAM_FAILED"]);
    assert.match(String((errors[0]!.cause as Error).message), /ECONNREFUSED|connect|refused/i);
  });
  const broken: Record<string, string> = {
    "garbage": "garbage\r\n\r\n",
    "nothing": "",
    "half a head": "HTTP/1.1 200 OK\r\nA: ",
    "an endless head": `HTTP/1.1 200 OK\r\n${"A: b\r\n".repeat(20_000)}`,
    "a switch that was not asked for":
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "an impossible status": "HTTP/1.1 700 What\r\nContent-Length: 0\r\n\r\n",
    "a transfer coding":
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
  };
  for (const [what, answer] of Object.entries(broken)) {
    test(`sends ${what}: 502`, async () => {
      const upstream = await listening(net.createServer((socket) => {
        socket.once("data", () => socket.end(answer));
      }));
      const { port, errors } = await started(proxy(urlOf(upstream)));
      assert.equal((await ask(port, request("GET /"))).status, 502);
      assert.deepEqual(codes(errors), ["UPSTREAM_FAILED"]);
    });
  }
  test("does not answer: 504", async () => {
    const upstream = await listening(net.createServer((socket) => void socket.resume()));
    const { port, errors } = await started(
      proxy(urlOf(upstream), { timeouts: { responseMs: 50 } }),
    );
    assert.equal((await ask(port, request("GET /"))).status, 504);
    assert.equal((await ask(port, request("POST /", { "Content-Length": "2" }, "ab"))).status, 504);
    assert.deepEqual(codes(errors), ["UPSTREAM_TIMEOUT", "UPSTREAM_TIMEOUT"]);
  });
  test("is not blamed for a client that uploads slowly", async () => {
    const { port } = await behind(mirror, { timeouts: { responseMs: 60 } });
    const client = await RawClient.connect(port);
    client.send(request("POST /", { "Content-Length": "2" }, "a"));
    await new Promise((resolve) => setTimeout(resolve, 200)); // several times its time
    client.send("b");
    assert.equal(readResponses(await client.rest(), ["POST"])[0]!.status, 200);
    client.destroy();
  });
  test("does not shake hands: 504", async () => {
    const upstream = await listening(net.createServer((socket) => void socket.resume()));
    const { port, errors } = await started(
      proxy(urlOf(upstream, "https"), { timeouts: { connectMs: 50 } }),
    );
    assert.equal((await ask(port, request("GET /"))).status, 504);
    assert.deepEqual(codes(errors), ["UPSTREAM_TIMEOUT"]);
  });
  test("may take longer to answer than to connect", async () => {
    const { port } = await behind(
      (_, response) => void setTimeout(() => response.end("late"), 150),
      {
        timeouts: { connectMs: 50 },
      },
    );
    assert.equal((await ask(port, request("GET /"))).body, "late");
  });
  for (const end of ["closes", "is silent"]) {
    test(`${end} within its answer: the client's is cut`, async () => {
      const { port, errors } = await behind((_, response) => {
        response.writeHead(200, { "content-length": "100" });
        response.write("some");
        if (end === "closes") setTimeout(() => response.destroy(), 20);
      }, { timeouts: { idleMs: 80 } });
      const client = await RawClient.connect(port);
      client.send(GET("/"));
      await client.until(() => client.ended || client.closed);
      assert.ok(client.text.endsWith("some"));
      assert.deepEqual(codes(errors), [end === "closes" ? "UPSTREAM_FAILED" : "UPSTREAM_TIMEOUT"]);
    });
  }
  test("is this very server: 508", async () => {
    const handle = Promise.withResolvers<ReturnType<typeof proxy>>();
    const { port, errors } = await started(async (request) => (await handle.promise)(request));
    handle.resolve(proxy(`http://127.0.0.1:${port}`));
    assert.equal((await ask(port, request("GET /"))).status, 508);
    assert.ok(codes(errors).includes("PROXY_LOOP"));
  });
  test("closes a kept connection as the next request comes: one more try, if nothing was done", async () => {
    let connections = 0;
    const upstream = await listening(net.createServer((socket) => {
      connections++;
      let requests = 0;
      socket.on("data", () => {
        if (++requests > 1) socket.destroy();
        else socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
      });
    }));
    const { port, errors } = await started(proxy(urlOf(upstream)));
    const statuses: number[] = [];
    for (let n = 0; n < 3; n++) statuses.push((await ask(port, request("GET /"))).status);
    assert.deepEqual([statuses, codes(errors)], [[200, 200, 200], []]);
    assert.ok(connections > 1);
  });
});

describe("on a kept connection a request that may not be repeated comes once", () => {
  /** What an upstream got that answers GET alone, and cuts the connection of a request with "cut". */
  async function kept(options: ProxyOptions = {}) {
    const heads: string[] = [];
    let open = 0;
    const upstream = await listening(net.createServer((socket) => {
      open++;
      socket.on("close", () => open--);
      socket.on("data", (bytes: Buffer) => {
        const [line = ""] = bytes.toString("latin1").split(" HTTP/1.1\r\n", 1);
        heads.push(line);
        if (line.startsWith("GET")) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        else if (line.endsWith("/cut")) socket.destroy();
      });
    }));
    const front = await started(proxy(urlOf(upstream), options));
    assert.equal((await ask(front.port, request("GET /"))).status, 200);
    return { ...front, heads, isGone: () => open === 0 };
  }
  const BODY = [{ "Content-Length": "2" }, "ab"] as const;

  test("when the upstream cuts it: 502", async () => {
    const { port, heads } = await kept();
    assert.equal((await ask(port, request("POST /cut", ...BODY))).status, 502);
    assert.equal((await ask(port, request("GET /"))).status, 200);
    assert.deepEqual(heads, ["GET /", "POST /cut", "GET /"]);
  });
  test("when the upstream takes too long: 504", async () => {
    const { port, heads, isGone } = await kept({ timeouts: { responseMs: 1_000 } });
    assert.equal((await ask(port, request("POST /", ...BODY))).status, 504);
    await until(isGone, "the end of the connection");
    assert.deepEqual(heads, ["GET /", "POST /"]);
  });
  test("when the client leaves", async () => {
    const { port, heads, isGone } = await kept();
    const client = await RawClient.connect(port);
    client.send(request("POST /", ...BODY));
    await until(() => heads.length === 2, "the request");
    client.destroy();
    await until(isGone, "the end of the connection");
    assert.equal((await ask(port, request("GET /"))).status, 200);
    assert.deepEqual(heads, ["GET /", "POST /", "GET /"]);
  });
});

test("an unused connection is kept for a while, and then closed", async () => {
  let connections = 0;
  let open = 0;
  const upstream = await listening(http.createServer(mirror));
  upstream.on("connection", (socket) => {
    connections++;
    open++;
    socket.on("close", () => open--);
  });
  const { port } = await started(proxy(urlOf(upstream), { timeouts: { keepAliveMs: 500 } }));
  for (let n = 0; n < 5; n++) await ask(port, request("GET /"));
  assert.equal(connections, 1);
  await until(() => open === 0, "its end");
});

describe("who leaves", () => {
  test("a client ends the request to the upstream", async () => {
    let closed = false;
    let seen = false;
    const { port, errors } = await behind((request) => {
      seen = true;
      request.on("close", () => closed = true);
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await until(() => seen, "the request");
    client.destroy();
    await until(() => closed, "the upstream's end");
    assert.deepEqual(errors, []);
  });
  test("a client within the answer ends it too", async () => {
    let closed = false;
    const { port } = await behind((_, response) => {
      response.on("close", () => closed = true);
      const more = () => {
        while (response.write(Buffer.alloc(65_536)));
        response.once("drain", more);
      };
      more();
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.until(() => client.text.length > 100_000);
    client.destroy();
    await until(() => closed, "the upstream's end");
  });
  test("a client within its upload ends it too", async () => {
    let aborted = false;
    let seen = false;
    const { port } = await behind((request) => {
      request.on("data", () => seen = true);
      request.on("error", () => aborted = true);
      request.on("close", () => aborted = true);
    });
    const client = await RawClient.connect(port);
    client.send(request("POST /", { "Content-Length": "1000" }, "abc"));
    await until(() => seen, "the upload");
    client.destroy();
    await until(() => aborted, "the upstream's end");
  });
  test("an upstream that has answered and takes no more of the upload is let go", async () => {
    const upstream = await listening(net.createServer((socket) => {
      socket.once("data", () => {
        socket.pause(); // and neither reads nor closes
        socket.write("HTTP/1.1 413 Too much\r\nContent-Length: 2\r\n\r\nno");
      });
    }));
    const { port } = await started(proxy(urlOf(upstream)));
    const before = openDescriptors();
    const client = await RawClient.connect(port);
    client.send(request("POST /", { "Content-Length": "50000000" }));
    client.send(new Uint8Array(5_000_000));
    await client.until(() => client.text.endsWith("no"));
    client.destroy();
    // The upstream's own side, which cannot see the end of what it does not read.
    await until(() => openDescriptors() === before + 1, "the proxy's side is closed");
  });
});

/** Whether a count has stayed the same, more than 0, for 40 looks at it. */
function resting(count: () => number): () => boolean {
  let before = 0;
  let looks = 0;
  return () => {
    const now = count();
    looks = now === before && now > 0 ? looks + 1 : 0;
    before = now;
    return looks >= 40;
  };
}

describe("no more is held than is read", () => {
  const SIZE = 32 * 1024 * 1024;
  test("of an answer whose client does not read", async () => {
    let sent = 0;
    const { port } = await behind((_, response) => {
      const piece = Buffer.alloc(65_536);
      const more = () => {
        while (sent < SIZE) {
          sent += piece.length;
          if (!response.write(piece)) return void response.once("drain", more);
        }
        response.end();
      };
      more();
    });
    const client = await RawClient.connect(port);
    client.socket.pause();
    client.send(GET("/"));
    await until(resting(() => sent), "the upstream to stop");
    assert.ok(sent < SIZE / 2, `${sent} bytes were taken`);
    client.destroy();
  });
  test("of an upload that the upstream does not read", async () => {
    const { port } = await behind((request) => void request.pause());
    const client = await RawClient.connect(port);
    client.send(request("POST /", { "Content-Length": String(SIZE) }));
    let written = 0;
    const piece = Buffer.alloc(65_536);
    const isResting = resting(() => written);
    await until(() => {
      while (client.socket.writableLength < 1_000_000 && written < SIZE) {
        client.socket.write(piece);
        written += piece.length;
      }
      return isResting();
    }, "the proxy to stop");
    assert.ok(written < SIZE / 2, `${written} bytes were taken`);
    client.destroy();
  });
});

describe("an upstream of https", () => {
  test("is verified by the CA that is given, by the URL's name, and shown a certificate", async () => {
    const upstream = await listening(https.createServer({
      cert: localhost.cert,
      key: localhost.key,
      ca: clientCa.cert,
      requestCert: true,
    }, (request, response) => {
      response.end(String((request.socket as unknown as { authorized: boolean }).authorized));
    }));
    const url = urlOf(upstream as unknown as http.Server, "https");
    const good = await started(
      proxy(url, { tls: { ca: serverCa.cert, cert: alice.cert, key: alice.key } }),
    );
    assert.deepEqual((await ask(good.port, request("GET /"))).body, "true");
    for (
      const tls of [{}, { ca: clientCa.cert }, { ca: serverCa.cert, servername: "else.example" }]
    ) {
      const bad = await started(proxy(url, { tls }));
      assert.equal((await ask(bad.port, request("GET /"))).status, 502);
    }
  });
});

describe("options", () => {
  const wrong: [unknown, unknown, RegExp][] = [
    ["localhost", {}, /upstream of proxy\(\) must/],
    ["ftp://a", {}, /http: or https:/],
    ["http://a:b@c", {}, /without a user and password/],
    ["http://a/?b", {}, /must end with its path/],
    ["http://a", { changeOrigin: true }, /host: "upstream"/],
    ["http://a", { hots: "client" }, /did you mean host/],
    ["http://a", { stripPrefix: "api" }, /stripPrefix/],
    ["http://a", { tls: { ca: "x" } }, /is for an upstream of https:/],
    ["https://a", { tls: { rejectUnauthorized: false } }, /always verified/],
    ["http://a", { connectMs: 5 }, /timeouts: \{ connectMs \}/],
  ];
  const cut = serverCa.cert.slice(0, 200);
  const broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  const unusable: [string, UpstreamTls, RegExp][] = [
    ["what is no PEM", { ca: "x" }, /tls\.ca of proxy\(\) has no BEGIN CERTIFICATE line/],
    ["no authority", { ca: [] }, /tls\.ca of proxy\(\) is empty/],
    ["one that is cut off", { ca: [serverCa.cert, cut] }, /tls\.ca of proxy\(\) is cut off/],
    ["one that is damaged", { ca: broken }, /tls\.ca of proxy\(\) is not a certificate/],
    ["a certificate alone", { cert: alice.cert }, /belong together/],
    ["a key alone", { key: alice.key }, /belong together/],
    ["another's key", { cert: alice.cert, key: mallory.key }, /is not the key of tls\.cert/],
    ["a key that is none", { cert: alice.cert, key: "x" }, /tls\.key of proxy\(\) has no BEGIN/],
  ];
  for (const [what, tls, message] of unusable) {
    test(`${what} for tls is refused at once`, () => {
      assert.throws(() => proxy("https://a", { tls }), { code: "INVALID_CERTIFICATE", message });
    });
  }
  for (const [upstream, options, message] of wrong) {
    test(`${upstream} ${JSON.stringify(options)} is refused`, () => {
      assert.throws(() => proxy(upstream as string, options as ProxyOptions), {
        code: "INVALID_CONFIG",
        message,
      });
    });
  }
});
