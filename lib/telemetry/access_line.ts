/**
 * One exchange as a line of a log: the Common Log Format, the Combined one of Apache, or JSON with
 * the names of the Elastic Common Schema. Whatever a client sends, a line stays one line of printable
 * ASCII in which only the log's own quotes end a field.
 *
 * @module
 */
import { utf8 } from "../bytes.ts";
import type { ExchangeReport } from "../http/exchange_report.ts";
import type { HttpVersion } from "../http/request_head.ts";
import type { TlsInfo } from "../tls/tls_info.ts";
import { asciiJson, type LineBuffer } from "./line_buffer.ts";

/** The formats by their names. */
export type AccessLogFormat = "common" | "combined" | "json";

/** An exchange with the names of the Elastic Common Schema; what is not known is left out. */
export interface AccessRecord {
  /** When the request's head had come (ISO 8601, UTC). */
  readonly "@timestamp": string;
  /** What it is, for every record. */
  readonly "event.kind": "event";
  /** What it is about, for every record. */
  readonly "event.category": readonly ["web"];
  /** What kind of event it is, for every record. */
  readonly "event.type": readonly ["access"];
  /** Where it comes from, for every record. */
  readonly "event.dataset": "httpsd.access";
  /** How long the exchange took, in ns. */
  readonly "event.duration": number;
  /** `failure`: a status of 500 or more, or no whole answer. */
  readonly "event.outcome": "success" | "failure";
  /** The client's address. */
  readonly "source.ip"?: string;
  /** The client's port. */
  readonly "source.port"?: number;
  /** The version of HTTP: `1.0`, `1.1` or `2`. */
  readonly "http.version": string;
  /** The method as sent; left out where the head could not be read. */
  readonly "http.request.method"?: string;
  /** How long the request's body was, as far as it had come. */
  readonly "http.request.body.bytes"?: number;
  /** The field `Referer`. */
  readonly "http.request.referrer"?: string;
  /** The status; left out where there was no answer. */
  readonly "http.response.status_code"?: number;
  /** How much of the response's body was written. */
  readonly "http.response.body.bytes"?: number;
  /** The target as sent. */
  readonly "url.original"?: string;
  /** The path as sent. */
  readonly "url.path"?: string;
  /** The query as sent, without the `?`. */
  readonly "url.query"?: string;
  /** Whether it came over TLS. */
  readonly "url.scheme": "http" | "https";
  /** The `host[:port]` that the request is for. */
  readonly "url.domain"?: string;
  /** The field `User-Agent`. */
  readonly "user_agent.original"?: string;
  /** The version of TLS, such as `1.3`. */
  readonly "tls.version"?: string;
  /** Which protocol that is a version of. */
  readonly "tls.version_protocol"?: "tls";
  /** The cipher suite. */
  readonly "tls.cipher"?: string;
  /** Whether the handshake resumed an earlier session. */
  readonly "tls.resumed"?: boolean;
  /** The application protocol agreed on. */
  readonly "tls.next_protocol"?: string;
  /** The server name that the client asked for. */
  readonly "tls.client.server_name"?: string;
  /** The subject of the client's certificate, if it was verified. */
  readonly "tls.client.subject"?: string;
  /** The trace that the request belongs to. */
  readonly "trace.id"?: string;
  /** The code of the error that was answered, or that ended the exchange early. */
  readonly "error.code"?: string;
  /** The template of the route. */
  readonly "httpsd.route"?: string;
  /** The session's id. */
  readonly "httpsd.session": number;
  /** `whole`, or who cut the exchange: `client` or `server`. */
  readonly "httpsd.ended"?: string;
  /** How long it took to the head of the response, in ms. */
  readonly "httpsd.first_byte_ms"?: number;
}

/** What the parts of a record are given to, in their order; what is `undefined` is left out. */
interface Parts {
  /** Adds several that many exchanges have in common; always by the same object. */
  shared(members: Partial<AccessRecord>): void;
  /** Adds what is neither of the client's nor of the program's choice. */
  fixed(name: keyof AccessRecord, value: string | undefined): void;
  /** Adds any text. */
  text(name: keyof AccessRecord, value: string | undefined): void;
  /** Adds a number or a truth value. */
  plain(name: keyof AccessRecord, value: number | boolean | undefined): void;
}

/** What every record has. */
const OF_ALL: Partial<AccessRecord> = {
  "event.kind": "event",
  "event.category": Object.freeze(["web"] as const),
  "event.type": Object.freeze(["access"] as const),
  "event.dataset": "httpsd.access",
};

/** What every record of a connection has. */
const ofConnections = new WeakMap<TlsInfo, Partial<AccessRecord>>();

function ofConnection(tls: TlsInfo): Partial<AccessRecord> {
  let members = ofConnections.get(tls);
  if (members === undefined) {
    members = present({
      "tls.version": tls.protocol.replace(/^TLSv/, ""),
      "tls.version_protocol": "tls",
      "tls.cipher": tls.cipher,
      "tls.resumed": tls.resumed,
      "tls.next_protocol": tls.alpn,
      "tls.client.server_name": tls.sni,
      "tls.client.subject": tls.authorized ? tls.peerCertificate?.subject : undefined,
    });
    ofConnections.set(tls, members);
  }
  return members;
}

type WithUndefined<T> = { [K in keyof T]?: T[K] | undefined };

function present(members: WithUndefined<AccessRecord>): Partial<AccessRecord> {
  const known = Object.entries(members).filter(([, value]) => value !== undefined);
  return Object.fromEntries(known);
}

const FIRST_NAME = "@timestamp";

/** Gives the parts of an exchange's record; the first is always the same. */
function giveParts(exchange: ExchangeReport, to: Parts): void {
  const { session, status, ended, target, path, query, firstByteMs } = exchange;
  const { tls, remoteAddress, remotePort } = session;
  const failed = ended !== "whole" || (status !== undefined && status >= 500);
  to.fixed(FIRST_NAME, isoTime(exchange.receivedAt));
  to.shared(OF_ALL);
  to.plain("event.duration", Math.round(exchange.durationMs * 1e6));
  to.fixed("event.outcome", failed ? "failure" : "success");
  to.text("source.ip", remoteAddress === "" ? undefined : remoteAddress);
  to.plain("source.port", remotePort === 0 ? undefined : remotePort);
  to.fixed("http.version", exchange.version);
  to.text("http.request.method", exchange.method);
  to.plain("http.request.body.bytes", exchange.requestBytes);
  to.text("http.request.referrer", exchange.get("referer"));
  to.plain("http.response.status_code", status);
  to.plain("http.response.body.bytes", exchange.responseBytes);
  to.text("url.original", target);
  to.text("url.path", path);
  to.text("url.query", query === "" ? undefined : query);
  to.fixed("url.scheme", tls === undefined ? "http" : "https");
  to.text("url.domain", exchange.host);
  to.text("user_agent.original", exchange.get("user-agent"));
  if (tls !== undefined) to.shared(ofConnection(tls));
  to.fixed("trace.id", exchange.trace?.traceId);
  to.text("error.code", exchange.error?.code); // a program's own error may have any
  to.text("httpsd.route", exchange.route);
  to.plain("httpsd.session", session.id);
  to.fixed("httpsd.ended", ended);
  to.plain("httpsd.first_byte_ms", firstByteMs);
}

/** Makes the record of an exchange. */
export function accessRecord(exchange: ExchangeReport): AccessRecord {
  const record: Record<string, unknown> = {};
  const add = (name: string, value: unknown): void => {
    if (value !== undefined) record[name] = value;
  };
  const shared = (members: Partial<AccessRecord>) => Object.assign(record, members);
  giveParts(exchange, { shared, fixed: add, text: add, plain: add });
  return record as unknown as AccessRecord;
}

/** Writes parts as JSON, up to the last brace. */
class JsonParts implements Parts {
  readonly #to: LineBuffer;

  constructor(to: LineBuffer) {
    this.#to = to;
  }

  shared(members: Partial<AccessRecord>): void {
    let shown = shownMembers.get(members);
    if (shown === undefined) {
      shown = utf8(`,${asciiJson(members).slice(1, -1)}`);
      shownMembers.set(members, shown);
    }
    this.#to.addBytes(shown);
  }

  fixed(name: string, value: string | undefined): void {
    if (value === undefined) return;
    this.#to.add(shownName(name));
    this.#to.addQuoted(value);
  }

  text(name: string, value: string | undefined): void {
    if (value === undefined) return;
    this.#to.add(shownName(name));
    this.#to.addJson(value);
  }

  plain(name: string, value: number | boolean | undefined): void {
    if (value === undefined) return;
    this.#to.add(shownName(name));
    this.#to.add(String(value));
  }
}

const shownMembers = new WeakMap<Partial<AccessRecord>, Uint8Array>();
const shownNames = new Map<string, string>();

/** A name as JSON has it before its value; kept, since there are few. */
function shownName(name: string): string {
  let shown = shownNames.get(name);
  if (shown === undefined) {
    shown = name === FIRST_NAME ? `{"${name}":` : `,"${name}":`;
    shownNames.set(name, shown);
  }
  return shown;
}

/** Writes a line of an exchange, with its end. */
export function writeLine(
  exchange: ExchangeReport,
  format: AccessLogFormat,
  to: LineBuffer,
): void {
  switch (format) {
    case "json":
      giveParts(exchange, new JsonParts(to));
      return to.add("}\n");
    case "common":
      writeCommon(exchange, to);
      return to.add("\n");
    case "combined":
      writeCommon(exchange, to);
      return writeClient(exchange.get("referer"), exchange.get("user-agent"), to);
  }
}

const REQUEST_ENDS: Readonly<Record<HttpVersion, string>> = {
  "1.0": ' HTTP/1.0" ',
  "1.1": ' HTTP/1.1" ',
  "2": ' HTTP/2" ',
};

/** `host - user [time] "request" status bytes` (NCSA httpd). */
function writeCommon(exchange: ExchangeReport, to: LineBuffer): void {
  const { session, method, target = "", version, status, responseBytes, receivedAt } = exchange;
  const { remoteAddress, tls } = session;
  const user = tls?.authorized ? tls.peerCertificate?.subject : undefined;
  to.addEscaped(remoteAddress || "-");
  if (user) {
    to.add(" - ");
    writeWord(user, to);
  } else to.add(" - -");
  to.add(clfTime(receivedAt));
  if (method === undefined) to.add('-" ');
  else {
    to.addEscaped(method);
    to.add(" ");
    to.addEscaped(target);
    to.add(REQUEST_ENDS[version]);
  }
  to.add(status === undefined ? "-" : String(status));
  to.add(" ");
  to.add(responseBytes ? String(responseBytes) : "-");
}

/** ` "referer" "user agent"`, and the line's end. */
function writeClient(
  referer: string | undefined,
  agent: string | undefined,
  to: LineBuffer,
): void {
  if (referer === undefined) to.add(' "-" "');
  else {
    to.add(' "');
    to.addEscaped(referer);
    to.add('" "');
  }
  to.addEscaped(agent ?? "-");
  to.add('"\n');
}

/** Writes text into a field that a space would end. */
function writeWord(text: string, to: LineBuffer): void {
  const [first = "", ...others] = text.split(" ");
  to.addEscaped(first);
  for (const other of others) {
    to.add("\\x20");
    to.addEscaped(other);
  }
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun"]
  .concat(["Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]);

/** The second that was shown last, in both ways. */
let shownSecond = NaN;
let shownClf = "";
let shownIso = "";

function showSecond(second: number): void {
  const date = new Date(second * 1000);
  const iso = date.toISOString();
  const month = MONTHS[date.getUTCMonth()]!;
  const day = `${iso.slice(8, 10)}/${month}/${iso.slice(0, 4)}`;
  shownClf = ` [${day}:${iso.slice(11, 19)} +0000] "`;
  shownIso = iso.slice(0, 20);
  shownSecond = second;
}

/** A time as ` [10/Oct/2000:13:55:36 +0000] "`: with what is around it. */
function clfTime(time: number): string {
  const second = Math.floor(time / 1000);
  if (second !== shownSecond) showSecond(second);
  return shownClf;
}

/** A time as `2000-10-10T13:55:36.123Z`. */
function isoTime(time: number): string {
  const milliseconds = Math.floor(time);
  const second = Math.floor(milliseconds / 1000);
  if (second !== shownSecond) showSecond(second);
  return `${shownIso}${String(milliseconds - second * 1000).padStart(3, "0")}Z`;
}
