/**
 * The first line that a newcomer runs: an example in a fresh clone, with the runtime alone, nothing
 * installed and nothing in the home directory. Fetches the packages from the registry.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { afterAll, describe, test } from "bun:test";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();

const root = new URL("..", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "httpsd-fresh-"));
const clone = join(folder, "clone");
const home = join(folder, "home");

afterAll(() => rmSync(folder, { recursive: true }));

/** The environment of somebody who has just installed the runtime: no caches, no other programs. */
function newcomersEnvironment(): Record<string, string | undefined> {
  const own = /^(npm_|DENO_DIR$|BUN_|XDG_|NODE_PATH$|HTTPSD_)/;
  const kept = Object.entries(process.env).filter(([name]) => !own.test(name));
  return { ...Object.fromEntries(kept), HOME: home, PATH: home, PORT: "0" };
}

/** What git would clone, with the changes that are not committed yet. */
function cloneWorkingTree(): void {
  const list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const files = execFileSync("git", list, { cwd: root, encoding: "utf8" }).split("\0");
  for (const file of files.filter((name) => name !== "")) {
    try {
      cpSync(join(root, file), join(clone, file));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error; // deleted, not committed
    }
  }
}

function start(example: string): ChildProcess {
  const args = runtime === "deno" ? ["run", "-A", example] : [example];
  return spawn(process.execPath, args, { cwd: clone, env: newcomersEnvironment(), stdio: "pipe" });
}

/** The port that the example listens on; throws with all that it wrote when it ends before. */
async function listeningPort(child: ChildProcess): Promise<number> {
  let written = "";
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      written += text;
      const found = /Listening on https:\/\/localhost:(\d+)\//.exec(written);
      if (found !== null) resolve(Number(found[1]));
    });
  }
  child.on("close", (code) => reject(new Error(`Ended with code ${code}: ${written}`)));
  return await promise;
}

async function get(port: number, ca: string): Promise<string> {
  const request = https.get({ port, host: "127.0.0.1", servername: "localhost", ca, agent: false });
  const [response] = await once(request, "response");
  assert.equal(response.statusCode, 200);
  let body = "";
  for await (const text of response.setEncoding("utf8")) body += text;
  return body;
}

describe("A fresh clone, with nothing installed", () => {
  test("serves examples/simple.ts", async () => {
    mkdirSync(home);
    cloneWorkingTree();
    const child = start("examples/simple.ts");
    try {
      const port = await listeningPort(child);
      const page = await get(port, readFileSync(join(clone, "certs/ca.pem"), "utf8"));
      assert.match(page, /Your connection/);
    } finally {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "close");
    }
    assert.ok(!readdirSync(clone).includes("node_modules"), "Nothing is installed into the clone");
  }, 120_000);
});
