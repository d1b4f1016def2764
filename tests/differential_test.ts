/**
 * The fetch face beside the runtime's own server: the same handlers behind both, thousands of
 * generated responses and requests, compared on the wire and in the handler. What differs is in
 * {@linkcode DIFFERENCES}, with its reason, and in docs/upgrading.md.
 *
 * A failure names its case and the seed; `HTTPSD_SEED=7` runs other cases, `HTTPSD_CASES` more.
 */
import assert from "node:assert/strict";
import process from "node:process";
import { afterAll, describe, test } from "bun:test";
import {
  type Case,
  observed,
  PAYLOADS,
  requestCase,
  requestText,
  type Seen,
} from "./differential_requests.ts";
import { respond, type ResponseCase, responseCase } from "./differential_responses.ts";
import {
  type Answer,
  type Handler,
  type Peer,
  seed,
  startNative,
  startOurs,
  WireClient,
  withoutBoundary,
} from "./differential_support.ts";
import { Random } from "./random.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();

/** How many cases of each kind. */
const CASES = Number(process.env["HTTPSD_CASES"] ?? 3_000);
const RESPONSES = CASES;
const REQUESTS = CASES;
const OVER_TLS = 150;

interface Difference {
  readonly on: readonly (typeof runtime)[];
  readonly what: string;
  readonly reason: string;
  /** Whether the answers differ in this, and in nothing else. */
  readonly explains: (seen: Seen) => boolean;
}

const BOTH = ["deno", "bun"] as const;
const TEXT_TYPE = "text/plain;charset=utf-8";
const BYTES_TYPE = "application/octet-stream";

/** Whether answers differ in their type only, and have these. */
function typesAre({ ours, native }: Seen, mine: unknown, theirs: unknown): boolean {
  const typeOf = ({ fields }: Answer) => fields.find(([name]) => name === "content-type")?.[1];
  const rest = ({ status, fields, body }: Answer) =>
    JSON.stringify([status, fields.filter(([name]) => name !== "content-type"), body]);
  return rest(ours) === rest(native) && typeOf(ours) === mine && typeOf(native) === theirs;
}

/** An answer with its URLs in normal form, and without quotes, which printing chooses by the URL. */
function withNormalUrl({ status, fields, body }: Answer): string {
  const text = JSON.stringify([status, fields.map(([name, it]) => [name, decoded(it)]), body]);
  return text.replaceAll("/a/./b/../c", "/a/c").replaceAll("%27", "'").replaceAll(/[\\'"]/g, "");
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // it is no X-Seen
  }
}

const isOf = (response: ResponseCase | undefined, pattern: RegExp): boolean =>
  response !== undefined && response.maker !== "json" && pattern.test(response.body);

/** Where httpsd differs from the runtime's own server, and why; all of it is in docs/upgrading.md. */
const DIFFERENCES: Difference[] = [
  {
    on: BOTH,
    what: "A stream of what cannot be sent is answered with 500",
    reason: "The runtime has sent its head before it looks, and cuts the connection",
    explains: ({ response, ours, native }) =>
      isOf(response, /^a stream of/) && ours.status === 500 &&
      (native.status === 0 || response!.method === "HEAD"),
  },
  {
    on: BOTH,
    what: "HEAD is answered with 500 where GET would be, for a Response that was used",
    reason: "HEAD is GET without the body (RFC 9110 section 9.3.2)",
    explains: ({ response, ours }) =>
      response?.method === "HEAD" && ours.status === 500 &&
      /^(?:read|cancel|lock)/.test(response.touch),
  },
  {
    on: ["deno"],
    what: "A Response whose body somebody else is reading is refused with 500",
    reason: "Deno sends it when it was made of a text or bytes",
    explains: ({ response, ours, native }) =>
      response?.touch === "lock" && ours.status === 500 && native.status !== 0,
  },
  {
    on: ["deno"],
    what: "request.url is in normal form: no dot segments, quotes escaped",
    reason: "So has `new URL()` it, and the Request of every other platform",
    explains: ({ request, ours, native }) =>
      request !== undefined && withNormalUrl(native) === withNormalUrl(ours),
  },
  {
    on: ["deno"],
    what: "request.json() reads JSON behind a byte order mark",
    reason: "The Fetch standard decodes it so; Deno does in a part of the cases",
    explains: ({ request, native }) =>
      request?.payload === "BOM" && /^json/.test(request.operation) &&
      /SyntaxError/.test(native.body),
  },
  {
    on: ["bun"],
    what: "HEAD has the Content-Type that GET has, where that is not in the headers",
    reason: "HEAD is GET without the body (RFC 9110 section 9.3.2)",
    explains: (seen) => {
      const type = seen.ours.fields.find(([name]) => name === "content-type")?.[1];
      return seen.response?.method === "HEAD" && typesAre(seen, type, undefined);
    },
  },
  {
    on: ["bun"],
    what: "A text beyond ASCII stays text/plain when its Response is cloned or its body looked at",
    reason: "Bun forgets what it was, and sends application/octet-stream",
    explains: (seen) =>
      /^clone|^body$/.test(seen.response?.touch ?? "") && typesAre(seen, TEXT_TYPE, BYTES_TYPE),
  },
  {
    on: ["bun"],
    what: "Bytes that are UTF-8, in a class of its own with private properties, are text/plain",
    reason:
      "Bun shows its own server only whether a body was text or bytes; the estimate of memory is not exact",
    explains: (seen) =>
      seen.response?.maker === "subclass" && typesAre(seen, TEXT_TYPE, BYTES_TYPE),
  },
  {
    on: ["bun"],
    what: "Response.json() beyond ASCII whose type was deleted is application/octet-stream",
    reason: "Bun shows its own server only whether a body was text or bytes",
    explains: (seen) =>
      seen.response?.maker === "json" && seen.response.touch === "delete the type" &&
      typesAre(seen, BYTES_TYPE, TEXT_TYPE),
  },
  {
    on: ["bun"],
    what: "The body of another Response, or the stream of a Blob, has no type",
    reason: "Nothing shows that the stream is not of the program's own making",
    explains: (seen) =>
      isOf(seen.response, /^the body of another$|^the stream of a Blob$/) &&
      [BYTES_TYPE, "text/css", "text/css;charset=utf-8"].some((type) =>
        typesAre(seen, undefined, type)
      ),
  },
  {
    on: ["bun"],
    what: "A Blob has the Content-Type that its Response shows, or is application/octet-stream",
    reason: "Bun adds a charset, and knows the type when it was deleted from the headers",
    explains: (seen) =>
      isOf(seen.response, /^a (?:Blob|File)/) &&
      [undefined, BYTES_TYPE, TEXT_TYPE, "text/css"].some((mine) =>
        ["text/css;charset=utf-8", "text/css", "text/csv"].some((it) => typesAre(seen, mine, it))
      ),
  },
  {
    on: ["bun"],
    what: "What is made a text of, such as a number, is application/octet-stream",
    reason: "Bun shows its own server alone that it was one",
    explains: (seen) =>
      isOf(seen.response, /^(?:a number|an object)$/) && typesAre(seen, BYTES_TYPE, TEXT_TYPE),
  },
  {
    on: ["bun"],
    what: "A Response whose bodyUsed is true, since a reader has had its body, is refused with 500",
    reason: "Bun sends what is left, as if that were all",
    explains: ({ response, ours, native }) =>
      /^(?:read |cancel|lock and release)/.test(response?.touch ?? "") && ours.status === 500 &&
      native.status !== 0,
  },
  {
    on: ["bun"],
    what: "A File has no Content-Disposition",
    reason: "Nothing shows its name",
    explains: ({ response, ours, native }) =>
      isOf(response, /^a File$/) && ours.status === native.status && ours.body === native.body &&
      native.fields.some(([name]) => name === "content-disposition"),
  },
  {
    on: ["bun"],
    what: "What is no text or bytes has no type of its own when the body is looked at before",
    reason: "Bun then shows no type either, but has it still",
    explains: (seen) =>
      seen.response?.touch === "body" &&
      isOf(seen.response, /^(?:a DataView|URL|Form|a number|an object)/) &&
      [
        BYTES_TYPE,
        "application/x-www-form-urlencoded;charset=UTF-8",
        "multipart/form-data; boundary=BOUNDARY",
      ].some((type) => typesAre(seen, undefined, type)),
  },
  {
    on: ["bun"],
    what: "A Request is printed with its body, as a Blob or a ReadableStream",
    reason: "It is one",
    explains: ({ request, ours, native }) =>
      /^print/.test(request?.operation ?? "") &&
      ours.body.replace(/Request \([\d.]+ \w+\)/, "Request (0 KB)")
          .replace(/\\n {2}(?:ReadableStream \{.*?\\n {2}\}|Blob \([\d.]+ \w+\))/, "") ===
        native.body,
  },
  {
    on: ["bun"],
    what: "The blob() of a Request has its Content-Type as type",
    reason: "So the Fetch standard; Bun says text/plain;charset=utf-8 whatever it is, or nothing",
    explains: ({ request, ours, native }) =>
      /^blob/.test(request?.operation ?? "") &&
      ["", ";charset=utf-8", ";charset=UTF-8"].some((charset) => {
        const type = JSON.stringify((PAYLOADS[request?.payload ?? ""]?.[0] ?? "") + charset);
        return [TEXT_TYPE, ""].some((theirs) =>
          ours.body.replaceAll(type, JSON.stringify(theirs)) === native.body
        );
      }),
  },
  {
    on: ["bun"],
    what: "A Request is of a hidden class between it and Request",
    reason:
      "Its fields and its signal are made when they are looked at; blob() has its type from there",
    explains: ({ request, ours, native }) =>
      request?.operation === "class" &&
      ours.body.replace('"Request",\n false', '"Request",\n true') === native.body,
  },
  {
    on: ["bun"],
    what:
      "The getter of Request.prototype, called by hand, shows fields after request.headers only",
    reason: "They are made when they are looked at, by the getter of the hidden class",
    explains: ({ request, ours }) =>
      request?.operation === "fields by the getter of the prototype" &&
      (ours.body === "[]" || ours.fields.some(([, value]) => value === "%5B%5D")),
  },
  {
    on: ["bun"],
    what: "A body that was read, or is being read, is refused to all who come later",
    reason: "So the Fetch standard; Bun gives copies of a read Request an empty body, and a body " +
      "of no bytes twice",
    explains: ({ request, ours }) =>
      /^(?:copy after reading|copy and read both|lock and read)$/.test(request?.operation ?? "") &&
      /TypeError/.test(ours.body),
  },
  {
    on: ["bun"],
    what: "request.json() of an empty body in chunks is a SyntaxError",
    reason: "So the Fetch standard; Bun gives null, and for a clone an error in other words",
    explains: ({ request, ours }) =>
      /^json|^clone and read the first$/.test(request?.operation ?? "") &&
      request?.payload === "empty" &&
      /SyntaxError/.test(ours.body),
  },
];

const cases: Case[] = [];
const random = new Random(seed);
for (let i = 0; i < RESPONSES; i++) cases.push({ response: responseCase(random) });
for (let i = 0; i < REQUESTS; i++) cases.push({ request: requestCase(random) });
// Chance has these too seldom.
for (const [payload, operation] of [["empty", "json"], ["BOM", "json"]] as const) {
  const rest = { method: "POST", target: "/", fields: [], chunked: true };
  cases.push({ request: { ...rest, payload, operation } });
}

/** The case that is asked for: a handler that looked for it in the request would change that. */
let current = 0;

const handler: Handler = (request) => {
  const spec = cases[current]!;
  return "response" in spec ? respond(spec.response) : observed(spec.request, request);
};

const peers: Peer[] = [];
afterAll(async () => {
  await Promise.all(peers.map((peer) => peer.stop()));
});

/** A client of ours and one of the runtime's own server. */
async function clients(secure: boolean): Promise<[ours: WireClient, native: WireClient]> {
  const pair = [await startOurs(handler, secure), await startNative(handler, secure)];
  peers.push(...pair);
  return [new WireClient(pair[0]!), new WireClient(pair[1]!)];
}

function text(spec: Case, i: number): [text: string, method: string] {
  if ("request" in spec) return [requestText(spec.request, i), spec.request.method];
  const { method } = spec.response;
  const length = method === "POST" ? "Content-Length: 0\r\n" : "";
  return [`${method} / HTTP/1.1\r\nHost: a.example\r\nX-Case: ${i}\r\n${length}\r\n`, method];
}

async function asked(client: WireClient, spec: Case, i: number): Promise<Answer> {
  try {
    current = i;
    const answer = await client.ask(...text(spec, i));
    if (isFailure(spec, answer)) return { status: answer.status, fields: [], body: "" };
    const fields = answer.fields.map(([name, value]) => [name, withoutBoundary(value)] as const);
    return { ...answer, fields, body: withoutBoundary(answer.body) };
  } catch (error) {
    client.close();
    if (String(error).includes("Cut by")) return { status: 0, fields: [], body: "" };
    throw error;
  }
}

/** An error answer of the server, whose text is its own; no case has this status itself. */
function isFailure(_: Case, { status }: Answer): boolean {
  return status === 500;
}

const explained = new Set<Difference>();

/** Runs cases on both servers, and lists those that differ without a reason. */
async function compare(indices: number[], secure: boolean): Promise<void> {
  const [ours, native] = await clients(secure);
  const failures: string[] = [];
  for (const i of indices) {
    const spec = cases[i]!;
    const [mine, theirs] = [await asked(ours, spec, i), await asked(native, spec, i)];
    if (JSON.stringify(mine) === JSON.stringify(theirs)) continue;
    const { response, request } = { response: undefined, request: undefined, ...spec };
    const seen: Seen = { response, request, ours: mine, native: theirs };
    const difference = DIFFERENCES.find(({ on, explains }) =>
      on.includes(runtime) && explains(seen)
    );
    if (difference !== undefined) explained.add(difference);
    else {
      failures.push(
        `case ${i}: ${JSON.stringify(spec)}\nhttpsd: ${brief(mine)}\n${runtime}: ${brief(theirs)}`,
      );
    }
  }
  ours.close();
  native.close();
  assert.equal(
    failures.length,
    0,
    `Seed ${seed}: ${failures.length} of ${indices.length} cases differ\n${
      failures.slice(0, 20).join("\n\n")
    }`,
  );
}

function brief({ status, fields, body }: Answer): string {
  const lines = fields.map((field) => field.join(": "));
  return `${status} ${JSON.stringify(lines)} ${JSON.stringify(body.slice(0, 3_000))}`;
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

describe(`as the server of ${runtime} itself`, () => {
  test("leave responses", () => compare(range(0, RESPONSES), false), 120_000);
  test("come requests", () => compare(range(RESPONSES, cases.length), false), 120_000);
  test("both, over TLS", () => {
    const step = Math.floor(cases.length / OVER_TLS);
    return compare(range(0, OVER_TLS).map((i) => i * step), true);
  }, 60_000);
  test("but for differences that are all to be seen", () => {
    if (process.env["HTTPSD_SEED"] !== undefined || CASES < 3_000) return; // too few for some
    const unseen = DIFFERENCES.filter((it) => it.on.includes(runtime) && !explained.has(it));
    assert.deepEqual(unseen.map(({ what }) => what), []);
  });
});
