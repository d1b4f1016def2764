/** Plain HTTP on a port for TLS: the option `redirectHttp`. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { HttpsServer } from "../lib/server.ts";
import { RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();
stopServersAfterAll();

const { port, errors } = await started(() => new Response("x"), { redirectHttp: true }, "tls");

/** What the port answers to a request in pieces of `size` bytes. */
async function answer(request: string, size = Infinity, to = port): Promise<string> {
  const client = await RawClient.connect(to);
  for (let at = 0; at < request.length && !client.closed; at += size) {
    client.send(request.slice(at, at + size));
    if (size !== Infinity) await new Promise((resolve) => setImmediate(resolve));
  }
  const text = await client.rest();
  client.destroy();
  return text;
}

const asking = (line: string, host: string, fields = "") =>
  `${line} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`;

describe("redirectHttp", () => {
  const redirected: [request: string, location: string][] = [
    [asking("GET /", "localhost"), "https://localhost/"],
    [asking("HEAD /a/b?c=d", "localhost:8443"), "https://localhost:8443/a/b?c=d"],
    [asking("GET //evil.example/", "localhost"), "https://localhost//evil.example/"],
    [asking("GET http://localhost/x", "a"), "https://localhost/x"],
    [asking("GET /", "127.0.0.1:1"), "https://127.0.0.1:1/"],
    [asking("GET /", "LOCALHOST"), "https://LOCALHOST/"],
  ];
  for (const [request, location] of redirected) {
    test(`sends ${JSON.stringify(request)} to HTTPS, whole or byte by byte`, async () => {
      for (const size of [Infinity, 1]) {
        assert.equal(
          await answer(request, size),
          `HTTP/1.1 308 Permanent Redirect\r\nLocation: ${location}\r\n` +
            "Content-Length: 0\r\nConnection: close\r\n\r\n",
        );
      }
    });
  }

  const refused: [what: string, request: string][] = [
    ["a method that may change something", asking("POST /", "localhost")],
    ["a body", asking("GET /", "localhost", "Content-Length: 1\r\n") + "x"],
    ["a host of others", asking("GET /", "evil.example")],
    ["a host of others in the target", asking("GET http://evil.example/", "localhost")],
    ["a host with a user", asking("GET /", "localhost@evil.example")],
    ["no host", "GET / HTTP/1.0\r\n\r\n"],
    ["two hosts", asking("GET /", "localhost", "Host: evil.example\r\n")],
    ["a line end in the target", asking("GET /\rSet-Cookie:x", "localhost")],
    ["a target that is too long", asking(`GET /${"x".repeat(5_000)}`, "localhost")],
    ["fields that are too long", asking("GET /", "localhost", `X: ${"x".repeat(9_000)}\r\n`)],
    ["HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ["what only begins like HTTP", "GARBAGE \x00\x01"],
  ];
  for (const [what, request] of refused) {
    test(`answers ${what} with the hint`, async () => {
      assert.match(await answer(request), /^HTTP\/1\.1 400 Bad Request\r\n.*use https:/s);
    });
  }

  test("reports each as TLS_NOT_TLS, and serves TLS beside it", async () => {
    assert.ok(errors.length > 0);
    assert.deepEqual(new Set(errors.map(({ code }) => code)), new Set(["TLS_NOT_TLS"]));
    const client = await RawClient.connect(port, "tls");
    client.send(asking("GET /", "localhost"));
    await client.expect("200 OK");
    client.destroy();
  });

  test("waits for the head no longer than for a handshake", async () => {
    const clock = new TestClock();
    const slow = await started(undefined, { redirectHttp: true }, "tls", clock);
    const client = await RawClient.connect(slow.port);
    client.send("GET / HTTP/1.1\r\nHost: ");
    const rest = client.rest();
    await clock.until(() => slow.errors.length > 0, "it is cut");
    assert.equal(await rest, "");
    assert.deepEqual(slow.errors.map(({ code }) => code), ["TLS_HANDSHAKE_TIMEOUT"]);
  });

  test("is off by default, and nothing that a plain server could take", async () => {
    const other = await started(() => new Response("x"), {}, "tls");
    assert.match(
      await answer(asking("GET /", "localhost"), Infinity, other.port),
      /^HTTP\/1\.1 400 /,
    );
    assert.throws(
      () => new HttpsServer({ transportMode: "insecure", redirectHttp: true }),
      { code: "INVALID_CONFIG", message: /^Option redirectHttp is for a port that speaks TLS/ },
    );
  });
});
