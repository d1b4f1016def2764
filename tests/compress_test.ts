/** lib/web/compress.ts: what is compressed for which client, and what becomes of the response's fields. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { brotliDecompressSync, gunzipSync, inflateSync, zstdDecompressSync } from "node:zlib";
import { describe, test } from "bun:test";
import {
  compress,
  type CompressOptions,
  type ContentCoding,
  supportedCodings,
} from "../lib/web/compress.ts";
import { RawClient, readResponses, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { turns, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const TEXT = "All work and no play makes Jack a dull boy. ".repeat(100);

type Fields = Record<string, string>;

function asking(acceptEncoding: string | undefined, method = "GET"): Request {
  const headers = acceptEncoding === undefined ? {} : { "accept-encoding": acceptEncoding };
  return new Request("http://host/", { method, headers });
}

function page(fields: Fields = {}, body: BodyInit | null = TEXT, status = 200): Response {
  const headers = { "content-type": "text/html; charset=utf-8", ...fields };
  return new Response(body, { status, headers });
}

const DECODERS: Record<ContentCoding, (bytes: Uint8Array) => Uint8Array> = {
  br: brotliDecompressSync,
  deflate: inflateSync,
  gzip: gunzipSync,
  zstd: zstdDecompressSync,
};

async function decoded(response: Response): Promise<string> {
  const bytes = new Uint8Array(await response.arrayBuffer());
  const coding = response.headers.get("content-encoding") as ContentCoding | null;
  return new TextDecoder().decode(coding === null ? bytes : DECODERS[coding](bytes));
}

/** A stream of these chunks, one each time it is asked. */
function streamOf(...chunks: string[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  const texts = chunks.values();
  return new ReadableStream({
    pull(controller) {
      const { done, value } = texts.next();
      if (done) controller.close();
      else controller.enqueue(new TextEncoder().encode(value));
    },
  }, { highWaterMark: 0 });
}

test("supportedCodings are those that the runtime documents", () => {
  const expected = runtime === "bun"
    ? ["zstd", "br", "gzip", "deflate"]
    : ["br", "gzip", "deflate"];
  assert.deepEqual(supportedCodings, expected);
});

describe("compress() chooses", () => {
  const best = runtime === "bun" ? "zstd" : "gzip";
  const table: [accept: string | undefined, coding: string | null, codings?: ContentCoding[]][] = [
    ["gzip, deflate, br, zstd", best],
    ["gzip", "gzip"],
    ["GZIP", "gzip"],
    ["x-gzip", "gzip"],
    ["*", best],
    ["gzip;q=0.001", "gzip"],
    ["gzip;q=0", null],
    ["gzip;q=0.5, identity", null],
    ["gzip;q=0.5, identity;q=0.5", "gzip"],
    ["gzip;q=1.5", null],
    ["gzip;q=high", null],
    ["gzip ; q=0.3 , * ; q=0", "gzip"],
    ["identity", null],
    ["compress", null],
    ["", null],
    [undefined, null],
    ["br, gzip", "br", ["br", "gzip"]],
    ["br;q=0.9, gzip", "gzip", ["br", "gzip"]],
    ["deflate, gzip", "deflate", ["deflate"]],
    ["gzip", null, ["deflate"]],
    ["gzip", null, []],
  ];
  for (const [accept, coding, codings] of table) {
    test(`${coding ?? "nothing"} for ${accept}${codings ? ` of ${codings}` : ""}`, async () => {
      const response = await compress(page(), asking(accept), codings && { codings });
      assert.equal(response.headers.get("content-encoding"), coding);
      assert.equal(response.headers.get("vary"), "Accept-Encoding");
      assert.equal(await decoded(response), TEXT);
    });
  }

  for (const coding of supportedCodings) {
    test(`${coding} makes text smaller and keeps it whole`, async () => {
      const response = await compress(page(), asking(coding), { codings: [coding] });
      const copy = response.clone();
      assert.ok((await copy.arrayBuffer()).byteLength < TEXT.length / 10);
      assert.equal(await decoded(response), TEXT);
    });
  }
});

describe("compress() leaves as it is", () => {
  const table: [name: string, response: () => Response][] = [
    ["an image", () => page({ "content-type": "image/png" })],
    ["a type that is not given", () => new Response(new TextEncoder().encode(TEXT))],
    ["an event stream", () => page({ "content-type": "text/event-stream" })],
    ["what is encoded", () => page({ "content-encoding": "br" })],
    ["no-transform", () => page({ "cache-control": "public, No-Transform" })],
    ["what has a digest", () => page({ "repr-digest": "sha-256=:x:" })],
    ["a part", () => page({}, TEXT, 206)],
    ["what has a range of its own", () => page({ "content-range": "bytes 0-1/2" })],
    ["204", () => page({}, null, 204)],
    ["304", () => page({ etag: '"a"' }, null, 304)],
    ["no body", () => page({}, null)],
    ["a declared short body", () => page({ "content-length": "1023" }, "x".repeat(1023))],
  ];
  for (const [name, make] of table) {
    test(name, async () => {
      const response = make();
      assert.equal(await compress(response, asking("gzip")), response);
      assert.equal(response.headers.get("vary"), null);
    });
  }

  test("a short body without a declared length", async () => {
    const response = await compress(page({ etag: '"a"' }, "short"), asking("gzip"));
    assert.equal(response.headers.get("content-encoding"), null);
    assert.equal(response.headers.get("etag"), '"a"');
    assert.equal(await response.text(), "short");
  });

  test("a stream that begins with a small chunk, every chunk of it", async () => {
    const response = await compress(page({}, streamOf("a", TEXT, "b")), asking("gzip"));
    assert.equal(response.headers.get("content-encoding"), null);
    assert.equal(await response.text(), `a${TEXT}b`);
  });

  test("nothing, when the threshold is 0 or identity is forbidden", async () => {
    for (
      const [accept, options] of [["gzip", { threshold: 0 }], ["gzip, *;q=0", {}]] as [
        string,
        CompressOptions,
      ][]
    ) {
      for (const fields of [{}, { "content-length": "5" }] as Fields[]) {
        const response = await compress(page(fields, "short"), asking(accept), options);
        assert.equal(response.headers.get("content-encoding"), "gzip");
        assert.equal(await decoded(response), "short");
      }
    }
  });
});

describe("compress() keeps the fields true", () => {
  test("length, ranges and tag", async () => {
    const fields = {
      "accept-ranges": "bytes",
      "content-length": String(TEXT.length),
      etag: '"a"',
      "x-own": "kept",
    };
    const response = await compress(page(fields, TEXT, 201), asking("gzip"));
    assert.equal(response.status, 201);
    assert.deepEqual(Object.fromEntries(response.headers), {
      "content-encoding": "gzip",
      "content-type": "text/html; charset=utf-8",
      etag: 'W/"a"',
      vary: "Accept-Encoding",
      "x-own": "kept",
    });
    const weak = await compress(page({ etag: 'W/"a"' }), asking("gzip"));
    assert.equal(weak.headers.get("etag"), 'W/"a"');
    const plain = await compress(page(fields), asking("identity"));
    assert.equal(plain.headers.get("etag"), '"a"');
    assert.equal(plain.headers.get("content-length"), String(TEXT.length));
    assert.equal(plain.headers.get("vary"), "Accept-Encoding");
  });

  test("Vary is added to, once", async () => {
    for (
      const [vary, expected] of [
        ["Origin", "Origin, Accept-Encoding"],
        ["accept-encoding", "accept-encoding"],
        ["Origin, Accept-Encoding", "Origin, Accept-Encoding"],
        ["*", "*"],
      ] as const
    ) {
      const response = await compress(page({ vary }), asking("gzip"));
      assert.equal(response.headers.get("vary"), expected);
    }
  });

  test("several cookies stay several", async () => {
    const response = page();
    response.headers.append("set-cookie", "a=1");
    response.headers.append("set-cookie", "b=2");
    const { headers } = await compress(response, asking("gzip"));
    assert.deepEqual(headers.getSetCookie(), ["a=1", "b=2"]);
  });

  test("HEAD gets the fields of its GET", async () => {
    const fields = { "content-length": String(TEXT.length), etag: '"a"' };
    const response = await compress(page(fields, null), asking("gzip", "HEAD"));
    assert.equal(response.body, null);
    assert.equal(response.headers.get("content-encoding"), "gzip");
    assert.equal(response.headers.get("content-length"), null);
    assert.equal(response.headers.get("etag"), 'W/"a"');
    const short = page({ "content-length": "5" }, null);
    assert.equal(await compress(short, asking("gzip", "HEAD")), short);
    const unknown = page({}, null);
    assert.equal(await compress(unknown, asking("gzip", "HEAD")), unknown);
  });
});

describe("compress() streams", () => {
  test("takes no more of the body than the client takes of it", async () => {
    let pulled = 0;
    const endless = new ReadableStream<Uint8Array<ArrayBuffer>>({
      pull(controller) {
        pulled++;
        controller.enqueue(crypto.getRandomValues(new Uint8Array(16_384)));
      },
    }, { highWaterMark: 0 });
    const response = await compress(page({}, endless), asking("gzip"));
    const reader = response.body!.getReader();
    assert.equal((await reader.read()).done, false);
    const soFar = pulled;
    await turns(); // time to take more, if it would
    assert.ok(pulled - soFar < 16, `${pulled - soFar} chunks were taken that were not asked for`);
    await reader.cancel();
  });

  test("cancels the body when it is cancelled", async () => {
    for (const fields of [{}, { "content-length": "1000000" }] as Fields[]) {
      let reason: unknown;
      const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
        pull: (controller) => controller.enqueue(crypto.getRandomValues(new Uint8Array(16_384))),
        cancel: (why) => void (reason = why),
      }, { highWaterMark: 0 });
      const response = await compress(page(fields, body), asking("gzip"));
      const reader = response.body!.getReader();
      await reader.read();
      await reader.cancel("gone");
      await until(() => reason !== undefined, "The source is cancelled");
      assert.equal(reason, "gone");
    }
  });

  test("waits for a body that gives nothing no longer than its client", async () => {
    const gone = Promise.withResolvers<unknown>();
    const quiet = new ReadableStream<Uint8Array<ArrayBuffer>>({ cancel: gone.resolve });
    const controller = new AbortController();
    const answer = compress(
      page({}, quiet),
      new Request("http://host/", {
        headers: { "accept-encoding": "gzip" },
        signal: controller.signal,
      }),
    );
    controller.abort();
    const response = await answer;
    assert.equal(response.headers.get("content-encoding"), null);
    await response.body!.cancel("gone");
    assert.equal(await gone.promise, "gone");
  });

  test("gives what comes after the client has ended its side", async () => {
    let source!: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;
    const late = new ReadableStream<Uint8Array<ArrayBuffer>>({
      start: (controller) => void (source = controller),
    });
    const controller = new AbortController();
    const { signal } = controller;
    const answer = compress(
      page({}, late),
      new Request("http://host/", { headers: { "accept-encoding": "gzip" }, signal }),
    );
    controller.abort();
    const text = (await answer).text();
    for (const piece of ["late", TEXT]) source.enqueue(new TextEncoder().encode(piece));
    source.close();
    assert.equal(await text, `late${TEXT}`);
  });

  test("fails when the body fails, at once or later", async () => {
    const failing = (after: number) => {
      const chunks = Array.from({ length: after }, () => TEXT).values();
      return new ReadableStream<Uint8Array<ArrayBuffer>>({
        pull(controller) {
          const { done, value } = chunks.next();
          if (done) throw new RangeError("The disk burns");
          controller.enqueue(new TextEncoder().encode(value));
        },
      }, { highWaterMark: 0 });
    };
    await assert.rejects(compress(page({}, failing(0)), asking("gzip")), RangeError);
    const later = await compress(page({}, failing(2)), asking("gzip"));
    await assert.rejects(later.arrayBuffer(), RangeError);
  });
});

describe("compress() refuses", () => {
  test("a threshold that is no size", async () => {
    for (const threshold of [-1, NaN]) {
      await assert.rejects(compress(page(), asking("gzip"), { threshold }), {
        code: "INVALID_CONFIG",
      });
    }
  });

  test("a coding that the runtime does not have", async () => {
    const refused: [coding: string, code: string, message: RegExp][] = [
      ["lzma", "INVALID_CONFIG", /codings\.0 of compress\(\) .* must be "br", "zstd", "gzip" or/],
    ];
    if (runtime === "deno") {
      refused.push([
        "zstd",
        "NOT_SUPPORTED",
        /codings\.0 of compress\(\) is not supported, this ru/,
      ]);
    }
    for (const [coding, code, message] of refused) {
      const codings = [coding as ContentCoding];
      await assert.rejects(compress(page(), asking("gzip"), { codings }), { code, message });
    }
  });
});

test("compress() of a stream that gives nothing ends with its client, on a socket", async () => {
  const { promise: cancelled, resolve: cancel } = Promise.withResolvers<unknown>();
  const { promise: handled, resolve: handle } = Promise.withResolvers<void>();
  const { port, errors } = await started((request) => {
    handle();
    return compress(page({}, new ReadableStream({ cancel })), request);
  }, { timeouts: { lingerMs: 100 } });
  const client = await RawClient.connect(port);
  client.send("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
  await handled;
  client.destroy();
  await cancelled;
  assert.deepEqual(errors, []);
});

test("compress() on a socket", async () => {
  const { port, errors } = await started((request) => compress(page({ etag: '"a"' }), request));
  const client = await RawClient.connect(port);
  const request = (accept: string, more = "") =>
    `GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: ${accept}\r\n${more}\r\n`;
  client.send(request("gzip"));
  client.send(request("identity", "Connection: close\r\n"));
  const [zipped, plain] = readResponses(await client.rest());
  assert.equal(zipped!.fields["etag"], 'W/"a"');
  assert.equal(gunzipSync(new Uint8Array(Buffer.from(zipped!.body, "latin1"))).toString(), TEXT);
  assert.equal(plain!.body, TEXT);
  assert.deepEqual(errors, []);
  client.destroy();
});
