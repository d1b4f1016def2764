/** Middleware for Hono: client certificates, WebSockets, HSTS and the redirect to https. */
import "reflect-metadata";
import assert from "node:assert/strict";
import { SubjectAlternativeNameExtension, X509CertificateGenerator } from "@peculiar/x509";
import { afterAll, describe, test } from "bun:test";
import { Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import {
  type ClientCertificateRules,
  getConnInfo,
  hsts,
  type HttpsdEnv,
  redirectToHttps,
  requireClientCertificate,
  upgradeWebSocket,
} from "../lib/hono/mod.ts";
import { type HttpsServer, serve } from "../lib/server.ts";
import { type PeerCertificate, peerCertificate } from "../lib/tls/peer_certificate.ts";
import { infoWith, pump } from "./hono_support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const servers: HttpsServer[] = [];
afterAll(async () => {
  await Promise.all(servers.map((server) => server.stop({ drainMs: 0 })));
});

/** The status that a client with this certificate gets. */
async function statusFor(
  certificate: PeerCertificate | undefined,
  rules?: ClientCertificateRules,
  authorized = true,
): Promise<number> {
  const app = new Hono<HttpsdEnv>().get("/", requireClientCertificate(rules), (c) => c.text("in"));
  return (await app.request("/", {}, infoWith(certificate, authorized))).status;
}

describe("requireClientCertificate()", () => {
  const pumps = peerCertificate(pump.certDer);

  test("asks for a certificate that was verified", async () => {
    assert.equal(await statusFor(pumps), 200);
    assert.equal(await statusFor(pumps, {}, false), 403);
    assert.equal(await statusFor(undefined), 403);
    assert.equal(
      await statusFor(peerCertificate(new Uint8Array([1, 2, 3])), { san: "x" }),
      403,
    );
  });

  const fingerprint = pumps.fingerprint256;
  const table: [name: string, rules: ClientCertificateRules, status: number][] = [
    ["a DNS name", { san: "pump7.example.com" }, 200],
    ["one of several", { san: ["a.example", "pump7.example.com"] }, 200],
    ["a URI", { san: "spiffe://example.com/pump/7" }, 200],
    ["another DNS name", { san: "pump8.example.com" }, 403],
    ["a wildcard, which is no name", { san: "*.example.com" }, 403],
    ["the common name, which is no SAN", { san: "pump 7" }, 403],
    ["a URI in other letter case", { san: "spiffe://example.com/PUMP/7" }, 403],
    ["the issuer", { issuer: "CN=Fleet CA" }, 200],
    ["another issuer", { issuer: "CN=Other CA" }, 403],
    ["the issuer and more", { issuer: "C=DE, CN=Fleet CA" }, 403],
    ["the fingerprint", { fingerprint256: fingerprint }, 200],
    ["without colons", { fingerprint256: fingerprint.replaceAll(":", "").toLowerCase() }, 200],
    ["another fingerprint", { fingerprint256: "ab".repeat(32) }, 403],
    ["all rules hold", { san: "pump7.example.com", fingerprint256: fingerprint }, 200],
    ["one rule does not", { san: "pump7.example.com", issuer: "CN=Other CA" }, 403],
    ["verify says yes", { verify: ({ subject }) => subject === "CN=pump 7" }, 200],
    ["verify says no", { verify: () => false }, 403],
    ["verify says no in time", { verify: () => Promise.resolve(false) }, 403],
    ["verify throws", {
      verify: () => {
        throw new HTTPException(503);
      },
    }, 503],
  ];
  for (const [name, rules, status] of table) {
    test(`${name}: ${status}`, async () => assert.equal(await statusFor(pumps, rules), status));
  }

  test("is not deceived by names that look like two", async () => {
    const keys = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
      "sign",
      "verify",
    ]);
    const forged = await X509CertificateGenerator.createSelfSigned({
      name: "CN=Fleet CA\\, O=x",
      keys,
      extensions: [
        new SubjectAlternativeNameExtension([
          { type: "url", value: "http://a/, DNS:admin.example" },
          { type: "email", value: "root.example" },
        ]),
      ],
    });
    const certificate = peerCertificate(new Uint8Array(forged.rawData));
    assert.equal(await statusFor(certificate), 200);
    for (const san of ["admin.example", "root.example", "DNS:admin.example"]) {
      assert.equal(await statusFor(certificate, { san }), 403, san);
    }
    assert.equal(await statusFor(certificate, { issuer: "CN=Fleet CA, O=x" }), 403);
    assert.equal(await statusFor(certificate, { issuer: "CN=Fleet CA\\, O=x" }), 200);
  });

  test("refuses rules that cannot be meant", () => {
    const wrong: ClientCertificateRules[] = [
      { san: "" },
      { san: [] },
      { issuer: [] },
      { issuer: "Fleet CA" },
      { issuer: "NoSuchType=x" },
      { fingerprint256: "abcd" },
      { fingerprint256: ["ab".repeat(32), "x"] },
    ];
    for (const rules of wrong) {
      assert.throws(() => requireClientCertificate(rules), { code: "INVALID_CONFIG" });
    }
  });
});

test("getConnInfo() gives the kind of address, and says how to get one", async () => {
  const app = new Hono<HttpsdEnv>().get("/", (c) => c.json(getConnInfo(c)));
  app.onError((error, c) => c.text((error as { code?: string }).code ?? "", 500));
  const response = await app.request("/", {}, infoWith(undefined));
  assert.deepEqual(await response.json(), {
    remote: { address: "::1", addressType: "IPv6", port: 9, transport: "tcp" },
  });
  assert.equal(await (await app.request("/")).text(), "INVALID_CONFIG");
});

describe("upgradeWebSocket()", () => {
  const app = new Hono<HttpsdEnv>();
  const closed = Promise.withResolvers<{ code: number; wasClean: boolean }>();
  app.get(
    "/ws/:room",
    upgradeWebSocket((c) => ({
      onOpen: (_, ws) => ws.send(`${c.req.param("room")} ${ws.readyState} ${ws.protocol}`),
      onMessage: ({ data }, ws) =>
        data === "bye" ? ws.close(4001, "told") : ws.send(`echo ${data}`),
      onClose: (event) => closed.resolve(event),
    })),
    (c) => c.text("no upgrade"),
  );

  test("opens, echoes and closes; a plain request goes on to the next handler", async () => {
    const server = await serve(
      { transportMode: "insecure", hostname: "127.0.0.1", port: 0 },
      app.fetch,
    );
    servers.push(server);
    const authority = `127.0.0.1:${server.address.port}`;
    assert.equal(await (await fetch(`http://${authority}/ws/a`)).text(), "no upgrade");

    const messages: unknown[] = [];
    const socket = new WebSocket(`ws://${authority}/ws/a`);
    const over = new Promise<CloseEvent>((resolve) => socket.onclose = resolve);
    socket.onmessage = ({ data }) => {
      messages.push(data);
      socket.send(messages.length === 1 ? "one" : "bye");
    };
    const { code, reason } = await over;
    assert.deepEqual(messages, ["a 1 ", "echo one"]);
    assert.deepEqual([code, reason], [4001, "told"]);
    assert.equal((await closed.promise).wasClean, true);
  });
});

describe("hsts()", () => {
  const header = async (url: string, ...options: Parameters<typeof hsts>) => {
    const app = new Hono().use(hsts(...options)).get("/", (c) => c.text("x"));
    return (await app.request(url)).headers.get("strict-transport-security");
  };
  test("says so over https only", async () => {
    assert.equal(await header("https://a/"), "max-age=31536000");
    assert.equal(await header("http://a/"), null);
    assert.equal(await header("https://a/", { maxAgeSeconds: 0 }), "max-age=0");
    assert.equal(
      await header("https://a/", { includeSubDomains: true, preload: true }),
      "max-age=31536000; includeSubDomains; preload",
    );
  });
  test("refuses what browsers' lists refuse", () => {
    for (
      const options of [
        { maxAgeSeconds: -1 },
        { maxAgeSeconds: 1.5 },
        { preload: true },
        { preload: true, includeSubDomains: true, maxAgeSeconds: 60 },
      ]
    ) assert.throws(() => hsts(options), { code: "INVALID_CONFIG" });
  });
});

describe("redirectToHttps()", () => {
  const target = (url: string, ...options: Parameters<typeof redirectToHttps>) => {
    const response = redirectToHttps(...options)(new Request(url));
    assert.equal(response.status, 308);
    return response.headers.get("location");
  };
  test("keeps host, path and query", () => {
    assert.equal(target("http://a.example/x/y?z=1"), "https://a.example/x/y?z=1");
    assert.equal(target("http://a.example:8080/"), "https://a.example/");
    assert.equal(target("http://a.example:8080/", { port: 8443 }), "https://a.example:8443/");
    assert.equal(target("http://[::1]:80/x", { port: 8443 }), "https://[::1]:8443/x");
    assert.equal(target("http://10.0.0.1/", { hostname: "a.example" }), "https://a.example/");
    assert.equal(target("http://a.example//evil.example"), "https://a.example//evil.example");
  });
  test("refuses ports and hosts that cannot be", () => {
    const code = "INVALID_CONFIG";
    assert.throws(() => redirectToHttps({ port: 0 }), { code });
    assert.throws(() => redirectToHttps({ port: 65536 }), { code });
    assert.throws(() => redirectToHttps({ hostname: "a b" }), { code });
    assert.throws(() => redirectToHttps({ hostname: "a/b" }), { code });
    assert.throws(() => redirectToHttps({ hostname: "user@a" }), { code });
  });
  test("serves a server in insecure mode", async () => {
    const server = await serve(
      { hostname: "127.0.0.1", port: 0, transportMode: "insecure" },
      redirectToHttps({ port: 8443 }),
    );
    servers.push(server);
    const response = await fetch(`http://127.0.0.1:${server.address.port}/a?b`, {
      redirect: "manual",
    });
    assert.equal(response.headers.get("location"), "https://127.0.0.1:8443/a?b");
    await response.body?.cancel();
  });
});
