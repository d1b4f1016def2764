/**
 * `bun --hot` and `deno run --watch`: a program that changes goes on at its address, with its new
 * handlers. Each runs as a process of its own, on its own runtime.
 */
import assert from "node:assert/strict";
import { afterAll, test } from "bun:test";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { assertRuntime, runtime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();

/** How long a program may take to start, again too, on a busy machine, in ms. */
const START_MS = 20_000;

const folder = mkdtempSync(join(tmpdir(), "httpsd-hot-"));
const running: ChildProcess[] = [];
afterAll(async () => {
  for (const child of running) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }
  rmSync(folder, { recursive: true });
});

const entry = new URL("../mod.ts", import.meta.url).href;
const root = fileURLToPath(new URL("..", import.meta.url));

const program = (answer: string, port: number) => `
  import { serve } from ${JSON.stringify(entry)};
  for (const name of ["a", "b"]) {
    const server = await serve(
      { hostname: "127.0.0.1", port: ${port}, transportMode: "insecure" },
      () => new Response(${JSON.stringify(answer)} + name),
    );
    console.log("listening", server.address.port);
    if (${port} !== 0) break;
  }
`;

const ARGUMENTS = runtime === "bun" ? ["--hot"] : [
  ...["run", "-A", "--no-check", "--node-modules-dir=manual"],
  ...["--config", join(root, "deno.json"), "--watch"],
];

test("a program that changes goes on at its ports, with its new handlers", async () => {
  const file = join(folder, "app.ts");
  writeFileSync(file, program("one ", 0));
  const child = spawn(process.execPath, [...ARGUMENTS, file], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  running.push(child);
  let said = "";
  child.stdout.on("data", (text) => said += text);
  child.stderr.on("data", (text) => said += text);
  const ports = () => Array.from(said.matchAll(/listening (\d+)/g), ([, port]) => Number(port));
  const answer = async (port: number) => {
    try {
      const response = await fetch(`http://127.0.0.1:${port}/`, {
        headers: { connection: "close" },
      });
      return await response.text();
    } catch {
      return undefined; // between the one and the other
    }
  };
  await until(() => ports().length === 2, "the program listens", START_MS);
  const first = ports();
  assert.deepEqual([await answer(first[0]!), await answer(first[1]!)], ["one a", "one b"]);

  writeFileSync(file, program("two ", 0));
  await until(() => ports().length >= 4, "the program listens again", START_MS);
  // Writing a file may count as two changes.
  await until(
    async () => {
      const [a, b] = ports().slice(-2) as [number, number];
      return await answer(a) === "two a" && await answer(b) === "two b";
    },
    "the new handlers answer",
    START_MS,
  );
  const second = ports().slice(-2);
  if (runtime === "bun") assert.deepEqual(second, first, "the ports stay");

  // A port that the program has chosen is the same one, and free in time.
  const [port] = second as [number, number];
  for (const name of ["three ", "four "]) {
    const before = ports().length;
    writeFileSync(file, program(name, port));
    await until(
      async () => ports().length > before && await answer(port) === `${name}a`,
      `the program answers ${name}`,
      START_MS,
    );
  }
  assert.doesNotMatch(said, /rror/);
}, 6 * START_MS);
