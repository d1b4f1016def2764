/** A server that is stopped while it starts, or while a certificate is ordered: nothing is left of it. */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net, { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { MemoryStorage, TestCa, TestTime, watched } from "./automatic_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { start, turns, until } from "./support.ts";

assertRuntime();

const LONG_MS = 30_000; // another process starts
const folder = mkdtempSync(join(tmpdir(), "httpsd-acme-stop-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("A source that is stopped", () => {
  test("while it waits for its storage: it ends then, and can be started again", async () => {
    const [time, storage] = [new TestTime(), new MemoryStorage()];
    const ca = new TestCa(time);
    const slow = Promise.withResolvers<string | undefined>();
    const get = storage.get.bind(storage);
    storage.get = () => slow.promise;
    const all = watched(time, ca, storage);
    const starting = all.start();
    const stopping = all.stop();
    storage.get = get;
    slow.resolve(undefined);
    await Promise.all([starting, stopping]);
    await turns();
    assert.deepEqual([time.timers, storage.locks.size, ca.orders.length], [0, 0, 0]);
    await all.start();
    await until(() => all.issued.length === 1, "it works");
    await all.stop();
    assert.deepEqual([time.timers, storage.locks.size], [0, 0]);
    assert.deepEqual([all.failed, all.errors], [[], []]);
  });

  test("while an order is under way: the order is given up, and its lock is free", async () => {
    const [time, storage] = [new TestTime(), new MemoryStorage()];
    const ca = new TestCa(time);
    ca.gate = new Promise(() => {});
    const all = watched(time, ca, storage);
    await all.start();
    await until(() => ca.orders.length === 1 && storage.locks.size === 1, "it is ordered");
    await all.stop();
    assert.deepEqual([time.timers, storage.locks.size], [0, 0]);
    assert.deepEqual([all.failed, all.errors], [[], []]);
    assert.deepEqual(storage.keysOf("shop.example"), []); // no failure is kept
  });
});

/** What a process does that has a CA which never answers; `when` is when its server is stopped. */
const program = (directory: string, certs: string, when: "starting" | "ordering") => `
import { automaticCertificates, fileStorage } from ${module("../lib/acme/mod.ts")};
import { HttpsServer } from ${module("../mod.ts")};
import { createInterface } from "node:readline";
const certificates = automaticCertificates({
  names: ["shop.example"],
  agreeToTerms: true,
  directory: ${JSON.stringify(directory)},
  storage: fileStorage(${JSON.stringify(certs)}),
});
const server = new HttpsServer({ hostname: "127.0.0.1", port: 0, certificates });
server.addEventListener("error", ({ error }) => console.log("ERROR", error.code));
server.addEventListener("certificate:failed", ({ error }) => console.log("FAILED", error.code));
const starting = server.start();
if (${when === "ordering"}) {
  await starting;
  console.log("STARTED");
  const lines = createInterface({ input: process.stdin });
  await new Promise((resolve) => lines.once("line", resolve));
  lines.close();
}
const [started, stopped] = await Promise.allSettled([starting, server.stop()]);
console.log("STOPPED", started.status, started.reason?.code, stopped.status, server.state);
`;

function module(path: string): string {
  return JSON.stringify(new URL(path, import.meta.url).href);
}

for (const when of ["starting", "ordering"] as const) {
  test(
    `a server that is stopped while ${when}, with a CA that never answers, lets the process end`,
    async () => {
      const connections = new Set<net.Socket>();
      const silent = net.createServer((socket) => {
        connections.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => connections.delete(socket));
        socket.resume();
      });
      silent.listen(0, "127.0.0.1");
      await once(silent, "listening");
      const { port } = silent.address() as AddressInfo;
      const certs = join(folder, when);
      const file = join(folder, `${when}.mjs`);
      writeFileSync(file, program(`https://127.0.0.1:${port}/directory`, certs, when));
      const args = runtime === "deno"
        ? ["run", "-A", "--no-check", "--node-modules-dir=manual", file]
        : ["run", file];
      const child = start(process.execPath, args);
      try {
        if (when === "ordering") {
          await until(() => child.output().includes("STARTED"), "it has started", LONG_MS);
          await until(() => connections.size > 0, "the CA is asked", LONG_MS);
          child.process.stdin!.write("stop\n");
        }
        await child.done; // by itself
        const rejected = when === "starting" ? "rejected NOT_STARTED" : "fulfilled undefined";
        assert.equal(
          child.output().split("\n").filter((line) => line !== "" && line !== "STARTED").join("\n"),
          `STOPPED ${rejected} fulfilled idle`,
        );
        assert.equal(child.process.exitCode, 0);
        await until(() => connections.size === 0, "it has left the CA");
        for (const name of locks(certs)) {
          assert.match(readFileSync(join(certs, "locks", name), "utf8"), /^free/, name);
        }
        if (when === "ordering") assert.ok(locks(certs).length > 0);
      } finally {
        child.process.kill("SIGKILL");
        silent.close();
      }
    },
    LONG_MS,
  );
}

/** The files of the locks that were taken. */
function locks(certs: string): string[] {
  try {
    return readdirSync(join(certs, "locks"));
  } catch {
    return []; // none was
  }
}
