/**
 * The head of a request as HTTP/2 carries it: from a list of fields to what handlers see, which is
 * the same as on HTTP/1.1 (RFC 9113 section 8, RFC 8441).
 *
 * What is malformed is a fault of its stream. What is well-formed and refused is an `HttpError`, so
 * that it gets an answer, as on HTTP/1.1.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { HttpError } from "../errors.ts";
import { isAuthority } from "../http/authority.ts";
import { METHODS } from "../http/methods.ts";
import type { RequestHead } from "../http/request_head.ts";
import {
  assertPath,
  badTarget,
  bodyTooLong,
  hasPort,
  isTarget,
  noHost,
  readLength,
  type Target,
  targetTooLong,
  unknownExpectation,
  unknownMethod,
} from "../http/request_rules.ts";
import { isToken } from "../http/token.ts";
import { ErrorCode, type Http2Fault, streamFault } from "./error_code.ts";
import { Field, FieldKind, whyMalformed } from "./field.ts";

/** How much of what a client may ask for; lengths in bytes. */
export interface HeadLimits {
  /** The target. A longer one is 414 `URI_TOO_LONG`. */
  readonly maxUriBytes: number;
  /** The body; may be `Infinity`. A longer one is 413 `BODY_TOO_LARGE`. */
  readonly maxBodyBytes: number;
  /** Whether SETTINGS_ENABLE_CONNECT_PROTOCOL was announced (RFC 8441 section 3). */
  readonly connectProtocol: boolean;
}

/** The target of CONNECT has no path. */
const NO_TARGET: Target = { path: "", query: "" };

/** The target of OPTIONS for the server as a whole (RFC 9110 section 7.1). */
const WHOLE_SERVER: Target = { path: "*", query: "" };

/** What HTTP/1.1 asks for a WebSocket with (RFC 6455 section 4.1). */
const UPGRADE_FIELDS = [new Field("upgrade", "websocket"), new Field("connection", "upgrade")];

/** The head of one request. Never changes. */
export class Http2RequestHead implements RequestHead {
  /** The method; `GET` where the stream is to become a tunnel. */
  readonly method: string;
  /** The `:path`; the `:authority` with CONNECT. */
  readonly target: string;
  /** The path of the target, without the query: `*` for the server as a whole, empty for CONNECT. */
  readonly path: string;
  /** The query of the target, without the `?`. */
  readonly query: string;
  /** The `:authority`, or the `Host` where there is none. */
  readonly host: string;
  /** Always `2`. */
  readonly version = "2";
  /** The Content-Length; `undefined` when there is none. */
  readonly contentLength: number | undefined;
  /** Whether the request goes on behind its head. */
  readonly hasBody: boolean;
  /** Whether the client waits for 100 (Continue). */
  readonly expectContinue: boolean;
  /** There are no bytes that could be shown: they were compressed. */
  readonly raw = undefined;
  /** Whether the stream is to become a tunnel for WebSocket (RFC 8441). */
  readonly upgrade: boolean;
  /** The fields, of which the first `#skip` are not shown. */
  readonly #fields: readonly Field[];
  readonly #skip: number;

  /**
   * Reads the head of the request that begins a stream. The fields belong to it from now on; where
   * the stream ends with them, the request has no body.
   *
   * @throws {Http2Fault} PROTOCOL_ERROR of the stream for what is malformed
   * @throws {HttpError} 400 `BAD_REQUEST`, 413 `BODY_TOO_LARGE`, 414 `URI_TOO_LONG`, 417
   * `EXPECTATION_FAILED` or 501 `NOT_IMPLEMENTED` for what is refused
   */
  constructor(streamId: number, fields: Field[], endStream: boolean, limits: HeadLimits) {
    const parts = new HeadParts(streamId, fields);
    const method = parts.method?.value;
    if (method === undefined) throw malformed(streamId, "The request has no :method");
    const host = parts.readHost();
    const connects = method === "CONNECT" && parts.protocol === undefined;
    const { path, query } = connects ? parts.readConnect() : parts.readTarget(method, limits);
    this.path = path;
    this.query = query;
    this.contentLength = parts.readLength(endStream, limits.maxBodyBytes);
    this.expectContinue = parts.readExpect();
    this.upgrade = parts.readProtocol(limits.connectProtocol);
    if (!METHODS.has(method)) throw unusualMethod(streamId, method);
    this.method = this.upgrade ? "GET" : method;
    this.target = connects ? host! : parts.path!.value;
    if (host === undefined) throw noHost();
    this.host = host;
    this.hasBody = !endStream && !this.upgrade;
    const skip = parts.showHost(fields);
    this.#fields = this.upgrade ? askForUpgrade(fields, skip) : fields;
    this.#skip = this.upgrade ? 0 : skip;
  }

  /** How many fields there are, the `Host` that the `:authority` is shown as among them. */
  get fieldCount(): number {
    return this.#fields.length - this.#skip;
  }

  /**
   * The name of field `index`, in lower case.
   *
   * @throws {RangeError} `index` is not 0 to `fieldCount - 1`
   */
  fieldName(index: number): string {
    return this.#field(index).name;
  }

  /**
   * The value of field `index`, one character per byte.
   *
   * @throws {RangeError} `index` is not 0 to `fieldCount - 1`
   */
  fieldValue(index: number): string {
    return this.#field(index).value;
  }

  /** The value of the first field of this name, given in lower case. */
  get(lowerName: string): string | undefined {
    for (let i = this.#skip; i < this.#fields.length; i++) {
      if (this.#fields[i]!.name === lowerName) return this.#fields[i]!.value;
    }
    return undefined;
  }

  /** The values of all fields of this name, given in lower case, in the order they were sent. */
  getAll(lowerName: string): string[] {
    const values: string[] = [];
    for (let i = this.#skip; i < this.#fields.length; i++) {
      if (this.#fields[i]!.name === lowerName) values.push(this.#fields[i]!.value);
    }
    return values;
  }

  #field(index: number): Field {
    const field = index < 0 ? undefined : this.#fields[this.#skip + index];
    if (field === undefined) throw new RangeError(`Field ${index} of ${this.fieldCount}`);
    return field;
  }
}

/** The fields that say what the request is, as they were found in its list. */
class HeadParts {
  method: Field | undefined = undefined;
  scheme: Field | undefined = undefined;
  authority: Field | undefined = undefined;
  path: Field | undefined = undefined;
  protocol: Field | undefined = undefined;
  readonly #streamId: number;
  #host: Field | undefined = undefined;
  #length: Field | undefined = undefined;
  #expectsContinue = false;
  #expectsMore = false;
  #cookies = 0;
  /** How many pseudo-fields there are. */
  #pseudo = 0;

  /** Finds them, and checks the list by the rules of RFC 9113 sections 8.2 and 8.3. */
  constructor(streamId: number, fields: Field[]) {
    this.#streamId = streamId;
    for (let i = 0; i < fields.length; i++) {
      const field = fields[i]!;
      if (field.kind !== FieldKind.Message) this.#note(field, i);
    }
    if (this.#cookies > 1) joinCookies(fields);
  }

  #note(field: Field, index: number): void {
    switch (field.kind) {
      case FieldKind.Malformed:
        throw this.#malformed(whyMalformed(field));
      case FieldKind.Method:
        this.method = this.#pseudoField(this.method, field, index);
        break;
      case FieldKind.Scheme:
        this.scheme = this.#pseudoField(this.scheme, field, index);
        break;
      case FieldKind.Authority:
        this.authority = this.#pseudoField(this.authority, field, index);
        break;
      case FieldKind.Path:
        this.path = this.#pseudoField(this.path, field, index);
        break;
      case FieldKind.Protocol:
        this.protocol = this.#pseudoField(this.protocol, field, index);
        break;
      case FieldKind.Host:
        this.#host = this.#once(this.#host, field);
        break;
      case FieldKind.Length:
        this.#length = this.#once(this.#length, field);
        break;
      case FieldKind.Cookie:
        this.#cookies++;
        break;
      case FieldKind.Expect:
        if (field.value.toLowerCase() === "100-continue") this.#expectsContinue = true;
        else this.#expectsMore = true;
    }
  }

  #pseudoField(seen: Field | undefined, field: Field, index: number): Field {
    if (index !== this.#pseudo++) throw this.#malformed(`${field.name} comes behind other fields`);
    return this.#once(seen, field);
  }

  #once(seen: Field | undefined, field: Field): Field {
    if (seen === undefined) return field;
    throw this.#malformed(`The request has several ${field.name} fields`);
  }

  /** The host and port that the request is for (RFC 9113 section 8.3.1). */
  readHost(): string | undefined {
    const { authority } = this;
    const host = this.#host;
    const named = authority ?? host;
    if (named === undefined) return undefined;
    // A host that was found to be right before is shown already.
    if (named.host === undefined && !isAuthority(named.value)) {
      throw this.#malformed(`${named.name} is no host or host:port`);
    }
    named.host ??= named === host ? host : new Field("host", named.value);
    if (host !== undefined && !equalHosts(host.value, named.value)) {
      throw this.#malformed("The fields :authority and host differ");
    }
    return named.value;
  }

  /** The target of CONNECT, which is the `:authority` alone (RFC 9113 section 8.5). */
  readConnect(): Target {
    if (this.scheme !== undefined || this.path !== undefined) {
      throw this.#malformed("CONNECT has a :scheme or :path");
    }
    if (this.authority === undefined || !hasPort(this.authority.value)) {
      throw this.#malformed("CONNECT needs an :authority of host:port");
    }
    return NO_TARGET;
  }

  /** The target of all other requests, held to what HTTP/1.1 would take (RFC 9113 section 8.3.1). */
  readTarget(method: string, { maxUriBytes }: HeadLimits): Target {
    const { path, scheme } = this;
    if (scheme === undefined) throw this.#malformed("The request has no :scheme");
    if (path === undefined) throw this.#malformed("The request has no :path");
    if (scheme.value !== "https" && scheme.value !== "http") {
      throw badTarget("its scheme is neither https nor http");
    }
    if (path.value.length > maxUriBytes) throw targetTooLong(maxUriBytes);
    if (path.target !== undefined) return path.target;
    if (path.value === "*" && method === "OPTIONS") return WHOLE_SERVER;
    if (!path.value.startsWith("/") || !isTarget(path.value)) {
      throw this.#malformed("The :path is no path and query");
    }
    const target = splitTarget(path.value);
    assertPath(target.path);
    return path.target = target;
  }

  /** The declared length of the body (RFC 9113 section 8.1.1). */
  readLength(endStream: boolean, maxBodyBytes: number): number | undefined {
    if (this.#length === undefined) return undefined;
    const length = readLength(this.#length.value);
    if (length === undefined) throw this.#malformed("content-length is no decimal number");
    if (endStream && length > 0) throw this.#malformed("The body is shorter than content-length");
    if (length > maxBodyBytes || length === Infinity) {
      throw bodyTooLong(length === Infinity ? Infinity : maxBodyBytes);
    }
    return length;
  }

  /** Whether the client waits for 100 (Continue). */
  readExpect(): boolean {
    if (this.#expectsMore) throw unknownExpectation();
    return this.#expectsContinue;
  }

  /** Whether an extended CONNECT asks for a WebSocket (RFC 8441 section 4). */
  readProtocol(announced: boolean): boolean {
    const { protocol } = this;
    if (protocol === undefined) return false;
    if (!announced) throw this.#malformed(":protocol was not announced");
    if (this.method?.value !== "CONNECT") throw this.#malformed(":protocol needs CONNECT");
    if (this.authority === undefined) throw this.#malformed("The request has no :authority");
    if (protocol.value === "websocket") return true;
    throw new HttpError(501, "NOT_IMPLEMENTED", "The protocol is not known: use websocket");
  }

  /**
   * Puts a `Host` in the place of the last pseudo-field if there is none; returns the place of the
   * first field.
   */
  showHost(fields: Field[]): number {
    if (this.#host !== undefined || this.authority === undefined) return this.#pseudo;
    fields[this.#pseudo - 1] = this.authority.host!;
    return this.#pseudo - 1;
  }

  #malformed(why: string): Http2Fault {
    return malformed(this.#streamId, why);
  }
}

function malformed(streamId: number, why: string): Http2Fault {
  return streamFault(streamId, ErrorCode.ProtocolError, why);
}

function unusualMethod(streamId: number, method: string): Http2Fault | HttpError {
  return isToken(method) ? unknownMethod() : malformed(streamId, "The method is not a token");
}

/**
 * Whether two that were sent mean the same host: their letter case says nothing (RFC 9110 section
 * 4.2.3).
 */
function equalHosts(one: string, other: string): boolean {
  return one === other || one.toLowerCase() === other.toLowerCase();
}

function splitTarget(target: string): Target {
  const question = target.indexOf("?");
  if (question < 0) return { path: target, query: "" };
  return { path: target.slice(0, question), query: target.slice(question + 1) };
}

/** Joins split `Cookie` fields in the place of the first (RFC 9113 section 8.2.3). */
function joinCookies(fields: Field[]): void {
  const crumbs = fields.filter(({ kind }) => kind === FieldKind.Cookie).map(({ value }) => value);
  let kept = 0;
  let joined = false;
  for (const field of fields) {
    if (field.kind !== FieldKind.Cookie) fields[kept++] = field;
    else if (!joined) fields[kept++] = new Field("cookie", crumbs.join("; "));
    joined ||= field.kind === FieldKind.Cookie;
  }
  fields.length = kept;
}

/**
 * The fields with which HTTP/1.1 would have asked for the WebSocket. HTTP/2 needs no key (RFC 8441
 * section 5): the one that is shown is made up here, and its answer is never sent.
 */
function askForUpgrade(fields: readonly Field[], skip: number): Field[] {
  const own = fields.slice(skip).filter(({ name }) => name !== "sec-websocket-key");
  const key = new Field("sec-websocket-key", randomBytes(16).toString("base64"));
  return [...own, ...UPGRADE_FIELDS, key];
}
