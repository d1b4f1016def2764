/** examples/mtls.ts, sni.ts and cert_select.ts, asked by curl as their first comments say. */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();

const root = fileURLToPath(new URL("..", import.meta.url));
const CERTS = mkdtempSync(join(tmpdir(), "httpsd-tls-examples-"));
afterAll(() => rmSync(CERTS, { recursive: true }));

/** An example that runs in a process of its own, on a free port. */
async function startExample(file: string): Promise<{ port: string } & AsyncDisposable> {
  const args = runtime === "deno" ? ["run", "-A", "--node-modules-dir=manual"] : [];
  const child: ChildProcess = spawn(process.execPath, [...args, `examples/${file}`], {
    cwd: root,
    env: { ...process.env, CERTS, PORT: "0" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const closed = once(child, "close");
  const lines = createInterface(child.stdout!);
  const [line] = await Promise.race([
    once(lines, "line"),
    closed.then(([code]) => assert.fail(`${file} ended with code ${code}`)),
  ]) as [string];
  const [, port] = /:(\d+)\//.exec(line)!;
  return {
    port: port!,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await closed;
    },
  };
}

/** What curl gets of a name; `undefined` when the handshake or the request fails. */
function curl(name: string, port: string, ...args: string[]): string | undefined {
  const place = ["--connect-to", `::127.0.0.1:${port}`, "--cacert", join(CERTS, "ca.pem")];
  const { status, stdout } = spawnSync(
    "curl",
    ["-sS", "--max-time", "8", ...place, ...args, `https://${name}:${port}/`],
    { encoding: "utf8" },
  );
  return status === 0 ? stdout : undefined;
}

const client = (name: string) => [
  ...["--cert", join(CERTS, `${name}.pem`), "--key", join(CERTS, `${name}.key`)],
];

describe("The examples of TLS", () => {
  test("mtls.ts lets alice in, and neither mallory nor who shows nothing", async () => {
    await using example = await startExample("mtls.ts");
    assert.match(curl("localhost", example.port, ...client("alice"))!, /^hello CN=alice, until /);
    assert.equal(curl("localhost", example.port, ...client("mallory")), undefined);
    assert.equal(curl("localhost", example.port), undefined);
  }, 30_000);

  test("sni.ts has a certificate for each name", async () => {
    await using example = await startExample("sni.ts");
    for (const name of ["localhost", "red.localhost", "blue.localhost"]) {
      assert.equal(curl(name, example.port), `you asked for ${name}\n`);
    }
    assert.equal(curl("green.localhost", example.port), undefined); // its certificate is not for it
  }, 30_000);

  test(
    "cert_select.ts makes certificates for names under localhost, and refuses others",
    async () => {
      await using example = await startExample("cert_select.ts");
      assert.equal(curl("any.localhost", example.port), "hello any.localhost\n");
      assert.equal(curl("example.com", example.port), undefined);
    },
    30_000,
  );
});
