/**
 * The wire cases of the parser against a server on real sockets: what is served, what is refused
 * and how, and that nothing behind a refused request is ever answered.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { type ParserLimits, RequestParser, Step } from "../lib/http1/parser.ts";
import { type HttpCase, loadCases } from "./cases_loader.ts";
import {
  type Mode,
  RawClient,
  readResponses,
  type Started,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();
stopServersAfterAll();

/** Inputs up to this length are sent byte by byte, longer ones in two pieces. */
const MAX_DRIPPED = 600;
/** Over TLS, which changes nothing about HTTP, every so-many-th case is sent. */
const TLS_SAMPLE = 8;
const CLIENTS_AT_A_TIME = 16;

type Way = (client: RawClient, input: Uint8Array) => void | Promise<void>;

const WAYS: Record<string, Way> = {
  "whole": (client, input) => client.send(input),
  async "byte by byte"(client, input) {
    const step = input.length <= MAX_DRIPPED ? 1 : Math.ceil(input.length / 2);
    for (let at = 0; at < input.length && !client.closed; at += step) {
      client.send(input.subarray(at, at + step));
      await setImmediate();
    }
  },
};

/** What a handler was called with. */
interface Seen {
  method: string;
  body: string;
}

/** By both ports of the connection: clients of two servers may share theirs. */
const seen = new Map<string, Seen[]>();
const servers = new Map<string, Promise<Started>>();

function connectionKey(serverPort: number, clientPort: number): string {
  return `${serverPort} ${clientPort}`;
}

function serverFor(limits: Record<string, number>, mode: Mode): Promise<Started> {
  const key = JSON.stringify([limits, mode]);
  let server = servers.get(key);
  if (server === undefined) {
    const options = {
      http2: false, // the cases are HTTP/1.1's, with the preface of HTTP/2 as what it is there
      limits: { ...DEFAULT_LIMITS, ...limits },
      timeouts: { lingerMs: 5_000 },
    };
    server = started(
      async (request, { session }) => {
        const calls = seen.get(connectionKey(session.connection.localPort, session.remotePort))!;
        const body = Buffer.from(await request.arrayBuffer()).toString("latin1");
        calls.push({ method: request.method, body });
        return new Response("served");
      },
      options,
      mode,
    );
    servers.set(key, server);
  }
  return server;
}

const DEFAULT_LIMITS: ParserLimits = {
  maxUriBytes: 8192,
  maxHeaderBytes: 16_384,
  maxHeaderFields: 100,
  maxBodyBytes: Infinity,
  maxChunkExtBytes: 4096,
  maxTrailerBytes: 8192,
};

/** What the server may answer, derived from what the parser makes of the input. */
interface Expected {
  /** The requests that are answered in full. */
  served: { method: string; body: string }[];
  /** The method of a request whose head was right and whose body was not. */
  brokenBodyOf: string | undefined;
  /** Whether what follows the served requests is looked at. */
  reached: boolean;
}

function expect({ input, limits, requests }: HttpCase): Expected {
  const parser = new RequestParser({ ...DEFAULT_LIMITS, ...limits });
  parser.push(input);
  const expected: Expected = { served: [], brokenBodyOf: undefined, reached: true };
  for (;;) {
    switch (parser.next()) {
      case Step.Head:
        expected.brokenBodyOf = parser.head.method;
        break;
      case Step.End: {
        const { method, body } = requests[expected.served.length]!;
        expected.served.push({ method, body });
        expected.brokenBodyOf = undefined;
        if (parser.head.keepAlive) break;
        expected.reached = false;
        return expected;
      }
      case Step.Need:
      case Step.Fail:
        return expected;
    }
  }
}

const REFUSED_METHODS = ["CONNECT", "TRACE"];

async function checkCase(item: HttpCase, way: Way, mode: Mode): Promise<void> {
  const { port } = await serverFor(item.limits, mode);
  const client = await RawClient.connect(port, mode);
  const calls: Seen[] = [];
  seen.set(connectionKey(port, client.socket.localPort!), calls);
  await way(client, item.input);
  if (item.error === undefined) client.end(); // what is refused, the server closes by itself
  const text = await client.rest();
  client.destroy();

  const { served, brokenBodyOf, reached } = expect(item);
  const methods = served.map(({ method }) => method).concat(brokenBodyOf ?? "GET");
  const responses = readResponses(text, methods).filter(({ status }) => status >= 200);
  const statuses = responses.map(({ status }) => status);
  const answers = served.map(({ method }) => REFUSED_METHODS.includes(method) ? 501 : 200);
  assert.deepEqual(statuses.slice(0, served.length), answers);
  const rest = responses.slice(served.length);
  const bodyless = brokenBodyOf === "GET" || brokenBodyOf === "HEAD";
  if (!reached) {
    assert.equal(rest.length, 0, "something behind the last request was answered");
  } else if (item.error !== undefined && bodyless) {
    assert.deepEqual(rest.map(({ status }) => status), [200]); // whose handler asks for no body
  } else if (item.error !== undefined) {
    assert.deepEqual(rest.map(({ status }) => status), [item.error.status]);
    assert.equal(rest[0]?.fields["connection"], "close");
  } else if (brokenBodyOf !== undefined && !bodyless) {
    assert.deepEqual(rest.map(({ status }) => status), [400]); // its body ends with its connection
    assert.equal(rest[0]?.fields["connection"], "close");
  } else {
    assert.ok(rest.length <= (brokenBodyOf === undefined ? 0 : 1), `${rest.length} answers more`);
  }

  const handled = served.filter(({ method }) => !REFUSED_METHODS.includes(method)).map(withoutBody);
  if (bodyless) handled.push({ method: brokenBodyOf, body: "" });
  assert.deepEqual(calls, handled, "what the handler saw");
}

/** A `Request` shows no body of GET and HEAD. */
function withoutBody({ method, body }: Seen): Seen {
  return { method, body: method === "GET" || method === "HEAD" ? "" : body };
}

async function checkCases(cases: HttpCase[], way: Way, mode: Mode): Promise<void> {
  const rest = [...cases];
  await Promise.all(Array.from({ length: CLIENTS_AT_A_TIME }, async () => {
    for (let item = rest.shift(); item !== undefined; item = rest.shift()) {
      await checkCase(item, way, mode).catch((cause) => {
        throw new Error(`Case "${item!.name}" of ${item!.file}`, { cause });
      });
    }
  }));
}

const cases = loadCases();

describe("a server takes the wire cases", () => {
  const files = new Set(cases.map(({ file }) => file));
  for (const [how, way] of Object.entries(WAYS)) {
    for (const file of files) {
      test(`${file}, ${how}`, async () => {
        await checkCases(cases.filter((item) => item.file === file), way, "plain");
      }, 60_000);
    }
    test(`some of all, ${how}, over TLS`, async () => {
      await checkCases(cases.filter((_, i) => i % TLS_SAMPLE === 0), way, "tls");
    }, 60_000);
  }
});
