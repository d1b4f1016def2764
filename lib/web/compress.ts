/**
 * Compresses responses as clients ask for it (RFC 9110 sections 8.4 and 12.5.3), with what the
 * platform's `CompressionStream` has.
 *
 * @module
 */
import * as v from "valibot";
import { ConfigError } from "../errors.ts";
import { adviceFrom, checkOptions, members, oneOf, shown, size } from "../options.ts";
import {
  type ContentCoding,
  parseAcceptEncoding,
  rankCodings,
  varyByEncoding,
} from "./content_coding.ts";
import { isCompressible } from "./content_types.ts";

export type { ContentCoding } from "./content_coding.ts";

/** The options of {@linkcode compress}. */
export interface CompressOptions {
  /**
   * The codings to use, of those that a client likes equally the first. Default: `["zstd", "gzip"]`
   * as far as the runtime has them. `"br"` must be asked for: Bun 1.4 compresses at Brotli's
   * highest level, which takes seconds for a megabyte.
   */
  readonly codings?: readonly ContentCoding[];
  /** Bodies shorter than this many bytes are sent as they are. Default: 1,024. */
  readonly threshold?: number;
}

/** The codings that this runtime can make: gzip, deflate and br on both, zstd on Bun. */
export const supportedCodings: readonly ContentCoding[] =
  (["zstd", "br", "gzip", "deflate"] as const).filter(isSupported);

function isSupported(coding: ContentCoding): boolean {
  try {
    new CompressionStream(formatOf(coding));
    return true;
  } catch {
    return false; // the constructor throws for a format that it does not know
  }
}

/** Runtimes know Brotli by its whole name, and TypeScript's types know neither it nor zstd. */
function formatOf(coding: ContentCoding): CompressionFormat {
  return (coding === "br" ? "brotli" : coding) as CompressionFormat;
}

const DEFAULT_THRESHOLD = 1_024;

const DEFAULT_CODINGS = supportedCodings.filter((coding) => coding === "zstd" || coding === "gzip");

/**
 * Compresses a response for the client that sent `request`, when that client accepts it and the
 * response is worth it; otherwise returns `response` itself. The body of `response` is used then.
 *
 * Never compressed are: bodies that are not text (see the media type), shorter than `threshold`, or
 * already encoded; the statuses 1xx, 204, 205, 206 and 304; `Cache-Control: no-transform`; event
 * streams; and what has a digest of its bytes (`Content-Digest`, `Repr-Digest`: RFC 9530). A body
 * without `Content-Length` is judged by its first chunk: a stream that begins with a small one is
 * most likely meant to be seen piece by piece, but a compressor hands out bytes when it has
 * gathered enough of them, and the rest at the end. A client that forbids identity gets a
 * compressed body of any length.
 *
 * A compressed response has `Content-Encoding`, a weak entity tag instead of a strong one, and no
 * `Content-Length` or `Accept-Ranges`. Whatever depends on `Accept-Encoding` says so in `Vary`. A
 * HEAD response without a body gets the fields that its GET would get, judged by `Content-Length`.
 *
 * Do not compress responses that hold both a secret and text that the client chose: their length
 * reveals the secret letter by letter (BREACH).
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option;
 * `NOT_SUPPORTED` for a coding that the runtime does not have: see {@linkcode supportedCodings}
 */
export async function compress(
  response: Response,
  request: Request,
  options: CompressOptions = {},
): Promise<Response> {
  assertArguments(response, request);
  const { codings, threshold } = checkOptions("compress()", SCHEMA, options);
  if (!isTransformable(response)) return response;
  const accepted = parseAcceptEncoding(request.headers.get("accept-encoding"));
  const coding = rankCodings(accepted, codings)[0];
  const least = accepted.identity === 0 ? 0 : threshold;
  const declared = declaredLength(response);
  if (declared !== undefined && declared < least) return response;
  if (response.body === null) {
    const standsForBody = request.method === "HEAD" && declared !== undefined;
    return standsForBody ? encode(response, null, coding) : response;
  }
  if (coding === undefined || declared !== undefined) {
    return encode(response, response.body, coding);
  }
  const { firstLength, whole } = await peek(response.body, request.signal);
  return firstLength < least ? new Response(whole, response) : encode(response, whole, coding);
}

const SCHEMA = members({
  codings: v.optional(
    v.array(
      v.pipe(
        oneOf("br", "zstd", "gzip", "deflate"),
        v.check(
          (coding) => supportedCodings.includes(coding),
          `is not supported, this runtime does not have it: choose from ${
            supportedCodings.join(", ")
          }`,
        ),
      ),
      "must be an array of codings",
    ),
    [...DEFAULT_CODINGS],
  ),
  threshold: size(DEFAULT_THRESHOLD, 0),
}, {
  advice: adviceFrom({
    encoding: 'write codings: ["gzip"]',
    encodings: "write codings",
    algorithms: "write codings",
    brotli: 'write codings: ["br", "gzip"]',
    gzip: 'write codings: ["gzip"]',
    level: "leave it out: the platform's CompressionStream decides it",
    filter: "call compress() only for what is to be compressed",
    minSize: "write threshold",
  }),
});

/** The order of the arguments is easily mistaken: other libraries take the options first. */
function assertArguments(response: unknown, request: unknown): void {
  if (response instanceof Response && request instanceof Request) return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `compress() was given ${shown(response)} and ${shown(request)}: write compress(response, ` +
      "request, options)",
  );
}

/** Fields that describe the exact bytes of the content, so that other bytes may not go with them. */
const BOUND_TO_BYTES = ["content-encoding", "content-range", "content-digest", "repr-digest"];

function isTransformable({ status, headers }: Response): boolean {
  if (status < 200 || [204, 205, 206, 304].includes(status)) return false;
  if (BOUND_TO_BYTES.some((name) => headers.has(name))) return false;
  if (/\bno-transform\b/i.test(headers.get("cache-control") ?? "")) return false;
  return isCompressible(headers.get("content-type") ?? "");
}

function declaredLength({ headers }: Response): number | undefined {
  const value = headers.get("content-length");
  return value === null ? undefined : Number(value);
}

/** The response with another body: encoded, or as it is where `coding` is `undefined`. */
function encode(
  { status, statusText, headers: original }: Response,
  body: ReadableStream<Uint8Array<ArrayBuffer>> | null,
  coding: ContentCoding | undefined,
): Response {
  const headers = new Headers(original);
  varyByEncoding(headers);
  if (coding === undefined) return new Response(body, { status, statusText, headers });
  headers.set("content-encoding", coding);
  headers.delete("content-length");
  headers.delete("accept-ranges");
  const etag = headers.get("etag");
  if (etag?.startsWith('"')) headers.set("etag", `W/${etag}`);
  const encoded = body?.pipeThrough(new CompressionStream(formatOf(coding))) ?? null;
  return new Response(encoded, { status, statusText, headers });
}

/**
 * Reads the first chunk, and gives a stream that has it still. A client that leaves, or ends its side,
 * is not kept waiting for it: who sends the stream decides what becomes of that, and cancels it.
 */
async function peek(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  signal: AbortSignal,
): Promise<{ firstLength: number; whole: ReadableStream<Uint8Array<ArrayBuffer>> }> {
  const reader = body.getReader();
  const first = reader.read();
  const begun = await untilAborted(first, signal);
  let unsent: typeof first | undefined = first;
  const whole = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const next = await (unsent ?? reader.read());
      unsent = undefined;
      if (next.done) controller.close();
      else controller.enqueue(next.value);
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
  return { firstLength: begun?.value?.length ?? 0, whole };
}

/** What a promise resolves with; `undefined` when the signal is aborted before. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  const { promise: aborted, resolve } = Promise.withResolvers<undefined>();
  const stop = () => resolve(undefined);
  if (signal.aborted) stop();
  else signal.addEventListener("abort", stop);
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
