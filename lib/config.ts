/**
 * The options of a server, their defaults and their checks. A configuration is a frozen copy: the
 * caller's object is never changed and never read again.
 *
 * @module
 */
import * as v from "valibot";
import { ConfigError } from "./errors.ts";
import type { IdentityOptions } from "./tls/identity.ts";

/** With TLS or without (original: `httpd_ssl_transport_mode_t`). */
export type TransportMode = "secure" | "insecure";

/** The options of `serve()` and of `HttpsServer`. Times are in ms, sizes in bytes. */
export interface HttpsServerOptions extends Partial<IdentityOptions> {
  /** The name or address to listen on. Default: every address of this machine. */
  readonly hostname?: string;
  /** The port; 0 lets the system choose. Default: 443, or 80 in insecure mode. */
  readonly port?: number;
  /** `"insecure"` serves plain HTTP, with everything else the same. Default: `"secure"`. */
  readonly transportMode?: TransportMode;
  /** The application protocols spoken (ALPN), in order of preference. Default: `["http/1.1"]`. */
  readonly alpnProtocols?: readonly string[];
  /** How many connections the system holds before they are accepted. Default: 511. */
  readonly backlogConn?: number;

  /** From accept to the end of the TLS handshake. Default: 10,000. */
  readonly handshakeTimeoutMs?: number;
  /** From the first byte of a request head to its end. Default: 30,000. */
  readonly headersTimeoutMs?: number;
  /** From one byte of a body to the next, while the handler waits for it. Default: 30,000. */
  readonly recvWaitTimeoutMs?: number;
  /** How long a write waits for the client to read. Default: 30,000. */
  readonly sendWaitTimeoutMs?: number;
  /** From one request to the first byte of the next. Default: 60,000. */
  readonly idleTimeoutMs?: number;
  /** How long a closed connection waits for the client to close too. Default: 2,000. */
  readonly lingerMs?: number;
  /** How long `stop()` waits for requests under way. Default: 5,000. */
  readonly drainMs?: number;

  /** The longest request target. Longer: 414. Default: 8,192. */
  readonly maxUriLen?: number;
  /** The longest request head, from the request line to the empty line. Longer: 431. Default: 16,384. */
  readonly maxReqHdrLen?: number;
  /** The most header fields, and the most trailer fields. More: 431. Default: 100. */
  readonly maxReqFields?: number;
  /** The longest request body. Longer: 413. Default: 128 MiB; `Infinity` for no limit. */
  readonly maxBodyBytes?: number;
  /** The most chunk extensions in one body. More: 400. Default: 4,096. */
  readonly maxChunkExtBytes?: number;
  /** The longest trailer section. Longer: 431. Default: 8,192. */
  readonly maxTrailerBytes?: number;
  /** How much of a body that no handler reads is thrown away to keep the connection. Default: 64 KiB. */
  readonly maxDrainBytes?: number;

  /** Stops the server when it is aborted. */
  readonly signal?: AbortSignal;
}

const duration = (fallback: number) => v.optional(number("a time in ms", 1, 2 ** 31 - 1), fallback);
const size = (fallback: number, least = 1) =>
  v.optional(number("a size in bytes", least, Infinity), fallback);

function number(what: string, least: number, most: number) {
  const range = most === Infinity ? `${least} or more` : `${least} to ${most}`;
  const message = `must be ${what}, ${range}`;
  return v.pipe(
    v.number(message),
    v.check((value) => value === Infinity || Number.isInteger(value), message),
    v.minValue(least, message),
    v.maxValue(most, message),
  );
}

const pem = v.union(
  [v.string(), v.instance(Uint8Array)],
  "must be PEM text, or PEM or DER bytes",
);

const alpn = v.pipe(
  v.string("must be protocol names"),
  v.regex(/^[\x20-\x7e]{1,255}$/, "must be protocol names of 1 to 255 characters"),
);

const SCHEMA = v.strictObject({
  cert: v.optional(pem),
  key: v.optional(pem),
  passphrase: v.optional(v.string("must be text")),
  hostname: v.optional(
    v.pipe(v.string("must be a name or address"), v.nonEmpty("must not be empty")),
  ),
  port: v.optional(number("a port", 0, 65535)),
  transportMode: v.optional(
    v.picklist(["secure", "insecure"], 'must be "secure" or "insecure"'),
    "secure",
  ),
  alpnProtocols: v.optional(v.pipe(v.array(alpn, "must be an array"), v.readonly()), ["http/1.1"]),
  backlogConn: v.optional(number("a count", 1, 65535), 511),
  handshakeTimeoutMs: duration(10_000),
  headersTimeoutMs: duration(30_000),
  recvWaitTimeoutMs: duration(30_000),
  sendWaitTimeoutMs: duration(30_000),
  idleTimeoutMs: duration(60_000),
  lingerMs: duration(2_000),
  drainMs: v.optional(number("a time in ms", 0, 2 ** 31 - 1), 5_000),
  maxUriLen: size(8_192),
  maxReqHdrLen: size(16_384),
  maxReqFields: v.optional(number("a count", 1, 65535), 100),
  maxBodyBytes: size(128 * 1024 * 1024, 0),
  maxChunkExtBytes: size(4_096, 0),
  maxTrailerBytes: size(8_192, 0),
  maxDrainBytes: size(64 * 1024, 0),
  signal: v.optional(
    v.custom<AbortSignal>((value) => value instanceof AbortSignal, "must be an AbortSignal"),
  ),
});

/** Options with all defaults in. */
export type Config = Readonly<v.InferOutput<typeof SCHEMA>> & { readonly port: number };

/**
 * Checks options and fills in the defaults.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option, the value and what is allowed
 */
export function resolveConfig(options: HttpsServerOptions): Config {
  const result = v.safeParse(SCHEMA, options, { abortPipeEarly: true });
  if (!result.success) throw invalidConfig(result.issues[0]);
  const { output } = result;
  const port = output.port ?? (output.transportMode === "secure" ? 443 : 80);
  return Object.freeze({ ...output, port });
}

function invalidConfig(issue: v.BaseIssue<unknown>): ConfigError {
  const name = v.getDotPath(issue) ?? "options";
  const unknown = issue.type === "strict_object" && issue.expected === "never";
  const problem = unknown
    ? "is not known: see HttpsServerOptions"
    : `is ${shown(issue.input)}: it ${issue.message}`;
  return new ConfigError("INVALID_CONFIG", `Option ${name} ${problem}`);
}

/** A value as it may stand in a message: short, and without secrets that may be in a string. */
function shown(value: unknown): string {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  return value === null ? "null" : Array.isArray(value) ? "an array" : `a ${typeof value}`;
}
