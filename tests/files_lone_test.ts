/** Files that are there compressed only. */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { serveFiles, type ServeFilesOptions } from "../lib/web/files.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const lone = mkdtempSync(join(tmpdir(), "httpsd-lone-"));
const files = ["only.js.gz", "only.js.br", "gz.css.gz", "index.html.gz", "photo.png.gz"];
for (const file of [...files, "server.key.gz"]) writeFileSync(join(lone, file), file);
afterAll(() => rmSync(lone, { recursive: true }));

describe("serveFiles() of a file that is there compressed only", () => {
  const ask = async (name: string, accept?: string, options: ServeFilesOptions = {}) => {
    const headers: HeadersInit = accept === undefined ? {} : { "accept-encoding": accept };
    const response = await serveFiles(lone, options)(new Request(`http://a/${name}`, { headers }));
    const { status } = response;
    const coding = response.headers.get("content-encoding");
    return { status, coding, body: await response.text(), headers: response.headers };
  };

  test("serves it to clients that accept its coding, with its type and Vary", async () => {
    const { status, coding, body, headers } = await ask("only.js", "gzip, br");
    assert.deepEqual([status, coding, body], [200, "br", "only.js.br"]);
    assert.match(headers.get("content-type")!, /^text\/javascript/);
    assert.equal(headers.get("vary"), "Accept-Encoding");
    assert.equal((await ask("only.js", "gzip")).body, "only.js.gz");
    assert.equal((await ask("only.js", "br;q=0.1, gzip;q=0.9")).coding, "gzip");
    assert.equal((await ask("gz.css", "br, *;q=0.1")).coding, "gzip");
    assert.equal((await ask("gz.css", "identity, gzip;q=0.5")).coding, "gzip");
    assert.equal((await ask("", "gzip")).body, "index.html.gz");
  });

  test("answers others with 406 and Vary, and says what to send", async () => {
    for (const accept of [undefined, "identity", "br", "gzip;q=0", "*;q=0"]) {
      const { status, coding, body, headers } = await ask("gz.css", accept);
      assert.deepEqual([status, coding], [406, null], String(accept));
      assert.match(body, /send Accept-Encoding: gzip$/m);
      assert.equal(headers.get("vary"), "Accept-Encoding");
    }
  });

  test("is 404 for what is not compressible, is a key, or where it is turned off", async () => {
    assert.equal((await ask("photo.png", "gzip")).status, 404);
    assert.equal((await ask("server.key", "gzip")).status, 404);
    assert.equal((await ask("gz.css", "gzip", { precompressed: false })).status, 404);
    assert.equal((await ask("gz.css/", "gzip")).status, 404);
    assert.equal((await ask("none.css", "gzip")).status, 404);
  });
});
