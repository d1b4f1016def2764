/** What no request for a file gets out: other directories, hidden files, links, private keys. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { constants, lstat, open } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, test } from "bun:test";
import { isWhatWasFound, locate, openDirectory, openLocated, parsePath } from "../lib/web/disk.ts";
import { serveFiles, type ServeFilesOptions } from "../lib/web/files.ts";
import { base, body, filesForAll, get, openFiles, root } from "./files_support.ts";
import { stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { startScript } from "./support.ts";

assertRuntime();
stopServersAfterAll();
filesForAll();

describe("serveFiles() lets nothing out", () => {
  test("refuses dotfiles unless they are named", async () => {
    for (const path of ["/.env", "/.git/config", "/.git", "/%2egit/config", "/.well-known/x"]) {
      assert.equal((await get(path)).status, 404, path);
    }
    const options = { dotfiles: [".well-known"] };
    assert.equal((await body("/.well-known/security.txt", {}, options)).text, "contact");
    assert.equal((await get("/.env", {}, options)).status, 404);
    assert.equal((await body("/.env", {}, { dotfiles: "all" })).text, "SECRET");
  });

  test("refuses links out of the root, loops, devices and pipes, without waiting", async () => {
    for (const path of ["/out.txt", "/outdir/secret.txt", "/outdir/", "/loop"]) {
      assert.equal((await get(path)).status, 404, path);
    }
    assert.equal((await get("/zero")).status, 404);
    assert.equal((await get("/pipe")).status, 404);
    const devices = serveFiles("/dev");
    for (const name of ["zero", "null", "tty"]) {
      assert.equal((await devices(new Request(`http://host/${name}`))).status, 404, name);
    }
  });

  test("takes names that are too long for missing", async () => {
    assert.equal((await get(`/${"a".repeat(5000)}`)).status, 404);
    assert.equal((await get("/a".repeat(5000))).status, 404);
  });

  test("decodes once: what is still encoded is a name", async () => {
    assert.equal((await body("/%252e%252e")).text, "literally");
    assert.equal((await get("/%252e%252e/secret.txt")).status, 404);
  });

  // Every way to write "..", joined by every way to write "/", around the name of a real secret.
  const dots = [
    "..",
    "%2e%2e",
    "%2E.",
    "%252e%252e",
    "%25252e%25252e",
    "..%00",
    "%c0%ae%c0%ae",
    "%uff0e%uff0e",
    "..;",
    "...",
    ".%00.",
    "%ef%bc%8e%ef%bc%8e",
  ];
  const slashes = ["/", "//", "\\", "%2f", "%5c", "%252f", "%255c", "%c0%af", "%ef%bc%8f", "/./"];
  const starts = ["/", "//", "/sub/", "/sub/deep/", "/outdir/", "/\\", "/%2f"];
  test("every way to write a path out of the root ends within it", async () => {
    const handler = serveFiles(root, { listing: true, dotfiles: "all" });
    let count = 0;
    for (const start of starts) {
      for (const dot of dots) {
        for (const slash of slashes) {
          for (const times of [1, 3]) {
            const path = start + (dot + slash).repeat(times) + "secret.txt";
            const response = await handler(new Request(`http://host${path}`));
            assert.ok(!(await response.text()).includes("SECRET"), path);
            assert.ok([404, 301].includes(response.status), `${path}: ${response.status}`);
            count++;
          }
        }
      }
    }
    assert.equal(count, 1680);
  });

  test("parsePath() never gives a name that is more than a name", () => {
    const names = [...dots, ...slashes, "a", "%", "%zz", "%41", "\0", "%00", "a%2f..%2fb", "C%3A"];
    for (const a of names) {
      for (const b of names) {
        for (const segment of parsePath(`/${a}/${b}${a}`, "all")?.segments ?? []) {
          assert.ok(!/[/\\\0]/.test(segment), segment);
          assert.ok(!["", ".", ".."].includes(segment), segment);
        }
      }
    }
  });

  test("a root whose name begins like another's shows nothing of it", async () => {
    symlinkSync("../root-too", join(root, "neighbour"));
    assert.equal((await get("/neighbour/secret.txt")).status, 404);
  });

  test("a file that is swapped between looking and opening is not sent", async () => {
    const swap = async (change: (path: string) => void) => {
      const path = join(root, "swapped");
      rmSync(path, { recursive: true, force: true });
      mkdirSync(path);
      writeFileSync(join(path, "secret.txt"), "harmless");
      const found = await locate(root, ["swapped", "secret.txt"]);
      change(path);
      const opened = await openLocated(found!);
      await opened?.handle.close();
      return opened;
    };
    assert.notEqual(await swap(() => {}), undefined);
    const toLink = (path: string) => {
      rmSync(join(path, "secret.txt"));
      symlinkSync(join(base, "secret.txt"), join(path, "secret.txt"));
    };
    const toLinkAbove = (path: string) => {
      rmSync(path, { recursive: true });
      symlinkSync(base, path);
    };
    const toPipe = (path: string) => {
      rmSync(join(path, "secret.txt"));
      execFileSync("mkfifo", [join(path, "secret.txt")]);
    };
    const movedAway = (path: string) => {
      renameSync(path, `${path}-away`);
      symlinkSync(`${path}-away`, path); // the very same file, by way of a link
    };
    const toAnotherFile = (path: string) => {
      writeFileSync(join(path, "other"), "harmful");
      renameSync(join(path, "other"), join(path, "secret.txt"));
    };
    for (const change of [toLink, toLinkAbove, toPipe, movedAway, toAnotherFile]) {
      assert.equal(await swap(change), undefined, change.name);
    }
    assert.deepEqual(openFiles(), []);
  });
});

/** The race as it looks to the server: the number of the file outside, and the path inside. */
describe("A directory that was a link whenever it was looked at, and is none now", () => {
  const OUTSIDE = join(base, "root-too");
  const path = join(root, "raced");
  const inside = join(path, "secret.txt");

  async function raced<T>(
    outside: string,
    within: string,
    look: (
      handle: Awaited<ReturnType<typeof open>>,
      found: NonNullable<Awaited<ReturnType<typeof locate>>>,
    ) => Promise<T>,
  ): Promise<T> {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
    writeFileSync(inside, "harmless");
    const kind = outside.endsWith(".txt") ? "file" : "directory";
    const stats = await lstat(outside, { bigint: true }); // by way of the link
    const handle = await open(outside, constants.O_RDONLY);
    try {
      return await look(handle, { kind, path: within, stats });
    } finally {
      await handle.close();
    }
  }

  test("is not taken for what was opened", async () => {
    const taken = await raced(join(OUTSIDE, "secret.txt"), inside, (handle, found) => {
      return isWhatWasFound(handle, found);
    });
    assert.equal(taken, false);
    assert.equal(await raced(OUTSIDE, path, isWhatWasFound), false);
    const found = await locate(root, ["raced", "secret.txt"]);
    const handle = await open(inside, constants.O_RDONLY);
    assert.equal(await isWhatWasFound(handle, found!), true);
    await handle.close();
  });

  test("nor where the system does not say what is open", async () => {
    const unknown = () => Promise.resolve(undefined);
    const taken = await raced(join(OUTSIDE, "secret.txt"), inside, (handle, found) => {
      return isWhatWasFound(handle, found, unknown);
    });
    assert.equal(taken, false);
    const found = await locate(root, ["raced", "secret.txt"]);
    const handle = await open(inside, constants.O_RDONLY);
    assert.equal(await isWhatWasFound(handle, found!, unknown), true);
    await handle.close();
  });

  test("gives the entries of what was opened, not of what came to its path", async () => {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
    writeFileSync(inside, "harmless");
    const directory = await openDirectory((await locate(root, ["raced"]))!);
    renameSync(path, `${path}-away`);
    symlinkSync("/etc", path);
    const names: string[] = [];
    for await (const { name } of directory!.entries) names.push(name);
    await directory!.close();
    assert.deepEqual(names, ["secret.txt"]);
    rmSync(path);
    rmSync(`${path}-away`, { recursive: true });
    assert.deepEqual(openFiles(), []);
  });

  test("lets no secret out while another process swaps it as fast as it can", async () => {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
    writeFileSync(inside, "harmless");
    const swapper = startScript(`
      import { existsSync, mkdirSync, renameSync, symlinkSync } from "node:fs";
      const [path, outside] = ${JSON.stringify([path, OUTSIDE])};
      symlinkSync(outside, path + "-link");
      console.log("swapping");
      setTimeout(() => process.exit(0), 1_500);
      (function swap() {
        for (let i = 0; i < 1_000; i++) {
          renameSync(path, path + "-real");
          renameSync(path + "-link", path);
          renameSync(path, path + "-link");
          renameSync(path + "-real", path);
        }
        setImmediate(swap);
      })();
    `);
    let over = false;
    const done = swapper.done.then(() => over = true);
    const handler = serveFiles(root, { listing: true });
    const seen = new Set<string>();
    while (!over) {
      const answers = Array.from({ length: 8 }, async () => {
        const response = await handler(new Request("http://host/raced/secret.txt"));
        seen.add(`${response.status} ${(await response.text()).trim()}`);
      });
      await Promise.all(answers);
    }
    await done;
    rmSync(`${path}-link`, { force: true });
    assert.ok(seen.has("200 harmless"), [...seen].join());
    seen.delete("200 harmless");
    seen.delete("404 Not found");
    assert.deepEqual([...seen], []);
  }, 30_000);
});

describe("serveFiles() and private keys", () => {
  const PEM = ["-----BEGIN EC PRIVATE KEY-----", "QUJD", "-----END EC PRIVATE KEY-----", ""].join(
    "\n",
  );
  const keys: Record<string, string> = {
    "server.key": "DER",
    "SERVER.KEY": "DER",
    "server.key.gz": "compressed",
    "store.p12": "DER",
    "store.pfx": "DER",
    "store.PFX": "DER",
    "server.pem": PEM,
    "bundle.crt": `${"certificate\n".repeat(10_000)}${PEM}`,
    "openssh": PEM.replaceAll("EC", "OPENSSH"),
    "encrypted.bak": PEM.replaceAll("EC", "ENCRYPTED"),
    "pkcs8.txt": PEM.replaceAll("EC ", ""),
    "nul.pem": `${PEM}\0`,
  };
  const others: Record<string, string> = {
    "ca.pem": "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n",
    "public.pem": "-----BEGIN PUBLIC KEY-----\nQUJD\n-----END PUBLIC KEY-----\n",
    "about-keys.html": `<pre>${PEM}</pre>`,
    "monkey": "no key",
  };
  const folder = join(root, "keys");
  const listed = async (options?: ServeFilesOptions) => {
    const { text } = await body("/keys/", {}, { listing: true, index: undefined, ...options });
    return [...text.matchAll(/<li>.*>(.*)<\/a>/g)].map(([, name]) => name).slice(1).sort();
  };

  beforeAll(() => {
    mkdirSync(folder);
    for (const [name, content] of Object.entries({ ...keys, ...others })) {
      writeFileSync(join(folder, name), content);
    }
    symlinkSync("server.key", join(folder, "harmless.html"));
    symlinkSync("server.pem", join(folder, "harmless.css"));
    writeFileSync(join(folder, "pkcs8.txt.gz"), "a sibling");
  });

  test("keeps them to itself, whatever they are called", async () => {
    const links = ["harmless.html", "harmless.css"];
    for (const name of [...Object.keys(keys), ...links]) {
      for (const headers of [{}, { range: "bytes=0-3" }, { "accept-encoding": "gzip" }]) {
        const { status, text } = await body(`/keys/${name}`, headers);
        assert.deepEqual([status, text], [404, "Not found\n"], name);
      }
    }
    const fallback = await body("/nowhere", { accept: "text/html" }, {
      fallback: "keys/server.key",
    });
    assert.equal(fallback.status, 404);
    assert.equal((await get("/keys/", {}, { index: "server.pem" })).status, 404);
    assert.deepEqual(openFiles(), []);
  });

  test("looks again at a file that has changed", async () => {
    const turns = join(root, "turns.txt");
    const handler = serveFiles(root, { listing: true, index: undefined });
    const seen = async () => {
      const [file, list] = await Promise.all(
        ["/turns.txt", "/"].map((path) => handler(new Request(`http://host${path}`))),
      );
      await file!.body?.cancel();
      return [file!.status, (await list!.text()).includes("turns.txt")];
    };
    for (let time = 0; time < 2; time++) assert.deepEqual(await seen(), [200, true]);
    writeFileSync(turns, PEM);
    for (let time = 0; time < 2; time++) assert.deepEqual(await seen(), [404, false]);
    writeFileSync(turns, "harmless");
    assert.deepEqual(await seen(), [200, true]);
  });

  test("serves what only looks like one", async () => {
    for (const [name, content] of Object.entries(others)) {
      assert.equal((await body(`/keys/${name}`)).text, content, name);
    }
  });

  test("does not list them", async () => {
    const gz = "pkcs8.txt.gz"; // by its own name, it is any compressed file
    assert.deepEqual(await listed(), [...Object.keys(others), gz].sort());
  });

  test("serves and lists them with keyFiles", async () => {
    for (const [name, content] of Object.entries(keys)) {
      assert.equal((await body(`/keys/${name}`, {}, { keyFiles: true })).text, content, name);
    }
    assert.equal((await listed({ keyFiles: true })).length, 12 + 4 + 3);
  });
});
