/**
 * JA4: the fingerprint of a TLS client, from its ClientHello.
 *
 * Written from FoxIO's description of JA4, the TLS client fingerprint, which is under the BSD
 * 3-Clause licence. The other members of the JA4+ family are licensed otherwise and are not here.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";

const SERVER_NAME = 0x0000;
const ALPN = 0x0010;
const SUPPORTED_VERSIONS = 0x002b;

const VERSIONS: ReadonlyMap<number, string> = new Map([
  [0x0304, "13"],
  [0x0303, "12"],
  [0x0302, "11"],
  [0x0301, "10"],
  [0x0300, "s3"],
  [0x0002, "s2"],
]);

/** The fields of a ClientHello that the fingerprint is made of, as `ClientHello` describes them. */
export interface Ja4Fields {
  /** The version field of the message itself. */
  readonly legacyVersion: number;
  /** The versions offered. */
  readonly versions: readonly number[];
  /** The cipher suites. */
  readonly cipherSuites: readonly number[];
  /** The types of the extensions. */
  readonly extensions: readonly number[];
  /** The signature algorithms. */
  readonly signatureAlgorithms: readonly number[];
  /** The application protocols. */
  readonly alpnProtocols: readonly string[];
}

/**
 * The JA4 fingerprint of a client that speaks TLS over TCP, 36 characters long.
 *
 * The order of cipher suites and extensions does not count, that of signature algorithms does. The
 * lists must be free of GREASE values, as those of a `ClientHello` are.
 */
export function ja4(hello: Ja4Fields): string {
  const name = hello.extensions.includes(SERVER_NAME) ? "d" : "i";
  const summary =
    `t${version(hello)}${name}${count(hello.cipherSuites)}${count(hello.extensions)}` +
    alpn(hello.alpnProtocols[0] ?? "");

  const extensions = hello.extensions.filter((type) => type !== SERVER_NAME && type !== ALPN);
  const signatures = hello.signatureAlgorithms.map(hex16).join(",");
  const features = sorted(extensions) + (signatures === "" ? "" : `_${signatures}`);
  return `${summary}_${digest(sorted(hello.cipherSuites))}_${digest(features)}`;
}

/** The highest version offered. */
function version(hello: Ja4Fields): string {
  const highest = hello.extensions.includes(SUPPORTED_VERSIONS)
    ? Math.max(...hello.versions)
    : hello.legacyVersion;
  return VERSIONS.get(highest) ?? "00";
}

/** Two digits; 99 means 99 or more. */
function count(list: readonly number[]): string {
  return String(Math.min(list.length, 99)).padStart(2, "0");
}

/** The first and last character of the first protocol, or of its bytes in hex. */
function alpn(protocol: string): string {
  if (protocol === "") return "00";
  const text = isAlphanumeric(protocol.at(0)) && isAlphanumeric(protocol.at(-1))
    ? protocol
    : Buffer.from(protocol, "latin1").toString("hex");
  return `${text.at(0)}${text.at(-1)}`;
}

function isAlphanumeric(character: string | undefined): boolean {
  return /^[0-9A-Za-z]$/.test(character ?? "");
}

function sorted(values: readonly number[]): string {
  return values.map(hex16).sort().join(",");
}

function hex16(value: number): string {
  return value.toString(16).padStart(4, "0");
}

/** The first 12 characters of the SHA-256; zeros for an empty list, as JA4 has it. */
function digest(list: string): string {
  return list === ""
    ? "000000000000"
    : createHash("sha256").update(list).digest("hex").slice(0, 12);
}
