/** The example of an edge app, where it is meant to run, and that nothing in it is of Node. */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { onDemand } from "./on_demand.ts";
import { assertRuntime, PINNED, runtime } from "./runtime.ts";

assertRuntime();

const root = fileURLToPath(new URL("..", import.meta.url));

const example = join(root, "examples/edge.ts");

const directory = mkdtempSync(join(tmpdir(), "httpsd-edge-"));

/** 160 MB with workerd, for one test. */
const MINIFLARE = "4.20260426.0";

const wrangler = readFileSync(join(root, "examples/deploy/wrangler.jsonc"), "utf8");
const { main, compatibility_date, compatibility_flags } = JSON.parse(
  wrangler.replaceAll(/^\s*\/\/.*$/gm, ""),
);

/** Bundles a module for a platform that has nothing of Node's, and gives the text. */
function bundled(entry: string): string {
  const outfile = join(directory, "bundle.js");
  const bun = join(root, "node_modules/.bin/bun");
  const options = ["--target=browser", "--format=esm", "--external=node:*"];
  const { status, stderr } = spawnSync(bun, ["build", ...options, entry, `--outfile=${outfile}`], {
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  return readFileSync(outfile, "utf8");
}

/** The modules of Node's that a bundle asks for. */
function nodeModules(bundle: string): string[] {
  return [...bundle.matchAll(/(?:from|import|require\(|import\()\s*"(node:[^"]+)"/g)]
    .map(([, name]) => name!);
}

test("nothing that an edge app imports is of Node", () => {
  assert.deepEqual(nodeModules(bundled(join(root, "lib/edge/mod.ts"))), []);
  assert.ok(nodeModules(bundled(join(root, "lib/server.ts"))).includes("node:tls")); // else it sees nothing
}, 20_000);

/** What curl gets. */
function curl(url: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync("curl", ["-sS", ...args, url], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout;
}

/** What the example answers, wherever it runs. */
function assertServes(origin: string, greeting: RegExp): void {
  assert.equal(curl(`${origin}/hello?name=x`), "Hello x\n");
  const head = curl(`${origin}/hello`, "-I").toLowerCase();
  assert.match(head, /^http\/1\.1 200 /);
  assert.match(head, /^content-length: 12\r$/m);
  const big = join(directory, "big");
  writeFileSync(big, "0123456789abcdef".repeat(64 * 1024));
  assert.equal(curl(`${origin}/echo`, "--data-binary", `@${big}`), readFileSync(big, "utf8"));
  assert.equal(curl(`${origin}/secret/a`, "-w", " %{http_code}").slice(-4), " 403");
  assert.match(curl(`${origin}/else`), greeting);
}

describe("the example", () => {
  let child: ChildProcess | undefined;

  afterAll(async () => {
    if (child !== undefined && child.exitCode === null) {
      child.kill();
      await once(child, "exit");
    }
    rmSync(directory, { recursive: true, force: true });
  });

  test(`is served by ${runtime} as its default export`, async () => {
    const entry = runtime === "deno" ? example : join(directory, "serve.ts");
    // Bun takes address and port from the default export itself.
    const onLoopback = `import app from ${JSON.stringify(example)};
      export default Object.assign(app, { hostname: "127.0.0.1", port: 0 });`;
    if (runtime === "bun") writeFileSync(entry, onLoopback);
    const args = runtime === "deno"
      ? ["serve", "-A", PINNED, "--host", "127.0.0.1", "--port", "0", entry]
      : [entry];
    const { stdout, stderr } = child = spawn(process.execPath, args, { cwd: root });
    let output = "";
    const origin = await new Promise<string>((resolve, reject) => {
      for (const stream of [stdout, stderr]) {
        stream!.on("data", (bytes) => {
          output += bytes;
          const [found] = /http:\/\/127\.0\.0\.1:\d+/.exec(output) ?? [];
          if (found !== undefined) resolve(found);
        });
      }
      child!.once("exit", () => reject(new Error(`It ended: ${output}`)));
    });
    assertServes(origin, /^Hello 127\.0\.0\.1 at \/else, a TLS that/);
  }, 20_000);

  test("is served by workerd, as examples/deploy/wrangler.jsonc configures it", async () => {
    const place = onDemand("miniflare", MINIFLARE);
    if (place === undefined) return; // it has said why
    const require = createRequire(join(place, "package.json"));
    const { Miniflare } = require("miniflare") as { Miniflare: new (options: object) => Worker };
    const worker = new Miniflare({
      host: "127.0.0.1",
      port: 0,
      modules: true,
      script: bundled(join(root, "examples/deploy", main)),
      compatibilityDate: compatibility_date,
      compatibilityFlags: compatibility_flags,
      cf: { tlsVersion: "TLSv1.3", tlsCipher: "AEAD-AES128-GCM-SHA256", httpProtocol: "HTTP/2" },
    });
    try {
      assertServes((await worker.ready).origin, /^Hello .+ at \/else, TLSv1\.3\n$/);
    } finally {
      await worker.dispose();
    }
  }, 120_000); // it may be fetched
});

/** What of Miniflare is used here. */
interface Worker {
  readonly ready: Promise<URL>;
  dispose(): Promise<void>;
}
