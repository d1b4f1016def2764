/** Where a server listens besides a port of its own: a shared port, a UNIX socket, a descriptor. */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { HttpsServerOptions } from "../lib/config.ts";
import { resolveConfig } from "../lib/config.ts";
import { inheritedSockets } from "../lib/inherited_sockets.ts";
import { HttpsServer } from "../lib/server.ts";
import { GET, MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime, PINNED, runtime } from "./runtime.ts";
import { certificates, received, start, startScript, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const folder = mkdtempSync(join(tmpdir(), "httpsd-listen-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let sockets = 0;
const freshPath = (): string => join(folder, `${++sockets}.sock`);

const PLAIN = { transportMode: "insecure" } as const;
const LIB = JSON.stringify(new URL("../lib/server.ts", import.meta.url).href);

/** A server on a path, which answers with what it knows of its client. */
function onPath(path: string, more: HttpsServerOptions = {}): HttpsServer {
  return new HttpsServer(
    { ...PLAIN, path, ...more },
    (request, { session }) =>
      Response.json([
        request.url,
        session.remoteAddress,
        session.remotePort,
        session.proxy?.family,
      ]),
  );
}

/** What a server on a path answers; `before` is sent first. */
async function askPath(path: string, before = "", request = GET("/x")): Promise<string> {
  const socket = net.connect(path);
  await once(socket, "connect");
  socket.on("error", () => {}); // tests look at what arrived
  socket.write(before + request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
  const answer = (await received(socket)).toString();
  socket.destroy();
  return answer;
}

/** The options that a config refuses. */
const refused = (options: object, message: RegExp): void =>
  assert.throws(() => resolveConfig(options as HttpsServerOptions), {
    code: "INVALID_CONFIG",
    message,
  });

/** Runs a script on the same runtime; its first line of output comes first. */
function runScript(script: string, env: Record<string, string> = {}) {
  const args = runtime === "deno" ? ["eval", PINNED] : ["-e"];
  return spawnSync(process.execPath, [...args, script], {
    encoding: "utf8",
    timeout: 20_000,
    env: { ...process.env, ...env },
  });
}

describe("options", () => {
  test("take one place to listen, and refuse a second", () => {
    refused({ path: "/a", port: 1 }, /Option port is given beside path/);
    refused({ path: "/a", hostname: "::" }, /Option hostname is given beside path/);
    refused({ fd: 3, path: "/a" }, /Option path is given beside fd/);
    refused({ fd: 3, reusePort: true }, /Option reusePort is given beside fd/);
    refused({ pathMode: 0o600 }, /Option pathMode is for the option path/);
    refused({ path: "/a", pathMode: 0o1000 }, /permissions such as 0o660/);
    refused({ path: "a\0b" }, /without null characters/);
    refused({ fd: -1 }, /a file descriptor, 0 to/);
    assert.equal(resolveConfig({ path: "/a", reusePort: false }).path, "/a");
  });

  test("take an IPv6 address with and without brackets", () => {
    for (const hostname of ["[::1]", "::1"]) {
      assert.equal(resolveConfig({ hostname }).hostname, "::1");
    }
  });
});

for (const mode of MODES) {
  test(`an IPv4 client of a dual-stack listener has an IPv4 address, ${mode}`, async () => {
    const host = await started(
      (_, { session }) => Response.json([session.remoteAddress, session.connection.localAddress]),
      { hostname: "::", proxyProtocol: { trustedProxies: ["127.0.0.1"], mode: "optional" } },
      mode,
    );
    const client = await RawClient.connect(host.port, mode);
    client.send(GET("/"));
    await client.until(() => client.text.includes("]"));
    assert.match(client.text, /\["127\.0\.0\.1","127\.0\.0\.1"\]/);
    client.destroy();
    if (mode === "tls") return;
    for (
      const [source, shown] of [["192.0.2.7", "192.0.2.7"], ["::ffff:192.0.2.8", "192.0.2.8"]]
    ) {
      const client = await RawClient.connect(host.port);
      const family = source!.includes(":") ? "TCP6" : "TCP4";
      const to = source!.includes(":") ? "::ffff:127.0.0.1" : "127.0.0.1";
      client.send(`PROXY ${family} ${source} ${to} 1 443\r\n${GET("/")}`);
      await client.until(() => client.text.includes("]"));
      assert.ok(client.text.includes(`["${shown}","127.0.0.1"]`), client.text);
      client.destroy();
    }
  });
}

test("the limit per address counts IPv4 clients of a dual-stack listener by their address", async () => {
  const host = await started(() => new Response(), {
    hostname: "::",
    limits: { maxConnectionsPerAddress: 1 },
  });
  const refusals: (string | undefined)[] = [];
  host.server.addEventListener("error", (event) => void refusals.push(event.remoteAddress));
  const first = await RawClient.connect(host.port);
  first.send(GET("/"));
  await first.until(() => first.text.includes("200 OK"));
  const second = await RawClient.connect(host.port);
  await until(() => refusals.length > 0, "the second is refused");
  assert.deepEqual(refusals, ["127.0.0.1"]);
  for (const client of [first, second]) client.destroy();
});

test("hostname [::1] listens on that address", async () => {
  const host = await started(() => new Response("six"), { hostname: "[::1]" });
  assert.equal(host.server.address.hostname, "::1");
  const socket = net.connect(host.port, "::1");
  await once(socket, "connect");
  socket.write("GET / HTTP/1.0\r\n\r\n");
  assert.match((await received(socket)).toString(), /six$/);
  socket.destroy();
});

describe("reusePort", () => {
  test("lets two servers share a port, which serve both, and no other joins", async () => {
    const served = [0, 0];
    const serve = (index: number, port: number) =>
      started(() => {
        served[index]!++;
        return new Response();
      }, { reusePort: true, port });
    const first = await serve(0, 0);
    const second = await serve(1, first.port);
    const ask = async (): Promise<void> => {
      const client = await RawClient.connect(first.port);
      client.send(GET("/"));
      await client.until(() => client.text.includes("200 OK"));
      client.destroy();
    };
    for (let i = 0; i < 64; i++) await ask();
    assert.equal(served[0]! + served[1]!, 64);
    assert.ok(Math.min(...served) > 8, `${served}`);
    const other = new HttpsServer({ ...PLAIN, hostname: "127.0.0.1", port: first.port });
    await assert.rejects(other.start(), { code: "ADDRESS_IN_USE" });
    await first.server.stop();
    for (let i = 0; i < 8; i++) await ask();
    assert.equal(served[0]! + served[1]!, 72);
    await second.server.stop();
  });
});

describe("path", () => {
  test("serves on a UNIX socket with its permissions, and removes it at the stop", async () => {
    const path = freshPath();
    const server = onPath(path, { pathMode: 0o600 });
    await server.start();
    assert.deepEqual(server.address, { hostname: "", port: 0, path });
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.match(await askPath(path), /\["http:\/\/a\/x","",0,null\]/);
    assert.match(
      await askPath(path, "", "GET /old HTTP/1.0\r\n\r\n"),
      /\["http:\/\/localhost\/old"/,
    );
    await server.stop();
    assert.equal(existsSync(path), false);
    assert.deepEqual(readdirSync(folder).filter((name) => name.startsWith(".")), []);
    await server.start(); // and again
    assert.match(await askPath(path), /200 OK/);
    await server.stop();
  });

  test("believes PROXY headers there only where unix: is trusted", async () => {
    const path = freshPath();
    const header = "PROXY TCP4 192.0.2.9 192.0.2.1 5 443\r\n";
    await using server = onPath(path, { proxyProtocol: { trustedProxies: ["unix:"] } });
    await server.start();
    assert.match(await askPath(path, header), /"192\.0\.2\.9",5,"IPv4"/);
    await server.stop();
    const proxyProtocol = { trustedProxies: ["127.0.0.1"] };
    await using strict = onPath(path, { proxyProtocol });
    strict.addEventListener("error", () => {});
    await strict.start();
    assert.equal(await askPath(path, header), "");
  });

  test("counts its clients, which have no address, by no address", async () => {
    const path = freshPath();
    await using server = onPath(path, { limits: { maxConnectionsPerAddress: 1 } });
    await server.start();
    const held = net.connect(path);
    await once(held, "connect");
    assert.match(await askPath(path), /200 OK/);
    held.destroy();
  });

  test("is not taken from a live server, nor from a file", async () => {
    const path = freshPath();
    await using server = onPath(path);
    await server.start();
    await assert.rejects(onPath(path).start(), { code: "ADDRESS_IN_USE", name: "ListenError" });
    assert.match(await askPath(path), /200 OK/);
    const file = freshPath();
    writeFileSync(file, "precious");
    await assert.rejects(onPath(file).start(), {
      code: "ADDRESS_IN_USE",
      message: /a file is there that is no socket/,
    });
    assert.equal(statSync(file).size, 8);
  });

  test("of a process that was killed is taken over, by one of two that try at a time", async () => {
    const path = freshPath();
    const child = startScript(`
      import { HttpsServer } from ${LIB};
      const server = new HttpsServer({ transportMode: "insecure", path: ${JSON.stringify(path)} });
      server.start().then(() => console.log("READY"));
    `);
    await until(() => child.output().includes("READY"), `it listens: ${child.output()}`, 20_000);
    child.process.kill("SIGKILL");
    await child.done;
    assert.ok(existsSync(path));
    const servers = [onPath(path), onPath(path)];
    const results = await Promise.allSettled(servers.map((server) => server.start()));
    assert.deepEqual(results.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
    assert.match(await askPath(path), /200 OK/);
    await Promise.all(servers.map((server) => server.stop()));
    assert.equal(existsSync(path), false);
  }, 30_000);

  test("that another has taken since is left alone by the stop", async () => {
    const path = freshPath();
    const first = onPath(path);
    await first.start();
    rmSync(path);
    await using second = onPath(path);
    await second.start();
    await first.stop();
    assert.match(await askPath(path), /200 OK/);
  });

  test("that cannot be made is reported in plain words", async () => {
    const missing = join(folder, "no", "folder.sock");
    await assert.rejects(onPath(missing).start(), {
      code: "LISTEN_FAILED",
      message: /no such folder/,
    });
    const long = join(folder, "x".repeat(120));
    await assert.rejects(onPath(long).start(), { code: "LISTEN_FAILED" });
    assert.deepEqual(readdirSync(folder).filter((name) => name.startsWith(".")), []);
  });
});

/** Listens on 127.0.0.1 or a path, and runs what it is given with that socket as descriptor 3. */
const HAND_OVER = `
import os, socket, sys
where = sys.argv[1]
if where.startswith("/"):
    s = socket.socket(socket.AF_UNIX); s.bind(where)
else:
    s = socket.socket(); s.bind(("127.0.0.1", 0)); print("PORT", s.getsockname()[1], flush=True)
s.listen(16)
os.dup2(s.fileno(), 3); os.set_inheritable(3, True)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_FDNAMES"] = "web"
os.execv(sys.argv[2], sys.argv[2:])
`;

describe("fd", () => {
  const script = `
    import { HttpsServer } from ${LIB};
    import { inheritedSockets } from ${
    JSON.stringify(new URL("../lib/inherited_sockets.ts", import.meta.url).href)
  };
    const [socket] = inheritedSockets();
    console.log("NAME", socket.name);
    const server = new HttpsServer({ transportMode: "insecure", fd: socket.fd }, () => new Response("inherited"));
    await server.start();
    console.log("READY", JSON.stringify(server.address));
  `;
  for (const where of ["tcp", "unix"]) {
    test(`serves on a socket that was handed over as systemd does it, ${where}`, async () => {
      const path = freshPath();
      const child = start("python3", [
        ...["-c", HAND_OVER, where === "tcp" ? "tcp" : path, process.execPath],
        ...(runtime === "deno" ? ["eval", PINNED, script] : ["-e", script]),
      ]);
      try {
        await until(() => /READY|rror/.test(child.output()), "it listens", 20_000);
        assert.match(child.output(), /NAME web/);
        const port = Number(/PORT (\d+)/.exec(child.output())?.[1]);
        if (where === "tcp") assert.ok(child.output().includes(`"port":${port}`), child.output());
        else assert.match(child.output(), /READY \{"hostname":"","port":0\}/);
        for (let i = 0; i < 3; i++) {
          if (where === "unix") {
            assert.match(await askPath(path), /inherited/);
            continue;
          }
          const client = await RawClient.connect(port);
          client.send(GET("/"));
          await client.until(() => client.text.includes("inherited"));
          client.destroy();
        }
      } finally {
        child.process.kill("SIGKILL");
        await child.done;
      }
    }, 30_000);
  }

  test("that is no listening socket is refused", async () => {
    const server = new HttpsServer({ ...PLAIN, fd: 99 });
    await assert.rejects(server.start(), {
      code: "LISTEN_FAILED",
      message: /descriptor 99: it is no socket/,
    });
  });

  test("inheritedSockets() takes only what is meant for this process", () => {
    assert.deepEqual(inheritedSockets(), []);
    try {
      Object.assign(process.env, { LISTEN_PID: String(process.pid + 1), LISTEN_FDS: "2" });
      assert.deepEqual(inheritedSockets(), []);
      Object.assign(process.env, { LISTEN_PID: String(process.pid), LISTEN_FDNAMES: "a:b" });
      assert.deepEqual(inheritedSockets(), [{ fd: 3, name: "a" }, { fd: 4, name: "b" }]);
      process.env["LISTEN_FDS"] = "-1";
      assert.throws(inheritedSockets, { code: "INVALID_CONFIG" });
    } finally {
      for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) delete process.env[name];
    }
  });
});

describe("unref()", () => {
  for (const mode of MODES) {
    test(`lets the process end while the server listens, and ref() keeps it, ${mode}`, async () => {
      const { cert, key } = await certificates();
      const options = {
        port: 0,
        hostname: "127.0.0.1",
        ...(mode === "tls" ? { cert, key } : PLAIN),
      };
      const begin = `
        import { HttpsServer } from ${LIB};
        const server = new HttpsServer(${JSON.stringify(options)}, () => new Response());`;
      for (
        const calls of [
          "server.unref(); await server.start();",
          "await server.start(); server.ref().unref(); setTimeout(() => {}, 1200);", // Deno listens anew meanwhile
        ]
      ) {
        const { status, stderr } = runScript(`${begin} ${calls}`);
        assert.equal(status, 0, stderr);
      }
      const kept = spawn(process.execPath, [
        ...(runtime === "deno" ? ["eval", PINNED] : ["-e"]),
        `${begin} server.unref(); await server.start(); server.ref(); console.log("KEPT");`,
      ], { stdio: ["ignore", "pipe", "inherit"] });
      await once(kept.stdout, "data");
      assert.equal(kept.exitCode, null);
      kept.kill("SIGKILL");
    }, 30_000);
  }
});
