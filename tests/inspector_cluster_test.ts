/** Inspectors in a cluster: one for each worker, and their numbers together on the page of each. */
import assert from "node:assert/strict";
import { test } from "bun:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { askSiblings } from "../lib/inspector/siblings.ts";
import { setShare } from "../lib/share.ts";
import { get } from "./inspector_support.ts";
import { RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { freePorts } from "./ports.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();
stopServersAfterAll();

const PROGRAM = fileURLToPath(new URL("./cluster/inspected.ts", import.meta.url));

test("each worker has an inspector on a port of its own, which shows all of them", async () => {
  const [port] = await freePorts(2) as [number, number];
  const deno = ["run", "-A", "--no-check", "--node-modules-dir=manual", PROGRAM];
  const args = [...runtime === "deno" ? deno : [PROGRAM], String(port)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "close");
  try {
    let output = "";
    for await (const text of child.stdout.setEncoding("utf8")) {
      output += text;
      if (/^READY/m.test(output)) break;
    }
    assert.match(output, /REFUSED Option port of inspect\(\) must be given in a cluster/);
    for (const index of [0, 1]) {
      const { body } = await get(`http://127.0.0.1:${port + index}/?summary`);
      const { worker, state } = JSON.parse(body);
      assert.deepEqual([worker, state], [{ index, of: 2 }, "running"]);
    }
    const client = await RawClient.connect(port + 1);
    client.send("GET /?stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await client.expect(/event: workers\ndata: .*\n/);
    const [, data] = /event: workers\ndata: (.*)\n/.exec(client.text)!;
    const [other, ...more] = JSON.parse(data!);
    assert.deepEqual([other.index, other.url, more], [0, `http://127.0.0.1:${port}/`, []]);
    assert.deepEqual(other.summary.worker, { index: 0, of: 2 });
    client.destroy();
  } finally {
    process.kill(child.pid!, "SIGTERM");
    await ended;
  }
}, 60_000);

test("an answer that is too long to be a worker's counts as none", async () => {
  const worker = { index: 1, of: 2 };
  const rest = { open: 0, active: 0, perSecond: 0, p95: null, failures: 0, lagMs: 0 };
  const summary = JSON.stringify({ worker, state: "running", ...rest });
  let answer = summary;
  const { port } = await started(() => new Response(answer));
  setShare({ index: 0, of: 2, threads: false, port: () => 0, listening() {}, stopped() {} });
  try {
    assert.deepEqual((await askSiblings(() => port))[0]!.summary, JSON.parse(summary));
    answer = summary + " ".repeat(20_000);
    assert.equal((await askSiblings(() => port))[0]!.summary, null);
  } finally {
    setShare(undefined as never);
  }
});
