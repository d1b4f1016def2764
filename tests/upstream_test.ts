/** A handler that returns what `fetch()` gave it, of upstreams that compress. */
import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { afterAll, describe, test } from "bun:test";
import {
  GET,
  type Mode,
  RawClient,
  readResponses,
  started,
  stopServersAfterAll,
  type WireResponse,
} from "./http_support.ts";
import { createEdgeApp } from "../lib/edge/mod.ts";
import { rateLimit } from "../lib/rate_limit/mod.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();
stopServersAfterAll();

const TEXT = "hello upstream ".repeat(50);
const CODINGS: Record<string, (text: string) => Uint8Array> = {
  gzip: gzipSync,
  "x-gzip": gzipSync,
  br: brotliCompressSync,
  deflate: deflateSync,
};

const upstream = http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url!, "http://localhost");
  const encode = CODINGS[pathname.slice(1)];
  const body = encode === undefined ? Buffer.from(TEXT) : encode(TEXT);
  response.writeHead(200, {
    "content-type": "text/plain",
    "etag": '"e"',
    ...(encode !== undefined && { "content-encoding": pathname.slice(1) }),
    ...(searchParams.has("coding") && { "content-encoding": searchParams.get("coding")! }),
    ...(searchParams.has("length") && { "content-length": body.length }),
  });
  if (request.method !== "HEAD") response.write(body);
  response.end();
});
upstream.listen(0, "127.0.0.1");
await once(upstream, "listening");
const base = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
afterAll(() => void upstream.close().closeAllConnections());

type Make = (url: string) => Promise<Response>;

async function answer(
  make: Make,
  path: string,
  { mode = "plain", method = "GET" }: { mode?: Mode; method?: string } = {},
): Promise<WireResponse & { errors: string[] }> {
  const { port, errors } = await started(() => make(base + path), {}, mode);
  const client = await RawClient.connect(port, mode);
  client.send(GET("/").replace("GET", method).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
  const [response] = readResponses(await client.rest(), [method]);
  client.destroy();
  return { ...response!, errors: errors.map(({ code, message }) => `${code}: ${message}`) };
}

describe("what fetch() gave is sent on", () => {
  const makes: Record<string, Make> = {
    "as it is": (url) => fetch(url),
    "as a clone": async (url) => (await fetch(url)).clone(),
    "after a look at it": async (url) => {
      const response = await fetch(url);
      assert.ok(response.headers.has("content-type") && response.body instanceof ReadableStream);
      return response;
    },
  };
  for (const [how, make] of Object.entries(makes)) {
    for (const coding of ["gzip", "x-gzip", "br", "deflate", "none"]) {
      for (const length of ["", "?length"]) {
        test(`${how}: ${coding}${length}`, async () => {
          const { status, fields, body, errors } = await answer(make, `/${coding}${length}`);
          assert.deepEqual([status, errors], [200, []]);
          assert.equal(fields["content-type"], "text/plain");
          assert.equal(fields["etag"], '"e"');
          if (fields["content-encoding"] !== undefined) {
            // Deno does not decode these, and says nothing else.
            assert.deepEqual([runtime, fields["content-encoding"]], ["deno", coding]);
            assert.ok(coding === "deflate" || coding === "x-gzip");
            assert.equal(body, Buffer.from(CODINGS[coding]!(TEXT)).toString("latin1"));
          } else {
            assert.equal(body, TEXT);
          }
        });
      }
    }
  }
  test("with the fields of a rate limit", async () => {
    const limit = rateLimit({ limit: 9, windowMs: 60_000 });
    for (const coding of ["gzip", "br", "none"]) {
      const { port, errors } = await started(limit.fetch(() => fetch(`${base}/${coding}?length`)));
      const client = await RawClient.connect(port);
      client.send(GET("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
      const [response] = readResponses(await client.rest());
      const { status, fields, body } = response!;
      assert.deepEqual([status, fields["content-encoding"], body], [200, undefined, TEXT]);
      assert.match(fields["ratelimit"]!, /r=\d/);
      assert.deepEqual(errors, []);
      client.destroy();
    }
  });
  test("with the fields of an edge app, where they have to be those of another Response", async () => {
    const responseFields = { "X-Own": "1" };
    for (const coding of ["gzip", "br", "none"]) {
      const app = createEdgeApp({ responseFields }, () => fetch(`${base}/${coding}?length`));
      const response = await app.fetch(new Request("http://a/"));
      assert.equal(response.headers.get("x-own"), "1");
      // Bun lets the fields be changed, and sends what fetch() gave in its own way.
      if (runtime === "deno") assert.equal(response.headers.get("content-encoding"), null);
      assert.equal(await response.text(), TEXT);
    }
  });
  test("over TLS", async () => {
    const { status, fields, body } = await answer((url) => fetch(url), "/gzip?length", {
      mode: "tls",
    });
    assert.deepEqual([status, fields["content-encoding"], body], [200, undefined, TEXT]);
  });
  test("with its length and its coding, where fetch() decodes nothing", async () => {
    for (
      const [query, coding] of [["?length", undefined], ["?length&coding=compress", "compress"]]
    ) {
      for (const method of ["GET", "HEAD"]) {
        const { status, fields, body } = await answer(
          (url) => fetch(url, { method }),
          `/none${query}`,
          { method },
        );
        assert.deepEqual([status, fields["content-encoding"]], [200, coding]);
        assert.equal(fields["content-length"], String(TEXT.length));
        assert.equal(body, method === "GET" ? TEXT : "");
      }
    }
  });
  test("to HEAD, without a coding that a GET would not have", async () => {
    const { status, fields } = await answer(
      (url) => fetch(url, { method: "HEAD" }),
      "/gzip?length",
      { method: "HEAD" },
    );
    assert.deepEqual([status, fields["content-encoding"]], [200, undefined]);
  });
});

describe("a decoded body with the fields of before", () => {
  const makes: Record<string, Make> = {
    "a stream": async (url) => {
      const response = await fetch(url);
      return new Response(response.body, response);
    },
    "a text": async (url) => {
      const response = await fetch(url);
      return new Response(await response.text(), response);
    },
  };
  for (const [what, make] of Object.entries(makes)) {
    test(`is an error that names the cause and the way: ${what}`, async () => {
      const { status, errors } = await answer(make, "/gzip?length");
      assert.equal(status, 500);
      assert.equal(errors.length, 1);
      assert.match(
        errors[0]!,
        /^BAD_RESPONSE: .*Content-Length.*\. If the body comes from fetch\(\), it was decoded: return the Response that fetch\(\) gave, or remove Content-Encoding and Content-Length$/,
      );
    });
    test(`is sent without them: ${what}`, async () => {
      const { status, fields, body } = await answer(async (url) => {
        const response = await make(url);
        const headers = new Headers(response.headers);
        headers.delete("content-encoding");
        headers.delete("content-length");
        return new Response(response.body, { headers });
      }, "/gzip?length");
      assert.deepEqual([status, fields["content-encoding"], body], [200, undefined, TEXT]);
    });
  }
  test("is known by its fields in any spelling", async () => {
    const headers = { "Content-Encoding": "gzip", "CONTENT-LENGTH": "99" };
    const { errors } = await answer(() => Promise.resolve(new Response("abc", { headers })), "/");
    assert.match(errors[0]!, /fetch\(\)/);
  });
  test("another length that is wrong says nothing of fetch()", async () => {
    const { errors } = await answer(
      () => Promise.resolve(new Response("abc", { headers: { "Content-Length": "4" } })),
      "/",
    );
    assert.equal(errors.length, 1);
    assert.doesNotMatch(errors[0]!, /fetch/);
  });
});

if (runtime === "bun") {
  test("a body that was not decoded is sent with its coding, in a Response of its own", async () => {
    const { fields, body } = await answer(async (url) => {
      const response = await fetch(url, { decompress: false } as RequestInit);
      return new Response(response.body, response);
    }, "/gzip?length");
    assert.equal(fields["content-encoding"], "gzip");
    assert.equal(body, Buffer.from(gzipSync(TEXT)).toString("latin1"));
  });
}
