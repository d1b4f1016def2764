/** Clients of others that speak HTTP/2: curl, nghttp, h2load, and Node's own. */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Mode, MODES, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { certificates, start } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const directory = mkdtempSync(join(tmpdir(), "httpsd-http2-"));
const caFile = join(directory, "ca.pem");
writeFileSync(caFile, (await certificates()).ca);
afterAll(() => rmSync(directory, { recursive: true }));

const LARGE = 2_000_000;
/** A child process on a busy machine takes its time. */
const MS = 30_000;

/** Starts the server that all clients visit. */
async function site(mode: Mode): Promise<{ origin: string; aborted: () => boolean }> {
  let aborted = false;
  const { server, port } = await started(
    async (request) => {
      switch (new URL(request.url).pathname) {
        case "/hello":
          return new Response("hello");
        case "/large":
          return new Response(new Uint8Array(LARGE));
        case "/upload":
          return new Response(String((await request.bytes()).length));
        case "/wait": {
          const { promise, resolve } = Promise.withResolvers<void>();
          request.signal.addEventListener("abort", () => {
            aborted = true;
            resolve();
          });
          return new Response(
            new ReadableStream({
              async pull(controller) {
                controller.enqueue(new Uint8Array(1));
                await promise;
              },
            }),
          );
        }
        default:
          return new Response(aborted ? "aborted" : "not aborted");
      }
    },
    {},
    mode,
  );
  server.route({
    uri: "/trailers",
    method: "GET",
    async handler(request) {
      request.inform(103, [["Link", "</a.css>; rel=preload"]]);
      await request.sendChunk("body");
      request.end([["X-Sum", "4"]]);
    },
  });
  const scheme = mode === "tls" ? "https" : "http";
  return { origin: `${scheme}://localhost:${port}`, aborted: () => aborted };
}

for (const mode of MODES) {
  describe(`over HTTP/2, ${mode}`, () => {
    const secure = mode === "tls";

    test("curl gets, uploads and downloads", async () => {
      const { origin } = await site(mode);
      const version = secure ? ["--http2", "--cacert", caFile] : ["--http2-prior-knowledge"];
      const curl = (...args: string[]) =>
        start("curl", ["-sS", ...version, "-w", " %{http_version} %{size_download}", ...args]).done;
      assert.equal(await curl(`${origin}/hello`), "hello 2 5");
      const file = join(directory, "upload");
      writeFileSync(file, new Uint8Array(LARGE));
      assert.equal(await curl("--data-binary", `@${file}`, `${origin}/upload`), `${LARGE} 2 7`);
      assert.equal(await curl("-o", "/dev/null", `${origin}/large`), ` 2 ${LARGE}`);
      assert.match(await curl("-I", `${origin}/hello`), /^HTTP\/2 200[^]* 2 0$/);
    }, MS);

    test("curl speaks HTTP/1.1 where it is asked to", async () => {
      const { origin } = await site(mode);
      const args = ["-sS", "--http1.1", "--cacert", caFile, "-w", " %{http_version}"];
      assert.equal(await start("curl", [...args, `${origin}/hello`]).done, "hello 1.1");
    }, MS);

    test("nghttp gets pages and what belongs to them", async () => {
      const { origin } = await site(mode);
      const output = await start("nghttp", [
        "-nvs",
        ...["/hello", "/large", "/trailers"].map((path) => origin + path),
      ]).done;
      assert.match(output, /:status: 103/);
      assert.match(output, /x-sum: 4/);
      assert.equal(output.match(/recv.*:status: 200/g)?.length, 3, output.slice(-2_000));
      assert.doesNotMatch(output, /RST_STREAM|error_code=(?!NO_ERROR)/);
    }, MS);

    test("h2load gets a thousand answers on ten connections", async () => {
      const { origin } = await site(mode);
      const args = ["-n", "1000", "-c", "10", "-m", "20", `${origin}/hello`];
      const output = await start("h2load", args).done;
      assert.match(output, /1000 succeeded, 0 failed, 0 errored/);
    }, MS);

    test("Node's client gets, uploads, cancels and leaves", async () => {
      const { origin, aborted } = await site(mode);
      const script = fileURLToPath(new URL("http2_node_client.mjs", import.meta.url));
      const output = await start("node", [script, origin, ...(secure ? [caFile] : [])]).done;
      const seen = JSON.parse(output);
      assert.equal(seen.alpn, secure ? "h2" : "h2c");
      assert.deepEqual([seen.hello.status, seen.hello.text], [200, "hello"]);
      assert.equal(seen.many, 50);
      assert.equal(seen.large, LARGE);
      assert.equal(seen.upload.text, "1000000");
      assert.deepEqual(seen.trailers.early, [103]);
      assert.deepEqual([seen.trailers.text, seen.trailers.trailers["x-sum"]], ["body", "4"]);
      assert.equal(seen.after.text, "aborted");
      assert.ok(aborted());
      assert.equal(seen.goaway, null);
    }, MS);
  });
}
