/**
 * A directory with files of every kind, and what `serveFiles()` answers for them.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { execFileSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "bun:test";
import { serveFiles, type ServeFilesOptions } from "../lib/web/files.ts";
import { PREPARED_MS } from "./runtime.ts";
import { blocks, until } from "./support.ts";

export const base = mkdtempSync(join(tmpdir(), "httpsd-files-"));
export const root = join(base, "root");
export const TEN = "0123456789";
export const BIG_BYTES = 5_000_000;

/** Fills the directory before the tests of a file, and removes it after them. */
export function filesForAll(): void {
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
  }, PREPARED_MS);

  afterAll(() => rmSync(base, { recursive: true }));
}

export type Fields = Record<string, string>;

export function get(
  path: string,
  headers: Fields = {},
  options?: ServeFilesOptions,
): Promise<Response> {
  return serveFiles(root, options)(new Request(`http://host${path}`, { headers }));
}

export async function body(path: string, headers: Fields = {}, options?: ServeFilesOptions) {
  const response = await get(path, headers, options);
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** The files of this test's directory that the process holds open. */
export function openFiles(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`);
      return path.startsWith(base) ? [path] : [];
    } catch {
      return []; // the descriptor of the listing itself
    }
  });
}
