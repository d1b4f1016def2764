/** Tests of the hooks around a session's life, and of their order, with TLS and without. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { Socket } from "node:net";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { Session } from "../lib/http/session.ts";
import type { Clock } from "../lib/net/clock.ts";
import { type Mode, MODES, transportOf } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connectTcp, received, turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";
import { clientCa, handshake, sClient, startServer, type TestServer } from "./tls_support.ts";

assertRuntime();

/** Connects in the way of `mode`. */
function open({ port }: TestServer, mode: Mode): Promise<Socket> {
  return mode === "tls" ? handshake(port, "localhost") : connectTcp(port);
}

/** Sends a request and gives all that comes until the server closes. */
async function ask(server: TestServer, mode: Mode): Promise<string> {
  const socket = await open(server, mode);
  const answer = received(socket);
  socket.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  const text = (await answer).toString("latin1");
  socket.destroy();
  return text;
}

/** A server that writes down each hook and event in its order. */
async function startLogged(mode: Mode, options: HttpsServerOptions = {}, clock?: Clock) {
  const log: string[] = [];
  const server = await startServer({
    transportMode: transportOf(mode),
    ...options,
    async openFn(session) {
      log.push("openFn");
      return options.openFn === undefined || await options.openFn(session);
    },
    closeFn(session, error) {
      log.push("closeFn");
      options.closeFn?.(session, error);
    },
    userCallback(change) {
      log.push(`userCallback ${change.state}`);
      options.userCallback?.(change);
    },
  }, clock);
  for (const type of ["connected", "disconnected", "error"] as const) {
    server.server.addEventListener(type, () => log.push(type));
  }
  return { log, ...server, server: server.server, errors: server.errors };
}

const LIFE = [
  "openFn",
  "userCallback create",
  "connected",
  "closeFn",
  "userCallback close",
  "disconnected",
];
const REFUSAL = ["openFn", "error", "userCallback error"];

/** What hears of the hooks in a mode: `userCallback` is for TLS. */
function heard(log: readonly string[], mode: Mode): readonly string[] {
  return mode === "tls" ? log : log.filter((entry) => !entry.startsWith("userCallback"));
}

for (const mode of MODES) {
  describe(`Hooks, ${mode}`, () => {
    test("come in the original's order, close behind open", async () => {
      const server = await startLogged(mode);
      for (let i = 0; i < 2; i++) {
        assert.match(await ask(server, mode), /^HTTP\/1\.1 200 /);
        await until(() => server.server.sessions.size === 0, "The session is over");
      }
      await server.server.stop();
      assert.deepEqual(server.log, heard([...LIFE, ...LIFE], mode));
    });

    test("come in the same order when the server ends the session", async () => {
      const server = await startLogged(mode);
      const socket = await open(server, mode);
      await until(() => server.server.sessions.size === 1, "The session is open");
      await server.server.stop();
      socket.destroy();
      assert.deepEqual(server.log, heard(LIFE, mode));
    });

    const refusals: Record<string, NonNullable<HttpsServerOptions["openFn"]>> = {
      "answers false": () => false,
      "answers a promise of false": () => Promise.resolve(false),
      "throws": () => {
        throw new Error("Not you");
      },
      "rejects": () => Promise.reject(new Error("Not you")),
      "never answers": () => new Promise(() => {}),
      "destroys the session": (session) => {
        session.destroy();
        return true;
      },
      "answers nothing": (() => {}) as () => never,
      "answers what is truthy": () => 1 as unknown as boolean,
      "answers a promise of nothing": () => Promise.resolve() as unknown as Promise<boolean>,
    };
    for (const [how, openFn] of Object.entries(refusals)) {
      test(`lets no session in when openFn ${how}`, async () => {
        const clock = new TestClock();
        const server = await startLogged(mode, { openFn }, clock);
        const answer = ask(server, mode);
        await until(() => server.log.includes("openFn"), "The hook is called");
        if (how === "never answers") await clock.until(() => server.errors.length > 0, "It is cut");
        assert.equal(await answer, "");
        await server.server.stop();
        // What openFn itself has cut it has let in nevertheless: closeFn may have to clean up.
        const tidied = how === "destroys the session" ? ["closeFn"] : [];
        assert.deepEqual(server.log, heard([...REFUSAL, ...tidied], mode));
        assert.equal(server.requests, 0);
        const { error, session } = server.errors[0]!;
        assert.match(error.code, /^CONNECTION_(REFUSED|TIMEOUT|ABORTED)$/);
        assert.equal(session?.remoteAddress, "127.0.0.1");
        if (how === "throws" || how === "rejects") assert.match(String(error.cause), /Not you/);
      });
    }

    test("give openFn no longer when the client sends much meanwhile", async () => {
      const clock = new TestClock();
      const server = await startLogged(mode, { openFn: () => new Promise(() => {}) }, clock);
      const socket = await open(server, mode);
      socket.on("error", () => {}); // it is cut while it sends
      socket.write(new Uint8Array(1_000_000)); // more than a connection queues
      await until(() => server.log.includes("openFn"), "The hook is called");
      await clock.until(() => server.errors.length > 0, "The deadline of the hooks has passed");
      assert.equal(server.errors[0]!.error.code, "CONNECTION_TIMEOUT");
      socket.destroy();
      await server.server.stop();
    });

    test("that never answer are not waited for once their session is over", async () => {
      const clock = new TestClock();
      const server = await startLogged(mode, { openFn: () => new Promise(() => {}) }, clock);
      const socket = await open(server, mode);
      socket.on("error", () => {}); // it is cut
      await until(() => server.log.includes("openFn"), "The hook is called");
      const { states } = server.server.stats().connections;
      assert.equal(states.opening, 1);
      await clock.until(() => server.errors.length > 0, "The deadline of the hooks has passed");
      assert.equal(server.server.stats().connections.states.opening, 0);
      socket.destroy();
      await server.server.stop({ newcomersMs: 1, drainMs: 60_000 }); // which waits for sessions to come
    });

    test("keep what the client sends while openFn takes its time", async () => {
      const server = await startLogged(mode, {
        openFn: () => turns().then(() => true), // the request has come then
      });
      assert.match(await ask(server, mode), /^HTTP\/1\.1 200 /);
      await server.server.stop();
      assert.deepEqual(server.log, heard(LIFE, mode));
    });

    test("close what openFn lets in when the client is gone already", async () => {
      let pending: { session: Session; letIn: () => void } | undefined;
      const server = await startLogged(mode, {
        openFn: (session) =>
          new Promise((resolve) => pending = { session, letIn: () => resolve(true) }),
      });
      const socket = await open(server, mode);
      await until(() => pending !== undefined, "openFn is called");
      const { session: { connection }, letIn } = pending!;
      socket.resetAndDestroy();
      await until(() => connection.closed || connection.peerEnded, "The reset is seen");
      const { closed } = connection; // Deno's TLS takes a reset for an end
      letIn();
      await until(() => server.log.includes("closeFn"), "closeFn is called");
      await server.server.stop();
      assert.deepEqual(server.log, heard(closed ? [...REFUSAL, "closeFn"] : LIFE, mode));
    });

    test("report what they throw, and change nothing by it", async () => {
      const fail = () => {
        throw new Error("Oops");
      };
      const server = await startLogged(mode, { closeFn: fail, userCallback: fail });
      assert.match(await ask(server, mode), /^HTTP\/1\.1 200 /);
      await until(() => server.server.sessions.size === 0, "The session is over");
      await server.server.stop();
      const codes = new Set(server.errors.map(({ error }) => error.code));
      assert.deepEqual([...codes], ["HOOK_FAILED"]);
      assert.equal(server.errors.length, mode === "tls" ? 3 : 1);
    });

    test("may stop the server from within", async () => {
      const server = await startLogged(mode, {
        openFn: () => server.server.stop().then(() => true),
      });
      const socket = await open(server, mode);
      await received(socket);
      await server.server.stop();
      assert.equal(server.server.state, "idle");
      socket.destroy();
    });
  });
}

describe("userCallback", () => {
  test("hears of each failed handshake, where no session hook does", async () => {
    const server = await startLogged("tls", { cacert: clientCa.cert });
    await sClient(server.port);
    await server.server.stop();
    assert.deepEqual(server.log, ["error", "userCallback error"]);
  });

  test("is given session, facts, error, address and tlsUserData", async () => {
    const seen: unknown[] = [];
    const tlsUserData = { tenant: 7 };
    await using server = await startServer({
      ...{ cacert: clientCa.cert, tlsUserData },
      userCallback: (change) => seen.push(change),
    });
    await sClient(server.port);
    const { error, ...rest } = seen[0] as { error: Error & { code: string } };
    assert.equal(error.code, "TLS_CLIENT_CERT_REQUIRED");
    assert.deepEqual(rest, {
      state: "error",
      session: undefined,
      tls: undefined,
      remoteAddress: "127.0.0.1",
      tlsUserData,
    });
  });

  test("may cut the session that begins, of which no event tells then", async () => {
    const server = await startLogged("tls", {
      userCallback: ({ state, session }) => state === "create" && session!.destroy(),
    });
    assert.equal(await ask(server, "tls"), "");
    await until(() => server.log.includes("userCallback close"), "The session is over");
    await server.server.stop();
    assert.deepEqual(server.log, LIFE.filter((entry) => !/connected/.test(entry)));
  });

  test("sees the same session from its beginning to its end", async () => {
    const sessions: (Session | undefined)[] = [];
    const server = await startServer({
      userCallback: ({ session }) => void sessions.push(session),
    });
    await sClient(server.port);
    await server.server.stop();
    assert.equal(sessions.length, 2);
    assert.equal(sessions[0], sessions[1]);
    assert.equal(sessions[1]?.tls?.sni, "localhost"); // still readable when all is over
  });
});
