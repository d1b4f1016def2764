/** Tests of the limit of open files: what fits in, and what a burst past it leaves behind. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type net from "node:net";
import process from "node:process";
import { fitSockets, hasSpareFile, openFileLimit } from "../lib/net/open_files.ts";
import { mayLoadLater } from "../lib/runtime/deno_parser.ts";
import { internals } from "../lib/runtime/internals.ts";
import { assertRuntime, PINNED, runtime } from "./runtime.ts";
import {
  certificates,
  type Child,
  connect,
  connectTcp,
  received,
  start,
  until,
} from "./support.ts";

assertRuntime();

describe("fitSockets()", () => {
  const defaults = { maxConnections: 10_000, maxWaiting: 511 };

  test("leaves everything as it is where it fits, or the limit is not known", () => {
    assert.deepEqual(fitSockets({}, defaults, undefined), defaults);
    assert.deepEqual(fitSockets({}, defaults, 20_000), defaults);
    assert.deepEqual(fitSockets({ maxConnections: 7 }, defaults, 20_000), {
      maxConnections: 7,
      maxWaiting: 511,
    });
  });

  test("lowers what was not asked for, and leaves room for other files", () => {
    for (const limit of [256, 1_024, 4_096, 10_500]) {
      const { maxConnections, maxWaiting } = fitSockets({}, defaults, limit);
      assert.ok(maxWaiting >= 1 && maxConnections > 2 * maxWaiting, `${limit}`);
      assert.equal(limit - Math.max(64, Math.floor(limit / 8)), maxConnections + maxWaiting);
    }
    assert.deepEqual(fitSockets({ maxConnections: 180 }, defaults, 256), {
      maxConnections: 180,
      maxWaiting: 12,
    });
    assert.deepEqual(fitSockets({ maxWaiting: 100 }, defaults, 256), {
      maxConnections: 92,
      maxWaiting: 100,
    });
  });

  test("refuses what was asked for and does not fit", () => {
    for (const given of [{ maxConnections: 192 }, { maxWaiting: 192 }]) {
      assert.throws(() => fitSockets(given, defaults, 256), {
        code: "INVALID_CONFIG",
        message: /maxConnections .*backlog .*256 .*ulimit -n/,
      });
    }
    assert.throws(() => fitSockets({}, defaults, 65), { code: "INVALID_CONFIG" });
  });
});

test("openFileLimit() and hasSpareFile() know this process", () => {
  assert.ok(openFileLimit()! >= 256);
  assert.equal(hasSpareFile(), true);
});

/** Runs JavaScript on the same runtime with so many files at the most. */
function startLimited(files: number, script: string): Child {
  const args = runtime === "deno"
    ? ["run", "-A", "--no-check", PINNED, "--ext=ts", "-"]
    : ["run", "-"];
  return start("bash", [
    "-c",
    `ulimit -n ${files}; exec "$0" "$@"`,
    process.execPath,
    ...args,
  ], script);
}

interface LimitedServer extends AsyncDisposable {
  port: number;
  output(): string;
}

/** A server of the given options in such a process; it prints its events. */
async function limited(
  files: number,
  options: string,
  mode: "plain" | "tls",
  more = "",
): Promise<LimitedServer> {
  const { cert, key } = await certificates();
  const tls = mode === "tls" ? { cert, key } : { transportMode: "insecure" };
  const child = startLimited(
    files,
    `
    import { HttpsServer } from ${
      JSON.stringify(new URL("../lib/server.ts", import.meta.url).href)
    };
    import { openSync, closeSync } from "node:fs";
    const server = new HttpsServer(
      { hostname: "127.0.0.1", port: 0, ...${JSON.stringify(tls)}, ...${options} },
      () => new Response("hello"),
    );
    server.addEventListener("error", ({ error, phase }) => console.log("EVENT", error.code, phase));
    try {
      await server.start();
      console.log("PORT", server.address.port);
    } catch (error) {
      console.log("FAILED", error.code, error.message);
    }
    ${more}
  `,
  );
  await until(() => /PORT \d+|FAILED/.test(child.output()), "the server has started", 20_000);
  return {
    port: Number(/PORT (\d+)/.exec(child.output())?.[1]),
    output: child.output,
    async [Symbol.asyncDispose]() {
      child.process.kill("SIGKILL");
      await child.done;
    },
  };
}

const REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/** Asks once; gives the answer as it came, empty when there is none. */
async function ask(port: number, mode: "plain" | "tls"): Promise<string> {
  const socket = await connect({ port, mode });
  const answer = received(socket);
  socket.write(REQUEST);
  const text = (await answer).toString("latin1");
  socket.destroy();
  return text;
}

/** Opens connections that say nothing; those that are cut are opened no more. */
async function burst(port: number, count: number): Promise<net.Socket[]> {
  return await Promise.all(Array.from({ length: count }, () => connectTcp(port)));
}

const TIMEOUT_MS = 40_000; // a process starts, on a machine that may be busy

for (const mode of ["plain", "tls"] as const) {
  test(`a burst past the limit of open files leaves the server serving, ${mode}`, async () => {
    await using server = await limited(256, "{}", mode);
    assert.match(
      server.output(),
      /limits\.maxConnections is 144 instead of 10000.*48 more may wait.* 256 /,
    );
    for (let round = 0; round < 3; round++) {
      const sockets = await burst(server.port, 400);
      for (const socket of sockets) socket.destroy();
    }
    // The server may hear of the burst's end behind the next client.
    let answer = "";
    await until(
      async () => (answer = await ask(server.port, mode).catch(() => "")) !== "",
      "it serves",
      20_000,
    );
    assert.match(answer, /^HTTP\/1\.1 200 /);
    await until(
      () => server.output().includes("EVENT SERVER_FULL accept"),
      "refusals are reported",
    );
    assert.doesNotMatch(server.output(), /TOO_MANY_OPEN_FILES|panicked/);
  }, TIMEOUT_MS);
}

test(
  "when other files have taken all there is, that is reported once, and it serves again",
  async () => {
    await using server = await limited(
      256,
      "{ limits: { maxConnections: 100 } }",
      "plain",
      `
    const files = [];
    const take = () => {
      try {
        for (;;) files.push(openSync("/dev/null", "r"));
      } catch (error) {
        console.log("TAKEN", error.code);
      }
    };
    // Deno ends with a panic where all files are taken before it has run the main module.
    setTimeout(take, 1_000);
    setTimeout(() => {
      console.log("RELEASED");
      for (const file of files) closeSync(file);
    }, 4_000);
  `,
    );
    await until(() => server.output().includes("TAKEN EMFILE"), "all files are taken", 10_000);
    const waiting = ask(server.port, "plain"); // fails to be accepted
    await until(
      () => server.output().includes("EVENT TOO_MANY_OPEN_FILES"),
      "it is reported",
      10_000,
    );
    assert.match(await waiting, /^HTTP\/1\.1 200 /);
    assert.match(await ask(server.port, "plain"), /^HTTP\/1\.1 200 /);
    assert.equal(server.output().match(/TOO_MANY_OPEN_FILES/g)?.length, 1);
    assert.ok(server.output().includes("RELEASED"));
  },
  TIMEOUT_MS,
);

test("a cap that was asked for and does not fit stops the start", async () => {
  await using server = await limited(256, "{ limits: { maxConnections: 250 } }", "plain");
  assert.match(server.output(), /FAILED INVALID_CONFIG Options limits\.maxConnections \(250\)/);
}, TIMEOUT_MS);

test("where nothing can be parsed before, nothing is loaded when files may have run out", () => {
  const isNeeded = runtime === "deno";
  const fails = (): never => {
    throw new Error("There is no such function");
  };
  assert.equal(mayLoadLater(fails), !isNeeded);
  assert.equal(internals()["denoParser"], isNeeded ? "fallback" : "not needed");
  assert.equal(mayLoadLater(), true);
  assert.equal(internals()["denoParser"], isNeeded ? "in force" : "not needed");
});

/** Has a client begin with HTTP/2, the first of the process, and then another one. */
const firstOfHttp2 = (taken: boolean) => `
  const { connect } = await import("node:net");
  const files = [];
  const connected = await Promise.all([1, 2].map(() => new Promise((resolve) => {
    const socket = connect(server.address.port, "127.0.0.1", () => resolve(socket));
  })));
  while (server.sessions.size < 2) await new Promise((resolve) => setTimeout(resolve, 5));
  await new Promise((resolve) => setTimeout(resolve, 1_000)); // see above
  try {
    while (${taken}) files.push(openSync("/dev/null", "r"));
  } catch (error) {
    console.log("TAKEN", error.code);
  }
  for (const socket of connected) {
    await new Promise((resolve) => {
      socket.on("error", () => {});
      socket.on("close", () => resolve(console.log("CUT")));
      socket.on("data", () => resolve(console.log("HEARD")));
      socket.write("PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\x04\\0\\0\\0\\0\\0");
    });
    for (const file of files) closeSync(file);
    files.length = 0;
  }
  console.log("OVER");
`;

test(
  "a client that begins with HTTP/2 when all files are taken ends nothing but itself",
  async () => {
    for (const taken of [false, true]) { // Deno has kept what it has made of the modules when it is
      await using server = await limited(
        256,
        "{ limits: { maxConnections: 100 } }",
        "plain",
        firstOfHttp2(taken),
      );
      await until(() => /OVER|panicked/.test(server.output()), "it is over", 20_000);
      assert.match(server.output(), taken ? /TAKEN EMFILE/ : /PORT/);
      assert.match(server.output(), runtime === "bun" && taken ? /CUT\nHEARD/ : /HEARD\nHEARD/);
    }
  },
  TIMEOUT_MS,
);
