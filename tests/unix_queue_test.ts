/** UNIX sockets that the runtime no longer accepts on, as Deno does once it had no file left. */
import assert from "node:assert/strict";
import { test } from "bun:test";
import { once } from "node:events";
import { mkdtempSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { NodeAcceptor } from "../lib/net/node_acceptor.ts";
import { UnixPath } from "../lib/net/unix_path.ts";
import { UnixQueue } from "../lib/net/unix_queue.ts";
import { assertRuntime, PINNED, runtime } from "./runtime.ts";
import { start, turns, until } from "./support.ts";

assertRuntime();

const SETUP_MS = 20_000;

/** Has a program listen as descriptor 3, on a path. */
const HAND_OVER = `
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(16)
os.dup2(s.fileno(), 3); os.set_inheritable(3, True)
os.execv(sys.argv[2], sys.argv[2:])
`;

/**
 * Listens with so few files, and takes all of them until a client has come and the file `went` is
 * there. Where the acceptor is not told of the lack, it came and went between two checks.
 */
const program = (where: string, went: string, notices: boolean) => `
import { closeSync, existsSync, openSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { NodeAcceptor } from ${
  JSON.stringify(new URL("../lib/net/node_acceptor.ts", import.meta.url).href)
};
const options = { hostname: undefined, port: 0, backlog: 16, tls: false, ${where} };
const host = {
  acceptFailed: () => {}, // Bun says so, Deno does not
  failed: ({ code }) => console.log("FAILED", code),
};
const acceptor = await NodeAcceptor.open(options, undefined, (raw) => {
  raw.on("error", () => {});
  raw.end("hello");
}, host);
setTimeout(async () => { // Deno panics when it has no file before its main module has run
  const files = [];
  try {
    for (;;) files.push(openSync("/dev/null", "r"));
  } catch (error) {
    console.log("TAKEN", error.code);
  }
  while (!existsSync(${JSON.stringify(went)})) await delay(10);
  await delay(100);
  for (const file of files) closeSync(file);
  console.log("RELEASED");
  ${notices ? "acceptor.renew(true);" : ""}
  setInterval(() => acceptor.renew(false), ${notices ? 60_000 : 20});
}, 100);
`;

/** What a server on a path says; empty when the connection is reset. */
function ask(path: string): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = net.connect(path);
    socket.on("data", (bytes) => void (text += bytes));
    socket.on("error", () => {});
    socket.on("close", () => resolve(text));
  });
}

const KINDS = [
  { what: "a UNIX socket", inherited: false, notices: false },
  { what: "a UNIX socket", inherited: false, notices: true },
  { what: "an inherited UNIX socket", inherited: true, notices: false },
];

for (const { what, inherited, notices } of KINDS) {
  const noticed = notices ? "as is noticed" : "unnoticed";
  test(`${what} that fails to accept, ${noticed}, accepts again, or that is reported`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "httpsd-queue-"));
    const path = join(folder, "a.sock");
    const went = join(folder, "went");
    const run = [
      process.execPath,
      ...(runtime === "deno" ? ["run", "-A", "--no-check", PINNED, "--ext=ts", "-"] : ["run", "-"]),
    ];
    const limited = ["-c", 'ulimit -n 256; exec "$0" "$@"'];
    const where = inherited ? "fd: 3" : `path: ${JSON.stringify(path)}`;
    const child = start(
      "bash",
      [...limited, ...(inherited ? ["python3", "-c", HAND_OVER, path, ...run] : run)],
      program(where, went, notices),
    );
    try {
      await until(() => child.output().includes("TAKEN EMFILE"), "it has no files", SETUP_MS);
      const first = ask(path);
      writeFileSync(went, "");
      await until(() => child.output().includes("RELEASED"), "it has files again", SETUP_MS);
      if (inherited && runtime === "deno") {
        await until(() => child.output().includes("FAILED LISTEN_FAILED"), "that is reported");
        assert.equal(child.output().match(/^FAILED/gm)?.length, 1);
      } else {
        await until(async () => await ask(path) === "hello", "it accepts again");
        assert.ok(["hello", ""].includes(await first));
        assert.equal(await ask(path), "hello");
        assert.doesNotMatch(child.output(), /FAILED/);
      }
    } finally {
      child.process.kill("SIGKILL");
      await child.done;
      rmSync(folder, { recursive: true });
    }
  }, SETUP_MS * 2);
}

test("a UNIX socket that is closed while it is opened again leaves no file", async () => {
  const folder = mkdtempSync(join(tmpdir(), "httpsd-queue-"));
  const failures: unknown[] = [];
  const acceptor = await NodeAcceptor.open(
    { hostname: undefined, port: 0, backlog: 16, tls: false, path: join(folder, "a.sock") },
    undefined,
    (raw) => raw.destroy(),
    { acceptFailed: () => {}, failed: (error) => void failures.push(error) },
  );
  try {
    acceptor.renew(true);
    acceptor.close();
    await turns();
    assert.deepEqual(readdirSync(folder), []);
    assert.deepEqual(failures, []);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a UNIX socket is not opened again where another process has taken its path", async () => {
  const folder = mkdtempSync(join(tmpdir(), "httpsd-queue-"));
  const path = new UnixPath(join(folder, "a.sock"), undefined);
  const servers: net.Server[] = [];
  const bind = async (at: string) => {
    const server = net.createServer().listen(at);
    servers.push(server);
    await once(server, "listening");
  };
  try {
    await path.take(bind);
    await path.retake(bind);
    rmSync(path.path);
    await path.retake(bind); // a path that is gone is nobody's
    await bind(join(folder, "b.sock"));
    renameSync(join(folder, "b.sock"), path.path);
    const { ino } = statSync(path.path);
    await assert.rejects(path.retake(bind), { code: "ADDRESS_IN_USE" });
    path.remove();
    assert.equal(statSync(path.path).ino, ino);
    assert.deepEqual(readdirSync(folder), ["a.sock"]);
  } finally {
    for (const server of servers) server.close();
    rmSync(folder, { recursive: true });
  }
});

test("a queue is stuck when connections wait in look after look, and none comes out", async () => {
  const folder = mkdtempSync(join(tmpdir(), "httpsd-queue-"));
  const path = join(folder, "a.sock");
  // A socket that accepts one connection for each line that it reads.
  const child = start("python3", [
    "-u",
    "-c",
    `import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(16); print("READY")
kept = [s.accept() for line in sys.stdin]`,
    path,
  ]);
  const clients: net.Socket[] = [];
  const connect = async () => {
    const client = net.connect(path);
    clients.push(client);
    await until(() => !client.connecting, "it is connected");
  };
  try {
    await until(() => child.output().includes("READY"), "it listens");
    const queue = UnixQueue.boundTo(path);
    const looks = (count: number) => Array.from({ length: count }, () => queue.isStuck(false));
    assert.ok(!looks(10).includes(true), "nothing waits");
    await connect();
    const seen = looks(8);
    assert.ok(seen.includes(true) && seen.indexOf(true) >= 2, `${seen}`);
    assert.deepEqual([1, 2, 3, 4].map(() => queue.isStuck(true)), [false, false, false, false]);
    for (const other of [join(folder, "b.sock"), "a.sock", join("/x", path)]) {
      const another = UnixQueue.boundTo(other);
      assert.ok(!Array.from({ length: 8 }, () => another.isStuck(false)).includes(true), other);
    }
    child.process.stdin!.write("\n");
    await until(() => !Array.from({ length: 8 }, () => queue.isStuck(false)).includes(true), "out");
    assert.ok(!looks(10).includes(true), "one that is accepted does not wait");
    assert.deepEqual([1, 2, 3].map(() => UnixQueue.of(0).isStuck(false)), [false, false, false]);
  } finally {
    for (const client of clients) client.destroy();
    child.process.kill("SIGKILL");
    await child.done;
    rmSync(folder, { recursive: true });
  }
}, SETUP_MS);

test("a queue is not looked at where Deno would ask on the terminal for permission", async () => {
  const folder = mkdtempSync(join(tmpdir(), "httpsd-queue-"));
  const file = join(folder, "look.ts");
  const module = new URL("../lib/net/unix_queue.ts", import.meta.url).href;
  writeFileSync(
    file,
    `import { UnixQueue } from ${JSON.stringify(module)};
for (const queue of [UnixQueue.boundTo("/nowhere"), UnixQueue.of(0)]) queue.isStuck(false);
console.log("LOOKED");`,
  );
  // One text: where Deno sees its own path among the arguments, it grants all permissions.
  const run = `exec '${process.execPath}' run ${runtime === "deno" ? "--no-check" : ""} '${file}'`;
  const terminal = "import pty, sys; pty.spawn(['sh', '-c', sys.argv[1]])";
  const child = start("python3", ["-c", terminal, run]);
  try {
    const isOver = () => /LOOKED|Allow\?/.test(child.output());
    await until(isOver, "it has looked, or asks", SETUP_MS);
    assert.doesNotMatch(child.output(), /requests/);
    child.process.stdin!.end();
    await child.done;
  } finally {
    child.process.kill("SIGKILL");
    await child.done;
    rmSync(folder, { recursive: true });
  }
}, SETUP_MS * 2);
