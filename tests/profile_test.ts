/** `profile: "esp-idf"`: the original's defaults, to the number, and that they hold. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { type HttpsServerOptions, resolveConfig } from "../lib/config.ts";
import { GET, RawClient, readResponses, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();

stopServersAfterAll();

/** `HTTPD_DEFAULT_CONFIG()`, and where it differs `HTTPD_SSL_CONFIG_DEFAULT()`. */
const HTTPD = {
  port: 80,
  maxOpenSockets: 7,
  lruPurge: false,
  maxUriHandlers: 8,
  maxRespHeaders: 8,
  backlogConn: 5,
  maxQueuedWork: 6,
  maxUriLen: 512,
  maxReqHdrLen: 1024,
  recvWaitTimeoutMs: 5_000,
  sendWaitTimeoutMs: 5_000,
  handshakeTimeoutMs: 10_000,
  idleTimeoutMs: Infinity,
  keepAlive: false,
};
const HTTPD_SSL = { ...HTTPD, port: 443, maxOpenSockets: 4, lruPurge: true };

const profile = "esp-idf" as const;

describe("the numbers", () => {
  const of = (options: HttpsServerOptions) => {
    const config: Record<string, unknown> = { ...resolveConfig(options) };
    return Object.fromEntries(Object.keys(HTTPD).map((name) => [name, config[name]]));
  };

  test("are those of HTTPD_DEFAULT_CONFIG() in insecure mode", () => {
    assert.deepEqual(of({ profile, transportMode: "insecure" }), HTTPD);
  });

  test("are those of HTTPD_SSL_CONFIG_DEFAULT() in secure mode", () => {
    assert.deepEqual(of({ profile }), HTTPD_SSL);
    assert.deepEqual(of({ profile, transportMode: "secure" }), HTTPD_SSL);
    assert.deepEqual(resolveConfig({ profile }).alpnProtocols, []);
  });

  test("give way to options", () => {
    const options = { maxOpenSockets: 13, lruPurge: false, port: 8443, idleTimeoutMs: 1 };
    assert.deepEqual(of({ profile, ...options }), { ...HTTPD_SSL, ...options });
    const leftOut = { profile, maxOpenSockets: undefined } as unknown as HttpsServerOptions;
    assert.deepEqual(of(leftOut), HTTPD_SSL);
  });

  test("are not the defaults without the profile", () => {
    const plain = of({});
    for (const name of ["maxOpenSockets", "maxUriHandlers", "maxReqHdrLen", "idleTimeoutMs"]) {
      assert.notEqual(plain[name], HTTPD[name as keyof typeof HTTPD], name);
    }
  });

  test("of another profile are not known", () => {
    assert.throws(() => resolveConfig({ profile: "arduino" as typeof profile }), {
      code: "INVALID_CONFIG",
      message: /profile .*"esp-idf"/,
    });
  });
});

describe("a server with the profile", () => {
  test("has 7 sockets and lets the eighth client wait", async () => {
    const { port, server } = await started(() => new Response("x"), { profile });
    const clients = [];
    for (let i = 0; i < 8; i++) {
      const client = await RawClient.connect(port);
      client.send(GET("/"));
      if (i < 7) await client.expect("\r\n\r\nx");
      clients.push(client);
    }
    assert.deepEqual([server.sessions.size, clients[7]!.text], [7, ""]);
    clients[0]!.destroy();
    await clients[7]!.expect("\r\n\r\nx");
    for (const client of clients) client.destroy();
  });

  test("has 4 sockets with TLS and closes the least recently used for the fifth", async () => {
    const { port, server } = await started(() => new Response("x"), { profile }, "tls");
    const clients = [];
    for (let i = 0; i < 5; i++) {
      const client = await RawClient.connect(port, "tls");
      client.send(GET("/"));
      await client.expect("\r\n\r\nx");
      clients.push(client);
    }
    await clients[0]!.rest();
    await until(() => server.sessions.size === 4, "four are open");
    for (const client of clients) client.destroy();
  });

  test("has 8 routes and 8 response fields", async () => {
    const { port, server } = await started(undefined, { profile });
    const codes: unknown[] = [];
    const route = (i: number) => ({
      uri: `/${i}`,
      method: "GET",
      handler(request: import("../lib/httpd/request.ts").HttpdRequest) {
        try {
          for (let n = 0; n < 9; n++) request.header(`X-${n}`, "y");
        } catch (error) {
          codes.push((error as { code: string }).code);
        }
        request.send();
      },
    });
    for (let i = 0; i < 8; i++) server.route(route(i));
    assert.throws(() => server.route(route(8)), { code: "HANDLERS_FULL" });
    const client = await RawClient.connect(port);
    client.send(GET("/7"));
    await client.expect("\r\n\r\n");
    const [response] = readResponses(client.text);
    assert.deepEqual([response?.fields["x-7"], response?.fields["x-8"]], ["y", undefined]);
    assert.deepEqual(codes, ["BAD_RESPONSE"]);
    client.destroy();
  });

  test("takes a target of 512 bytes and a head of 1,024, and no more", async () => {
    const { port } = await started(({ url }) => new Response(`${url.length}`), { profile });
    const head = (target: number, total: number) => {
      const start = `GET /${"x".repeat(target - 1)} HTTP/1.1\r\nHost: a\r\nX: `;
      return start + "y".repeat(total - start.length - 4) + "\r\n\r\n";
    };
    for (const [target, total, status] of [[512, 1024, 200], [513, 1024, 414], [9, 1025, 431]]) {
      const client = await RawClient.connect(port);
      const request = head(target!, total!);
      assert.equal(request.length, total);
      client.send(request);
      await client.expect(`HTTP/1.1 ${status}`);
      client.destroy();
    }
  });
});
