/** Bodies of fetch handlers both ways, clients that leave meanwhile, and the memory that they take. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import process from "node:process";
import type { HttpsdError } from "../lib/errors.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { streamOf } from "./fetch_support.ts";
import { GET, type Mode, MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { leaver } from "./response_support.ts";
import { blocks, digestOf, engineOf, residentMiB, turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";

assertRuntime();
stopServersAfterAll();

const POST = "POST / HTTP/1.1\r\nHost: a\r\n";

describe("a client that goes away", () => {
  /** A client, and how it goes away. */
  type Leaving = (port: number, mode: Mode) => Promise<[client: RawClient, go: () => void]>;

  const goodbyes: Record<string, Leaving> = {
    async "with FIN"(port, mode) {
      const client = await RawClient.connect(port, mode);
      return [client, () => client.end()];
    },
    async "with a reset"(port, mode) {
      const { client, reset } = await leaver(port, mode);
      return [client, reset];
    },
  };
  for (const mode of MODES) {
    for (const [how, leaving] of Object.entries(goodbyes)) {
      test(`${how} aborts request.signal and cancels the response's body, ${mode}`, async () => {
        const { promise: cancelled, resolve: cancel } = Promise.withResolvers<unknown>();
        const { promise: aborted, resolve: abort } = Promise.withResolvers<unknown>();
        const { port, errors } = await started(
          (request) => {
            request.signal.addEventListener("abort", () => abort(request.signal.reason));
            return new Response(
              new ReadableStream({
                start: (controller) => controller.enqueue(new Uint8Array(10)),
                cancel,
              }),
            );
          },
          { timeouts: { sendMs: 100 } },
          mode,
        );
        const [client, go] = await leaving(port, mode);
        client.send(GET("/"));
        await client.expect("\r\n\r\na\r\n");
        go();
        const { name, cause } = await aborted as DOMException;
        assert.equal(name, "AbortError");
        assert.match((cause as HttpsdError).code, /^CONNECTION_(CLOSED|RESET)$/);
        assert.match((await cancelled as HttpsdError).code, /^CONNECTION_/);
        assert.deepEqual(errors, []);
      });

      test(`${how} in the middle of a body fails its reader, ${mode}`, async () => {
        const { promise: failed, resolve: fail } = Promise.withResolvers<HttpsdError>();
        const { promise: reading, resolve: read } = Promise.withResolvers<void>();
        const { port } = await started(
          async (request) => {
            const text = request.text();
            read();
            await text.catch(fail);
            return new Response("late");
          },
          {},
          mode,
        );
        const [client, go] = await leaving(port, mode);
        client.send(POST + "Content-Length: 5\r\n\r\nab");
        await reading;
        go();
        // Over TLS a reset may look like an end.
        const codes = how === "with FIN"
          ? /^BODY_INCOMPLETE$/
          : /^(?:BODY_INCOMPLETE|CONNECTION_RESET)$/;
        assert.match((await failed).code, codes);
        client.destroy();
      });

      test(`${how} from a handler that never ends leaves no session behind, ${mode}`, async () => {
        const clock = new TestClock();
        const { port, server } = await started(
          () => new Promise(() => {}),
          {
            timeouts: { sendMs: 100 },
          },
          mode,
          clock,
        );
        const [client, go] = await leaving(port, mode);
        client.send(GET("/"));
        await until(() => [...server.sessions].some(({ busy }) => busy), "the handler runs");
        go();
        await clock.until(() => server.sessions.size === 0, "the session ends");
        client.destroy();
      });
    }
  }

  test("in the middle of a body with a Content-Length is not the handler's error", async () => {
    const { port, server, errors } = await started(() =>
      new Response(streamOf(Array(1000).fill("ab"), 5), { headers: { "Content-Length": "2000" } })
    );
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.expect("abab");
    client.socket.resetAndDestroy();
    await until(() => server.sessions.size === 0, "the session ends");
    await turns();
    assert.deepEqual(errors, []);
  });

  test("after its answer has not gone away: the signal stays quiet", async () => {
    const signals: AbortSignal[] = [];
    const { port, server } = await started((request) => {
      signals.push(request.signal);
      return new Response("x");
    });
    const client = await RawClient.connect(port);
    client.send(GET("/") + POST + "Content-Length: 5\r\n\r\nab");
    await client.expect(/(x[^]*){2}/);
    client.destroy();
    await until(() => server.sessions.size === 0, "the session ends");
    assert.deepEqual(signals.map(({ aborted }) => aborted), [false, false]);
  });
});

describe("bodies both ways", () => {
  test("a handler may answer while it reads", async () => {
    const { port } = await started((request) => new Response(request.body));
    const client = await RawClient.connect(port);
    client.send(POST + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    await client.expect("\r\n2\r\nab\r\n");
    client.send("3\r\ncde\r\n");
    await client.expect("\r\n3\r\ncde\r\n");
    client.send("0\r\n\r\n" + GET("/next"));
    await client.expect(/0\r\n\r\nHTTP\/1.1 200/);
    client.destroy();
  });

  const reads: [when: string, connection: string, before: boolean][] = [
    ["after the answer", "keep-alive", false],
    ["when the answer is written", "keep-alive", true],
    ["after the last answer", "close", false],
    ["when the last answer is written", "close", true],
  ];
  for (const [when, connection, before] of reads) {
    test(`a body that is read ${when} fails with REQUEST_ENDED`, async () => {
      const { promise: failed, resolve: fail } = Promise.withResolvers<HttpsdError>();
      const { promise: answered, resolve: readOn } = Promise.withResolvers<void>();
      if (before) readOn();
      const { port } = await started(async (request) => {
        void answered.then(() => request.text()).catch(fail);
        await turns(2);
        return new Response("x");
      });
      const client = await RawClient.connect(port);
      client.send(`${POST}Connection: ${connection}\r\nContent-Length: 5\r\n\r\nab`);
      await client.expect("\r\n\r\nx");
      readOn();
      assert.equal((await failed).code, "REQUEST_ENDED");
      client.destroy();
    });
  }

  const TOTAL = 100 * 1000 * 1000;

  for (const framing of ["Content-Length", "chunked"]) {
    test(`100 MB up and down over TLS are hash-equal, ${framing}`, async () => {
      const expected = digestOf(blocks(TOTAL));
      const { port } = await started(
        async (request) => {
          if (request.method === "GET") return new Response(down(framing), headersOf(framing));
          const hash = createHash("sha256");
          for await (const piece of request.body!) hash.update(piece);
          return new Response(hash.digest("hex"));
        },
        {},
        "tls",
      );
      const client = await RawClient.connect(port, "tls");
      client.send(
        POST + (framing === "chunked" ? "Transfer-Encoding: chunked" : `Content-Length: ${TOTAL}`) +
          "\r\n\r\n",
      );
      for (const block of blocks(TOTAL)) {
        const piece = framing === "chunked"
          ? Buffer.concat([
            Buffer.from(`${block.length.toString(16)}\r\n`),
            block,
            Buffer.from("\r\n"),
          ])
          : block;
        if (!client.socket.write(piece)) await new Promise((go) => client.socket.once("drain", go));
      }
      if (framing === "chunked") client.send("0\r\n\r\n");
      await client.expect(/[0-9a-f]{64}$/);
      assert.equal(client.text.slice(-64), expected, "up");
      client.destroy();
      assert.equal(await downloadDigest(port, framing), expected, "down");
    }, 60_000);
  }

  function headersOf(framing: string): ResponseInit {
    return framing === "chunked" ? {} : { headers: { "Content-Length": String(TOTAL) } };
  }

  function down(framing: string): ReadableStream<Uint8Array<ArrayBuffer>> {
    const source = blocks(TOTAL);
    return new ReadableStream({
      pull(controller) {
        const { value, done } = source.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    }, { highWaterMark: framing === "chunked" ? 0 : 1 });
  }

  /** The hash of a download's body, read without keeping it. */
  async function downloadDigest(port: number, framing: string): Promise<string> {
    const client = await RawClient.connect(port, "tls");
    const hash = createHash("sha256");
    let text = "";
    let state: "head" | "size" | "data" | "end" | "done" = "head";
    let left = 0;
    const take = (bytes: Buffer): void => {
      let at = 0;
      while (at < bytes.length && state !== "done") {
        if (state === "data") {
          const piece = bytes.subarray(at, at + left);
          hash.update(piece);
          at += piece.length;
          left -= piece.length;
          if (left === 0) state = framing === "chunked" ? "end" : "done";
          continue;
        }
        text += String.fromCharCode(bytes[at++]!);
        if (state === "head" && text.endsWith("\r\n\r\n")) {
          state = framing === "chunked" ? "size" : "data";
          left = TOTAL;
          text = "";
        } else if (state === "size" && text.endsWith("\r\n")) {
          left = parseInt(text, 16);
          state = left === 0 ? "done" : "data";
          text = "";
        } else if (state === "end" && text === "\r\n") {
          state = "size";
          text = "";
        }
      }
    };
    client.socket.removeAllListeners("data");
    const { promise, resolve } = Promise.withResolvers<void>();
    client.socket.on("data", (bytes: Buffer) => {
      take(bytes);
      if (state === "done") resolve();
    });
    client.socket.on("close", () => resolve());
    client.send(GET("/"));
    await promise;
    client.destroy();
    return hash.digest("hex");
  }
});

describe("memory that a client can take", () => {
  const MIB = 2 ** 20;
  const TOTAL = 200 * MIB;
  const MOST_MIB = 8;
  const bytes = new Uint8Array(TOTAL).fill(1);

  /** How much the process has grown since it had `before` MiB, once `value` changes no more. */
  async function grownUntilStill(before: number, value: () => number): Promise<number> {
    for (let last = -1; last !== value();) {
      last = value();
      await turns(100);
    }
    return residentMiB() - before;
  }

  for (const mode of MODES) {
    test(`a handler that does not read takes next to nothing of 200 MiB, ${mode}`, async () => {
      const { port, server } = await started(
        async (request) => {
          if (request.method === "GET") return new Response("x");
          await new Promise(() => {});
          return new Response(await request.text());
        },
        { limits: { maxBodyBytes: Infinity } },
        mode,
      );
      const client = await RawClient.connect(port, mode);
      client.send(GET("/"));
      await client.expect("\r\n\r\nx");
      client.send(POST + `Content-Length: ${TOTAL}\r\n\r\n`);
      const piece = bytes.subarray(0, 64 * 1024);
      let sent = 0;
      const push = (): void => {
        for (let mayGoOn = true; mayGoOn && sent < TOTAL; sent += piece.length) {
          mayGoOn = client.socket.write(piece);
        }
      };
      client.socket.on("drain", push);
      const grown = await grownUntilStill(residentMiB(), () => {
        if (sent === 0) push();
        return sent;
      });
      assert.ok(sent > 0 && sent < TOTAL / 4, `sent ${sent}`);
      const [session] = server.sessions;
      assert.ok(
        engineOf(session!.connection).queuedBytes <= MIB,
        `${engineOf(session!.connection).queuedBytes} queued`,
      );
      assert.ok(grown < MOST_MIB, `grew by ${grown} MiB`);
      client.destroy();
    }, 20_000);

    const answers: [what: string, send: (request: HttpdRequest) => Response | void][] = [
      ["bytes", (request) => request.send(bytes)],
      ["a Response of bytes", () => new Response(bytes)], // which copies them
      ["a Response of a stream", () =>
        new Response(
          new ReadableStream({
            pull: (controller) => controller.enqueue(bytes.slice(0, 256 * 1024)),
          }),
        )],
    ];
    for (const [what, send] of answers) {
      test(`a client that never reads takes next to nothing of ${what}, ${mode}`, async () => {
        const { promise: measured, resolve: measure } = Promise.withResolvers<number>();
        const { port, server } = await started(() => new Response("x".repeat(MIB)), {}, mode);
        server.route({
          uri: "/",
          method: "GET",
          handler(request) {
            const { connection } = request.session;
            const before = residentMiB();
            setTimeout(() => measure(grownUntilStill(before, () => connection.bufferedBytes)), 0);
            return send(request);
          },
        });
        const warm = await RawClient.connect(port, mode);
        warm.send(GET("/warm"));
        await warm.until(() => warm.text.length > MIB);
        warm.destroy();
        const stop = await neverReadingClient(port, mode);
        const grown = await measured;
        const [session] = server.sessions;
        const buffered = session!.connection.bufferedBytes;
        stop();
        assert.ok(buffered > 0 && buffered < MIB, `${buffered} bytes buffered`);
        const copied = what.endsWith("Response of bytes") ? TOTAL / MIB : 0;
        assert.ok(grown < copied + MOST_MIB, `grew by ${grown} MiB`);
      }, 20_000);
    }
  }

  /** Asks for `/` and never reads; over TLS in a process of its own, as Deno's sockets read on. */
  async function neverReadingClient(port: number, mode: Mode): Promise<() => void> {
    if (mode === "plain") {
      const client = await RawClient.connect(port);
      client.socket.pause();
      client.send(GET("/"));
      return () => client.destroy();
    }
    const command = `{ printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'; sleep 15; } |` +
      ` openssl s_client -quiet -connect 127.0.0.1:${port} 2>/dev/null | sleep 15`;
    const child = spawn("sh", ["-c", command], { detached: true, stdio: "ignore" });
    return () => void process.kill(-child.pid!, "SIGKILL");
  }
});
