/**
 * One exchange as a line of a log: the Common Log Format, the Combined one of Apache, or JSON with
 * the names of the Elastic Common Schema. Whatever a client sends, a line stays one line of printable
 * ASCII in which only the log's own quotes end a field.
 *
 * @module
 */
import { utf8 } from "../bytes.ts";
import type { ExchangeReport } from "../http/exchange_report.ts";

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

/** Makes the record of an exchange. */
export function accessRecord(exchange: ExchangeReport): AccessRecord {
  const { session, status, ended, firstByteMs } = exchange;
  const { tls, remoteAddress, remotePort } = session;
  const failed = ended !== "whole" || (status !== undefined && status >= 500);
  return present({
    "@timestamp": new Date(exchange.receivedAt).toISOString(),
    "event.kind": "event",
    "event.category": ["web"],
    "event.type": ["access"],
    "event.dataset": "httpsd.access",
    "event.duration": Math.round(exchange.durationMs * 1e6),
    "event.outcome": failed ? "failure" : "success",
    "source.ip": remoteAddress === "" ? undefined : remoteAddress,
    "source.port": remotePort === 0 ? undefined : remotePort,
    "http.version": exchange.version,
    "http.request.method": exchange.method,
    "http.request.body.bytes": exchange.requestBytes,
    "http.request.referrer": exchange.get("referer"),
    "http.response.status_code": status,
    "http.response.body.bytes": exchange.responseBytes,
    "url.original": exchange.target,
    "url.path": exchange.path,
    "url.query": exchange.query === "" ? undefined : exchange.query,
    "url.scheme": tls === undefined ? "http" : "https",
    "url.domain": exchange.host,
    "user_agent.original": exchange.get("user-agent"),
    "tls.version": tls?.protocol.replace(/^TLSv/, ""),
    "tls.version_protocol": tls && "tls",
    "tls.cipher": tls?.cipher,
    "tls.resumed": tls?.resumed,
    "tls.next_protocol": tls?.alpn,
    "tls.client.server_name": tls?.sni,
    "tls.client.subject": tls?.authorized ? tls.peerCertificate?.subject : undefined,
    "trace.id": exchange.trace?.traceId,
    "error.code": exchange.error?.code,
    "httpsd.route": exchange.route,
    "httpsd.session": session.id,
    "httpsd.ended": ended,
    "httpsd.first_byte_ms": firstByteMs,
  });
}

type WithUndefined<T> = { [K in keyof T]: T[K] | undefined };

function present(record: WithUndefined<AccessRecord>): AccessRecord {
  const known: Record<string, unknown> = {};
  for (const name in record) {
    const value = record[name as keyof AccessRecord];
    if (value !== undefined) known[name] = value;
  }
  return known as unknown as AccessRecord;
}

/** Makes a line of an exchange, without its end. */
export function accessLine(exchange: ExchangeReport, format: AccessLogFormat): string {
  switch (format) {
    case "json":
      return json(accessRecord(exchange));
    case "common":
      return common(exchange);
    case "combined":
      return `${common(exchange)} ${quoted(exchange.get("referer"))} ` +
        quoted(exchange.get("user-agent"));
  }
}

/** Deletes nothing: what is not ASCII, and DEL, as JSON's `\u` escapes. */
function json(record: AccessRecord): string {
  return JSON.stringify(record).replace(
    /[\x7f-\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** `host - user [time] "request" status bytes` (NCSA httpd). */
function common(exchange: ExchangeReport): string {
  const { session, method, target, version, status, responseBytes, receivedAt } = exchange;
  const { remoteAddress, tls } = session;
  const user = tls?.authorized ? tls.peerCertificate?.subject : undefined;
  const request = method === undefined ? "-" : escaped(`${method} ${target} HTTP/${version}`);
  return `${remoteAddress || "-"} - ${user ? word(user) : "-"} [${clfTime(receivedAt)}] ` +
    `"${request}" ${status ?? "-"} ${responseBytes || "-"}`;
}

function quoted(value: string | undefined): string {
  return value === undefined ? '"-"' : `"${escaped(value)}"`;
}

const PLAIN = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

/** A text without quotes, backslashes and anything but printable ASCII, which are `\xhh`. */
function escaped(text: string): string {
  return PLAIN.test(text) ? text : text.replace(/[^\x20\x21\x23-\x5b\x5d-\x7e]+/g, hex);
}

/** The same in a field that a space would end. */
function word(text: string): string {
  return escaped(text).replaceAll(" ", "\\x20");
}

/** Characters of a field are its bytes; others, which only texts of the program have, are UTF-8. */
function hex(text: string): string {
  let shown = "";
  for (const character of text) {
    const code = character.codePointAt(0)!;
    for (const byte of code > 0xff ? utf8(character) : [code]) {
      shown += `\\x${byte.toString(16).padStart(2, "0")}`;
    }
  }
  return shown;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun"]
  .concat(["Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]);

let shownSecond = NaN;
let shownTime = "";

/** A time as `10/Oct/2000:13:55:36 +0000`; kept for the second that it is for. */
function clfTime(time: number): string {
  const second = Math.floor(time / 1000);
  if (second === shownSecond) return shownTime;
  const date = new Date(time);
  const iso = date.toISOString();
  shownSecond = second;
  const month = MONTHS[date.getUTCMonth()]!;
  return shownTime = `${iso.slice(8, 10)}/${month}/${iso.slice(0, 4)}:${iso.slice(11, 19)} +0000`;
}
