/** Clients of others that speak HTTP/2: curl, nghttp, h2load, Node's, Deno's and Bun's, undici. */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { createReadStream, createWriteStream, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type Mode, MODES, started, stopServersAfterAll } from "./http_support.ts";
import { testsWith } from "./programs.ts";
import { assertRuntime, PINNED, runtime } from "./runtime.ts";
import { blocks, certificates, Digest, start, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const directory = mkdtempSync(join(tmpdir(), "httpsd-http2-"));
const caFile = join(directory, "ca.pem");
writeFileSync(caFile, (await certificates()).ca);
afterAll(() => rmSync(directory, { recursive: true }));

const testWithCurl = testsWith("curl");
const testWithNghttp = testsWith("nghttp");
const testWithH2load = testsWith("h2load");
const testWithNode = testsWith("node");

const LARGE = 2_000_000;
/** Bytes for uploads, also as a file. */
const upload = Buffer.concat([...blocks(LARGE)]);
const uploadFile = join(directory, "upload");
writeFileSync(uploadFile, upload);
/** A child process on a busy machine takes its time. */
const MS = 30_000;

/** The server that all clients visit. */
interface Site {
  origin: string;
  /** How many requests of `/wait` were aborted. */
  aborted: () => number;
  /** The codes of what was reported. */
  errors: () => string[];
}

async function site(mode: Mode): Promise<Site> {
  let aborted = 0;
  const { server, port, errors } = await started(
    (request, { session }) => {
      switch (new URL(request.url).pathname) {
        case "/connection":
          return Response.json({ session: session.id, alpn: session.tls?.alpn ?? null });
        case "/large":
          return new Response(upload);
        case "/echo":
          return new Response(request.body);
        case "/early-answer":
          return new Response("enough", { status: 413 });
        case "/bye":
          session.close();
          return new Response("bye");
        case "/wait":
          request.signal.addEventListener("abort", () => aborted++);
          return new Response(
            new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array(1)) }),
          );
        default:
          return new Response("hello");
      }
    },
    { limits: { maxHeaderBytes: 32_768 } }, // what nghttp sends with --continuation is long
    mode,
  );
  server.route({
    uri: "/early",
    method: "GET",
    handler(request) {
      request.inform(103, [["Link", "</a.css>; rel=preload"]]);
      request.type("text/plain").send("late");
    },
  });
  server.route({
    uri: "/trailers",
    method: "POST",
    async handler(request) {
      request.type("text/plain");
      for await (const piece of request.body) await request.sendChunk(piece);
      request.end([["X-Got", request.trailers.join()]]);
    },
  });
  server.route({ uri: "/ws", websocket: { onMessage: (ws, message) => ws.send(message) } });
  return {
    origin: `${mode === "tls" ? "https" : "http"}://localhost:${port}`,
    aborted: () => aborted,
    errors: () => errors.map(({ code }) => code),
  };
}

/** Runs a client of tests/clients, and returns what it has seen. */
async function client(command: string[], file: string, ...args: string[]): Promise<unknown> {
  const path = fileURLToPath(new URL(`clients/${file}`, import.meta.url));
  const [program, ...flags] = command;
  const output = await start(program!, [...flags, path, ...args]).done;
  try {
    return JSON.parse(output);
  } catch {
    return assert.fail(`${program} ${file}: ${output}`);
  }
}

/** The runtime that runs the server, as a client. */
const OWN = runtime === "deno" ? [process.execPath, "run", "-A", PINNED] : [process.execPath];

for (const mode of MODES) {
  const secure = mode === "tls";

  describe(`over HTTP/2, ${mode}`, () => {
    const version = secure ? ["--http2", "--cacert", caFile] : ["--http2-prior-knowledge"];
    const curl = (...args: string[]): Promise<string> =>
      start("curl", ["-sS", ...version, "-w", " %{http_version} %{size_download}", ...args]).done;

    testWithCurl("curl gets, downloads and uploads, and keeps its connection", async () => {
      const { origin, errors } = await site(mode);
      assert.equal(await curl(`${origin}/hello`), "hello 2 5");
      assert.match(await curl("-I", `${origin}/hello`), /^HTTP\/2 200[^]* 2 0$/);
      const file = join(directory, `downloaded-${mode}`);
      assert.equal(await curl("-o", file, `${origin}/large`), ` 2 ${LARGE}`);
      const echoed = await curl("-T", uploadFile, `${origin}/echo`);
      assert.ok(Buffer.from(echoed, "latin1").subarray(0, LARGE).equals(upload));
      // With prior knowledge curl 7.88 cannot use a connection again, not that of Node's server either.
      if (secure) {
        const several = await curl("-Z", "--no-progress-meter", `${origin}/connection?[1-20]`);
        const sessions = several.match(/"session":\d+/g)!;
        assert.equal(sessions.length, 20);
        assert.equal(new Set(sessions).size, 1, several);
      }
      assert.deepEqual(errors(), []);
    }, MS);

    testWithCurl("curl sends 100 MB and gets them back at the same time", async () => {
      const { origin, errors } = await site(mode);
      const [sent, got] = [join(directory, `sent-${mode}`), join(directory, `got-${mode}`)];
      const digest = new Digest();
      const file = createWriteStream(sent);
      for (const block of blocks(100_000_000)) {
        digest.add(block);
        if (!file.write(block)) await once(file, "drain");
      }
      file.end();
      await once(file, "finish");
      assert.equal(await curl("-T", sent, "-o", got, `${origin}/echo`), " 2 100000000");
      const received = new Digest();
      for await (const block of createReadStream(got)) received.add(block);
      assert.equal(received.hex(), digest.hex());
      assert.deepEqual(errors(), []);
    }, 2 * MS);

    testWithCurl("curl sees an answer that comes before its upload is over", async () => {
      const { origin, errors } = await site(mode);
      for (const fields of [[], ["-H", "Expect: 100-continue"]]) {
        const answer = await curl(...fields, "-T", uploadFile, `${origin}/early-answer`);
        assert.equal(answer, "enough 2 6");
      }
      assert.deepEqual(errors(), []);
    }, MS);

    testWithCurl("curl is asked to go on with a body, and sees early hints", async () => {
      const { origin } = await site(mode);
      const hints = await curl("-v", `${origin}/early`);
      assert.match(hints, /< HTTP\/2 103 [^]*< link: <\/a.css>; rel=preload[^]*< HTTP\/2 200 /);
      const expects = ["-v", "-H", "Expect: 100-continue", "-T", uploadFile];
      assert.match(
        await curl(...expects, "-o", "/dev/null", `${origin}/echo`),
        /< HTTP\/2 100 [^]*< HTTP\/2 200 /,
      );
    }, MS);

    testWithCurl("curl speaks HTTP/1.1 where it is asked to", async () => {
      const { origin } = await site(mode);
      assert.equal(await curl("--http1.1", "--cacert", caFile, `${origin}/hello`), "hello 1.1 5");
    }, MS);

    testWithNghttp("nghttp gets pages and what belongs to them", async () => {
      const { origin, errors } = await site(mode);
      const urls = ["/hello", "/large", "/early"].map((path) => origin + path);
      const output = await start("nghttp", ["-nvs", ...urls]).done;
      assert.match(output, /:status: 103/);
      assert.equal(output.match(/recv.*:status: 200/g)?.length, 3, output.slice(-2_000));
      assert.doesNotMatch(output, /RST_STREAM|error_code=(?!NO_ERROR)/);
      assert.deepEqual(errors(), []);
    }, MS);

    testWithNghttp("nghttp uploads with padding, trailers and a head in pieces", async () => {
      const { origin, errors } = await site(mode);
      const output = await start("nghttp", [
        ...["-v", "--continuation", "--padding=100", "--expect-continue", "--no-dep"],
        ...["--data", uploadFile, "--trailer", "x-sent: yes", "--null-out"],
        `${origin}/trailers`,
      ]).done;
      // It counts the CONTINUATION behind it too.
      assert.ok(Number(/send HEADERS frame <length=(\d+)/.exec(output)![1]) > 16_384);
      assert.match(output, /send DATA frame[^]*?padlen=[1-9]/);
      assert.match(output, /:status: 100/);
      assert.match(output, /recv.*:status: 200/);
      assert.match(output, /x-got: x-sent,yes/);
      assert.doesNotMatch(output, /RST_STREAM|error_code=(?!NO_ERROR)/);
      assert.deepEqual(errors(), []);
    }, MS);

    testWithH2load("h2load gets a thousand answers on ten connections", async () => {
      const { origin, errors } = await site(mode);
      const args = ["-n", "1000", "-c", "10", "-m", "20", `${origin}/hello`];
      const output = await start("h2load", args).done;
      assert.match(output, /1000 succeeded, 0 failed, 0 errored/);
      assert.deepEqual(errors(), []);
    }, MS);

    testWithH2load("h2load posts and gets long bodies through small windows", async () => {
      const { origin, errors } = await site(mode);
      const output = await start("h2load", [
        ...["-n", "20", "-c", "2", "-m", "10", "-w", "14", "-W", "15", "-d", uploadFile],
        `${origin}/echo`,
      ]).done;
      assert.match(output, /20 succeeded, 0 failed, 0 errored/);
      assert.match(output, new RegExp(`\\(${20 * LARGE}\\) data`));
      assert.deepEqual(errors(), []);
    }, MS);

    for (const [name, command] of [["Node's", ["node"]], ["the runtime's own", OWN]] as const) {
      const register = name === "Node's" ? testWithNode : test;
      register(`${name} node:http2 does all that a session can`, async () => {
        const { origin, aborted, errors } = await site(mode);
        const args = secure ? [caFile] : [];
        const text = { status: 200, type: "text/plain", body: "body" };
        const hello = { status: 200, type: "text/plain;charset=utf-8", length: "5", body: "hello" };
        const seen = await client([...command], "http2_session.mjs", origin, ...args) as {
          [name: string]: { type?: string };
        };
        // Each runtime has its own spelling of UTF-8.
        for (const answer of Object.values(seen)) {
          if (answer?.type !== undefined) answer.type = answer.type.toLowerCase();
        }
        assert.deepEqual(seen, {
          alpn: secure ? "h2" : "h2c",
          streams: 100,
          get: hello,
          head: { ...hello, body: "" },
          many: 100,
          duplex: "onetwothree",
          large: true,
          trailers: { ...text, trailers: { "x-got": "x-sent,yes" } },
          early: { ...text, link: "</a.css>; rel=preload", length: "4", body: "late" },
          continued: { status: 200, continued: true, body: "body" },
          webSocket: { status: 200, echo: "81026869", close: "880203e8" },
          pinged: "12345678",
          bye: { ...hello, length: "3", body: "bye" },
          goaway: 0,
        });
        await until(() => aborted() === 1, "the signal");
        assert.deepEqual(errors(), []);
      }, MS);
    }
  });
}

describe("with TLS alone", () => {
  /** What a client has seen that asks for facts of its connection. */
  interface Facts {
    first: { alpn: string; session: number };
    many: number[];
    echoed: boolean;
  }

  testWithNode("undici fetches, posts and cancels over one connection", async () => {
    const { origin, aborted, errors } = await site("tls");
    const seen = await client(["node"], "undici.mjs", origin, caFile) as Facts & {
      posted: unknown;
    };
    assert.equal(seen.first.alpn, "h2");
    assert.deepEqual([...new Set(seen.many)], [seen.first.session]);
    assert.ok(seen.echoed);
    assert.deepEqual(seen.posted, [200, "text"]);
    await until(() => aborted() === 1, "the signal");
    assert.deepEqual(errors(), []);
  }, MS);

  // Deno's fetch() takes HTTP/2 by itself, Bun's where it is asked to.
  for (const args of [[], ["http2"]]) {
    test(`the runtime's own fetch(), asked for ${args[0] ?? "nothing"}`, async () => {
      const { origin, errors } = await site("tls");
      const seen = await client([...OWN], "fetch.mjs", origin, caFile, ...args) as Facts;
      const isHttp2 = runtime === "deno" || args.length > 0;
      assert.equal(seen.first.alpn, isHttp2 ? "h2" : "http/1.1");
      if (isHttp2) assert.deepEqual([...new Set(seen.many)], [seen.first.session]);
      assert.ok(seen.echoed);
      assert.deepEqual(errors(), []);
    }, MS);
  }
});

describe("without TLS", () => {
  testWithCurl("an upgrade to h2c is ignored", async () => {
    const { origin } = await site("plain");
    const args = ["-sS", "--http2", "-w", " %{http_version}", `${origin}/hello`];
    assert.equal(await start("curl", args).done, "hello 1.1");
  }, MS);
});
