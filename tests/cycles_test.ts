/**
 * Connections that come and go leave nothing behind: no descriptor, no timer, no session, no memory.
 * `HTTPSD_CYCLES` is how many there are (default: 1,000; the full run: 10,000), a fifth with TLS.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import process from "node:process";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { GET, type Mode, MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import {
  connectTcp,
  heapMiB,
  openDescriptors,
  residentMiB,
  startScript,
  until,
} from "./support.ts";

assertRuntime();

stopServersAfterAll();

const CYCLES = Number(process.env["HTTPSD_CYCLES"] ?? 1_000);
const AT_A_TIME = 20;

/** How many timers run, of those that were set since this file was loaded. */
const liveTimers = new Set<unknown>();
const { setTimeout: setOnce, setInterval: setEvery, clearTimeout: clear } = globalThis;
Object.assign(globalThis, {
  setTimeout(callback: (...args: unknown[]) => void, ms?: number, ...args: unknown[]) {
    const timer = setOnce(() => {
      liveTimers.delete(timer);
      callback(...args);
    }, ms);
    liveTimers.add(timer);
    return timer;
  },
  setInterval(callback: () => void, ms?: number) {
    const timer = setEvery(callback, ms);
    liveTimers.add(timer);
    return timer;
  },
  clearTimeout: forget,
  clearInterval: forget,
});

function forget(timer: Parameters<typeof clear>[0]): void {
  liveTimers.delete(timer);
  clear(timer);
}

const POST = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";

/** What a client does between its connection and its end. */
const LIVES: ((client: RawClient) => Promise<void>)[] = [
  async (client) => {
    client.send(GET("/") + GET("/"));
    await client.until(() => client.text.split("HTTP/1.1 200").length === 3);
    client.end();
    await client.rest();
  },
  async (client) => {
    client.send(GET("/").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    await client.rest();
  },
  async (client) => {
    client.send(GET("/"));
    await client.expect("200");
    client.socket.resetAndDestroy();
  },
  (client) => Promise.resolve(client.send("GET / HT")),
  (client) => Promise.resolve(client.send(POST + "part")),
  async (client) => {
    client.send(GET("/stream"));
    await client.expect("200");
  },
  async (client) => {
    client.send("BAD\r\n\r\n");
    await client.rest();
  },
  async (client) => {
    client.send(GET("/detached"));
    await client.expect("late");
  },
  async (client) => {
    client.send(POST + "x".repeat(100_000));
    await client.expect("100000");
  },
  () => Promise.resolve(),
];

async function answer(request: HttpdRequest): Promise<void> {
  request.session.setContext(new Uint8Array(1_000), () => {});
  if (request.method === "POST") {
    let length = 0;
    for await (const bytes of request.body) length += bytes.length;
    return request.send(`${length}`);
  }
  if (request.path === "/stream") {
    await request.sendStream(
      new ReadableStream({ pull: (it) => it.enqueue(new Uint8Array(16_384)) }),
    );
  } else if (request.path === "/detached") {
    request.detach();
    void request.server.queueWork(() => request.send("late"));
  } else request.send("x");
}

describe("connections that come and go", () => {
  for (const mode of MODES) {
    test(`leave nothing behind, ${mode}`, async () => {
      const { server, port } = await started(
        undefined,
        { uriMatch: () => true, timeouts: { lingerMs: 100, handshakeMs: 1_000 } },
        mode,
      );
      server.addEventListener("error", () => {}); // clients that leave are no news here
      for (const method of ["GET", "POST"]) server.route({ uri: "/", method, handler: answer });
      const cycles = mode === "tls" ? CYCLES / 5 : CYCLES;
      await cycle(port, mode, cycles / 5); // what is made once is made now
      await until(() => server.sessions.size === 0, "the sessions are over");
      const before = measured();
      await cycle(port, mode, cycles);
      await until(() => server.sessions.size === 0, "the sessions are over");
      await until(() => openDescriptors() <= before.descriptors, "the descriptors are closed");
      await until(() => liveTimers.size <= before.timers + 1, "the timers are cleared"); // ours
      const after = measured();
      if (process.env["HTTPSD_CYCLES"]) console.log(mode, cycles, before, after);
      assert.ok(after.residentMiB - before.residentMiB < 64, `${after.residentMiB} MiB`);
      const clientsMiB = cycles * 1.5 / 1024; // Deno's sockets keep some, in clients only
      assert.ok(after.heapMiB - before.heapMiB < 4 + clientsMiB, `${after.heapMiB} MiB`);
    }, 60_000 + 60 * CYCLES);
  }

  test("a server that was stopped in the middle of things keeps no process alive", async () => {
    const url = (path: string) => new URL(path, import.meta.url).href;
    const child = startScript(`
      const { HttpsServer } = await import(${JSON.stringify(url("../lib/server.ts"))});
      const { connect } = await import("node:net");
      const server = new HttpsServer(
        { transportMode: "insecure", hostname: "127.0.0.1", port: 0, limits: { maxConnections: 3 } },
        () => new Promise(() => {}),
      );
      await server.start();
      const sockets = [1, 2, 3, 4, 5].map(() => connect(server.address.port, "127.0.0.1"));
      for (const socket of sockets) {
        socket.on("error", () => {});
        socket.write("GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n");
      }
      while (server.sessions.size < 3) await new Promise((resolve) => setTimeout(resolve, 5));
      await server.stop({ drainMs: 50 });
      for (const socket of sockets) socket.destroy();
      console.log("over");
    `);
    assert.equal((await child.done).trim(), "over");
  }, 30_000);
});

/** What connections take of the process. */
function measured() {
  return {
    descriptors: openDescriptors(),
    timers: liveTimers.size,
    residentMiB: residentMiB(),
    heapMiB: heapMiB(),
  };
}

/** Lives `count` lives, some at a time. */
async function cycle(port: number, mode: Mode, count: number): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await live(port, mode, next++);
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
}

async function live(port: number, mode: Mode, number: number): Promise<void> {
  if (mode === "tls" && number % 11 === 10) {
    const socket = await connectTcp(port); // leaves before, or in the middle of, its ClientHello
    if (number % 2 === 0) socket.write(Uint8Array.of(0x16, 3, 1, 2));
    socket.destroy();
    return;
  }
  const client = await RawClient.connect(port, mode);
  if (mode === "tls") {
    // Where clients of a Bun process leave before the server, in the same process, has finished the
    // handshake, other handshakes of that process get stuck. In two processes none does.
    client.send(GET("/"));
    await client.expect("\r\n\r\nx");
    client.text = "";
  }
  await LIVES[number % LIVES.length]!(client);
  client.destroy();
}
