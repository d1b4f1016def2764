/**
 * The file server and the digests of Deno's standard library behind our server: `/` lists the
 * examples' directory, `/digest` answers a POST with the BLAKE3 digest of its body.
 *
 * The library lives on JSR, which is asked when the example starts; where it cannot be reached, the
 * example says so and ends.
 *
 * - Deno: `deno run -A examples/std_interop.ts`
 * - Bun, after `bunx jsr add @std/http @std/crypto`: `bun examples/std_interop.ts`
 */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { run } from "./run.ts";

/** What the example uses of `@std/http` and `@std/crypto`. */
export interface Std {
  /** Answers with a file below `fsRoot`. */
  serveDir(
    request: Request,
    options: { fsRoot: string; showDirListing: boolean },
  ): Promise<Response>;
  /** Web Crypto with more digests. */
  crypto: { subtle: { digest(name: string, data: Uint8Array): Promise<ArrayBuffer> } };
}

/** The server; it listens when it is started. */
export function createServer(options: HttpsServerOptions, std: Std): HttpsServer {
  const fsRoot = fileURLToPath(new URL(".", import.meta.url));
  const server = new HttpsServer(
    options,
    (request) => std.serveDir(request, { fsRoot, showDirListing: true }),
  );
  server.route({
    uri: "/digest",
    method: "POST",
    async handler(request) {
      const body = new Uint8Array(await new Response(request.body).arrayBuffer());
      const digest = await std.crypto.subtle.digest("BLAKE3", body);
      request.type("text/plain").send(`${new Uint8Array(digest).toHex()}\n`);
    },
  });
  return server;
}

/** Not literals in `import()`: nothing may need JSR that only checks or packs this file. */
const MODULES = ["@std/http/file-server", "@std/crypto/crypto"];

async function importStd(): Promise<Std> {
  const [files, crypto] = await Promise.all(MODULES.map((name) => import(name)));
  return { serveDir: files.serveDir, crypto: crypto.crypto };
}

if (import.meta.main) {
  const std = await importStd().catch((error: Error) => {
    console.error(`httpsd: @std/http and @std/crypto cannot be had from JSR: ${error.message}`);
    process.exit(1);
  });
  await run((options) => createServer(options, std));
}
