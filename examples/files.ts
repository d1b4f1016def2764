/**
 * A directory as a website: ranges, conditional requests, precompressed siblings, content types,
 * and compression for what has no sibling.
 *
 *     deno run -A examples/files.ts [directory]
 *     bun examples/files.ts [directory]
 *
 * The directory is examples/files_www if none is named. Files with a private key are never served.
 * examples/run.ts describes `PORT` and `CERTS`.
 */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { compress } from "../lib/web/compress.ts";
import { serveFiles } from "../lib/web/files.ts";
import { HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { run } from "./run.ts";

const FILES = fileURLToPath(new URL("files_www", import.meta.url));

/** Makes a server for the files of `directory`, which shows directories too. */
export function createServer(options: HttpsServerOptions, directory: string = FILES): HttpsServer {
  const files = serveFiles(directory, { listing: true, cacheControl: "no-cache" });
  return new HttpsServer(options, async (request) => compress(await files(request), request));
}

if (import.meta.main) await run((options) => createServer(options, process.argv[2]));
