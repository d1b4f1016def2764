/**
 * What comes from the network is read in linear time: every regular expression in lib/ is held to it
 * by its structure, and every parser by long runs.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, test } from "bun:test";
import { readForwarded } from "../lib/edge/forwarded.ts";
import { parseCookies } from "../lib/http/cookies.ts";
import { isAuthority } from "../lib/http/authority.ts";
import { RequestParser, Step } from "../lib/http1/parser.ts";
import { CidrSet } from "../lib/net/cidr.ts";
import { ProxyHeaderReader } from "../lib/net/proxy_protocol.ts";
import { normalizeName, normalizePattern } from "../lib/tls/names.ts";
import { evaluatePreconditions, ifRangeHolds } from "../lib/web/conditional.ts";
import { parseAcceptEncoding, rankCodings, varyByEncoding } from "../lib/web/content_coding.ts";
import { contentTypeOf, isCompressible } from "../lib/web/content_types.ts";
import { parsePath } from "../lib/web/disk.ts";
import { parseHttpDate } from "../lib/web/http_date.ts";
import { selectRanges } from "../lib/web/ranges.ts";
import { negotiateDeflate } from "../lib/websocket/deflate_negotiation.ts";
import { parseExtensions } from "../lib/websocket/extensions.ts";
import { checkUpgrade } from "../lib/websocket/handshake.ts";
import { ambiguityOf } from "./regex_ambiguity.ts";
import { loadX509 } from "../lib/tls/x509.ts";
import { assertRuntime } from "./runtime.ts";
import { findRegexes } from "./source_regexes.ts";
import { countCpu } from "./support.ts";

assertRuntime();

await loadX509(); // its loading is no part of what a field costs

const LIB = fileURLToPath(new URL("../lib/", import.meta.url));
const SOURCES = (readdirSync(LIB, { recursive: true }) as string[])
  .filter((name) => name.endsWith(".ts"))
  .map((name) => ({ name, text: readFileSync(LIB + name, "utf8") }));

describe("The structure of a regular expression", () => {
  const known: [RegExp, ReturnType<typeof ambiguityOf>][] = [
    [/(a+)+$/, "exponential"],
    [/(a*)*$/, "exponential"],
    [/(?:a|a)*$/, "exponential"],
    [/^(?:\d+\.?)*$/, "exponential"],
    [/^(?:x{1,3}){2,}y$/, "exponential"],
    [/"(?:[^"]|\\.)*"/y, "exponential"],
    [/\s+$/, "quadratic"],
    [/^a*a*$/, "quadratic"],
    [/^a*b?a*$/i, "quadratic"],
    [/[ \t]*,[ \t]*/, "quadratic"],
    [/a+b/, "quadratic"],
    [/"(?:[^"\\]|\\.)*"/, "quadratic"],
    [/^BEGIN\s+([A-Za-z=\s]+)END\s*$/, "quadratic"],
    [/^ *x/m, "quadratic"],
    [/^a +(\d+)/m, undefined],
    [/a+b/y, undefined],
    [/a+/, undefined],
    [/^a+b+$/, undefined],
    [/\.[^.]+$/, undefined],
    [/^(?:\.\d+)*$/, undefined],
    [/"[^"]*"/, undefined],
    [/"(?:[^"\\]|\\.)*"/y, undefined],
    [/^[a-z]{1,63}(?:\.[a-z]{1,63})*$/, undefined],
  ];
  for (const [regex, expected] of known) {
    test(`shows that ${regex} is ${expected ?? "linear"}`, () => {
      assert.equal(ambiguityOf(regex), expected);
    });
  }

  const found = SOURCES.map(({ name, text }) => ({ name, regexes: findRegexes(text) }));
  for (const { name, regexes } of found) {
    if (regexes.length === 0) continue;
    test(`is linear for every one in lib/${name}`, () => {
      for (const { regex, line } of regexes) {
        assert.equal(ambiguityOf(regex), undefined, `lib/${name}:${line} ${regex}`);
      }
    });
  }

  test("is linear for more than 70 in lib/: the search for them works", () => {
    const count = found.reduce((sum, { regexes }) => sum + regexes.length, 0);
    assert.ok(count > 70, `${count} were found`);
  });

  test("is linear for those that are put together too", () => {
    const composed = SOURCES.filter(({ text }) => text.includes("RegExp(")).map(({ name }) => name);
    assert.deepEqual(composed.sort(), ["web/content_types.ts", "web/http_date.ts"]);
    const made: RegExp[] = [];
    const { exec, test: tests } = RegExp.prototype;
    try {
      RegExp.prototype.exec = function (text) {
        made.push(this);
        return exec.call(this, text);
      };
      RegExp.prototype.test = function (text) {
        made.push(this);
        return tests.call(this, text);
      };
      isCompressible("x");
      parseHttpDate("x");
    } finally {
      Object.assign(RegExp.prototype, { exec, test: tests });
    }
    const regexes = new Set(made);
    assert.ok(regexes.size >= 4);
    for (const regex of regexes) assert.equal(ambiguityOf(regex), undefined, String(regex));
  });
});

const ENTITY = { etag: '"x"', lastModified: 0, settled: true };

function parsed(text: string): void {
  const parser = new RequestParser({
    maxUriBytes: Infinity,
    maxHeaderBytes: Infinity,
    maxHeaderFields: 1e6,
    maxBodyBytes: Infinity,
    maxChunkExtBytes: Infinity,
    maxTrailerBytes: Infinity,
  });
  parser.push(new TextEncoder().encode(text));
  for (let step = parser.next(); step !== Step.Need && step !== Step.Fail;) step = parser.next();
}

const HEAD = "POST / HTTP/1.1\r\nHost: a\r\n";

/** Everything that reads text which a client has chosen. */
const PARSERS: Readonly<Record<string, (text: string) => unknown>> = {
  "X-Forwarded-Client-Cert": (text) => field("x-forwarded-client-cert", text),
  "X-Forwarded-Client-Cert, a certificate": (text) =>
    field("x-forwarded-client-cert", `Cert="-----BEGIN CERTIFICATE-----${text}"`),
  "X-Forwarded-Client-Cert, escaped": (text) =>
    field("x-forwarded-client-cert", `Cert="${encodeURIComponent(text)}`),
  "Client-Cert": (text) => field("client-cert", `:${text}:`),
  "Cookie": (text) => parseCookies([text]),
  "Host": isAuthority,
  "Accept-Encoding": (text) => rankCodings(parseAcceptEncoding(text), ["gzip", "br"]),
  "Vary": (text) => varyByEncoding(headersWith("vary", text)),
  "Range": (text) => selectRanges(`bytes=${text}`, 1e9, 1e9),
  "Range unit": (text) => selectRanges(`bytes${text}`, 1e9, 16),
  "If-None-Match": (text) =>
    evaluatePreconditions(headersWith("if-none-match", text), ENTITY as never),
  "If-Range": (text) => ifRangeHolds(text, ENTITY as never),
  "If-Modified-Since": parseHttpDate,
  "Content-Type": isCompressible,
  "a file's path": (text) => parsePath(`/${text}`, []),
  "a file's name": contentTypeOf,
  "an address": (text) => new CidrSet(["::1"]).has(text),
  "SNI": normalizeName,
  "a certificate's name": normalizePattern,
  "Sec-WebSocket-Extensions": (text) => negotiateDeflate(parseExtensions([text]) ?? []),
  "a WebSocket handshake": (text) => {
    const names = ["connection", "upgrade", "sec-websocket-protocol", "sec-websocket-key"];
    for (const name of names) {
      const all: Record<string, string> = {
        host: "a",
        upgrade: "websocket",
        connection: "upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
        [name]: text,
      };
      const get = (key: string) => all[key];
      const getAll = (key: string) => all[key] === undefined ? [] : [all[key]];
      checkUpgrade({ method: "GET", version: "1.1", get, getAll });
    }
  },
  "PROXY": (text) => new ProxyHeaderReader().push(new TextEncoder().encode(`PROXY ${text}`)),
  "a request line": (text) => parsed(`GET /${text} HTTP/1.1\r\nHost: a\r\n\r\n`),
  "an absolute target": (text) => parsed(`GET http://${text} HTTP/1.1\r\nHost: a\r\n\r\n`),
  "a field": (text) => parsed(`${HEAD}X:${text}\r\n\r\n`),
  "many fields": (text) => parsed(`${HEAD}${"X:\r\n".repeat(text.length / 4)}\r\n`),
  "Connection": (text) => parsed(`${HEAD}Connection: ${text}\r\n\r\n`),
  "Content-Length": (text) => parsed(`${HEAD}Content-Length: ${text}\r\n\r\n`),
  "Transfer-Encoding": (text) => parsed(`${HEAD}Transfer-Encoding: a${text}\r\n\r\n`),
  "Transfer-Encoding, a list": (text) => parsed(`${HEAD}Transfer-Encoding: a,${text}b\r\n\r\n`),
  "Expect": (text) => parsed(`${HEAD}Expect: ${text}\r\n\r\n`),
  "chunks": (text) => parsed(`${HEAD}Transfer-Encoding: chunked\r\n\r\n1;${text}\r\n`),
  "trailers": (text) => parsed(`${HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\nX:${text}\r\n\r\n`),
};

function headersWith(name: string, value: string): Headers {
  return new Headers([[name, value]]);
}

/** Only the part before the first `await` is looked at, which is all but a digest. */
function field(name: "client-cert" | "x-forwarded-client-cert", value: string): void {
  const headers = { get: () => value } as unknown as Headers;
  void readForwarded(headers, name);
}

const PUMPS = [
  ..." \t,;:=\"'\\/.-_+*%&?#@!~()[]{}<>|^$0a1AéG\0",
  ", ",
  "; ",
  ' "',
  '\\"',
  "a ",
  " a",
  "a=",
  "a=;",
  "a,",
  "a;",
  ".a",
  "1.",
  "1,",
  "0-,",
  '"a",',
  'W/"',
  '="',
  "%20",
  "%2e",
  "../",
  "a=a;",
  "q=0,",
  "xn--",
];

const SHORT = 8 * 1024;
const LONG = 128 * 1024;

describe("A long run", () => {
  for (const [name, parse] of Object.entries(PARSERS)) {
    test(`is read in linear time: ${name}`, () => {
      for (const pump of PUMPS) {
        for (const end of ["", "\x01"]) {
          const text = (length: number) => pump.repeat(Math.ceil(length / pump.length)) + end;
          const [short, long] = [text(SHORT), text(LONG)];
          assertLinear(() => tried(parse, short), () => tried(parse, long), JSON.stringify(pump));
        }
      }
    }, 60_000);
  }
});

function tried(parse: (text: string) => unknown, text: string): void {
  try {
    parse(text);
  } catch {
    // refused, which is an answer
  }
}

/**
 * 16 times as much may take 64 times as long, where quadratic time takes 256 times; and what takes no
 * tenth of a second is not looked at, where it takes many. What the runtime does beside it counts too, so the best of some
 * tries counts.
 */
function assertLinear(short: () => void, long: () => void, what: string): void {
  for (let tries = 1;; tries++) {
    const longMs = cpuOf(long);
    if (longMs < 100) return;
    const shortMs = cpuOf(short);
    if (longMs < 64 * shortMs) return;
    assert.ok(tries < 5, `${what}: ${shortMs} ms, and ${longMs} ms for 16 times as much`);
  }
}

/** How much CPU time `run` takes, in ms. */
function cpuOf(run: () => void): number {
  const cpuMs = countCpu();
  run();
  return cpuMs();
}
