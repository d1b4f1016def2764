/** lib/web/files.ts and the rooms behind it: pure tests, a directory on disk, and real sockets. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { execFileSync, spawn } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { constants, lstat, open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, test } from "bun:test";
import { evaluatePreconditions, ifRangeHolds } from "../lib/web/conditional.ts";
import { contentTypeOf, isCompressible } from "../lib/web/content_types.ts";
import { isWhatWasFound, locate, openDirectory, openLocated, parsePath } from "../lib/web/disk.ts";
import { serveFiles, type ServeFilesOptions } from "../lib/web/files.ts";
import { formatHttpDate, parseHttpDate } from "../lib/web/http_date.ts";
import { selectRanges } from "../lib/web/ranges.ts";
import { createServer } from "../examples/files.ts";
import { GET, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { blocks, digestOf, openRelay, start, startScript, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const base = mkdtempSync(join(tmpdir(), "httpsd-files-"));
const root = join(base, "root");
const TEN = "0123456789";
const BIG_BYTES = 5_000_000;

beforeAll(async () => {
  mkdirSync(join(root, "sub", "deep"), { recursive: true });
  mkdirSync(join(root, "list<&>", "inner"), { recursive: true });
  mkdirSync(join(root, ".git"));
  mkdirSync(join(root, ".well-known"));
  const files: Record<string, string | Uint8Array> = {
    "index.html": "<h1>root</h1>",
    "ten.txt": TEN,
    "empty.txt": "",
    "turns.txt": "harmless",
    "app.js": "identity",
    "app.js.br": "as br",
    "app.js.gz": "as gzip",
    "app.js.zst": "as zstd",
    "stale.css": "new",
    "stale.css.gz": "old",
    "photo.png": "png",
    "photo.png.gz": "never",
    "sub/index.html": "<h1>sub</h1>",
    "sub/deep/page.html": "deep",
    "with space & ünïcödé.txt": "odd",
    "%2e%2e": "literally",
    ".env": "SECRET",
    ".git/config": "SECRET",
    ".well-known/security.txt": "contact",
    "list<&>/a&b<i>.txt": "x",
    "list<&>/.hidden": "SECRET",
    "file.constructor": "no prototype",
    "big.bin": Buffer.concat([...blocks(BIG_BYTES)]),
    "../secret.txt": "SECRET",
    "../root-too/secret.txt": "SECRET",
  };
  mkdirSync(join(base, "root-too"));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(root, name), content);
  symlinkSync(join(base, "secret.txt"), join(root, "out.txt"));
  symlinkSync(base, join(root, "outdir"));
  symlinkSync("ten.txt", join(root, "in.txt"));
  symlinkSync("loop", join(root, "loop"));
  symlinkSync("/dev/zero", join(root, "zero"));
  symlinkSync(join(base, "secret.txt"), join(root, "list<&>", "out"));
  symlinkSync("../sub", join(root, "list<&>", "linked"));
  execFileSync("mkfifo", [join(root, "pipe")]);
  const past = new Date("2024-05-05T05:05:05Z");
  for (const name of ["ten.txt", "app.js", "app.js.br", "app.js.gz", "app.js.zst"]) {
    utimesSync(join(root, name), past, past);
  }
  const before = new Date("2024-05-05T05:05:04Z");
  utimesSync(join(root, "stale.css.gz"), before, before);
  utimesSync(join(root, "stale.css"), past, past);
  // Validators are strong when a file has not been touched for two seconds.
  const born = statSync(join(root, "pipe")).ctimeMs;
  await until(() => Date.now() > born + 3000, "The files are settled", 10_000);
});

afterAll(() => rmSync(base, { recursive: true }));

type Fields = Record<string, string>;

function get(path: string, headers: Fields = {}, options?: ServeFilesOptions): Promise<Response> {
  return serveFiles(root, options)(new Request(`http://host${path}`, { headers }));
}

async function body(path: string, headers: Fields = {}, options?: ServeFilesOptions) {
  const response = await get(path, headers, options);
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** The files of this test's directory that the process holds open. */
function openFiles(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.startsWith(base) ? [path] : [];
    } catch {
      return []; // the descriptor of the listing itself
    }
  });
}

describe("selectRanges()", () => {
  interface RangeCase {
    name: string;
    field: string;
    size?: number;
    expect: [number, number][] | "unsatisfiable" | "ignored";
  }
  const { cases } = JSON.parse(
    readFileSync(new URL("cases/ranges.json", import.meta.url), "utf8"),
  ) as { cases: RangeCase[] };
  for (const { name, field, size = 100, expect } of cases) {
    test(name, () => {
      const result = selectRanges(field, size, 4);
      const found = typeof result === "object"
        ? result.map(({ start, end }) => [start, end - 1])
        : result ?? "ignored";
      assert.deepEqual(found, expect);
    });
  }

  test("never gives more bytes than there are, whatever is asked", () => {
    let seed = 1;
    const random = (below: number) => (seed = seed * 48271 % 2147483647) % below;
    for (let round = 0; round < 2000; round++) {
      const specs = Array.from({ length: 1 + random(16) }, () => {
        const [a, b] = [random(120), random(120)];
        return ["-" + a, `${a}-`, `${Math.min(a, b)}-${Math.max(a, b)}`][random(3)];
      });
      const ranges = selectRanges(`bytes=${specs}`, 100, 16);
      if (!Array.isArray(ranges)) continue;
      const covered = new Set<number>();
      for (const { start, end } of ranges) {
        assert.ok(start >= 0 && start < end && end <= 100, `${specs}`);
        for (let at = start; at < end; at++) {
          assert.ok(!covered.has(at), `${specs} gives byte ${at} twice`);
          covered.add(at);
        }
      }
    }
  });

  test("reads a field of 10 MB at once", () => {
    assert.equal(selectRanges(`bytes=${"0-0,".repeat(2_500_000)}`, 100, 16), "unsatisfiable");
    assert.equal(selectRanges(`bytes=${" ".repeat(10_000_000)}x`, 100, 16), undefined);
  });
});

describe("parseHttpDate()", () => {
  const time = Date.UTC(1994, 10, 6, 8, 49, 37);
  test("reads the three forms", () => {
    assert.equal(parseHttpDate("Sun, 06 Nov 1994 08:49:37 GMT"), time);
    assert.equal(parseHttpDate("Sunday, 06-Nov-94 08:49:37 GMT"), time);
    assert.equal(parseHttpDate("Sun Nov  6 08:49:37 1994"), time);
    assert.equal(parseHttpDate(formatHttpDate(time)), time);
  });
  for (
    const text of [
      "",
      "1994-11-06T08:49:37Z",
      "0",
      "Sun, 06 Nov 1994 08:49:37",
      "Sun, 06 Nov 1994 24:00:00 GMT",
      "Sun, 31 Feb 1994 08:49:37 GMT",
      "Sun, 06 Foo 1994 08:49:37 GMT",
      "Sun, 06 Nov 1994 08:49:37 GMT ",
    ]
  ) test(`refuses ${JSON.stringify(text)}`, () => assert.equal(parseHttpDate(text), undefined));
});

describe("evaluatePreconditions()", () => {
  const at = Date.UTC(2024, 0, 1);
  const [before, same, after] = [-1000, 0, 1000].map((ms) => formatHttpDate(at + ms)) as [
    string,
    string,
    string,
  ];
  const strong = { etag: '"a"', lastModified: at, settled: true };
  const weak = { etag: 'W/"a"', lastModified: at, settled: false };
  const table: [name: string, fields: Fields, forStrong: string, forWeak: string][] = [
    ["nothing", {}, "proceed", "proceed"],
    ["If-Match with the tag", { "if-match": '"a"' }, "proceed", "failed"],
    ["If-Match with the weak tag", { "if-match": 'W/"a"' }, "failed", "failed"],
    ["If-Match with a list", { "if-match": '"x, y", "a"' }, "proceed", "failed"],
    ["If-Match with any", { "if-match": "*" }, "proceed", "proceed"],
    ["If-Match with another", { "if-match": '"b"' }, "failed", "failed"],
    ["If-Match with no tag", { "if-match": "a" }, "failed", "failed"],
    ["If-Unmodified-Since before", { "if-unmodified-since": before }, "failed", "failed"],
    ["If-Unmodified-Since same", { "if-unmodified-since": same }, "proceed", "proceed"],
    ["If-Unmodified-Since garbage", { "if-unmodified-since": "yesterday" }, "proceed", "proceed"],
    [
      "If-Match wins over If-Unmodified-Since",
      { "if-match": "*", "if-unmodified-since": before },
      "proceed",
      "proceed",
    ],
    ["If-None-Match with the tag", { "if-none-match": '"a"' }, "not-modified", "not-modified"],
    ["If-None-Match weakly", { "if-none-match": '"b", W/"a"' }, "not-modified", "not-modified"],
    ["If-None-Match with any", { "if-none-match": "*" }, "not-modified", "not-modified"],
    ["If-None-Match with another", { "if-none-match": '"b"' }, "proceed", "proceed"],
    ["a comma within a tag", { "if-none-match": '"x,"a",y"' }, "proceed", "proceed"],
    ["If-Modified-Since before", { "if-modified-since": before }, "proceed", "proceed"],
    ["If-Modified-Since same", { "if-modified-since": same }, "not-modified", "proceed"],
    ["If-Modified-Since after", { "if-modified-since": after }, "not-modified", "proceed"],
    ["If-Modified-Since garbage", { "if-modified-since": "now" }, "proceed", "proceed"],
    [
      "If-None-Match wins over If-Modified-Since",
      { "if-none-match": '"b"', "if-modified-since": after },
      "proceed",
      "proceed",
    ],
    [
      "If-Match comes before If-None-Match",
      { "if-match": '"b"', "if-none-match": '"a"' },
      "failed",
      "failed",
    ],
    [
      "If-Unmodified-Since comes before If-None-Match",
      { "if-unmodified-since": before, "if-none-match": '"a"' },
      "failed",
      "failed",
    ],
  ];
  for (const [name, fields, forStrong, forWeak] of table) {
    test(name, () => {
      const headers = new Headers(fields);
      assert.equal(evaluatePreconditions(headers, strong), forStrong);
      assert.equal(evaluatePreconditions(headers, weak), forWeak);
    });
  }

  test("ifRangeHolds() takes strong validators only", () => {
    for (const [field, holds] of [[null, true], ['"a"', true], [same, true]] as const) {
      assert.equal(ifRangeHolds(field, strong), holds);
    }
    for (const field of ['W/"a"', '"b"', '"b", "a"', before, after, "a", ""]) {
      assert.equal(ifRangeHolds(field, strong), false, field);
    }
    for (const field of ['W/"a"', '"a"', same]) assert.equal(ifRangeHolds(field, weak), false);
  });
});

describe("content types", () => {
  test("are found by the last extension, in any letter case", () => {
    assert.equal(contentTypeOf("a.tar.GZ"), "application/gzip");
    assert.equal(contentTypeOf("INDEX.HTML"), "text/html; charset=utf-8");
    assert.equal(contentTypeOf("x.mjs"), "text/javascript; charset=utf-8");
    assert.equal(contentTypeOf("noextension"), undefined);
  });
  test("cannot be taken from Object.prototype", async () => {
    assert.equal(contentTypeOf("file.constructor"), undefined);
    assert.equal((await get("/file.constructor")).headers.get("content-type"), OCTETS);
  });

  test("are all that Hono knows, without Hono", async () => {
    const { mimes } = await import("hono/utils/mime");
    for (const [extension, type] of Object.entries(mimes)) {
      assert.equal(contentTypeOf(`a.${extension}`), type);
    }
    const web = join(import.meta.dirname!, "../lib/web");
    for (const name of readdirSync(web).filter((name) => name.endsWith(".ts"))) {
      assert.doesNotMatch(readFileSync(join(web, name), "utf8"), /from "hono/, name);
    }
  });
  test("tell what is worth compressing", () => {
    for (
      const type of ["text/html; charset=utf-8", "application/json", "IMAGE/SVG+XML", "text/x"]
    ) {
      assert.ok(isCompressible(type), type);
    }
    for (const type of ["image/png", "video/mp4", "text/event-stream", "", "application/zip"]) {
      assert.ok(!isCompressible(type), type);
    }
  });
});

const OCTETS = "application/octet-stream";

describe("serveFiles()", () => {
  test("serves a file with its fields", async () => {
    const { status, headers, text } = await body("/ten.txt");
    assert.equal(status, 200);
    assert.equal(text, TEN);
    assert.equal(headers.get("content-type"), "text/plain; charset=utf-8");
    assert.equal(headers.get("content-length"), "10");
    assert.equal(headers.get("accept-ranges"), "bytes");
    assert.equal(headers.get("last-modified"), "Sun, 05 May 2024 05:05:05 GMT");
    assert.match(headers.get("etag")!, /^"[\w-]+"$/);
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.equal(headers.get("cache-control"), null);
  });

  test("serves an empty file, an odd name, a link within the root, and a root given as URL", async () => {
    assert.equal((await body("/empty.txt")).headers.get("content-length"), "0");
    assert.equal((await body("/with%20space%20&%20%C3%BCn%C3%AFc%C3%B6d%C3%A9.txt")).text, "odd");
    assert.equal((await body("/in.txt")).text, TEN);
    const handler = serveFiles(pathToFileURL(root));
    assert.equal(await (await handler(new Request("http://host/ten.txt"))).text(), TEN);
  });

  test("answers HEAD as GET without the body", async () => {
    for (const path of ["/ten.txt", "/big.bin", "/missing", "/sub"]) {
      const head = await serveFiles(root)(new Request(`http://host${path}`, { method: "HEAD" }));
      const got = await get(path);
      assert.equal(head.body, null);
      assert.equal(head.status, got.status);
      assert.deepEqual([...head.headers], [...got.headers]);
      await got.body?.cancel();
    }
  });

  test("ignores Range for HEAD", async () => {
    const request = new Request("http://host/ten.txt", {
      method: "HEAD",
      headers: { range: "bytes=0-1" },
    });
    assert.equal((await serveFiles(root)(request)).status, 200);
  });

  test("refuses other methods with 405 and Allow", async () => {
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"]) {
      const response = await serveFiles(root)(new Request("http://host/ten.txt", { method }));
      assert.equal(response.status, 405);
      assert.equal(response.headers.get("allow"), "GET, HEAD");
    }
  });

  test("redirects a directory to its slash, with the query, and never away", async () => {
    const response = await get("/sub?q=1");
    assert.equal(response.status, 301);
    assert.equal(response.headers.get("location"), "/sub/?q=1");
    for (const path of ["//sub", "//evil.example/..//sub", "/%2Fsub", "/%5Csub"]) {
      assert.equal((await get(path)).status, 404, path);
    }
  });

  test("serves the index of a directory, and no file as a directory", async () => {
    assert.equal((await body("/")).text, "<h1>root</h1>");
    assert.equal((await body("/sub/")).text, "<h1>sub</h1>");
    assert.equal((await get("/sub/deep/")).status, 404);
    assert.equal((await get("/ten.txt/")).status, 404);
    assert.equal((await get("/sub/", {}, { index: undefined })).status, 404);
    assert.equal((await body("/sub/deep/", {}, { index: "page.html" })).text, "deep");
  });

  test("serves below a prefix only", async () => {
    const options = { prefix: "/static" };
    assert.equal((await body("/static/ten.txt", {}, options)).text, TEN);
    assert.equal((await body("/static/", {}, options)).text, "<h1>root</h1>");
    assert.equal((await get("/static", {}, options)).headers.get("location"), "/static/");
    for (const path of ["/ten.txt", "/staticten.txt", "/static//ten.txt", "/"]) {
      assert.equal((await get(path, {}, options)).status, 404, path);
    }
  });

  test("answers a navigation to nowhere with the fallback", async () => {
    const options = { fallback: "/index.html" };
    const navigation = { accept: "text/html,*/*;q=0.8" };
    const { status, text, headers } = await body("/some/route", navigation, options);
    assert.deepEqual([status, text], [200, "<h1>root</h1>"]);
    assert.equal(headers.get("content-type"), "text/html; charset=utf-8");
    assert.equal((await get("/app.missing.js", { accept: "*/*" }, options)).status, 404);
    assert.equal((await get("/.env", navigation, options)).status, 404);
    assert.equal((await body("/ten.txt", navigation, options)).text, TEN);
  });

  test("sends Cache-Control as told, with 304 too", async () => {
    const options: ServeFilesOptions = {
      cacheControl: (path) => path === "/sub/index.html" ? "no-cache" : undefined,
    };
    const { headers } = await body("/sub/", {}, options);
    assert.equal(headers.get("cache-control"), "no-cache");
    assert.equal((await body("/", {}, options)).headers.get("cache-control"), null);
    const response = await get("/sub/", { "if-none-match": headers.get("etag")! }, options);
    assert.equal(response.status, 304);
    assert.equal(response.headers.get("cache-control"), "no-cache");
    const refused = await get("/sub/", { "if-match": '"x"' }, options);
    assert.deepEqual([refused.status, refused.headers.get("cache-control")], [412, null]);
    assert.equal(
      (await body("/ten.txt", {}, { cacheControl: "max-age=1" })).headers.get("cache-control"),
      "max-age=1",
    );
  });

  test("takes content types from the options first", async () => {
    const options = { contentTypes: { txt: "text/x-log" } };
    assert.equal((await body("/ten.txt", {}, options)).headers.get("content-type"), "text/x-log");
  });

  test("refuses options that cannot be", () => {
    const code = "INVALID_CONFIG";
    assert.throws(() => serveFiles(""), { code });
    assert.throws(() => serveFiles(new URL("https://host/")), { code });
    assert.throws(() => serveFiles(root, { prefix: "static" }), { code });
    assert.throws(() => serveFiles(root, { prefix: "/static/" }), { code });
    assert.throws(() => serveFiles(root, { maxRanges: 0 }), { code });
    assert.throws(() => serveFiles(root, { fallback: "../secret.txt" }), { code });
  });

  test("rejects when the root cannot be read", async () => {
    await assert.rejects(serveFiles(join(base, "nowhere"))(new Request("http://host/")), {
      code: "ENOENT",
    });
  });
});

describe("serveFiles() conditions", () => {
  test("answers 304 without a body and with the tag", async () => {
    const { headers } = await body("/ten.txt");
    const etag = headers.get("etag")!;
    const response = await get("/ten.txt", { "if-none-match": etag });
    assert.equal(response.status, 304);
    assert.equal(response.body, null);
    assert.equal(response.headers.get("etag"), etag);
    assert.equal(response.headers.get("content-length"), null);
    const date = { "if-modified-since": headers.get("last-modified")! };
    assert.equal((await get("/ten.txt", date)).status, 304);
    assert.equal((await get("/ten.txt", { "if-match": '"x"' })).status, 412);
    assert.equal((await get("/missing", { "if-match": '"x"' })).status, 404);
  });

  test("a file that was just written has weak validators", async () => {
    const path = join(root, "young.txt");
    writeFileSync(path, "1");
    const { headers } = await body("/young.txt");
    assert.match(headers.get("etag")!, /^W\/"/);
    assert.equal(headers.get("last-modified"), null);
    const ranged = { range: "bytes=0-0", "if-range": headers.get("etag")! };
    assert.equal((await get("/young.txt", ranged)).status, 200);
    assert.equal((await get("/young.txt", { "if-none-match": headers.get("etag")! })).status, 304);
  });

  test("a file of the same size and time that replaces another has another tag", async () => {
    const [one, two] = [join(root, "one.txt"), join(root, "two.txt")];
    const past = new Date("2020-01-01T00:00:00Z");
    writeFileSync(one, "aaa");
    utimesSync(one, past, past);
    const { ctimeMs } = statSync(one);
    const { headers } = await body("/one.txt");
    await until(() => Date.now() > ctimeMs + 1100, "A second is over: Deno tells no less");
    writeFileSync(two, "bbb");
    utimesSync(two, past, past);
    renameSync(two, one);
    const strip = (tag: string | null) => tag!.replace("W/", "");
    assert.notEqual(
      strip((await body("/one.txt")).headers.get("etag")),
      strip(headers.get("etag")),
    );
  });
});

describe("serveFiles() ranges", () => {
  const ranged = (range: string, more: Fields = {}) => body("/ten.txt", { range, ...more });

  test("sends one part", async () => {
    const { status, headers, text } = await ranged("bytes=2-4");
    assert.deepEqual([status, text], [206, "234"]);
    assert.equal(headers.get("content-range"), "bytes 2-4/10");
    assert.equal(headers.get("content-length"), "3");
    assert.equal(headers.get("content-type"), "text/plain; charset=utf-8");
    assert.equal((await ranged("bytes=-3")).text, "789");
    assert.equal((await ranged("bytes=8-100")).text, "89");
  });

  test("sends several parts as multipart/byteranges", async () => {
    const { status, headers, text } = await ranged("bytes=0-1,-1");
    assert.equal(status, 206);
    assert.equal(headers.get("content-range"), null);
    assert.equal(headers.get("content-length"), String(text.length));
    const boundary =
      /^multipart\/byteranges; boundary=(.+)$/.exec(headers.get("content-type")!)![1];
    const type = "Content-Type: text/plain; charset=utf-8";
    assert.equal(
      text,
      `--${boundary}\r\n${type}\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n` +
        `--${boundary}\r\n${type}\r\nContent-Range: bytes 9-9/10\r\n\r\n9\r\n--${boundary}--\r\n`,
    );
  });

  test("sends parts longer than a piece whole and in order", async () => {
    const file = Buffer.concat([...blocks(BIG_BYTES)]);
    const response = await get("/big.bin", { range: "bytes=4000000-4299999,100000-299999" });
    const bytes = Buffer.from(await response.arrayBuffer());
    assert.equal(bytes.length, Number(response.headers.get("content-length")));
    const first = bytes.indexOf("\r\n\r\n") + 4;
    const second = bytes.indexOf("\r\n\r\n", first + 300_000) + 4;
    assert.ok(bytes.subarray(first, first + 300_000).equals(file.subarray(4_000_000, 4_300_000)));
    assert.ok(bytes.subarray(second, second + 200_000).equals(file.subarray(100_000, 300_000)));
  });

  test("answers 416 with the size", async () => {
    const tooMany = `bytes=${Array.from({ length: 17 }, (_, i) => `${i}-${i}`)}`;
    for (const range of ["bytes=10-", "bytes=-0", tooMany]) {
      const { status, headers, text } = await ranged(range);
      assert.deepEqual([status, text], [416, ""]);
      assert.equal(headers.get("content-range"), "bytes */10");
    }
  });

  test("honours If-Range", async () => {
    const { headers } = await body("/ten.txt");
    const [etag, date] = [headers.get("etag")!, headers.get("last-modified")!];
    assert.equal((await ranged("bytes=0-0", { "if-range": etag })).text, "0");
    assert.equal((await ranged("bytes=0-0", { "if-range": date })).text, "0");
    assert.equal((await ranged("bytes=0-0", { "if-range": `W/${etag}` })).text, TEN);
    assert.equal((await ranged("bytes=0-0", { "if-range": '"other"' })).text, TEN);
    const earlier = "Sun, 05 May 2024 05:05:04 GMT";
    assert.equal((await ranged("bytes=0-0", { "if-range": earlier })).text, TEN);
    assert.equal((await ranged("bytes=99-", { "if-range": '"other"' })).status, 200);
  });
});

describe("serveFiles() precompressed", () => {
  const asked = (acceptEncoding?: string, path = "/app.js", more: Fields = {}) =>
    body(path, { ...(acceptEncoding && { "accept-encoding": acceptEncoding }), ...more });

  for (
    const [accept, text, coding] of [
      ["gzip, deflate, br, zstd", "as br", "br"],
      ["gzip, zstd", "as zstd", "zstd"],
      ["gzip;q=1, br;q=0.5", "as gzip", "gzip"],
      ["x-gzip", "as gzip", "gzip"],
      ["*", "as br", "br"],
      ["*, br;q=0", "as zstd", "zstd"],
      ["br;q=0", "identity", null],
      ["identity, br;q=0.5", "identity", null],
      ["identity;q=0.5, br;q=0.8", "as br", "br"],
      ["deflate", "identity", null],
      ["br;q=2", "identity", null],
      ["", "identity", null],
      [undefined, "identity", null],
    ] as const
  ) {
    test(`${accept} gets ${coding ?? "identity"}`, async () => {
      const result = await asked(accept);
      assert.equal(result.text, text);
      assert.equal(result.headers.get("content-encoding"), coding);
      assert.equal(result.headers.get("vary"), "Accept-Encoding");
      assert.equal(result.headers.get("content-type"), "text/javascript; charset=utf-8");
      assert.equal(result.headers.get("content-length"), String(text.length));
    });
  }

  test("every form has its own tag", async () => {
    const tags = await Promise.all(
      ["br", "zstd", "gzip", "identity"].map(async (accept) => {
        return (await asked(accept)).headers.get("etag");
      }),
    );
    assert.equal(new Set(tags).size, 4);
    const conditional = { "if-none-match": tags[0]! };
    assert.equal((await asked("br", "/app.js", conditional)).status, 304);
    assert.equal((await asked("gzip", "/app.js", conditional)).status, 200);
  });

  test("is not used when stale, not worth it, ranged or off", async () => {
    assert.equal((await asked("gzip", "/stale.css")).text, "new");
    const photo = await asked("gzip", "/photo.png");
    assert.equal(photo.text, "png");
    assert.equal(photo.headers.get("vary"), null);
    assert.equal((await asked("br", "/app.js", { range: "bytes=0-3" })).text, "iden");
    const off = await body("/app.js", { "accept-encoding": "br" }, { precompressed: false });
    assert.equal(off.text, "identity");
    assert.equal(off.headers.get("vary"), null);
  });

  test("a compressed file that is asked for by its own name is sent as a file", async () => {
    const { text, headers } = await asked("gzip", "/app.js.gz");
    assert.equal(text, "as gzip");
    assert.equal(headers.get("content-encoding"), null);
    assert.equal(headers.get("content-type"), "application/gzip");
  });
});

describe("serveFiles() listing", () => {
  test("is off", async () => assert.equal((await get("/list%3C&%3E/")).status, 404));

  test("shows what may be served, escaped", async () => {
    const { text, headers } = await body("/list%3C&%3E/", {}, { listing: true });
    assert.equal(headers.get("content-type"), "text/html; charset=utf-8");
    assert.match(headers.get("content-security-policy")!, /default-src 'none'/);
    const items = [...text.matchAll(/<li>(.*)<\/li>/g)].map(([, item]) => item);
    assert.deepEqual(items, [
      '<a href="../">../</a>',
      '<a href="./a%26b%3Ci%3E.txt">a&amp;b&lt;i&gt;.txt</a>',
      '<a href="./inner/">inner/</a>',
      '<a href="./linked/">linked/</a>',
    ]);
    assert.ok(text.includes("<h1>/list&lt;&amp;&gt;/</h1>"));
    assert.equal((await body("/sub/", {}, { listing: true })).text, "<h1>sub</h1>");
  });

  test("shows the root without a way up", async () => {
    const { text } = await body("/", {}, { listing: true, index: undefined });
    assert.ok(!text.includes("../"));
    assert.ok(!/pipe|zero|\.env|out\.txt|outdir/.test(text), text);
  });
});

describe("serveFiles() lets nothing out", () => {
  test("refuses dotfiles unless they are named", async () => {
    for (const path of ["/.env", "/.git/config", "/.git", "/%2egit/config", "/.well-known/x"]) {
      assert.equal((await get(path)).status, 404, path);
    }
    const options = { dotfiles: [".well-known"] };
    assert.equal((await body("/.well-known/security.txt", {}, options)).text, "contact");
    assert.equal((await get("/.env", {}, options)).status, 404);
    assert.equal((await body("/.env", {}, { dotfiles: "all" })).text, "SECRET");
  });

  test("refuses links out of the root, loops, devices and pipes, without waiting", async () => {
    for (const path of ["/out.txt", "/outdir/secret.txt", "/outdir/", "/loop"]) {
      assert.equal((await get(path)).status, 404, path);
    }
    assert.equal((await get("/zero")).status, 404);
    assert.equal((await get("/pipe")).status, 404);
    const devices = serveFiles("/dev");
    for (const name of ["zero", "null", "tty"]) {
      assert.equal((await devices(new Request(`http://host/${name}`))).status, 404, name);
    }
  });

  test("takes names that are too long for missing", async () => {
    assert.equal((await get(`/${"a".repeat(5000)}`)).status, 404);
    assert.equal((await get("/a".repeat(5000))).status, 404);
  });

  test("decodes once: what is still encoded is a name", async () => {
    assert.equal((await body("/%252e%252e")).text, "literally");
    assert.equal((await get("/%252e%252e/secret.txt")).status, 404);
  });

  // Every way to write "..", joined by every way to write "/", around the name of a real secret.
  const dots = [
    "..",
    "%2e%2e",
    "%2E.",
    "%252e%252e",
    "%25252e%25252e",
    "..%00",
    "%c0%ae%c0%ae",
    "%uff0e%uff0e",
    "..;",
    "...",
    ".%00.",
    "%ef%bc%8e%ef%bc%8e",
  ];
  const slashes = ["/", "//", "\\", "%2f", "%5c", "%252f", "%255c", "%c0%af", "%ef%bc%8f", "/./"];
  const starts = ["/", "//", "/sub/", "/sub/deep/", "/outdir/", "/\\", "/%2f"];
  test("every way to write a path out of the root ends within it", async () => {
    const handler = serveFiles(root, { listing: true, dotfiles: "all" });
    let count = 0;
    for (const start of starts) {
      for (const dot of dots) {
        for (const slash of slashes) {
          for (const times of [1, 3]) {
            const path = start + (dot + slash).repeat(times) + "secret.txt";
            const response = await handler(new Request(`http://host${path}`));
            assert.ok(!(await response.text()).includes("SECRET"), path);
            assert.ok([404, 301].includes(response.status), `${path}: ${response.status}`);
            count++;
          }
        }
      }
    }
    assert.equal(count, 1680);
  });

  test("parsePath() never gives a name that is more than a name", () => {
    const names = [...dots, ...slashes, "a", "%", "%zz", "%41", "\0", "%00", "a%2f..%2fb", "C%3A"];
    for (const a of names) {
      for (const b of names) {
        for (const segment of parsePath(`/${a}/${b}${a}`, "all")?.segments ?? []) {
          assert.ok(!/[/\\\0]/.test(segment), segment);
          assert.ok(!["", ".", ".."].includes(segment), segment);
        }
      }
    }
  });

  test("a root whose name begins like another's shows nothing of it", async () => {
    symlinkSync("../root-too", join(root, "neighbour"));
    assert.equal((await get("/neighbour/secret.txt")).status, 404);
  });

  test("a file that is swapped between looking and opening is not sent", async () => {
    const swap = async (change: (path: string) => void) => {
      const path = join(root, "swapped");
      rmSync(path, { recursive: true, force: true });
      mkdirSync(path);
      writeFileSync(join(path, "secret.txt"), "harmless");
      const found = await locate(root, ["swapped", "secret.txt"]);
      change(path);
      const opened = await openLocated(found!);
      await opened?.handle.close();
      return opened;
    };
    assert.notEqual(await swap(() => {}), undefined);
    const toLink = (path: string) => {
      rmSync(join(path, "secret.txt"));
      symlinkSync(join(base, "secret.txt"), join(path, "secret.txt"));
    };
    const toLinkAbove = (path: string) => {
      rmSync(path, { recursive: true });
      symlinkSync(base, path);
    };
    const toPipe = (path: string) => {
      rmSync(join(path, "secret.txt"));
      execFileSync("mkfifo", [join(path, "secret.txt")]);
    };
    const movedAway = (path: string) => {
      renameSync(path, `${path}-away`);
      symlinkSync(`${path}-away`, path); // the very same file, by way of a link
    };
    const toAnotherFile = (path: string) => {
      writeFileSync(join(path, "other"), "harmful");
      renameSync(join(path, "other"), join(path, "secret.txt"));
    };
    for (const change of [toLink, toLinkAbove, toPipe, movedAway, toAnotherFile]) {
      assert.equal(await swap(change), undefined, change.name);
    }
    assert.deepEqual(openFiles(), []);
  });
});

/** The race as it looks to the server: the number of the file outside, and the path inside. */
describe("A directory that was a link whenever it was looked at, and is none now", () => {
  const OUTSIDE = join(base, "root-too");
  const path = join(root, "raced");
  const inside = join(path, "secret.txt");

  async function raced<T>(
    outside: string,
    within: string,
    look: (
      handle: Awaited<ReturnType<typeof open>>,
      found: NonNullable<Awaited<ReturnType<typeof locate>>>,
    ) => Promise<T>,
  ): Promise<T> {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
    writeFileSync(inside, "harmless");
    const kind = outside.endsWith(".txt") ? "file" : "directory";
    const stats = await lstat(outside, { bigint: true }); // by way of the link
    const handle = await open(outside, constants.O_RDONLY);
    try {
      return await look(handle, { kind, path: within, stats });
    } finally {
      await handle.close();
    }
  }

  test("is not taken for what was opened", async () => {
    const taken = await raced(join(OUTSIDE, "secret.txt"), inside, (handle, found) => {
      return isWhatWasFound(handle, found);
    });
    assert.equal(taken, false);
    assert.equal(await raced(OUTSIDE, path, isWhatWasFound), false);
    const found = await locate(root, ["raced", "secret.txt"]);
    const handle = await open(inside, constants.O_RDONLY);
    assert.equal(await isWhatWasFound(handle, found!), true);
    await handle.close();
  });

  test("nor where the system does not say what is open", async () => {
    const unknown = () => Promise.resolve(undefined);
    const taken = await raced(join(OUTSIDE, "secret.txt"), inside, (handle, found) => {
      return isWhatWasFound(handle, found, unknown);
    });
    assert.equal(taken, false);
    const found = await locate(root, ["raced", "secret.txt"]);
    const handle = await open(inside, constants.O_RDONLY);
    assert.equal(await isWhatWasFound(handle, found!, unknown), true);
    await handle.close();
  });

  test("gives the entries of what was opened, not of what came to its path", async () => {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
    writeFileSync(inside, "harmless");
    const directory = await openDirectory((await locate(root, ["raced"]))!);
    renameSync(path, `${path}-away`);
    symlinkSync("/etc", path);
    const names: string[] = [];
    for await (const { name } of directory!.entries) names.push(name);
    await directory!.close();
    assert.deepEqual(names, ["secret.txt"]);
    rmSync(path);
    rmSync(`${path}-away`, { recursive: true });
    assert.deepEqual(openFiles(), []);
  });

  test("lets no secret out while another process swaps it as fast as it can", async () => {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
    writeFileSync(inside, "harmless");
    const swapper = startScript(`
      import { existsSync, mkdirSync, renameSync, symlinkSync } from "node:fs";
      const [path, outside] = ${JSON.stringify([path, OUTSIDE])};
      symlinkSync(outside, path + "-link");
      console.log("swapping");
      setTimeout(() => process.exit(0), 1_500);
      (function swap() {
        for (let i = 0; i < 1_000; i++) {
          renameSync(path, path + "-real");
          renameSync(path + "-link", path);
          renameSync(path, path + "-link");
          renameSync(path + "-real", path);
        }
        setImmediate(swap);
      })();
    `);
    let over = false;
    const done = swapper.done.then(() => over = true);
    const handler = serveFiles(root, { listing: true });
    const seen = new Set<string>();
    while (!over) {
      const answers = Array.from({ length: 8 }, async () => {
        const response = await handler(new Request("http://host/raced/secret.txt"));
        seen.add(`${response.status} ${(await response.text()).trim()}`);
      });
      await Promise.all(answers);
    }
    await done;
    rmSync(`${path}-link`, { force: true });
    assert.ok(seen.has("200 harmless"), [...seen].join());
    seen.delete("200 harmless");
    seen.delete("404 Not found");
    assert.deepEqual([...seen], []);
  }, 10_000);
});

describe("serveFiles() and private keys", () => {
  const PEM = ["-----BEGIN EC PRIVATE KEY-----", "QUJD", "-----END EC PRIVATE KEY-----", ""].join(
    "\n",
  );
  const keys: Record<string, string> = {
    "server.key": "DER",
    "SERVER.KEY": "DER",
    "server.key.gz": "compressed",
    "store.p12": "DER",
    "store.pfx": "DER",
    "store.PFX": "DER",
    "server.pem": PEM,
    "bundle.crt": `${"certificate\n".repeat(10_000)}${PEM}`,
    "openssh": PEM.replaceAll("EC", "OPENSSH"),
    "encrypted.bak": PEM.replaceAll("EC", "ENCRYPTED"),
    "pkcs8.txt": PEM.replaceAll("EC ", ""),
    "nul.pem": `${PEM}\0`,
  };
  const others: Record<string, string> = {
    "ca.pem": "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n",
    "public.pem": "-----BEGIN PUBLIC KEY-----\nQUJD\n-----END PUBLIC KEY-----\n",
    "about-keys.html": `<pre>${PEM}</pre>`,
    "monkey": "no key",
  };
  const folder = join(root, "keys");
  const listed = async (options?: ServeFilesOptions) => {
    const { text } = await body("/keys/", {}, { listing: true, index: undefined, ...options });
    return [...text.matchAll(/<li>.*>(.*)<\/a>/g)].map(([, name]) => name).slice(1).sort();
  };

  beforeAll(() => {
    mkdirSync(folder);
    for (const [name, content] of Object.entries({ ...keys, ...others })) {
      writeFileSync(join(folder, name), content);
    }
    symlinkSync("server.key", join(folder, "harmless.html"));
    symlinkSync("server.pem", join(folder, "harmless.css"));
    writeFileSync(join(folder, "pkcs8.txt.gz"), "a sibling");
  });

  test("keeps them to itself, whatever they are called", async () => {
    const links = ["harmless.html", "harmless.css"];
    for (const name of [...Object.keys(keys), ...links]) {
      for (const headers of [{}, { range: "bytes=0-3" }, { "accept-encoding": "gzip" }]) {
        const { status, text } = await body(`/keys/${name}`, headers);
        assert.deepEqual([status, text], [404, "Not found\n"], name);
      }
    }
    const fallback = await body("/nowhere", { accept: "text/html" }, {
      fallback: "keys/server.key",
    });
    assert.equal(fallback.status, 404);
    assert.equal((await get("/keys/", {}, { index: "server.pem" })).status, 404);
    assert.deepEqual(openFiles(), []);
  });

  test("looks again at a file that has changed", async () => {
    const turns = join(root, "turns.txt");
    const handler = serveFiles(root, { listing: true, index: undefined });
    const seen = async () => {
      const [file, list] = await Promise.all(
        ["/turns.txt", "/"].map((path) => handler(new Request(`http://host${path}`))),
      );
      await file!.body?.cancel();
      return [file!.status, (await list!.text()).includes("turns.txt")];
    };
    for (let time = 0; time < 2; time++) assert.deepEqual(await seen(), [200, true]);
    writeFileSync(turns, PEM);
    for (let time = 0; time < 2; time++) assert.deepEqual(await seen(), [404, false]);
    writeFileSync(turns, "harmless");
    assert.deepEqual(await seen(), [200, true]);
  });

  test("serves what only looks like one", async () => {
    for (const [name, content] of Object.entries(others)) {
      assert.equal((await body(`/keys/${name}`)).text, content, name);
    }
  });

  test("does not list them", async () => {
    const gz = "pkcs8.txt.gz"; // by its own name, it is any compressed file
    assert.deepEqual(await listed(), [...Object.keys(others), gz].sort());
  });

  test("serves and lists them with keyFiles", async () => {
    for (const [name, content] of Object.entries(keys)) {
      assert.equal((await body(`/keys/${name}`, {}, { keyFiles: true })).text, content, name);
    }
    assert.equal((await listed({ keyFiles: true })).length, 12 + 4 + 3);
  });
});

describe("serveFiles() bodies", () => {
  test("are whole", async () => {
    const bytes = new Uint8Array(await (await get("/big.bin")).arrayBuffer());
    assert.equal(digestOf([bytes]), digestOf(blocks(BIG_BYTES)));
    assert.deepEqual(openFiles(), []);
  });

  test("read no more of the disk than is taken", async () => {
    const path = join(root, "grows.bin");
    writeFileSync(path, new Uint8Array(1_000_000));
    const reader = (await get("/grows.bin")).body!.getReader();
    const first = await reader.read();
    assert.ok(first.value!.length <= 64 * 1024);
    await new Promise((resolve) => setTimeout(resolve, 30)); // time to read ahead, if it would
    writeFileSync(path, new Uint8Array(1_000_000).fill(7)); // what follows is read from now on
    const second = await reader.read();
    assert.equal(second.value![0], 7);
    await reader.cancel();
    assert.deepEqual(openFiles(), []);
  });

  test("close the file when they are cancelled before, between and during reads", async () => {
    await (await get("/big.bin")).body!.cancel();
    await until(() => openFiles().length === 0, "The file is closed");
    const between = (await get("/big.bin")).body!.getReader();
    await between.read();
    await between.cancel();
    await until(() => openFiles().length === 0, "The file is closed");
    const during = (await get("/big.bin")).body!.getReader();
    const read = during.read();
    await during.cancel();
    await read;
    await until(() => openFiles().length === 0, "The file is closed");
  });

  test("fail when the file shrinks, and close it", async () => {
    const path = join(root, "shrinks.bin");
    writeFileSync(path, new Uint8Array(1_000_000));
    const reader = (await get("/shrinks.bin")).body!.getReader();
    await reader.read();
    truncateSync(path, 100_000);
    const readAll = async () => {
      while (!(await reader.read()).done);
    };
    await assert.rejects(readAll, { code: "BAD_RESPONSE" });
    assert.deepEqual(openFiles(), []);
  });

  test("leave no file open after 304, 412, 416, HEAD and small files", async () => {
    const etag = (await body("/big.bin")).headers.get("etag")!;
    await get("/big.bin", { "if-none-match": etag });
    await get("/big.bin", { "if-match": '"x"' });
    await get("/big.bin", { range: "bytes=999999999-" });
    await serveFiles(root)(new Request("http://host/big.bin", { method: "HEAD" }));
    await get("/ten.txt"); // its body is never read
    await assert.rejects(get("/big.bin", {}, { cacheControl: () => "a\nb" }), TypeError);
    assert.deepEqual(openFiles(), []);
  });
});

describe("serveFiles() on sockets", () => {
  test("serves what clients send as it is, over TLS", async () => {
    const { port, errors } = await started(serveFiles(root), {}, "tls");
    const client = await RawClient.connect(port, "tls");
    client.send("GET /ten.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=-4\r\n\r\n");
    await client.expect(
      /^HTTP\/1\.1 206 [^]*\r\ncontent-range: bytes 6-9\/10\r\n[^]*\r\n\r\n6789$/i,
    );
    client.text = "";
    for (const path of ["/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/.env"]) {
      client.send(GET(path));
      await client.expect(/^HTTP\/1\.1 40[04] [^]*\r\n\r\nNot found\n$/);
      client.text = "";
    }
    client.send("HEAD /big.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert.match(await client.rest(), new RegExp(`content-length: ${BIG_BYTES}\r\n`, "i"));
    assert.deepEqual(errors, []);
    client.destroy();
  });

  test("sends a big file whole, and closes it when the client leaves in the middle", async () => {
    const { port } = await started(serveFiles(root), {}, "tls");
    const whole = await RawClient.connect(port, "tls");
    whole.send("GET /big.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    const text = await whole.rest();
    const bytes = Buffer.from(text.slice(text.indexOf("\r\n\r\n") + 4), "latin1");
    assert.equal(digestOf([bytes]), digestOf(blocks(BIG_BYTES)));
    whole.destroy();
    await using relay = await openRelay(port);
    const connecting = RawClient.connect(relay.port, "tls");
    const { client, server } = await relay.accept();
    client.pipe(server);
    server.pipe(client);
    const leaver = await connecting;
    server.unpipe(client); // no TLS client can stop reading on Deno, but a TCP socket can
    server.pause();
    const huge = join(root, "huge.bin"); // more than the system takes for a client that reads nothing
    writeFileSync(huge, "");
    truncateSync(huge, 64 * 2 ** 20);
    leaver.send(GET("/huge.bin"));
    await until(() => openFiles().length === 1, "The file is open");
    server.destroy();
    await until(() => openFiles().length === 0, "The file is closed");
    rmSync(huge);
  });
});

test("examples/files.ts serves and lists a directory", async () => {
  const insecure = { hostname: "127.0.0.1", port: 0, transportMode: "insecure" } as const;
  await using server = createServer(insecure, root);
  await server.start();
  const url = `http://127.0.0.1:${server.address.port}`;
  assert.equal(await (await fetch(`${url}/ten.txt`)).text(), TEN);
  assert.match(await (await fetch(`${url}/sub/deep/`)).text(), /page\.html/);
});

test("examples/files.ts, run as its README says, serves its own folder and no key", async () => {
  const certs = join(base, "certs");
  const example = fileURLToPath(new URL("../examples/files.ts", import.meta.url));
  const child = spawn(process.execPath, [...(runtime === "deno" ? ["run", "-A"] : []), example], {
    cwd: base,
    env: { ...process.env, PORT: "0", CERTS: certs },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.on("data", (bytes: Buffer) => output += bytes.toString("latin1"));
  try {
    await until(() => output.includes("--cacert"), "The example runs", 10_000);
    const [, port] = /https:\/\/localhost:(\d+)\//.exec(output)!;
    const page = (path: string) => {
      const url = `https://localhost:${port}${path}`;
      return start("curl", ["-si", "--cacert", join(certs, "ca.pem"), url]).done;
    };
    assert.match(await page("/"), />hello\.txt<[^]*>sub\/</);
    assert.match(readFileSync(join(certs, "ca.key"), "latin1"), /PRIVATE KEY/);
    for (const path of ["/certs/ca.key", "/certs/", "/ca.key"]) {
      assert.match(await page(path), /^HTTP\/2 404 /, path);
    }
  } finally {
    child.kill("SIGKILL");
  }
}, 15_000);
