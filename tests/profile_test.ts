/** `profile: "esp-idf"`: the original's defaults, to the number, and that they hold. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { type EspIdfServerOptions, type HttpsServerOptions, resolveConfig } from "../lib/config.ts";
import { ESP_IDF_NAMES, type EspIdfOptions } from "../lib/httpd/esp_idf_options.ts";
import { HttpsServer } from "../lib/server.ts";
import { GET, RawClient, readResponses, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();

stopServersAfterAll();

/** `HTTPD_DEFAULT_CONFIG()`, and where it differs `HTTPD_SSL_CONFIG_DEFAULT()`. */
const HTTPD = {
  port: 80,
  keepAlive: false,
  limits: {
    maxConnections: 7,
    lruPurge: false,
    maxRoutes: 8,
    maxResponseFields: 8,
    backlog: 5,
    maxQueuedWork: 6,
    maxUriBytes: 512,
    maxHeaderBytes: 1024,
  },
  timeouts: { receiveMs: 5_000, sendMs: 5_000, handshakeMs: 10_000, idleMs: Infinity },
};
const HTTPD_SSL = {
  ...HTTPD,
  port: 443,
  limits: { ...HTTPD.limits, maxConnections: 4, lruPurge: true },
};

const profile = "esp-idf" as const;

/** The members of `config` that `shape` has. */
function picked(config: object, shape: object): object {
  return Object.fromEntries(
    Object.entries(shape).map(([name, value]) => {
      const own = (config as Record<string, unknown>)[name];
      const isGroup = typeof value === "object" && value !== null && !Array.isArray(value);
      return [name, isGroup ? picked(own as object, value) : own];
    }),
  );
}

describe("the numbers", () => {
  const of = (options: HttpsServerOptions) => picked(resolveConfig(options), HTTPD);

  test("are those of HTTPD_DEFAULT_CONFIG() in insecure mode", () => {
    assert.deepEqual(of({ profile, transportMode: "insecure" }), HTTPD);
  });

  test("are those of HTTPD_SSL_CONFIG_DEFAULT() in secure mode", () => {
    assert.deepEqual(of({ profile }), HTTPD_SSL);
    assert.deepEqual(of({ profile, transportMode: "secure" }), HTTPD_SSL);
    assert.deepEqual(resolveConfig({ profile }).alpnProtocols, []);
  });

  test("give way to options", () => {
    const limits = { maxConnections: 13, lruPurge: false };
    const timeouts = { idleMs: 1 };
    assert.deepEqual(of({ profile, port: 8443, limits, timeouts }), {
      ...HTTPD_SSL,
      port: 8443,
      limits: { ...HTTPD_SSL.limits, ...limits },
      timeouts: { ...HTTPD_SSL.timeouts, ...timeouts },
    });
    const leftOut = { profile, limits: { maxConnections: undefined }, timeouts: undefined };
    assert.deepEqual(of(leftOut as unknown as HttpsServerOptions), HTTPD_SSL);
  });

  test("are not the defaults without the profile", () => {
    const { limits, timeouts } = resolveConfig({});
    for (const name of ["maxConnections", "maxRoutes", "maxHeaderBytes"] as const) {
      assert.notEqual(limits[name], HTTPD.limits[name], name);
    }
    assert.notEqual(timeouts.idleMs, HTTPD.timeouts.idleMs);
  });

  test("of another profile are not known", () => {
    assert.throws(() => resolveConfig({ profile: "arduino" as typeof profile }), {
      code: "INVALID_CONFIG",
      message: /profile .*"esp-idf"/,
    });
  });
});

describe("the original's names", () => {
  const f = () => true;
  const cert = "x";
  /** What is given, and what it is as another server's options. */
  const same: [original: EspIdfOptions & Pick<EspIdfServerOptions, "userCb">, options: object][] = [
    [{ maxReqHdrLen: 2048 }, { limits: { maxHeaderBytes: 2048 } }],
    [{ maxReqHdrLen: 0 }, { limits: { maxHeaderBytes: 1024 } }],
    [{ maxUriLen: 1024 }, { limits: { maxUriBytes: 1024 } }],
    [{ maxUriLen: 0 }, { limits: { maxUriBytes: 512 } }],
    [{ serverPort: 8080 }, { port: 8080 }],
    [{ maxOpenSockets: 13 }, { limits: { maxConnections: 13 } }],
    [{ maxUriHandlers: 9 }, { limits: { maxRoutes: 9 } }],
    [{ maxRespHeaders: 9 }, { limits: { maxResponseFields: 9 } }],
    [{ backlogConn: 6 }, { limits: { backlog: 6 } }],
    [{ lruPurgeEnable: false }, { limits: { lruPurge: false } }],
    [{ recvWaitTimeout: 7 }, { timeouts: { receiveMs: 7_000 } }],
    [{ sendWaitTimeout: 7 }, { timeouts: { sendMs: 7_000 } }],
    [{ globalUserCtx: 1 }, { globalUserContext: 1 }],
    [{ globalUserCtxFreeFn: f }, { globalUserContextFree: f }],
    [{ enableSoLinger: true, lingerTimeout: 3 }, { timeouts: { lingerMs: 3_000 } }],
    [{ enableSoLinger: false, lingerTimeout: 0 }, { timeouts: { lingerMs: 2_000 } }],
    [{ keepAliveEnable: true, keepAliveIdle: 7 }, { keepAlive: { idleMs: 7_000 } }],
    [{ keepAliveEnable: true }, { keepAlive: { idleMs: 5_000 } }],
    [{ keepAliveEnable: false, keepAliveIdle: 0 }, { keepAlive: false }],
    [{ uriMatchFn: f }, { uriMatch: f }],
    [{ servercert: cert, prvtkeyPem: "y" }, { cert, key: "y" }],
    [{ serverKey: "y" }, { key: "y" }],
    [{ cacertPem: cert }, { clientAuth: { ca: cert, mode: "required" } }],
    [
      { cacertPem: cert, clientCertAuthmodeOptional: true },
      { clientAuth: { ca: cert, mode: "optional" } },
    ],
    [{ portSecure: 8443, portInsecure: 8080 }, { port: 8443 }],
    [{ userCb: f }, { userCallback: f }],
    [{ sslUserdata: 1 }, { tlsUserData: 1 }],
    [{ certSelectCb: f as never }, { certSelect: f }],
    [{ alpnProtos: ["http/1.1"] }, { alpnProtocols: ["http/1.1"] }],
    [{ tlsHandshakeTimeoutMs: 500 }, { timeouts: { handshakeMs: 500 } }],
    [{ tlsHandshakeTimeoutMs: 0 }, { timeouts: { handshakeMs: 10_000 } }],
  ];
  for (const [original, options] of same) {
    test(`${Object.keys(original).join(" and ")} become ${JSON.stringify(options)}`, () => {
      const config = resolveConfig({ profile, ...original } as EspIdfServerOptions);
      assert.deepEqual(picked(config, options), options);
    });
  }

  test("are all of them above", () => {
    const names = new Set(same.flatMap(([original]) => Object.keys(original)));
    assert.deepEqual([...ESP_IDF_NAMES].filter((name) => !names.has(name)), ["ciphersuitesList"]);
  });

  test("take the port of the mode", () => {
    const ports = { portSecure: 8443, portInsecure: 8080 };
    assert.equal(resolveConfig({ profile, ...ports, transportMode: "insecure" }).port, 8080);
  });

  const wrong: [options: object, message: string][] = [
    [{ maxUriLen: -1 }, "Option maxUriLen is -1: it must be a size in bytes, 0 or more"],
    [
      { recvWaitTimeout: 0 },
      "Option recvWaitTimeout is 0: it must be a time in seconds, 1 to 2147483",
    ],
    [
      { maxOpenSockets: 4, limits: { maxConnections: 5 } },
      "Option maxOpenSockets says the same as limits.maxConnections: give one of them",
    ],
    [
      { portSecure: 1, port: 2 },
      "Option portSecure says the same as port: give one of them",
    ],
    [
      { prvtkeyPem: "x", serverKey: "y" },
      "Option serverKey says the same as key: give one of them",
    ],
    [
      { cacertPem: "x", clientAuth: { ca: "y" } },
      "Option cacertPem says the same as clientAuth: give one of them",
    ],
    [{ lingerTimeout: 3 }, "Option lingerTimeout needs enableSoLinger: true"],
    [{ keepAliveIdle: 3 }, "Option keepAliveIdle needs keepAliveEnable: true"],
    [
      { enableSoLinger: true },
      "Option enableSoLinger needs lingerTimeout: give 1 second or more, or close single sessions " +
      "with destroy()",
    ],
    [
      { clientCertAuthmodeOptional: true },
      "Option clientCertAuthmodeOptional needs cacertPem: give it",
    ],
    [{ limits: 5 }, "Option limits is 5: it must be an object of options"],
    [{ limits: null }, "Option limits is null: it must be an object of options"],
    [
      { lruPurge: true },
      "Option lruPurge is not known here: write limits: { lruPurge }",
    ],
    [
      { stackSize: 4096 },
      "Option stackSize is not known here: leave it out: there is no such thing here",
    ],
  ];
  for (const [options, message] of wrong) {
    test(`refuse ${JSON.stringify(options)}`, () => {
      assert.throws(() => resolveConfig({ profile, ...options }), {
        code: "INVALID_CONFIG",
        message,
      });
    });
  }

  test("are not known without the profile, which say what to write", () => {
    for (const [original, options] of same) {
      for (const [name, value] of Object.entries(original)) {
        assert.throws(() => resolveConfig({ [name]: value }), (error: Error) => {
          assert.match(
            error.message,
            new RegExp(`^Option ${name} is not known here: (?:write|leave)`),
          );
          const [[home, inside] = []] = Object.entries(options) as [string, unknown][];
          const [member] = typeof inside === "object" ? Object.keys(inside as object) : [];
          const isGroup = home === "limits" || home === "timeouts";
          const wanted = isGroup ? `write ${home}: { ${member} }` : `write`;
          assert.ok(error.message.includes(wanted), error.message);
          return true;
        });
      }
    }
  });

  test("start a server", async () => {
    const server = new HttpsServer({
      profile,
      maxOpenSockets: 2,
      lruPurgeEnable: false,
      recvWaitTimeout: 1,
      transportMode: "insecure",
      hostname: "127.0.0.1",
      portInsecure: 0,
    }, () => new Response("x"));
    await server.start();
    const client = await RawClient.connect(server.address.port);
    client.send(GET("/"));
    await client.expect("\r\n\r\nx");
    client.destroy();
    await server.stop({ drainMs: 0 });
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
