/** Serving files: what is found, conditions, ranges, listings, and bodies on real sockets. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import {
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { describe, test } from "bun:test";
import { serveFiles, type ServeFilesOptions } from "../lib/web/files.ts";
import { createServer } from "../examples/files.ts";
import {
  base,
  BIG_BYTES,
  body,
  type Fields,
  filesForAll,
  get,
  openFiles,
  root,
  TEN,
} from "./files_support.ts";
import { GET, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime, PINNED, runtime } from "./runtime.ts";
import { blocks, digestOf, openRelay, start, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();
filesForAll();

describe("serveFiles()", () => {
  test("takes no content type from Object.prototype", async () => {
    assert.equal(
      (await get("/file.constructor")).headers.get("content-type"),
      "application/octet-stream",
    );
  });

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

  test("serves below a prefix that URLs escape", async () => {
    for (const prefix of ["/a ü", "/a%20%C3%BC"]) {
      const handler = serveFiles(root, { prefix });
      const { status } = await handler(new Request("http://a/a%20%C3%BC/ten.txt"));
      assert.equal(status, 200, prefix);
    }
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

  test("sends the Cache-Control that it was given, with 304 too", async () => {
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
    await until(() => Date.now() > ctimeMs + 1100, "A second is over: Deno shows no less");
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
  const child = spawn(process.execPath, [
    ...(runtime === "deno" ? ["run", "-A", PINNED] : []),
    example,
  ], {
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
