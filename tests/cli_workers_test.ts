/** lib/cli/: `--workers`, with the inspector and with certificates by ACME, as users run it. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import {
  certs,
  curl,
  execute,
  folder,
  LONG_MS,
  makeFiles,
  run,
  site,
  start,
} from "./cli_support.ts";
import { startPebble, testWithPebble } from "./pebble.ts";
import { freePorts, hold } from "./ports.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();
await makeFiles();

/** A port as the command line has to name it. */
async function freePort(): Promise<string> {
  const [port] = await freePorts(1);
  return String(port);
}

/** The processes that a process has started, whichever of its threads did. */
function childrenOf(pid: number): string[] {
  const tasks = readdirSync(`/proc/${pid}/task`);
  return tasks.flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "latin1").split(" ").filter(Boolean)
  );
}

interface Summary {
  readonly worker: { readonly index: number; readonly of: number };
  readonly state: string;
}

/** What a worker's inspector says, once it is there. */
async function summary(url: string): Promise<Summary> {
  let text = "";
  await until(async () => {
    const response = await fetch(url).catch(() => undefined);
    text = await response?.text() ?? "";
    return text !== "";
  }, `${url} answers`);
  return JSON.parse(text);
}

describe("httpsd serve --workers", () => {
  test("shares the port, which nothing else may have; says once where it is", async () => {
    const port = await freePort();
    const args = ["serve", site, "--port", port, "--workers", "2"];
    const { ready, output, errors, pid, end } = await start(args);
    assert.equal(ready.port, Number(port));
    for (let n = 0; n < 8; n++) assert.match(await curl(ready.port, "/"), /^<title>Home/);

    const { status, stderr } = run([...args, "--json"]);
    assert.equal(status, 1);
    const { code, error } = JSON.parse(stderr);
    assert.deepEqual([code, error.includes(port)], ["ADDRESS_IN_USE", true]);

    // Each new worker is ready before the one before it ends, and would say where it is.
    let old: string[] = [];
    await until(() => (old = childrenOf(pid)).length === 2, "both run");
    process.kill(pid, "SIGHUP");
    await until(
      () => {
        const now = childrenOf(pid);
        return now.length === 2 && !now.some((child) => old.includes(child));
      },
      "both are replaced",
      LONG_MS,
    );
    assert.match(await curl(ready.port, "/"), /^<title>Home/);
    assert.equal(output().trim().split("\n").length, 1, output());
    assert.doesNotMatch(errors(), /ended|rror(?!":"A reload)/);
    assert.equal(await end(), 0);
  }, LONG_MS);

  test(
    "with --inspect: each worker has one, on other ports where the usual are taken",
    async () => {
      const blocker = await hold(9_440);
      const args = ["serve", site, "--port", await freePort(), "--workers", "2", "--inspect"];
      const { ready, end } = await start(args);
      const first = Number(new URL(ready.inspector!).port);
      if (blocker.isHeld) assert.notEqual(first, 9_440);
      for (const index of [0, 1]) {
        const { worker, state } = await summary(`http://127.0.0.1:${first + index}/?summary`);
        assert.deepEqual([worker, state], [{ index, of: 2 }, "running"]);
      }
      const state = await (await fetch(`${ready.inspector}?state`)).json();
      assert.equal(state.address, `127.0.0.1:${ready.port}`);
      assert.equal(await end(), 0);
      await blocker.release();
    },
    LONG_MS,
  );

  test("says what is wrong in one line, once", async () => {
    const port = await freePort();
    const wrong: [args: string[], status: number, message: RegExp][] = [
      [["--cert", "none.pem", "--key", "none.key"], 1, /none.pem .*does not exist/],
      [["--client-ca", "none.pem"], 1, /none.pem .*does not exist/],
      [["--email", "a@b.example"], 2, /--email is for --acme/],
      [["--log", "short"], 2, /--log is common/],
      [["--host", "203.0.113.9"], 1, /not an address of this machine/],
    ];
    for (const [args, expected, message] of wrong) {
      const all = ["serve", site, "--port", port, "--workers", "2", ...args, "--certs", certs];
      const { status, stdout, stderr } = run(all);
      assert.deepEqual([status, stdout], [expected, ""], stderr);
      assert.match(stderr, message);
      assert.match(stderr, /^httpsd: [^\n]+\n$/);
    }
  }, LONG_MS);

  testWithPebble("with --acme: one order, and every worker has its certificate", async () => {
    await using pebble = await startPebble({ validationSeconds: 1 });
    const ca = join(folder, "pebble-workers.pem");
    const root = join(folder, "pebble-workers-root.pem");
    writeFileSync(ca, pebble.ca);
    writeFileSync(root, await pebble.root());
    const { ready, output, errors, end } = await start([
      ...["serve", site, "--port", await freePort(), "--workers", "2"],
      ...["--acme", "workers.example", "--acme-directory", pebble.directory, "--acme-ca", ca],
      ...["--http-port", String(pebble.httpPort), "--certs", join(folder, "acme-workers")],
    ]);
    assert.equal(ready.certificate, "ACME, for workers.example");
    // A worker that starts when there is one finds it in the storage, and reports none.
    await until(() => output().includes('"issued":["workers.example"]'), "one is issued", 30_000);
    const to = `workers.example:${ready.port}`;
    const args = ["-sS", "--cacert", root, "--resolve", `${to}:127.0.0.1`, `https://${to}/`];
    const answers = async () => {
      for (let n = 0; n < 12; n++) {
        assert.match((await execute("curl", args)).stdout, /^<title>Home/);
      }
      return true;
    };
    await until(() => answers().catch(() => false), "each worker that is asked has it", 30_000);
    assert.equal(pebble.output().match(/Issued certificate serial/g)?.length, 1);
    const answer = await fetch(`http://127.0.0.1:${pebble.httpPort}/a?b`, { redirect: "manual" });
    await answer.body?.cancel();
    assert.equal(answer.headers.get("location"), "https://127.0.0.1/a?b");
    assert.equal(await end(), 0, errors());
  }, LONG_MS);
});
