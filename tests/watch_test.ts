/**
 * Watching files: the ways in which certificates are really replaced, looked at step by step with
 * `check()`, and the timer.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { afterAll, beforeAll, beforeEach, describe, test } from "bun:test";
import {
  type CertificateAuthority,
  createCertificateAuthority,
} from "../lib/tls/dev_certificates.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import { filesDigestOf, type Identity } from "../lib/tls/loaded_identity.ts";
import { digestOf, FileWatcher } from "../lib/tls/watch.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();

const NEVER = 2 ** 31 - 1; // the timer stays out of it: the tests look with check()

let root: string;
let directory: string;
let ca: CertificateAuthority;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "httpsd-watch-"));
  ca = await createCertificateAuthority();
});

beforeEach(() => {
  directory = mkdtempSync(join(root, "test-"));
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

describe("FileWatcher", () => {
  test("is silent while nothing changes, or only the time of modification", async () => {
    using watched = watch([write("a", "1")]);
    await look(watched, 3);
    utimesSync(path("a"), new Date(), new Date());
    await look(watched, 3);
    assert.deepEqual(watched.log, []);
  });

  test("sees a file written over, when two looks agree on it", async () => {
    using watched = watch([write("a", "1")]);
    write("a", "2");
    await look(watched, 1);
    assert.deepEqual(watched.log, []);
    await look(watched, 1);
    assert.deepEqual(watched.log, ["changed to 2"]);
    await look(watched, 3);
    assert.deepEqual(watched.log, ["changed to 2"]);
  });

  test("waits for a file that is still being written", async () => {
    using watched = watch([write("a", "1")]);
    for (const part of ["2", "22", "222", "2222"]) {
      write("a", part);
      await look(watched, 1);
    }
    assert.deepEqual(watched.log, []);
    await look(watched, 2);
    assert.deepEqual(watched.log, ["changed to 2222"]);
  });

  test("does not care for a change that is taken back", async () => {
    using watched = watch([write("a", "1")]);
    write("a", "2");
    await look(watched, 1);
    write("a", "1");
    await look(watched, 3);
    assert.deepEqual(watched.log, []);
  });

  test("sees other contents of the same length and time of modification", async () => {
    using watched = watch([write("a", "1")]);
    const { atime, mtime } = statSync(path("a"));
    write("a", "2");
    utimesSync(path("a"), atime, mtime);
    await look(watched, 2);
    assert.deepEqual(watched.log, ["changed to 2"]);
  });

  test("sees a rename over the file", async () => {
    using watched = watch([write("a", "1")]);
    for (const content of ["2", "3"]) {
      renameSync(write("new", content), path("a"));
      await look(watched, 2);
    }
    assert.deepEqual(watched.log, ["changed to 2", "changed to 3"]);
  });

  test("sees a symbolic link above the file being swapped, as Kubernetes does", async () => {
    for (const version of ["1", "2"]) {
      mkdirSync(path(version));
      write(`${version}/a`, version);
    }
    symlinkSync("1", path("..data"));
    symlinkSync("..data/a", path("a"));
    using watched = watch([path("a")]);
    symlinkSync("2", path("..data_tmp"));
    renameSync(path("..data_tmp"), path("..data"));
    rmSync(path("1"), { recursive: true });
    await look(watched, 2);
    assert.deepEqual(watched.log, ["changed to 2"]);
  });

  test("sees bytes move from one file to the next", async () => {
    using watched = watch([write("a", "12"), write("b", "3")]);
    write("a", "1");
    write("b", "23");
    await look(watched, 2);
    assert.deepEqual(watched.log, ["changed to 1,23"]);
  });

  test("sees what changed between loading and the first look", async () => {
    const file = write("a", "1");
    const digest = digestOf([readFileSync(file)]);
    write("a", "2");
    using watched = watch([file], { digest });
    await look(watched, 2);
    assert.deepEqual(watched.log, ["changed to 2"]);
  });

  test("reports once a file that stays away, and takes it up when it is back", async () => {
    using watched = watch([write("a", "1")]);
    rmSync(path("a"));
    await look(watched, 1);
    assert.deepEqual(watched.log, []); // may be in the middle of a replacement
    await look(watched, 3);
    assert.deepEqual(watched.log, ["failed: ENOENT"]);
    write("a", "1");
    await look(watched, 3);
    assert.deepEqual(watched.log, ["failed: ENOENT"]); // back as it was: nothing to do
    rmSync(path("a"));
    await look(watched, 3);
    write("a", "2");
    await look(watched, 3);
    assert.deepEqual(watched.log, ["failed: ENOENT", "failed: ENOENT", "changed to 2"]);
  });

  test("tries again what failed, and reports it once for each change", async () => {
    let refuse = true;
    const changed = () => {
      if (refuse) throw new Error(`refused ${readFileSync(path("a"), "utf8")}`);
      watched.log.push("changed");
    };
    using watched = watch([write("a", "1")], { changed });
    write("a", "2");
    await look(watched, 4);
    write("a", "3");
    await look(watched, 4);
    assert.deepEqual(watched.log, ["failed: refused 2", "failed: refused 3"]);
    refuse = false;
    await look(watched, 3);
    assert.deepEqual(watched.log.slice(2), ["changed"]);
  });

  test("never calls back while an earlier call is under way", async () => {
    const called = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    let calls = 0;
    const changed = () => {
      calls++;
      called.resolve();
      return gate.promise;
    };
    using watched = watch([write("a", "1")], { changed });
    write("a", "2");
    await look(watched, 1);
    const first = watched.watcher.check();
    await called.promise;
    write("a", "3");
    assert.equal(watched.watcher.check(), first);
    assert.equal(calls, 1);
    gate.resolve();
    await first;
    await look(watched, 2);
    assert.equal(calls, 2);
  });

  test("is silent once it is closed, also in the middle of a look or a call", async () => {
    const looking = watch([write("a", "1")]);
    write("a", "2");
    await look(looking, 1);
    const under = looking.watcher.check();
    looking.watcher.close();
    await under;
    await look(looking, 2);
    assert.deepEqual(looking.log, []);

    const called = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    const changed = () => {
      called.resolve();
      return gate.promise;
    };
    const calling = watch([write("a", "1")], { changed });
    write("a", "2");
    await look(calling, 1);
    const call = calling.watcher.check();
    await called.promise;
    calling.watcher.close();
    gate.reject(new Error("too late"));
    await call;
    assert.deepEqual(calling.log, []);
  });

  test("looks by itself", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const file = write("a", "1");
    using _watched = watch([file], { intervalMs: 5, changed: resolve });
    write("a", "2");
    await promise;
  });

  test("does not keep the process alive", async () => {
    const script = write(
      "script.ts",
      `import { FileWatcher } from ${
        JSON.stringify(new URL("../lib/tls/watch.ts", import.meta.url))
      };
      const silent = () => {};
      new FileWatcher({ files: [], digest: "", intervalMs: 3_600_000, changed: silent, failed: silent });
      console.log("end");`,
    );
    const child = spawn(process.execPath, [...runtime === "deno" ? ["run", "-A"] : [], script]);
    const [code] = await once(child, "close");
    assert.equal(code, 0);
  }, 30_000);
});

describe("FileWatcher over an identity", () => {
  test("keeps the old one while certificate and key do not fit, then takes the new", async () => {
    const [old, fresh] = await Promise.all([ca.issue(), ca.issue()]);
    const files = { cert: write("cert.pem", old.cert), key: write("key.pem", old.key) };
    let current: Identity = await loadIdentity(files);
    const changed = async () => {
      current = await loadIdentity(files);
    };
    const { files: watchedFiles } = current;
    const digest = filesDigestOf(current);
    using watched = watch(watchedFiles, { digest, changed });

    write("cert.pem", fresh.cert);
    await look(watched, 4);
    assert.equal(watched.log.length, 1);
    assert.match(watched.log[0]!, /does not match the private key/);
    assert.equal(current.certPem, old.cert);

    write("key.pem", fresh.key);
    await look(watched, 2);
    assert.equal(watched.log.length, 1);
    assert.equal(current.certPem, fresh.cert);
    assert.notEqual(filesDigestOf(current), digest);
  });
});

/** A watcher and what it called, in words. */
interface Watched extends Disposable {
  readonly watcher: FileWatcher;
  readonly log: string[];
}

/** Watches files from their present contents on. */
function watch(
  files: readonly string[],
  options: { digest?: string; intervalMs?: number; changed?: () => void | Promise<void> } = {},
): Watched {
  const log: string[] = [];
  const watcher = new FileWatcher({
    files,
    digest: digestOf(files.map((file) => readFileSync(file))),
    intervalMs: NEVER,
    changed: () => void log.push(`changed to ${files.map((file) => readFileSync(file, "utf8"))}`),
    failed: (error) => {
      const { code, message } = error as NodeJS.ErrnoException;
      log.push(`failed: ${code === "ENOENT" ? code : message}`);
    },
    ...options,
  });
  return { watcher, log, [Symbol.dispose]: () => watcher.close() };
}

async function look({ watcher }: Watched, times: number): Promise<void> {
  for (let i = 0; i < times; i++) await watcher.check();
}

function path(name: string): string {
  return join(directory, name);
}

function write(name: string, content: string): string {
  writeFileSync(path(name), content);
  return path(name);
}
