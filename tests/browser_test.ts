/**
 * The whole server as a browser uses it, over HTTP/1.1 and over HTTP/2: media, events, uploads,
 * downloads and WebSockets.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { copyFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe } from "bun:test";
import {
  type HttpsServer,
  type HttpsServerOptions,
  type RequestInfo,
  serve,
  type Session,
} from "../mod.ts";
import { upgradeWebSocket } from "../lib/websocket/mod.ts";
import { serveFiles } from "../lib/web/files.ts";
import { serverSentEvents } from "../lib/web/sse.ts";
import { Page, testWithChromium } from "./chromium.ts";
import { assertRuntime } from "./runtime.ts";
import { blocks, certificates, Digest, digestOf, until } from "./support.ts";

assertRuntime();

const MB = 1_000_000;
const DOWNLOAD_BYTES = 50 * MB;

const MEDIA_BYTES = 20 * MB;
const BYTES_PER_SECOND = 44_100 * 2 * 2; // samples, of two channels, of two bytes
const WAV_HEADER_BYTES = 44;

/** Sound without compression (PCM), which browsers play whatever codecs they come with. */
function wav(): Buffer {
  const header = Buffer.alloc(WAV_HEADER_BYTES);
  header.write("RIFF", 0, "latin1");
  header.writeUInt32LE(MEDIA_BYTES - 8, 4);
  header.write("WAVEfmt ", 8, "latin1");
  header.writeUInt32LE(16, 16); // length of what is known of the format
  header.writeUInt16LE(1, 20); // PCM
  header.writeUInt16LE(2, 22); // channels
  header.writeUInt32LE(44_100, 24);
  header.writeUInt32LE(BYTES_PER_SECOND, 28);
  header.writeUInt16LE(4, 32); // bytes per sample of both channels
  header.writeUInt16LE(16, 34); // bits per sample of one
  header.write("data", 36, "latin1");
  header.writeUInt32LE(MEDIA_BYTES - WAV_HEADER_BYTES, 40);
  return Buffer.concat([header, ...blocks(MEDIA_BYTES - WAV_HEADER_BYTES)]);
}

/** An answer with a part of the media. */
interface Part {
  asked: string | null;
  status: number;
  sent: string | null;
}

const directory = mkdtempSync(join(tmpdir(), "httpsd-browser-"));
const files = serveFiles(directory);

/** Each version of HTTP, the option that allows no other, and what a browser calls it. */
const VERSIONS = [
  { name: "HTTP/1.1", options: { http2: false }, protocol: "http/1.1" },
  { name: "HTTP/2", options: { http1: false }, protocol: "h2" },
] as const;

let server: HttpsServer;
/** What the server reported of its sessions; Chromium drops handshakes it finds it does not need. */
const errors: string[] = [];
const parts: Part[] = [];
/** The `Last-Event-ID` of each request for events, and its session. */
const listeners: { lastEventId: string | undefined; session: Session }[] = [];
let listenersLeft = 0;
let downloadsLeft = 0;
/** The sessions of all requests, and of all WebSockets. */
const sessions = new Set<Session>();
const socketSessions = new Set<Session>();

beforeAll(async () => {
  await writeFile(join(directory, "sound.wav"), wav());
  await copyFile(new URL("browser_page.html", import.meta.url), join(directory, "index.html"));
});

afterAll(() => rm(directory, { recursive: true }));

/** Starts the server for a test, which has all its records to itself. */
async function startServer(options: HttpsServerOptions): Promise<void> {
  for (const record of [errors, parts, listeners]) record.length = 0;
  listenersLeft = downloadsLeft = 0;
  sessions.clear();
  socketSessions.clear();
  const { cert, key } = await certificates();
  server = await serve(
    { hostname: "127.0.0.1", port: 0, timeouts: { lingerMs: 500 }, cert, key, ...options },
    answer,
  );
  server.addEventListener("error", ({ error, session }) => {
    if (session !== undefined) errors.push(String(error));
  });
}

function answer(request: Request, { session }: RequestInfo): Response | Promise<Response> {
  sessions.add(session);
  switch (new URL(request.url).pathname) {
    case "/sound.wav":
      return media(request);
    case "/events":
      return events(request, session);
    case "/upload":
      return upload(request);
    case "/form":
      return form(request);
    case "/download":
      return download();
    case "/echo":
      socketSessions.add(session);
      return echo(request);
    default:
      return files(request);
  }
}

async function media(request: Request): Promise<Response> {
  const response = await files(request);
  const { status, headers } = response;
  parts.push({ asked: request.headers.get("range"), status, sent: headers.get("content-range") });
  return response;
}

/** Three events more than the client has seen; only the first stream ends by itself. */
function events(request: Request, session: Session): Response {
  return serverSentEvents(request, async ({ send, signal, lastEventId }) => {
    listeners.push({ lastEventId, session });
    const seen = Number(lastEventId ?? 0);
    for (let id = seen + 1; id <= seen + 3; id++) {
      await send({ id: String(id), event: "count", data: `event ${id}\nof 9`, retry: 50 });
    }
    if (seen === 0) return;
    await once(signal, "abort");
    listenersLeft++;
  });
}

async function upload(request: Request): Promise<Response> {
  const digest = new Digest();
  for await (const chunk of request.body!) digest.add(chunk);
  return Response.json({ size: digest.bytes, sha256: digest.hex() });
}

async function form(request: Request): Promise<Response> {
  const fields = await request.formData();
  const file = fields.get("file") as File;
  const sha256 = digestOf([await file.bytes()]);
  const { name, size } = file; // Bun does not give its type
  return Response.json({ text: fields.get("text"), name, size, sha256 });
}

function download(): Response {
  const source = blocks(DOWNLOAD_BYTES);
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      const { done, value } = source.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: () => void downloadsLeft++,
  });
  return new Response(body, { headers: { "cache-control": "no-store" } });
}

function echo(request: Request): Response {
  const { response, socket } = upgradeWebSocket(request, { protocols: ["echo"], deflate: true });
  socket.onmessage = ({ data }) => socket.send(data);
  return response;
}

/** How a page asks what it was fetched with. */
const NEXT_HOP = `performance.getEntriesByType("navigation")[0].nextHopProtocol`;

/** Registers a test in a page of its own, in which neither the page nor the server may complain. */
type TestInPage = (name: string, body: (page: Page) => Promise<void>) => void;

for (const { name, options, protocol } of VERSIONS) {
  const testInPage: TestInPage = (name, body) =>
    testWithChromium(name, async () => {
      await startServer(options);
      try {
        const { ca } = await certificates();
        await using page = await Page.open(`https://localhost:${server.address.port}/`, ca);
        assert.equal(await page.evaluate(NEXT_HOP), protocol);
        await body(page);
        assert.deepEqual([...page.complaints, ...errors], []);
      } finally {
        await server.stop({ drainMs: 0 });
      }
    });

  describe(`Chromium over ${name}`, () => browserTests(testInPage, protocol));
}

function browserTests(testInPage: TestInPage, protocol: "http/1.1" | "h2"): void {
  testInPage("plays a sound, seeks in it by ranges, and plays to its end", async (page) => {
    const duration = (MEDIA_BYTES - WAV_HEADER_BYTES) / BYTES_PER_SECOND;
    const seekTo = duration - 1;
    const seen = await page.call<{ duration: number; endedAt: number }>(
      "playAndSeek",
      "sound.wav",
      seekTo,
    );
    assert.ok(Math.abs(seen.duration - duration) < 0.01, `It lasts ${seen.duration} s`);
    assert.ok(Math.abs(seen.endedAt - duration) < 0.1, `It ended at ${seen.endedAt} s`);
    const starts: number[] = [];
    for (const { asked, status, sent } of parts) {
      const [, start, end] = /^bytes=(\d+)-(\d*)$/.exec(asked!)!;
      starts.push(Number(start));
      const expected = `bytes ${start}-${end || MEDIA_BYTES - 1}/${MEDIA_BYTES}`;
      assert.deepEqual([status, sent], [206, expected]);
    }
    const soughtByte = WAV_HEADER_BYTES + seekTo * BYTES_PER_SECOND;
    assert.equal(starts[0], 0);
    assert.ok(
      starts.some((start) => start > soughtByte - MB && start <= soughtByte),
      `Parts began at ${starts}, but none shortly before ${soughtByte}`,
    );
  });

  testInPage("takes events in order over streams that end and break", async (page) => {
    await page.call("takeEvents", "events");
    await page.until("events.length === 6");
    listeners.at(-1)!.session.destroy();
    await until(() => page.complaints.length > 0, "The page sees the stream break");
    const broken = protocol === "h2" ? /ERR_CONNECTION_CLOSED/ : /ERR_INCOMPLETE_CHUNKED_ENCODING/;
    assert.match(page.complaints.splice(0).join(), broken);
    await page.until("events.length === 9");
    await page.evaluate("eventSource.close()");
    await until(() => listenersLeft === 2, "The server sees the page leave");
    const expected = [];
    for (let id = 1; id <= 9; id++) expected.push([String(id), `event ${id}\nof 9`]);
    assert.deepEqual(await page.evaluate("events"), expected);
    assert.deepEqual(listeners.map(({ lastEventId }) => lastEventId), [undefined, "3", "6"]);
  });

  testInPage("uploads 50 MB", async (page) => {
    const size = 50 * MB;
    const { sent, received } = await page.call<Upload>("upload", "upload", size);
    assert.deepEqual(received, { size, sha256: sent });
  });

  testInPage("uploads a form with a file of 5 MB", async (page) => {
    const [size, name, text] = [5 * MB, "Größe 😀.bin", `"Größe":\r\n5 MB 😀`];
    const { sent, received } = await page.call<Upload>("uploadForm", "form", size, name, text);
    assert.deepEqual(received, { text, name, size, sha256: sent });
  });

  testInPage("downloads 50 MB piece by piece", async (page) => {
    const seen = await page.call<{ size: number; pieces: number; sha256: string }>(
      "download",
      "download",
    );
    assert.equal(seen.size, DOWNLOAD_BYTES);
    assert.equal(seen.sha256, digestOf(blocks(DOWNLOAD_BYTES)));
    assert.ok(seen.pieces > 10, `It came in ${seen.pieces} pieces`);
  });

  testInPage("leaves a download, and its source is cancelled", async (page) => {
    const taken = await page.call<number>("downloadSome", "download", MB);
    assert.ok(taken >= MB && taken < DOWNLOAD_BYTES, `It took ${taken} bytes`);
    await until(() => downloadsLeft === 1, "The source is cancelled");
  });

  testInPage("is echoed by a WebSocket", async (page) => {
    const texts = ["Hello", "", "Größe 😀", "long ".repeat(20_000)];
    const { sent, received, extensions, ...rest } = await page.call<Echo>(
      "echo",
      "echo",
      texts,
      MB,
    );
    assert.deepEqual(rest, {
      echoed: texts,
      protocol: "echo",
      closed: { code: 3000, reason: "Enough", wasClean: true },
    });
    assert.equal(received, sent);
    assert.match(extensions, /^permessage-deflate/);
    const [ofSocket] = socketSessions;
    assert.equal(ofSocket!.tls!.alpn, protocol);
    // On HTTP/2 it is a stream beside the page's (RFC 8441); on HTTP/1.1 it has its own connection.
    if (protocol === "h2") assert.deepEqual([...sessions], [ofSocket]);
    else assert.ok(sessions.size > 1);
  });
}

/** What the page reports of an upload: the digest of what it sent, and the server's answer. */
interface Upload {
  sent: string;
  received: unknown;
}

/** What the page reports of a WebSocket: the texts that came back, and digests of the bytes. */
interface Echo {
  echoed: string[];
  sent: string;
  received: string;
  extensions: string;
  protocol: string;
  closed: { code: number; reason: string; wasClean: boolean };
}
