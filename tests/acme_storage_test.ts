/** Where certificates are kept: in files and in Redis, with locks that outlive no dead holder. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { join } from "node:path";
import { afterAll, describe, test } from "bun:test";
import { createClient } from "redis";
import { type CertificateStorage, fileStorage, redisStorage } from "../lib/acme/mod.ts";
import { testsWith } from "./programs.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { type Child, end, start, until } from "./support.ts";
import { freePorts } from "./ports.ts";

assertRuntime();

const directory = mkdtempSync(join(tmpdir(), "httpsd-storage-"));
const children: Child[] = [];
afterAll(() => {
  for (const child of children) end(child);
  rmSync(directory, { recursive: true });
});

let folders = 0;
const newFolder = () => join(directory, `s${++folders}`, "certs");

/** What can be asked of any storage; `other` is what another process has. */
function behaves(storages: () => Promise<{ one: CertificateStorage; other: CertificateStorage }>) {
  return {
    async texts() {
      const { one, other } = await storages();
      const keys = [
        "ca.example-dir/certificates/a.example",
        "ca.example-dir/certificates/*.a.example",
        "ca.example-dir/certificates/2001:db8::1",
        "ca.example-dir/account",
      ];
      assert.deepEqual(await one.list("ca.example-dir/"), []);
      await one.delete(keys[0]!);
      for (const key of keys) assert.equal(await one.get(key) ?? undefined, undefined);
      for (const key of keys) await one.set(key, `${key}\n\u00e4\0\u{1f600}`);
      for (const key of keys) assert.equal(await other.get(key), `${key}\n\u00e4\0\u{1f600}`);
      assert.deepEqual((await other.list("ca.example-dir/")).sort(), [...keys].sort());
      assert.deepEqual(
        (await one.list("ca.example-dir/certificates/")).sort(),
        keys.slice(0, 3).sort(),
      );
      assert.deepEqual(await one.list("ca.example/"), []);
      await other.set(keys[0]!, "");
      assert.equal(await one.get(keys[0]!), "");
      await other.delete(keys[0]!);
      assert.equal(await one.get(keys[0]!) ?? undefined, undefined);
      const big = "x".repeat(100_000);
      await one.set(keys[1]!, big);
      assert.equal(await other.get(keys[1]!), big);
    },
    async locks() {
      const { one, other } = await storages();
      const first = await one.lock("certificates/a.example");
      assert.ok(first !== undefined);
      assert.equal(await other.lock("certificates/a.example"), undefined);
      assert.equal(await one.lock("certificates/a.example"), undefined);
      assert.ok(await other.lock("certificates/b.example") !== undefined);
      await first.release();
      await first.release();
      const second = await other.lock("certificates/a.example");
      assert.ok(second !== undefined);
      assert.equal(await one.lock("certificates/a.example"), undefined);
      assert.equal(first.signal.aborted, false);
      await second.release();
    },
    /** Many processes at once: one at a time has the lock. */
    async races() {
      const { one, other } = await storages();
      let held = 0;
      let taken = 0;
      await Promise.all(Array.from({ length: 20 }, async (_, i) => {
        for (let attempt = 0; attempt < 5; attempt++) {
          const lock = await (i % 2 === 0 ? one : other).lock("race");
          if (lock === undefined) continue;
          assert.equal(++held, 1);
          taken++;
          await new Promise((resolve) => setTimeout(resolve, 1));
          held--;
          await lock.release();
        }
      }));
      assert.ok(taken > 1);
    },
    /** A lock that is held longer than it lasts. */
    async renews() {
      const { one, other } = await storages();
      const lock = await one.lock("long");
      const until = performance.now() + 2 * lockMs;
      while (performance.now() < until) {
        assert.equal(await other.lock("long"), undefined);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      assert.equal(lock!.signal.aborted, false);
      await lock!.release();
      const next = await other.lock("long");
      await next!.release();
    },
  };
}

/**
 * How long the locks of these tests outlive their holder, in ms. A machine that is so busy that this
 * process, or another one, stands still for two thirds of it takes a lock for abandoned.
 */
const lockMs = 1_500;

/** When a test with another process is ended, in ms: on a busy machine it takes long to start. */
const LONG_MS = 30_000;

/** A process takes a lock and is killed: it is held until then, and not for ever. */
async function outlives(storage: CertificateStorage, code: string): Promise<void> {
  const script = `${code}\nconst lock = await storage.lock("killed");
    console.log(lock === undefined ? "none" : "held"); setInterval(() => {}, 1000);`;
  const args = runtime === "deno" ? ["eval", "--node-modules-dir=manual"] : ["-e"];
  const child = start(process.execPath, [...args, script]);
  children.push(child);
  await until(() => child.output().includes("held"), "the holder holds", LONG_MS);
  assert.equal(await storage.lock("killed"), undefined);
  end(child);
  await until(() => {
    try {
      process.kill(child.process.pid!, 0);
      return spawnSync("ps", ["-o", "stat=", String(child.process.pid)]).stdout.includes("Z");
    } catch {
      return true;
    }
  }, "it is dead");
  let lock: Awaited<ReturnType<CertificateStorage["lock"]>>;
  await until(async () => (lock = await storage.lock("killed")) !== undefined, "it is taken over");
  await lock!.release();
}

const moduleUrl = JSON.stringify(new URL("../lib/acme/mod.ts", import.meta.url).href);

describe("fileStorage()", () => {
  const all = behaves(() => {
    const folder = newFolder();
    return Promise.resolve({
      one: fileStorage(folder, { lockMs }),
      other: fileStorage(folder, { lockMs }),
    });
  });
  test("keeps texts", all.texts);
  test("has locks", all.locks);
  test("has locks that one at a time takes", all.races);
  test("renews locks while they are held", all.renews);

  test("writes whole files that only their owner may read", async () => {
    const folder = newFolder();
    const storage = fileStorage(folder);
    await storage.set("ca/certificates/a.example", "key");
    await (await storage.lock("l"))!.release();
    assert.equal(statSync(join(folder, "ca/certificates/a.example")).mode & 0o777, 0o600);
    for (const path of ["", "ca", "ca/certificates", "locks"]) {
      assert.equal(statSync(join(folder, path)).mode & 0o777, 0o700, path);
    }
    const texts = Array.from({ length: 20 }, (_, i) => String(i).repeat(50_000));
    let reading = true;
    const reader = (async () => {
      while (reading) {
        const text = await storage.get("ca/certificates/a.example");
        assert.ok(text === "key" || texts.includes(text!));
      }
    })();
    await Promise.all(texts.map((text) => storage.set("ca/certificates/a.example", text)));
    reading = false;
    await reader;
    assert.deepEqual(readdirSync(join(folder, "ca/certificates")), ["a.example"]);
  });

  test("takes the lock of a holder that was killed", async () => {
    const folder = newFolder();
    await outlives(
      fileStorage(folder, { lockMs }),
      `import { fileStorage } from ${moduleUrl};
      const storage = fileStorage(${JSON.stringify(folder)}, { lockMs: ${lockMs} });`,
    );
  }, LONG_MS);

  test("says when a lock was lost, and leaves it to its new holder", async () => {
    const folder = newFolder();
    const storage = fileStorage(folder, { lockMs });
    const lost = await storage.lock("a");
    // As another process does when this one was stopped for long.
    const [file] = readdirSync(join(folder, "locks"));
    const [digest, number] = file!.split(".");
    writeFileSync(join(folder, "locks", `${digest}.${Number(number) + 1}`), "held");
    await until(() => lost!.signal.aborted, "it is said");
    await lost!.release();
    assert.equal(await storage.lock("a"), undefined);
  });

  test("leaves no more than one file of a lock", async () => {
    const folder = newFolder();
    const storage = fileStorage(folder);
    for (let i = 0; i < 5; i++) await (await storage.lock("a"))!.release();
    assert.equal(readdirSync(join(folder, "locks")).length, 1);
  });

  test("has locks that last as long as their holder says", async () => {
    const folder = newFolder();
    const lock = await fileStorage(folder, { lockMs: 3_000 }).lock("a");
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(await fileStorage(folder, { lockMs: 100 }).lock("a"), undefined);
    await lock!.release();
  });

  test("takes no path from a key", async () => {
    const folder = newFolder();
    const storage = fileStorage(folder);
    for (
      const key of ["../x", "a/../../x", "a//b", ".x", "a/.new-x", "a b", "/x", "a\\b", "a\0", ""]
    ) {
      await assert.rejects(storage.set(key, "x"), { code: "INVALID_CONFIG" });
      await assert.rejects(storage.get(key), { code: "INVALID_CONFIG" });
    }
  });

  test("checks its arguments", () => {
    for (const path of ["", undefined, 1, new URL("file:///x")]) {
      assert.throws(() => fileStorage(path as never), { code: "INVALID_CONFIG" });
    }
    assert.throws(() => fileStorage("x", { lockMS: 1_000 } as never), {
      message: /did you mean lockMs/,
    });
  });
});

const testWithRedis = testsWith("redis-server");

describe("redisStorage()", () => {
  let port: Promise<number> | undefined;
  const clients: { destroy(): void }[] = [];
  afterAll(() => {
    for (const client of clients) client.destroy();
  });

  async function server(): Promise<number> {
    const [free] = await freePorts(1);
    const args = ["--port", `${free}`, "--bind", "127.0.0.1", "--save", "", "--dir", directory];
    const child = start("redis-server", args, "");
    children.push(child);
    await until(() => child.output().includes("eady to accept"), "Redis is ready");
    return free!;
  }

  let prefixes = 0;
  async function connected(options: { prefix: string; lockMs?: number }) {
    const client = createClient({ url: `redis://127.0.0.1:${await (port ??= server())}` });
    client.on("error", () => {});
    await client.connect();
    clients.push(client);
    return redisStorage(client, { lockMs, ...options });
  }
  const all = behaves(async () => {
    const prefix = `p[${++prefixes}]*:`;
    return { one: await connected({ prefix }), other: await connected({ prefix }) };
  });
  const tests = {
    "keeps texts": all.texts,
    "has locks": all.locks,
    "has locks that one at a time takes": all.races,
    "renews locks while they are held": all.renews,
  };
  for (const [name, body] of Object.entries(tests)) testWithRedis(name, body, 9_000);

  testWithRedis("takes the lock of a holder that was killed", async () => {
    const prefix = "killed:";
    const storage = await connected({ prefix });
    await outlives(
      storage,
      `import { redisStorage } from ${moduleUrl};
      import { createClient } from "redis";
      const client = createClient({ url: "redis://127.0.0.1:${await port}" });
      await client.connect();
      const storage = redisStorage(client, { prefix: "${prefix}", lockMs: ${lockMs} });`,
    );
  }, LONG_MS);

  testWithRedis("says when a lock was lost, and leaves it to its new holder", async () => {
    const prefix = "lost:";
    const storage = await connected({ prefix });
    const lost = await storage.lock("a");
    const raw = createClient({ url: `redis://127.0.0.1:${await port}` });
    await raw.connect();
    clients.push(raw);
    await raw.set(`${prefix}locks/a`, "another");
    await until(() => lost!.signal.aborted, "it is said");
    await lost!.release();
    assert.equal(await raw.get(`${prefix}locks/a`), "another");
  }, 9_000);

  test("checks its arguments", () => {
    const sends = { sendCommand: () => Promise.resolve() };
    for (const client of [undefined, {}, "redis://a", sends]) {
      assert.throws(() => redisStorage(client as never), {
        code: "INVALID_CONFIG",
        message: /^redisStorage\(\) was given no client of Redis: give what createClient\(\)/,
      });
    }
    assert.throws(() => redisStorage(createClient(), { prefx: "a" } as never), {
      message: /did you mean prefix/,
    });
  });
});
