/**
 * Everything of a runtime that is used without being documented: its trial, its fallback, the list in
 * `server.capabilities.internals`, and docs/internals.md.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { describe, test } from "bun:test";
import net from "node:net";
import process from "node:process";
import type { TLSSocket } from "node:tls";
import { capabilities } from "../lib/runtime/capabilities.ts";
import { declareInternal, internals } from "../lib/runtime/internals.ts";
import { chooseLatin1, latin1, type Latin1Slice, publicLatin1 } from "../lib/runtime/latin1.ts";
import { TlsParent } from "../lib/runtime/tls_parent.ts";
import { SecurityContext } from "../lib/tls/context.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { end, overNodeSockets, startScript, until } from "./support.ts";
import { clientCa, localhost, mallory, sClient, startServer } from "./tls_support.ts";

assertRuntime();

const url = (path: string): string => new URL(path, import.meta.url).href;

test("a trial that meets what the program has put in place of Request and Response harms nothing", async () => {
  const child = startScript(`
    import { serve } from ${JSON.stringify(url("../mod.ts"))};
    const refuse = class { constructor() { throw new Error("not here"); } };
    Object.assign(globalThis, { Request: refuse, Response: refuse });
    const server = await serve({ transportMode: "insecure", hostname: "127.0.0.1", port: 0 }, () => {});
    await new Promise((resolve) => setTimeout(resolve, 10)); // behind the trials, which are due at once
    console.log(JSON.stringify(server.capabilities.internals));
    await server.stop();
  `);
  const shown = JSON.parse(await child.done) as Record<string, string>;
  const which = runtime === "deno"
    ? ["denoRequest", "denoResponse"]
    : ["bunRequest", "bunResponse"];
  assert.deepEqual(which.map((name) => shown[name]), ["fallback", "fallback"]);
});

describe("latin1Slice", () => {
  const slice = (Buffer.prototype as unknown as { latin1Slice: Latin1Slice }).latin1Slice;

  test("is in force here", () => {
    assert.equal(internals()["latin1"], "in force");
    assert.notEqual(latin1, publicLatin1);
  });

  test("gives what the public way gives, for parts of any bytes", () => {
    const quick = chooseLatin1(slice);
    assert.notEqual(quick, publicLatin1);
    let state = 1;
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor(state / 2 ** 32 * below);
    };
    for (let round = 0; round < 2_000; round++) {
      const memory = Uint8Array.from({ length: random(300) }, () => random(256));
      const bytes = memory.subarray(random(memory.length + 1));
      const start = random(bytes.length + 1);
      const end = start + random(bytes.length - start + 1);
      assert.equal(quick(bytes, start, end), publicLatin1(bytes, start, end));
    }
  });

  const wrong: Record<string, Latin1Slice | undefined> = {
    "is gone": undefined,
    "throws": () => {
      throw new TypeError("argument must be a buffer");
    },
    "gives UTF-8": function (start, end) {
      return new TextDecoder().decode(this.subarray(start, end));
    },
    "ignores where the bytes begin": function (start, end) {
      return Buffer.from(this.buffer as ArrayBuffer).toString("latin1", start, end);
    },
    "drops the eighth bit": function (start, end) {
      return String.fromCharCode(...this.subarray(start, end).map((byte) => byte & 127));
    },
    "takes a length for the end": function (start, length) {
      return slice.call(this, start, start + length);
    },
  };
  for (const [what, replacement] of Object.entries(wrong)) {
    test(`is not used where it ${what}`, () => {
      const chosen = chooseLatin1(replacement);
      assert.equal(chosen, publicLatin1);
      assert.equal(chosen(Uint8Array.of(65, 0xe9, 0, 66), 1, 4), "é\0B");
    });
  }
});

describe("TLSSocket._parent", () => {
  test("is in force here, as its trial has shown", async () => {
    const parent = new TlsParent();
    assert.equal(parent.state, "untried");
    await parent.try();
    assert.equal(parent.state, "in force");
    await using _server = await overNodeSockets(() => startServer());
    assert.equal(capabilities.internals["tlsParent"], "in force");
  });

  const wrong: Record<string, (socket: TLSSocket) => never | undefined> = {
    "is gone": () => undefined,
    "throws": () => {
      throw new TypeError("no such thing");
    },
    "is another socket": (socket) => socket as never,
  };
  for (const [what, read] of Object.entries(wrong)) {
    test(`is not used where it ${what}, and handshakes succeed and fail as ever`, async () => {
      const parent = new TlsParent(read);
      await parent.try();
      assert.equal(parent.state, "fallback");
      await assertServes(parent);
    });
  }

  test("is given up when it was right in the trial only", async () => {
    let calls = 0;
    const real = new TlsParent();
    const parent = new TlsParent((socket) => calls++ === 0 ? real.of(socket) : undefined);
    await parent.try();
    assert.equal(parent.state, "in force");
    await using server = await serveContext(await contextWith(parent));
    await sClient(server.port).catch(() => {}); // this one is lost
    assert.equal(parent.state, "fallback");
    const { secured } = server.ended;
    await sClient(server.port);
    assert.equal(server.ended.secured, secured + 1);
  });

  test("a whole server lives without it", async () => {
    const child = startScript(`
      process.env.HTTPSD_WIRE = "node";
      // Not taken away from the runtime itself: Bun's own handshakes need it.
      const { tlsParent } = await import(${JSON.stringify(url("../lib/runtime/tls_parent.ts"))});
      tlsParent.of = () => undefined;
      const { HttpsServer } = await import(${JSON.stringify(url("../mod.ts"))});
      const server = new HttpsServer(
        ${JSON.stringify({ hostname: "127.0.0.1", port: 0, ...localhost })},
        () => new Response("served"),
      );
      server.addEventListener("error", ({ error }) => console.log(error.code));
      await server.start();
      console.log(server.capabilities.internals.tlsParent, server.address.port + ";");
      process.stdin.resume(); // it ends with this test
    `);
    try {
      await until(() => child.output().includes(";"), "The server listens", 20_000);
      const port = Number(/fallback (\d+);/.exec(child.output())?.[1]);
      for (let i = 0; i < 3; i++) assert.equal((await sClient(port)).status, 200);
      await sClient(port, { args: ["-alpn", "nonsense"] });
      await until(() => child.output().includes("TLS_"), "The failure is reported");
      assert.match(child.output(), /\nTLS_NO_ALPN\n$/);
    } finally {
      end(child);
    }
  }, 30_000);
});

describe("What listeners throw within a dispatch", () => {
  const abort = JSON.stringify(url("../lib/contain/abort.ts"));
  interface Outcome {
    states: string[];
    trial: string[];
    failed: string[];
    heard: string[];
    listeners: number;
  }
  /** In a process of its own, since `bun test` takes uncaught exceptions itself. */
  const run = async (before: string): Promise<Outcome> =>
    JSON.parse(
      await startScript(`
        const heard = [];
        for (const name of ["uncaughtException", "uncaughtExceptionMonitor"]) {
          process.on(name, (error) => heard.push(name + " " + error.message));
        }
        globalThis.addEventListener?.("error", (event) => heard.push("event " + event.message));
        ${before}
        const { internals } = await import(${JSON.stringify(url("../lib/runtime/internals.ts"))});
        const { ContainedAbort } = await import(${abort});
        const failed = [];
        const states = [internals().listenerErrors];
        const aborts = [1, 2].map((nth) => new ContainedAbort((cause) => failed.push(nth + cause.message)));
        const listen = (abort, then) =>
          AbortSignal.any([abort.signal]).addEventListener("abort", then);
        const fail = (message) => () => { throw new Error(message); };
        listen(aborts[0], fail("a"));
        listen(aborts[0], () => aborts[1].abort()); // one within the other
        listen(aborts[1], fail("b"));
        listen(aborts[0], fail("c"));
        const first = new ContainedAbort(() => {});
        first.abort();
        states.push(internals().listenerErrors);
        await new Promise((resolve) => setTimeout(resolve, 5)); // whatever comes late is here
        const trial = heard.splice(0);
        aborts[0].abort();
        const listeners = process.listenerCount("uncaughtException");
        console.log(JSON.stringify({ states, trial, failed, heard, listeners }));
        process.exit();`).done,
    );

  const states = runtime === "deno" ? ["not needed", "not needed"] : ["untried", "in force"];

  test("are caught here, signal by signal, and the program does not see the trial", async () => {
    const { heard, ...rest } = await run("");
    assert.deepEqual(rest, { states, trial: [], failed: ["1a", "2b", "1c"], listeners: 1 });
    assert.ok(!heard.some((what) => what.startsWith("uncaughtException ")), heard.join());
  });

  const set = "setUncaughtExceptionCaptureCallback";
  const changed: Record<string, string> = {
    "is gone": `process.${set} = undefined;`,
    "throws": `process.${set} = () => { throw new Error("no"); };`,
    "is ignored": `process.${set} = () => {};`,
    "is called too late": `
      const real = process.${set};
      process.${set} = (capture) =>
        real.call(process, capture && ((cause) => setTimeout(capture, 0, cause)));`,
    "is the program's": `process.${set}((cause) => heard.push("mine " + cause.message));`,
  };
  for (const [what, before] of Object.entries(changed)) {
    const where = `where the callback that captures exceptions ${what}`;
    if (runtime === "deno" && what !== "throws") {
      test(`are caught as ever ${where}`, async () => {
        const { states, trial, failed, listeners } = await run(before);
        assert.deepEqual(states, ["not needed", "not needed"]);
        assert.deepEqual([trial, failed, listeners], [[], ["1a", "2b", "1c"], 1]);
      });
    }
    if (runtime === "bun") {
      test(`go to the process ${where}`, async () => {
        const { states, trial, failed, heard, listeners } = await run(before);
        const mine = what === "is the program's";
        assert.deepEqual(states, ["untried", mine ? "untried" : "fallback"]);
        assert.deepEqual([trial, failed, listeners], [[], [], 1]);
        const name = mine ? "mine" : "uncaughtException";
        assert.deepEqual(
          heard.filter((entry) => entry.startsWith(`${name} `)),
          ["a", "b", "c"].map((message) => `${name} ${message}`),
        );
      });
    }
  }
});

async function contextWith(parent: TlsParent): Promise<SecurityContext> {
  return new SecurityContext({
    identity: await loadIdentity(localhost),
    alpnProtocols: [],
    clientAuth: undefined,
    settings: {
      minVersion: "TLSv1.2",
      maxVersion: "TLSv1.3",
      ciphers: undefined,
      sessionTickets: true,
    },
  }, parent);
}

/** A server that shakes hands by one context and answers whatever comes. */
async function serveContext(context: SecurityContext) {
  const sockets = new Set<net.Socket>();
  const ended = { secured: 0, failed: 0 };
  const server = net.createServer((raw) => {
    sockets.add(raw);
    raw.on("error", () => {});
    context.accept(raw, {
      secured(socket) {
        ended.secured++;
        socket.on("error", () => {});
        socket.on("data", () => socket.end("HTTP/1.1 200 OK\r\n\r\n"));
      },
      failed() {
        ended.failed++;
        raw.destroy();
      },
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  return {
    ended,
    port: (server.address() as net.AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await once(server.close(), "close");
    },
  };
}

async function assertServes(parent: TlsParent): Promise<void> {
  await using server = await serveContext(await contextWith(parent));
  await Promise.all([1, 2, 3].map(() => sClient(server.port)));
  assert.equal(server.ended.secured, 3);
  await sClient(server.port, { args: ["-tls1_1"] }).catch(() => {});
  assert.equal(server.ended.secured, 3);
  assert.equal(server.ended.failed, 1);
}

test(
  "a server whose runtime has changed inside answers as ever, and says what it does without",
  async () => {
    const script = `
    if (globalThis.Bun === undefined) Object.getOwnPropertySymbols = () => [];
    else Bun.inspect = () => String(Math.random());
    const { HttpsServer } = await import(${JSON.stringify(url("../mod.ts"))});
    const server = new HttpsServer(
      { transportMode: "insecure", hostname: "127.0.0.1", port: 0 },
      async (request) =>
        new Response(
          JSON.stringify([
            request.method,
            new URL(request.url).search,
            request.headers.get("x-a"),
            request.signal.aborted,
            await request.text(),
          ]),
          { status: 201, headers: { "X-B": "c", "Content-Type": "d/e" } },
        ),
    );
    await server.start();
    const answer = await fetch("http://127.0.0.1:" + server.address.port + "/?q", {
      method: "PUT",
      headers: { "X-A": "b" },
      body: "body",
    });
    const { denoRequest, denoResponse, bunRequest, bunResponse } = server.capabilities.internals;
    console.log(JSON.stringify([
      globalThis.Bun === undefined ? [denoRequest, denoResponse] : [bunRequest, bunResponse],
      [answer.status, answer.headers.get("x-b")],
      answer.headers.get("content-type"),
      await answer.json(),
    ]));
    await server.stop({ drainMs: 0 });`;
    assert.deepEqual(JSON.parse(await startScript(script).done), [
      ["fallback", "fallback"],
      [201, "c"],
      "d/e",
      ["PUT", "?q", "b", false, "body"],
    ]);
  },
  20_000,
);

describe("The list of internals", () => {
  const folder = new URL("../lib/runtime/", import.meta.url);
  const helpers = [
    "capabilities.ts",
    "current.ts",
    "hot.ts",
    "internals.ts",
    "response_parts.ts",
    "stdout.ts",
    "turn.ts",
  ];
  const files = readdirSync(folder).filter((name) =>
    name.endsWith(".ts") && !helpers.includes(name)
  );
  const names = files.map((file) =>
    /declareInternal\("(\w+)"/.exec(readFileSync(new URL(file, folder), "utf8"))?.[1]
  );
  const page = readFileSync(new URL("../docs/internals.md", import.meta.url), "utf8");

  const owners: Record<string, string> = { readSwitch: "deno", listenerErrors: "bun" };

  test("has every file of lib/runtime, and is in server.capabilities", async () => {
    await using server = await startServer({ cacert: clientCa.cert });
    await sClient(server.port, { client: mallory });
    assert.ok(!names.includes(undefined), files.join());
    assert.deepEqual(Object.keys(server.server.capabilities.internals), names.toSorted());
    for (const [name, state] of Object.entries(capabilities.internals)) {
      // `bun test` takes what listeners throw itself; the processes of the tests above do not.
      if (name === "listenerErrors" && runtime === "bun") continue;
      if (name === "bunSockets" && process.env["HTTPSD_WIRE"] === "node") continue;
      const only = owners[name] ?? /^(?:deno|bun)(?=[A-Z])/.exec(name)?.[0];
      const expected = (only ?? runtime) === runtime ? "in force" : "not needed";
      if (state !== "untried") assert.equal(state, expected, name);
    }
  });

  test("is in docs/internals.md, each with its file", () => {
    for (const [index, file] of files.entries()) {
      assert.ok(page.includes(`| \`${names[index]}\` `), file);
      assert.ok(page.includes(`lib/runtime/${file}`), file);
    }
  });

  test("shows each state as it is now, and cannot be changed", () => {
    const before = internals();
    assert.ok(Object.isFrozen(before));
    let state: "untried" | "fallback" = "untried";
    declareInternal("zzz", () => state);
    assert.equal(internals()["zzz"], "untried");
    state = "fallback";
    assert.equal(internals()["zzz"], "fallback");
  });

  test("has all that is used: nothing undocumented is named elsewhere in lib/", () => {
    const lib = new URL("../lib/", import.meta.url);
    const undocumented =
      /\._(?:handle|parent|writeState|httpMessage|server)\b|latin1Slice|utf8Slice/;
    for (const name of readdirSync(lib, { recursive: true }) as string[]) {
      if (!name.endsWith(".ts") || name.startsWith("runtime/")) continue;
      const text = readFileSync(new URL(name, lib), "utf8");
      assert.ok(!undocumented.test(text), name);
    }
  });
});
