/**
 * What a client offers when a handshake begins (RFC 8446 sections 4.1.2 and 4.2; RFC 5246 for TLS 1.2;
 * RFC 6066 section 3 for the server name; RFC 7301 for ALPN), so that a certificate can be chosen by
 * it.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { ja4 } from "./ja4.ts";
import { normalizeName } from "./names.ts";
import { bad, Cursor, isNotGrease, sharedLists } from "./presentation.ts";
import { MAX_SHARED_BYTES, Shared } from "./shared.ts";

const RANDOM_BYTES = 32;
const MAX_SESSION_ID_BYTES = 32;
const MAX_HOST_NAME_BYTES = 255;
const NAME_TYPE_HOST_NAME = 0;

const TLS_1_2 = 0x0303;

const ExtensionType = {
  serverName: 0,
  supportedGroups: 10,
  signatureAlgorithms: 13,
  alpn: 16,
  preSharedKey: 41,
  earlyData: 42,
  supportedVersions: 43,
} as const;

/**
 * What a client offers in its ClientHello.
 *
 * Lists are in the client's order, most preferred first, and empty when the extension is absent.
 * GREASE values (RFC 8701), which mean nothing, are left out of all of them. Numbers are those
 * of the IANA "TLS Parameters" registries.
 */
export interface ClientHello {
  /**
   * The host name asked for (SNI): lower-case, without trailing dot. `undefined` when the client
   * sent none, an IP address (RFC 6066 forbids it, some clients do it), or no valid host name.
   */
  readonly serverName: string | undefined;
  /** The application protocols; each byte of a protocol is one character (Latin-1). */
  readonly alpnProtocols: readonly string[];
  /**
   * The protocol versions, for example `0x0304` for TLS 1.3; see {@linkcode tlsVersionName}.
   * A client that sends no `supported_versions` offers `legacyVersion` or less, at most TLS 1.2.
   */
  readonly versions: readonly number[];
  /** The cipher suites. */
  readonly cipherSuites: readonly number[];
  /** The signature algorithms that the server's certificate may use. */
  readonly signatureAlgorithms: readonly number[];
  /** The key exchange groups ("curves"). */
  readonly groups: readonly number[];
  /** The types of the extensions. */
  readonly extensions: readonly number[];
  /** The version field of the message itself, frozen at TLS 1.2 (`0x0303`) since TLS 1.3. */
  readonly legacyVersion: number;
  /** Whether the client offers to resume a TLS 1.3 session or use an external pre-shared key. */
  readonly hasPreSharedKey: boolean;
  /** Whether the client sends early data (0-RTT) behind the ClientHello. */
  readonly hasEarlyData: boolean;
  /** The JA4 fingerprint, computed when first read. */
  readonly ja4: string;
}

/** Names a protocol version as `node:tls` does, for example `TLSv1.3`; others in hex (`0x7f1c`). */
export function tlsVersionName(version: number): string {
  return VERSION_NAMES.get(version) ?? `0x${version.toString(16).padStart(4, "0")}`;
}

const VERSION_NAMES: ReadonlyMap<number, string> = new Map([
  [0x0304, "TLSv1.3"],
  [0x0303, "TLSv1.2"],
  [0x0302, "TLSv1.1"],
  [0x0301, "TLSv1"],
  [0x0300, "SSLv3"],
]);

/**
 * Reads the body of a ClientHello (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2); throws
 * `Unreadable`.
 */
export function parseClientHello(message: Cursor): ClientHello {
  const legacyVersion = message.uint16(); // any: RFC 8446 section 4.2.1 negotiates down
  message.skip(RANDOM_BYTES);
  const sessionId = message.vector8("Session ID");
  if (sessionId.left > MAX_SESSION_ID_BYTES) throw bad("Session ID is longer than 32 bytes");
  const cipherSuites = message.vector16("List of cipher suites").uint16List(CIPHER_SUITES);
  const compressionMethods = message.vector8("List of compression methods");
  if (compressionMethods.left === 0) throw bad("List of compression methods is empty");
  if (!compressionMethods.text().includes("\0")) {
    throw bad("Compression cannot be turned off", "illegal_parameter");
  }

  const extensions = parseExtensions(message);
  const serverName = extensions.get(ExtensionType.serverName);
  const alpn = extensions.get(ExtensionType.alpn);
  const versions = extensions.get(ExtensionType.supportedVersions);
  const signatureAlgorithms = extensions.get(ExtensionType.signatureAlgorithms);
  const groups = extensions.get(ExtensionType.supportedGroups);
  const earlyData = extensions.get(ExtensionType.earlyData);
  earlyData?.end();
  const hello = {
    legacyVersion,
    cipherSuites,
    serverName: serverName && parseServerName(serverName),
    alpnProtocols: alpn ? alpn.shared(ALPN_PROTOCOLS) : NONE,
    versions: versions
      ? versions.only(versions.vector8("List of versions")).uint16List(VERSIONS)
      : legacyVersions(legacyVersion),
    signatureAlgorithms: signatureAlgorithms
      ? parseUint16Vector(signatureAlgorithms, SIGNATURE_ALGORITHMS)
      : NONE,
    groups: groups ? parseUint16Vector(groups, GROUPS) : NONE,
    extensions: typesOf(extensions),
    hasPreSharedKey: extensions.has(ExtensionType.preSharedKey),
    hasEarlyData: earlyData !== undefined,
  };
  return Object.defineProperty(hello, "ja4", JA4) as typeof hello & { readonly ja4: string };
}

/** Computed when read, by one function for all hellos: one of its own for each would take more. */
const JA4: PropertyDescriptor & ThisType<ClientHello> = {
  get() {
    let fingerprint = fingerprints.get(this);
    if (fingerprint === undefined) fingerprints.set(this, fingerprint = ja4(this));
    return fingerprint;
  },
  enumerable: true,
  configurable: true,
};

const fingerprints = new WeakMap<ClientHello, string>();

const CIPHER_SUITES = sharedLists();
const VERSIONS = sharedLists();
const SIGNATURE_ALGORITHMS = sharedLists();
const GROUPS = sharedLists();
const EXTENSIONS = sharedLists();
const ALPN_PROTOCOLS = new Shared((bytes, start, end) =>
  parseAlpn(new Cursor(bytes, ExtensionType.alpn, start, end))
);
const NONE: readonly never[] = Object.freeze([]);

/** The versions of a client that sends no list of them. */
function legacyVersions(legacyVersion: number): readonly number[] {
  scratch.writeUInt16BE(Math.min(legacyVersion, TLS_1_2), 0);
  return VERSIONS.of(scratch, 0, 2);
}

/** Takes what becomes a key of shared lists. */
const scratch = Buffer.alloc(MAX_SHARED_BYTES);

/** The types of the extensions, without GREASE. */
function typesOf(extensions: ReadonlyMap<number, Cursor>): readonly number[] {
  if (2 * extensions.size > scratch.length) {
    return Object.freeze([...extensions.keys()].filter(isNotGrease));
  }
  let length = 0;
  for (const type of extensions.keys()) length = scratch.writeUInt16BE(type, length);
  return EXTENSIONS.of(scratch, 0, length);
}

/** The extensions by type, in order; TLS 1.2 clients may end the message before them. */
function parseExtensions(message: Cursor): Map<number, Cursor> {
  const extensions = new Map<number, Cursor>();
  if (message.left === 0) return extensions;
  const list = message.vector16("List of extensions");
  message.end();
  while (list.left > 0) {
    const type = list.uint16();
    if (extensions.has(type)) throw bad(`Extension ${type} appears twice`);
    if (extensions.has(ExtensionType.preSharedKey)) {
      throw bad("Extension pre_shared_key is not the last one"); // RFC 8446 section 4.2.11
    }
    extensions.set(type, list.vector16(type));
  }
  return extensions;
}

/**
 * Reads the server name (RFC 6066 section 3). `host_name` is the only type there is and may be there
 * once, so the list has one entry.
 */
function parseServerName(extension: Cursor): string | undefined {
  const list = extension.only(extension.vector16("List of server names"));
  if (list.uint8() !== NAME_TYPE_HOST_NAME) throw bad("Server name is not a host name");
  const name = list.only(list.vector16("Server name")).text();
  if (name.length === 0) throw bad("Server name is empty");
  if (name.length > MAX_HOST_NAME_BYTES) throw bad("Server name is longer than 255 bytes");
  if (name.includes("\0")) throw bad("Server name has a NUL");
  return /[\x80-\xff]/.test(name) ? undefined : normalizeName(name);
}

/** Reads the application protocols (RFC 7301 section 3.1). */
function parseAlpn(extension: Cursor): string[] {
  const list = extension.only(extension.vector16("List of protocols"));
  const protocols: string[] = [];
  do {
    const protocol = list.vector8("Protocol").text();
    if (protocol.length === 0) throw bad("Protocol is empty");
    const isGrease = protocol.length === 2 &&
      !isNotGrease(protocol.charCodeAt(0) << 8 | protocol.charCodeAt(1));
    if (!isGrease) protocols.push(protocol);
  } while (list.left > 0);
  return protocols;
}

function parseUint16Vector(extension: Cursor, lists: Shared<number[]>): readonly number[] {
  return extension.only(extension.vector16("List in an extension")).uint16List(lists);
}
