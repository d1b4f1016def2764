/**
 * Everything of ours that meets foreign bytes, as targets of the fuzzer. A new parser belongs here.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createHash, type Hash, X509Certificate } from "node:crypto";
import { readForwarded } from "../../lib/edge/forwarded.ts";
import { HttpsdError } from "../../lib/errors.ts";
import { parseCookies } from "../../lib/http/cookies.ts";
import { isAuthority } from "../../lib/http/authority.ts";
import { matchWildcard } from "../../lib/httpd/matcher.ts";
import { type ParserLimits, RequestParser, Step } from "../../lib/http1/parser.ts";
import { ProxyHeaderReader } from "../../lib/net/proxy_protocol.ts";
import { ClientHelloReader } from "../../lib/tls/client_hello_reader.ts";
import { normalizeName } from "../../lib/tls/names.ts";
import { evaluatePreconditions, ifRangeHolds } from "../../lib/web/conditional.ts";
import { parseAcceptEncoding, rankCodings } from "../../lib/web/content_coding.ts";
import { serveFiles } from "../../lib/web/files.ts";
import { parseHttpDate } from "../../lib/web/http_date.ts";
import { selectRanges } from "../../lib/web/ranges.ts";
import { decodeEnvelope, encodeEnvelope } from "../../lib/websocket/cluster/envelope.ts";
import { Opcode } from "../../lib/websocket/opcode.ts";
import { parseExtensions } from "../../lib/websocket/extensions.ts";
import { negotiateDeflate } from "../../lib/websocket/deflate_negotiation.ts";
import { checkUpgrade } from "../../lib/websocket/handshake.ts";
import { MessageStep } from "../../lib/websocket/message_reader.ts";
import { loadCases as loadHttpCases } from "../cases_loader.ts";
import { certificates, matchesName } from "../support.ts";
import { inputOf, loadCases as loadWebSocketCases, readerFor } from "../websocket_cases.ts";
import { acmeTargets, chainTarget } from "./acme.ts";
import { frames, priorities } from "./http2_frames.ts";
import { heads, hpack } from "./http2_heads.ts";
import { multipartForms } from "./multipart.ts";
import type { FuzzTarget, Reading, StreamTarget, TextTarget } from "./engine.ts";

const latin1 = (text: string): Buffer => Buffer.from(text, "latin1");
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1");
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Of the data files: members by name. */
// deno-lint-ignore no-explicit-any
const cases = (name: string): any =>
  JSON.parse(readFileSync(new URL(`../cases/${name}.json`, import.meta.url), "utf8"));

/** What a value may be that reaches a handler as a field: no line ends, no white space around it. */
const asFieldValue = (text: string): string => text.replace(/[\0\r\n]/g, "").trim();

// TLS and the PROXY protocol

const JA4 = /^t(?:1[0-3]|s3|s2|00)[di][0-9]{4}[0-9A-Za-z]{2}_[0-9a-f]{12}_[0-9a-f]{12}$/;

const hellos = [...cases("client_hello").captured, ...cases("client_hello").ja4]
  .map(({ hex }: { hex: string }) => Buffer.from(hex, "hex"));

/** The first record cut into records of 100 bytes. */
function fragmented(hello: Buffer): Buffer {
  const content = hello.subarray(5, 5 + hello.readUInt16BE(3));
  const records: Buffer[] = [];
  for (let at = 0; at < content.length; at += 100) {
    const piece = content.subarray(at, at + 100);
    records.push(Buffer.of(0x16, 3, 1, 0, piece.length), piece);
  }
  return Buffer.concat(records);
}

/** What a client of SSL 2.0 begins with. */
const sslHello = Buffer.from("802e0100020015000000100700c0030080", "hex");

const clientHello: StreamTarget = {
  name: "client-hello",
  corpus: [...hellos, ...hellos.map(fragmented), sslHello],
  tokens: [
    "\x16\x03\x01",
    "\x16\x03\x01\x00\x01",
    "\x00\x00",
    "\xff\xff",
    "\x01\x00\x00",
    "GET / ",
  ],
  reaches: [/^need/, /^\{.*"ja4"/, /^TLS_BAD/, /^TLS_NOT_TLS/, /^TLS_VERSION/],
  keptBytes: 160 * 1024, // twice the cap of 64 KiB, as buffers double
  open() {
    const reader = new ClientHelloReader();
    let pushed = 0;
    let said = "need";
    return {
      push(piece) {
        pushed += piece.length;
        const result = reader.push(piece);
        assert.ok(reader.bytes.length <= pushed, "more bytes than came");
        if (result.state === "need") return true;
        if (result.state === "error") {
          assert.ok(result.error instanceof HttpsdError);
          said = `${result.error.code} ${result.error.message}`; // looksLikeHttp is a guess
        } else {
          assert.match(result.hello.ja4, JA4);
          said = JSON.stringify({ ...result.hello });
        }
        return false;
      },
      said: () => said,
    };
  },
};

const proxyHeader: StreamTarget = {
  name: "proxy",
  corpus: [...cases("proxy").done, ...cases("proxy").refused, ...cases("proxy").absent]
    .map(({ hex }: { hex: string }) => Buffer.from(hex, "hex")),
  tokens: [
    "PROXY ",
    "TCP4",
    "TCP6",
    "UNKNOWN",
    "\r\n\r\n\0\r\nQUIT\n",
    "::",
    "1.2.3.4",
    " ",
    "\x20",
  ],
  reaches: [/^need/, /^done .*"version":1/, /^done .*"version":2/, /^PROXY/, /^absent/],
  keptBytes: 8 * 1024,
  open() {
    const reader = new ProxyHeaderReader();
    let behind: Hash | undefined;
    let said = "need";
    return {
      push(piece) {
        if (behind !== undefined) return !!behind.update(piece); // no longer the reader's
        const result = reader.push(piece);
        if (result.state === "need") return true;
        if (result.state === "error") {
          assert.ok(result.error instanceof HttpsdError);
          said = result.error.message;
          return false;
        }
        behind = createHash("sha1").update(result.rest);
        said = result.state;
        if (result.state === "absent") return true;
        const { tlvs, uniqueId, ...plain } = result.header;
        const values = tlvs.map(({ type, value }) => [type, hexOf(value)]);
        said += ` ${JSON.stringify([plain, uniqueId && hexOf(uniqueId), values])}`;
        return true;
      },
      said: () => `${said} ${behind?.copy().digest("hex")}`,
    };
  },
};

// HTTP/1.1

const LIMITS: ParserLimits = {
  maxUriBytes: 300,
  maxHeaderBytes: 600,
  maxHeaderFields: 20,
  maxBodyBytes: 1_000,
  maxChunkExtBytes: 100,
  maxTrailerBytes: 200,
};

/** Reads requests; `before` is a head that was read already. */
function openRequests(before: string): Reading {
  const parser = new RequestParser(LIMITS);
  let said = "";
  let steps = 0;
  let pushed = 0;
  const push = (piece: Uint8Array): boolean => {
    pushed += piece.length;
    parser.push(piece);
    for (let step = parser.next(); step !== Step.Need; step = parser.next()) {
      assert.ok(++steps <= 2 * pushed + 2, "more steps than bytes");
      if (step === Step.Fail) {
        assert.ok(parser.error.status >= 400 && parser.error.status <= 505);
        said += `!${parser.error.status}${parser.error.code}`;
        return false;
      }
      if (step === Step.Data) {
        assert.ok(parser.data.length > 0, "empty data");
        said += textOf(parser.data);
      } else if (step === Step.End) said += `$${parser.trailers}$`;
      else said += sayHead(parser);
      if (said.length > 20_000) said = said.slice(-10_000);
    }
    return true;
  };
  if (before !== "") push(latin1(before));
  return { push, said: () => `${said}.${parser.incomplete}` };
}

function sayHead({ head }: RequestParser): string {
  const fields = Array.from(
    { length: head.fieldCount },
    (_, i) => `${head.fieldName(i)}:${head.fieldValue(i)}`,
  );
  assert.ok(!(head.chunked && head.contentLength !== undefined), "two framings");
  assert.ok(head.minorVersion === 0 || head.host !== undefined, "no host");
  assert.equal(head.host === undefined || isAuthority(head.host), true);
  assert.ok(fields.every((field) => !/[\r\n\0]/.test(field)), "a line end in a field");
  return `^${head.method} ${head.path}?${head.query} ${head.host} ${head.form} ${head.keepAlive}` +
    `${head.upgrade}${head.expectContinue}${head.chunked}${head.contentLength} ${fields}`;
}

const httpCases = loadHttpCases().map(({ input }) => input).filter(({ length }) =>
  length > 0 && length < 500
);
const HTTP_TOKENS = [
  ...["\r\n", "\r\n\r\n", "\n", " ", "\t", ":", ", ", "\r\nHost: a", "\r\nContent-Length: 5"],
  ...["\r\nTransfer-Encoding: chunked", "chunked", "GET ", "POST / ", "HTTP/1.1", "HTTP/1.0"],
  ...["\r\nConnection: close", "\r\nConnection: Upgrade\r\nUpgrade: x", "\r\nExpect: 100-continue"],
  ...["0\r\n\r\n", "5\r\nABCDE\r\n", "http://a/", "%00", "%0d%0a", "*", "[::1]", ":443", "#"],
];

/** Requests, right and wrong. */
export const http: StreamTarget = {
  name: "http",
  corpus: httpCases,
  tokens: HTTP_TOKENS,
  reaches: [/^\^GET .*\$/s, /!400BAD_REQUEST/, /!400BAD_FRAMING/, /!413/, /!417/, /!501/, /!505/],
  keptBytes: 8 * 1024,
  open: () => openRequests(""),
};

const CHUNKED_HEAD = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

const chunked: StreamTarget = {
  name: "chunked",
  corpus: [
    ...["5\r\nABCDE\r\n0\r\n\r\n", "0\r\nA: b\r\n\r\n", '3;a="b\\"c";d\r\nABC\r\n0\r\n\r\n'],
    ...["1;a=b;c\r\nA\r\n1\r\nB\r\n0;z\r\nContent-Length: 3\r\nX: y\r\n\r\n", "fF;\t a\r\n"],
    ...["00000000000000001\r\nA\r\n", "0\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n"],
  ].map(latin1),
  tokens: [
    "\r\n",
    "\n",
    "\r",
    ";",
    '"',
    "\\",
    "=",
    "0\r\n\r\n",
    "1\r\nA\r\n",
    "ffffffffffffffff",
    "0",
  ],
  reaches: [/\$/, /!400BAD_FRAMING/, /!413/, /\.true$/],
  keptBytes: 8 * 1024,
  open: () => openRequests(CHUNKED_HEAD),
};

const cookies: TextTarget = {
  name: "cookies",
  corpus: [
    "a=1; b=2",
    'a="1"; a=2;b',
    "=1; __proto__=x; c==",
    "a=1;b=2 ; c = 3;;",
    "\xff=\xfe",
    "",
  ],
  tokens: ["; ", ";", "=", '"', " ", "\t", "\xa0", "__proto__", "a=1"],
  reaches: [/^\[\[/, /^\[\]/],
  read(text) {
    const read = parseCookies([text]);
    for (const [name] of read) assert.ok(name !== "" && !/[;=]/.test(name), "a name");
    return JSON.stringify([...read]);
  },
};

const host: TextTarget = {
  name: "host",
  corpus: [
    "a",
    "a:443",
    "[::1]:8443",
    "127.0.0.1",
    "127.1",
    "A.example.",
    "a_b.c:",
    "[v1.a]",
    "0x7f.1",
  ],
  tokens: [":", "[", "]", ".", "::", "0x", "%41", "@", ",", "65536", "1", "a"],
  reaches: [/^true/, /^false/],
  read(text) {
    if (!isAuthority(text)) return "false";
    const url = new URL(`http://${text}/`); // what is valid here must be so for handlers
    assert.equal(url.pathname, "/");
    assert.equal(url.username + url.search + url.hash, "");
    return `true ${url.host}`;
  },
};

const names: TextTarget = {
  name: "names",
  corpus: [
    "a.example",
    "*.a.example",
    "A.EXAMPLE.",
    "m\xfcnchen.de",
    "xn--mnchen-3ya.de",
    "1.2.3.4",
    "a",
  ],
  tokens: [".", "*.", "xn--", "-", "_", "\xdf", "\xad", "%61", "/", "@", ":", " "],
  reaches: [/^undefined/, /^[a-z]/],
  read(text) {
    const name = normalizeName(text);
    if (name !== undefined) {
      assert.match(name, /^[a-z0-9_.-]{1,253}$/);
      assert.equal(normalizeName(name), name);
      assert.equal(matchesName(name, text), true);
    }
    return `${name} ${matchesName("*.a.example", text)} ${matchesName(text, "b.a.example")}`;
  },
};

const uriMatch: TextTarget = {
  name: "uri-match",
  corpus: (cases("uri_match") as [string, string, boolean][]).map(([template, path]) =>
    `${template}\n${path}`
  ),
  tokens: ["?", "*", "?*", "*?", "/", "\n", "%2f"],
  reaches: [/^true/, /^false/],
  read(text) {
    const [template = "", path = ""] = text.split("\n");
    return `${matchWildcard(template, path)}`;
  },
};

// Fields of web requests

const ranges: TextTarget = {
  name: "ranges",
  corpus: (cases("ranges").cases as { field: string }[]).map(({ field }) => field),
  tokens: ["bytes=", "-", ",", "0-", "-1", "0-0", " ", "\t", "99999999999999999999", "1e3", "="],
  reaches: [/^\[\{/, /^"unsat/, /^ignored/],
  read(text) {
    const [size, most] = [100, 4];
    const selection = selectRanges(text, size, most);
    if (selection === undefined) return "ignored";
    if (selection !== "unsatisfiable") {
      assert.ok(selection.length >= 1 && selection.length <= most, "too many");
      const ordered = [...selection].sort((a, b) => a.start - b.start);
      let end = -1;
      for (const range of ordered) {
        assert.ok(range.start > end && range.start < range.end && range.end <= size, "a range");
        assert.ok(Number.isSafeInteger(range.start) && Number.isSafeInteger(range.end));
        end = range.end;
      }
    }
    return JSON.stringify(selection);
  },
};

const acceptEncoding: TextTarget = {
  name: "accept-encoding",
  corpus: [
    "gzip, br;q=0.5",
    "*;q=0, identity",
    "x-gzip;q=1.000",
    "gzip;a=b; Q=0.3, zstd",
    ",,;q=",
    "",
  ],
  tokens: ["gzip", "br", "*", "identity", ";q=", ",", "0.001", "1.0000", ";", " ", "\t", "\xa0"],
  reaches: [/gzip/, /^\[\]/],
  read(text) {
    const accepted = parseAcceptEncoding(text);
    for (const coding of ["br", "zstd", "gzip", "deflate"] as const) {
      const weight = accepted.weight(coding);
      assert.ok(weight >= 0 && weight <= 1, `${coding} weighs ${weight}`);
    }
    return JSON.stringify(rankCodings(accepted, ["br", "zstd", "gzip", "deflate"]));
  },
};

const DATES = [
  "Sun, 06 Nov 1994 08:49:37 GMT",
  "Sunday, 06-Nov-94 08:49:37 GMT",
  "Sun Nov  6 08:49:37 1994",
];

const dates: TextTarget = {
  name: "dates",
  corpus: DATES,
  tokens: ["GMT", "Feb", "29", "31", "60", "0000", "9999", ":", ", ", "-", "  "],
  reaches: [/^\d/, /^undefined/],
  read(text) {
    const time = parseHttpDate(text);
    if (time !== undefined) assert.ok(!Number.isNaN(new Date(time).getTime()), "no date");
    return `${time}`;
  },
};

/** The fields of a request: one `name: value` a line; what no client can send is left out. */
function headersOf(text: string): Headers {
  const headers = new Headers();
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":");
    const name = line.slice(0, colon);
    if (colon > 0 && /^[!#$%&'*+.^`|~\w-]+$/.test(name)) {
      headers.append(name, asFieldValue(line.slice(colon + 1)));
    }
  }
  return headers;
}

const CONDITIONS = [
  'if-none-match: "a"\nif-modified-since: ' + DATES[0],
  'if-match: W/"a", "b"\nif-unmodified-since: ' + DATES[1],
  'if-match: *\nif-range: "a"',
  `if-range: ${DATES[2]}\nif-none-match: "a,b", "`,
  "if-modified-since: " + DATES[2],
];

const conditions: TextTarget = {
  name: "conditions",
  corpus: CONDITIONS,
  tokens: ['"a"', 'W/"a"', '"', ",", "*", "\n", "if-match: ", "if-none-match: ", ...DATES],
  reaches: [/^proceed/, /^not-modified/, /^failed/],
  read(text) {
    const headers = headersOf(text);
    const validators = {
      etag: '"a"',
      lastModified: Date.UTC(1994, 10, 6, 8, 49, 37),
      settled: true,
    };
    const holds = ifRangeHolds(headers.get("if-range"), validators);
    return `${evaluatePreconditions(headers, validators)} ${holds}`;
  },
};

const pem = (await certificates()).cert;
const base64 = new X509Certificate(pem).raw.toString("base64");
const shortBase64 = base64.slice(0, 64);

const forwarded: TextTarget = {
  name: "forwarded",
  corpus: [
    `client-cert: :${base64}:`,
    `client-cert: :${shortBase64}:`,
    `x-forwarded-client-cert: Hash=ab;Cert="${encodeURIComponent(pem)}";Subject="CN=a"`,
    'x-forwarded-client-cert: By=a;Hash=b;Subject="a\\"b";URI=,By=c',
    `x-forwarded-client-cert: Cert="${encodeURIComponent("-----BEGIN CERTIFICATE-----\n")}QUJD"`,
  ],
  tokens: [
    ...[":", ";", ",", "=", '"', "\\", "Cert=", "%20", "%0A", " ", "\t", "A", "%", "=="],
    ...[
      "-----BEGIN%20CERTIFICATE-----",
      "-----END%20CERTIFICATE-----",
      "\nx-forwarded-client-cert: ",
    ],
  ],
  reaches: [/^certificate/, /^The field/, /^none/],
  async read(text) {
    const headers = headersOf(text);
    let said = "";
    for (const field of ["client-cert", "x-forwarded-client-cert"] as const) {
      const { certificate, error } = await readForwarded(headers, field);
      said += certificate === undefined ? error ?? "none" : `certificate ${certificate.subject}`;
    }
    return said;
  },
};

// WebSocket

const HANDSHAKE = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
  "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const OFFERS = [
  "permessage-deflate",
  "permessage-deflate; client_max_window_bits",
  'permessage-deflate; server_max_window_bits="10"; client_no_context_takeover, x; a="\\b"',
  "permessage-deflate; server_no_context_takeover; server_max_window_bits=8, foo",
];
const OFFER_TOKENS = [
  ...["permessage-deflate", "; ", ";", ",", "=", '"', "\\", "server_max_window_bits", "=15", "=8"],
  ...[
    "client_max_window_bits",
    "client_no_context_takeover",
    "server_no_context_takeover",
    " ",
    "\t",
  ],
];

const handshake: TextTarget = {
  name: "handshake",
  corpus: [
    `${HANDSHAKE}\r\n`,
    `${HANDSHAKE}Sec-WebSocket-Protocol: chat, superchat\r\n\r\n`,
    ...OFFERS.map((offer) => `${HANDSHAKE}Sec-WebSocket-Extensions: ${offer}\r\n\r\n`),
  ],
  tokens: [
    ...["\r\n", ", ", ":", "websocket", "upgrade", "keep-alive", "13", "\r\nUpgrade: h2c", "AAAA"],
    ...["\r\nSec-WebSocket-Protocol: ", "\r\nSec-WebSocket-Extensions: ", "\r\nContent-Length: 0"],
    ...OFFER_TOKENS,
  ],
  reaches: [/^true/, /^false400/, /^false426/, /^no head/],
  read(text) {
    const parser = new RequestParser({
      ...LIMITS,
      maxHeaderBytes: 128 * 1024,
      maxHeaderFields: 100,
    });
    parser.push(latin1(text));
    if (parser.next() !== Step.Head) return "no head";
    const result = checkUpgrade(parser.head);
    if (!result.ok) return `false${result.status} ${result.message}`;
    assert.match(result.accept, /^[A-Za-z0-9+/]{27}=$/);
    assert.equal(new Set(result.protocols).size, result.protocols.length);
    return `true ${result.protocols} ${sayAgreement(result.extensions)}`;
  },
};

function sayAgreement(offers: Parameters<typeof negotiateDeflate>[0]): string {
  const agreement = negotiateDeflate(offers, { serverContextTakeover: true });
  if (agreement === undefined) return "plain";
  assert.match(agreement.response, /^permessage-deflate(?:; [a-z_]+(?:=(?:[89]|1[0-5]))?)*$/);
  for (const bits of [agreement.clientMaxWindowBits, agreement.serverMaxWindowBits]) {
    assert.ok(bits >= 8 && bits <= 15, `window of ${bits} bits`);
  }
  return agreement.response;
}

const extensions: TextTarget = {
  name: "extensions",
  corpus: OFFERS,
  tokens: OFFER_TOKENS,
  reaches: [/^undefined/, /^\[.*permessage-deflate; server_no/, /plain$/],
  read(text) {
    const offers = parseExtensions([text]);
    return offers === undefined ? "undefined" : `${JSON.stringify(offers)} ${sayAgreement(offers)}`;
  },
};

const webSocketCases = loadWebSocketCases();

function webSocket(deflate: boolean): StreamTarget {
  return {
    name: deflate ? "websocket-deflate" : "websocket",
    corpus: webSocketCases.map(inputOf)
      .filter(({ length }) => length > 0 && length <= 300),
    tokens: [
      ...[
        "\x81\x85",
        "\x01\x80",
        "\x89\x80",
        "\x88\x82",
        "\xc1\x87",
        "\x00\x00\x00\x00",
        "\x7e",
        "\x7f",
      ],
      ...[
        "\xfe\x00\x7e",
        "\xff\x00\x00\x00\x00\x00\x01\x00\x00",
        "\xe2\x82\xac",
        "\xf0\x9f",
        "\x82\x80",
      ],
    ],
    reaches: [/^text/, /^(?:.*\n)*pong|^(?:.*\n)*ping/, /close \d/, /!1002/, /!1007/, /!1009/],
    keptBytes: 16 * 1024,
    open() {
      const limits = { maxPayloadBytes: 4_096, maxFragments: 16 };
      const reader = readerFor({ deflate, takeover: deflate, limits });
      let said = "";
      let pushed = 0;
      let steps = 0;
      return {
        push(piece) {
          pushed += piece.length;
          reader.push(piece);
          for (let step = reader.next(); step !== MessageStep.Need; step = reader.next()) {
            assert.ok(++steps <= pushed, "more steps than bytes");
            if (step === MessageStep.Fail) {
              said += `!${reader.error!.closeCode}${reader.error!.code}`;
              return false;
            }
            said += sayMessage(reader, step) + "\n";
            if (said.length > 60_000) said = said.slice(-30_000);
          }
          return true;
        },
        said: () => said,
      };
    },
  };
}

function sayMessage(reader: ReturnType<typeof readerFor>, step: MessageStep): string {
  if (step === MessageStep.Text) return `text ${reader.text}`;
  if (step === MessageStep.Close) {
    return `close ${reader.closeStatus!.code} ${reader.closeStatus!.reason}`;
  }
  const kind = step === MessageStep.Binary ? "binary" : step === MessageStep.Ping ? "ping" : "pong";
  return `${kind} ${hexOf(reader.bytes)}`;
}

// Files

const SECRET = "the secret outside of the root";
const directory = mkdtempSync(join(tmpdir(), "httpsd-fuzz-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
const root = join(directory, "root");
mkdirSync(join(root, "sub"), { recursive: true });
writeFileSync(join(directory, "secret.txt"), SECRET);
writeFileSync(join(root, ".secret"), SECRET);
writeFileSync(join(root, "a.txt"), "0123456789".repeat(10));
writeFileSync(join(root, "sub", "index.html"), "<p>index</p>");
symlinkSync("../secret.txt", join(root, "link.txt"));
symlinkSync("..", join(root, "up"));
const files = serveFiles(root, { listing: true });

const paths: TextTarget = {
  name: "files",
  corpus: [
    ...["/a.txt", "/sub/", "/sub", "/", "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt"],
    ...[
      "/.secret",
      "/link.txt",
      "/up/secret.txt",
      "/sub/..%5c..%5csecret.txt",
      "/a.txt%00",
      "//a.txt",
    ],
    ...CONDITIONS.map((fields) => `/a.txt\n${fields}`),
    "/a.txt\nrange: bytes=0-1,5-6\naccept-encoding: gzip;q=1",
    "/a.txt\nrange: bytes=500-",
    "/a.txt\nif-none-match: *",
  ],
  tokens: [
    "/",
    "..",
    "%2e",
    "%2f",
    "%5c",
    "\\",
    "%00",
    "%c0%ae",
    ".",
    "secret.txt",
    "up/",
    "link.txt",
  ],
  reaches: [/^200/, /^206/, /^301/, /^304/, /^404/, /^412/, /^416/],
  async read(text) {
    const end = text.indexOf("\n");
    const target = end < 0 ? text : text.slice(0, end);
    if (!URL.canParse(`http://a/${target}`)) return "no URL";
    const request = new Request(`http://a/${target.replace(/^\//, "")}`, {
      headers: headersOf(end < 0 ? "" : text.slice(end + 1)),
    });
    const response = await files(request);
    const body = await response.text();
    assert.ok(!body.includes(SECRET), "a file that may not be served");
    const length = response.headers.get("content-length");
    return `${response.status} ${response.status === 206 ? length : body.length}`;
  },
};

const envelopes: TextTarget = {
  name: "bus-envelope",
  corpus: ["hb\x01\x01", "hb\x01\x02", "hb\x02\x01", "hx\x01\x01"].flatMap((head) => [
    `${head}${"o".repeat(12)}\0\0\0\0\0\x05hello`,
    `${head}${"\xff".repeat(18)}\xc3\xa9`,
  ]),
  tokens: ["hb", "\x01", "\x02", "\xff", "\0\0\0\0\0\0", "\xed\xa0\x80"],
  reaches: [/^text/, /^binary/, /^none/],
  read(text) {
    const bytes = latin1(text);
    const envelope = decodeEnvelope(bytes, 64);
    if (envelope === undefined) return "none";
    assert.ok(envelope.payload.length <= 64);
    assert.equal(hexOf(encodeEnvelope(envelope)), hexOf(bytes));
    const isText = envelope.opcode === Opcode.Text;
    if (isText) new TextDecoder("utf-8", { fatal: true }).decode(envelope.payload);
    return `${isText ? "text" : "binary"} ${envelope.number} ${envelope.payload.length}`;
  },
};

/** All targets. */
export const targets: readonly FuzzTarget[] = [
  clientHello,
  proxyHeader,
  http,
  chunked,
  host,
  frames,
  priorities,
  hpack,
  heads,
  names,
  uriMatch,
  cookies,
  ranges,
  acceptEncoding,
  dates,
  conditions,
  forwarded,
  handshake,
  extensions,
  webSocket(false),
  webSocket(true),
  paths,
  envelopes,
  multipartForms,
  ...acmeTargets,
  chainTarget(pem, (await certificates()).ca),
];
