/**
 * Reads the ClientHello from the first bytes of a connection, before TLS sees them, so that a
 * certificate can be chosen by it (RFC 8446 sections 4.1.2, 4.2 and 5.1; RFC 5246 for TLS 1.2;
 * RFC 6066 section 3 for the server name; RFC 7301 for ALPN; RFC 8701 for GREASE).
 *
 * Sans I/O: bytes in, answer out. The reader only looks; the TLS stack behind it gets the same bytes
 * and has the last word on everything that is not checked here.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { TlsError } from "../errors.ts";
import type { Alert } from "./alerts.ts";
import { ja4 } from "./ja4.ts";
import { normalizeName } from "./names.ts";

/** A ClientHello must be complete in so many bytes, record headers included: rustls's limit. */
const MAX_BYTES = 64 * 1024;

const RECORD_HEADER_BYTES = 5;
/** What rustls takes of a record; RFC 8446 section 5.1 has 2^14, and BoringSSL holds to that. */
const MAX_RECORD_BYTES = 2 ** 14 + 2048;
const RECORD_HANDSHAKE = 22;
/** The other records that a TLS client sends, but not first: ChangeCipherSpec, application data … */
const RECORDS_OUT_OF_PLACE = [20, 23, 24];

const HANDSHAKE_HEADER_BYTES = 4;
const HANDSHAKE_CLIENT_HELLO = 1;

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
 * GREASE values (RFC 8701), which stand for nothing, are left out of all of them. Numbers are those
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

/** The answer of {@linkcode ClientHelloReader.push}. */
export type PeekResult =
  /** Nothing can be said yet. */
  | { readonly state: "need" }
  /** The ClientHello is complete. */
  | { readonly state: "hello"; readonly hello: ClientHello }
  | BadHello;

/** There is no ClientHello and there will be none. */
export interface BadHello {
  readonly state: "error";
  /**
   * Why; its code is `TLS_NOT_TLS` for other protocols, `TLS_VERSION` for SSL 2.0, else
   * `TLS_BAD_CLIENT_HELLO`.
   */
  readonly error: TlsError;
  /** The alert that says it to the client; `undefined` for other protocols. */
  readonly alert: Alert | undefined;
  /** Whether the bytes may begin a plain HTTP request. */
  readonly looksLikeHttp: boolean;
}

const NEED: PeekResult = { state: "need" };

/**
 * Collects the first bytes of a connection until they make a ClientHello, however they are cut into
 * pieces and TLS records.
 *
 * It holds what was pushed, at most 64 KiB and the last piece (and as much to grow), and looks at
 * each byte a fixed number of times. No input makes it throw.
 */
export class ClientHelloReader {
  #buffer: Buffer = NO_BYTES;
  #length = 0;

  /** How far the records have been walked. */
  #walked = 0;
  /** How many bytes of the current record are still to be walked. */
  #recordLeft = 0;
  /** How many bytes of the handshake message have been walked. */
  #messageLength = 0;
  /** How many it will have, known once its header is there. */
  #messageEnd: number | undefined;
  /** The header: one byte of type, three of length. */
  #messageHeader = 0;

  #result: PeekResult = NEED;
  readonly #maxMessageBytes: number;

  /** Makes a reader that takes hellos of so many bytes at the most, and never more than 64 KiB. */
  constructor(maxMessageBytes: number = MAX_BYTES) {
    this.#maxMessageBytes = maxMessageBytes;
  }

  /** All bytes that were pushed, for `socket.unshift()`: a view, valid until the next push. */
  get bytes(): Buffer {
    return this.#length === this.#buffer.length
      ? this.#buffer
      : this.#buffer.subarray(0, this.#length);
  }

  /**
   * Takes the next bytes. They are copied unless they are the first and have the answer in them, as
   * those of nearly every client. Once the answer is not `need` it stays what it is, and further
   * bytes are only kept for {@linkcode ClientHelloReader.bytes}.
   */
  push(bytes: Uint8Array): PeekResult {
    if (this.#length === 0) {
      this.#buffer = asBuffer(bytes);
      this.#length = bytes.length;
      this.#result = this.#read();
      if (this.#result.state === "need") this.#buffer = Buffer.from(this.#buffer);
    } else {
      this.#append(bytes);
      if (this.#result.state === "need") this.#result = this.#read();
    }
    return this.#result;
  }

  #append(bytes: Uint8Array): void {
    const length = this.#length + bytes.length;
    if (length > this.#buffer.length) {
      const grown = Buffer.alloc(Math.max(length, this.#buffer.length * 2));
      grown.set(this.bytes);
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, this.#length);
    this.#length = length;
  }

  #read(): PeekResult {
    try {
      if (!this.#isTls() || !this.#walk()) return NEED;
      return { state: "hello", hello: parseClientHello(this.#body()) };
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      const { cause, alert } = error;
      return { state: "error", error: cause, alert, looksLikeHttp: looksLikeHttp(this.bytes) };
    }
  }

  /** Whether the first bytes are a handshake record's; `false` while that is open. */
  #isTls(): boolean {
    if (this.#length === 0) return false;
    const type = this.#buffer[0]!;
    const major = this.#length > 1 ? this.#buffer[1] : undefined;
    const third = this.#length > 2 ? this.#buffer[2] : undefined;
    if (type === RECORD_HANDSHAKE) {
      if (major === undefined) return false;
      if (major === 3) return true;
    } else if (RECORDS_OUT_OF_PLACE.includes(type)) {
      if (major === undefined) return false;
      if (major === 3) throw bad("First record is no handshake", "unexpected_message");
    } else if (type >= 0x80) {
      // An SSL 2.0 hello: length with the high bit set, then message type 1 (RFC 6101 appendix E).
      if (third === undefined) return false;
      if (third === HANDSHAKE_CLIENT_HELLO) {
        throw new Unreadable(
          new TlsError("TLS_VERSION", "Client speaks SSL 2.0: it needs TLS 1.2 or 1.3"),
          "protocol_version",
        );
      }
    }
    throw new Unreadable(
      new TlsError("TLS_NOT_TLS", "First bytes are no TLS handshake: use https:// on this port"),
      undefined,
    );
  }

  /** Goes over the new bytes, record by record; returns whether the message is complete. */
  #walk(): boolean {
    const available = Math.min(this.#length, MAX_BYTES);
    while (this.#walked < available) {
      if (this.#recordLeft === 0) {
        if (available - this.#walked < RECORD_HEADER_BYTES) break;
        this.#recordLeft = recordLength(this.#buffer, this.#walked);
        this.#walked += RECORD_HEADER_BYTES;
      }
      this.#walkRecord(available);
      if (this.#messageLength === this.#messageEnd) {
        if (this.#recordLeft > 0) {
          throw bad("Record goes on behind the ClientHello", "unexpected_message");
        }
        return true;
      }
    }
    if (available === MAX_BYTES) throw tooLong(MAX_BYTES);
    return false;
  }

  /** Goes over as much of the current record as is there and belongs to the message. */
  #walkRecord(available: number): void {
    while (
      this.#messageLength < HANDSHAKE_HEADER_BYTES && this.#recordLeft > 0 &&
      this.#walked < available
    ) {
      this.#messageHeader = this.#messageHeader << 8 | this.#buffer[this.#walked]!;
      this.#step(1);
      if (this.#messageLength === 1) checkMessageType(this.#messageHeader);
      if (this.#messageLength === HANDSHAKE_HEADER_BYTES) {
        this.#messageEnd = HANDSHAKE_HEADER_BYTES + this.#checkedLength();
      }
    }
    if (this.#messageEnd === undefined) return;
    this.#step(Math.min(
      this.#recordLeft,
      available - this.#walked,
      this.#messageEnd - this.#messageLength,
    ));
  }

  #step(bytes: number): void {
    this.#walked += bytes;
    this.#recordLeft -= bytes;
    this.#messageLength += bytes;
  }

  /** The length in the handshake header; more than can ever be served is refused at once. */
  #checkedLength(): number {
    const length = this.#messageHeader & 0xff_ffff;
    const most = Math.min(
      this.#maxMessageBytes,
      MAX_BYTES - RECORD_HEADER_BYTES - HANDSHAKE_HEADER_BYTES,
    );
    if (length > most) throw tooLong(this.#maxMessageBytes);
    return length;
  }

  /** The body of the message, out of its records, all of which were checked by `#walk`. */
  #body(): Cursor {
    if (this.#walked === RECORD_HEADER_BYTES + this.#messageLength) { // one record, as usual
      const start = RECORD_HEADER_BYTES + HANDSHAKE_HEADER_BYTES;
      return new Cursor(this.#buffer, "ClientHello", start, this.#walked);
    }
    const message = Buffer.alloc(this.#messageLength);
    let filled = 0;
    for (let at = 0; at < this.#walked;) {
      const start = at + RECORD_HEADER_BYTES;
      at = start + recordLength(this.#buffer, at);
      message.set(this.#buffer.subarray(start, at), filled);
      filled += at - start;
    }
    return new Cursor(message, "ClientHello", HANDSHAKE_HEADER_BYTES, filled);
  }
}

const NO_BYTES = Buffer.alloc(0);

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
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

/** Checks the record header at `at` and returns the length of its content. */
function recordLength(bytes: Uint8Array, at: number): number {
  if (bytes[at] !== RECORD_HANDSHAKE || bytes[at + 1] !== 3) {
    throw bad("ClientHello is interrupted by another record", "unexpected_message");
  }
  const length = bytes[at + 3]! << 8 | bytes[at + 4]!;
  if (length === 0) throw bad("ClientHello has an empty record");
  if (length > MAX_RECORD_BYTES) {
    throw bad(`Record is longer than ${MAX_RECORD_BYTES} bytes`, "record_overflow");
  }
  return length;
}

function checkMessageType(type: number): void {
  if (type !== HANDSHAKE_CLIENT_HELLO) {
    throw bad("First handshake message is no ClientHello", "unexpected_message");
  }
}

/** Whether the bytes are, or may become, the method and the space of a request line (RFC 9112). */
function looksLikeHttp(bytes: Buffer): boolean {
  return /^[A-Z-]{1,16}(?: |$)/.test(bytes.toString("latin1", 0, 17));
}

/** Reads the body of a ClientHello (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2). */
function parseClientHello(message: Cursor): ClientHello {
  const legacyVersion = message.uint16(); // any: RFC 8446 section 4.2.1 negotiates down
  message.skip(RANDOM_BYTES);
  const sessionId = message.vector8("Session ID");
  if (sessionId.left > MAX_SESSION_ID_BYTES) throw bad("Session ID is longer than 32 bytes");
  const cipherSuites = message.vector16("List of cipher suites").uint16List();
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
  let fingerprint: string | undefined;
  return {
    legacyVersion,
    cipherSuites,
    serverName: serverName && parseServerName(serverName),
    alpnProtocols: alpn ? parseAlpn(alpn) : [],
    versions: versions
      ? versions.only(versions.vector8("List of versions")).uint16List()
      : [Math.min(legacyVersion, TLS_1_2)],
    signatureAlgorithms: signatureAlgorithms ? parseUint16Vector(signatureAlgorithms) : [],
    groups: groups ? parseUint16Vector(groups) : [],
    extensions: [...extensions.keys()].filter(isNotGrease),
    hasPreSharedKey: extensions.has(ExtensionType.preSharedKey),
    hasEarlyData: earlyData !== undefined,
    get ja4(): string {
      return fingerprint ??= ja4(this);
    },
  };
}

/** The extensions by type, in order; TLS 1.2 clients may end the message before them. */
function parseExtensions(message: Cursor): Map<number, Cursor> {
  const extensions = new Map<number, Cursor>();
  if (message.left === 0) return extensions;
  const list = message.vector16("List of extensions");
  message.end();
  while (list.left > 0) {
    const type = list.uint16();
    if (extensions.has(type)) throw bad(`Extension ${type} is there twice`);
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
  if (list.uint8() !== NAME_TYPE_HOST_NAME) throw bad("Server name is no host name");
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

function parseUint16Vector(extension: Cursor): number[] {
  return extension.only(extension.vector16("List in an extension")).uint16List();
}

/** Tells a value from the reserved ones, `0x0a0a`, `0x1a1a` … `0xfafa` (RFC 8701 section 2). */
function isNotGrease(value: number): boolean {
  return (value & 0x0f0f) !== 0x0a0a || value >> 8 !== (value & 0xff);
}

/** Thrown and caught in this file: why the bytes are no ClientHello, and the alert for it. */
class Unreadable extends Error {
  override readonly cause: TlsError;
  readonly alert: Alert | undefined;

  constructor(cause: TlsError, alert: Alert | undefined) {
    super(cause.message, { cause });
    this.cause = cause;
    this.alert = alert;
  }
}

function bad(message: string, alert: Alert = "decode_error"): Unreadable {
  return new Unreadable(new TlsError("TLS_BAD_CLIENT_HELLO", message), alert);
}

function tooLong(bytes: number): Unreadable {
  return bad(`ClientHello is longer than ${bytes} bytes`, "illegal_parameter"); // as BoringSSL
}

/** Reads the presentation language of RFC 8446 section 3; throws `TLS_BAD_CLIENT_HELLO` as {@linkcode Unreadable}. */
class Cursor {
  readonly #bytes: Buffer;
  readonly #name: string | number;
  #at: number;
  readonly #end: number;

  /** Reads `bytes` from `at` to `end`; `name` is what they are, or the type of the extension. */
  constructor(bytes: Buffer, name: string | number, at: number, end: number) {
    this.#bytes = bytes;
    this.#name = name;
    this.#at = at;
    this.#end = end;
  }

  get left(): number {
    return this.#end - this.#at;
  }

  /** Goes over so many bytes, and returns where they begin. */
  skip(length: number): number {
    const start = this.#at;
    if (length > this.#end - start) throw this.#bad("is too short for what it holds");
    this.#at = start + length;
    return start;
  }

  uint8(): number {
    return this.#bytes[this.skip(1)]!;
  }

  uint16(): number {
    const at = this.skip(2);
    return this.#bytes[at]! << 8 | this.#bytes[at + 1]!;
  }

  /** A vector whose length is in one byte. */
  vector8(name: string): Cursor {
    return this.#vector(name, this.uint8());
  }

  /** A vector whose length is in two bytes. */
  vector16(name: string | number): Cursor {
    return this.#vector(name, this.uint16());
  }

  #vector(name: string | number, length: number): Cursor {
    const start = this.skip(length);
    return new Cursor(this.#bytes, name, start, start + length);
  }

  /** All that is left, each byte as one character. */
  text(): string {
    return this.#bytes.toString("latin1", this.skip(this.left), this.#end);
  }

  /** All that is left as 16-bit numbers, one at least, without GREASE. */
  uint16List(): number[] {
    if (this.left === 0 || this.left % 2 !== 0) throw this.#bad("has a wrong length");
    const values: number[] = [];
    while (this.#at < this.#end) {
      const value = this.uint16();
      if (isNotGrease(value)) values.push(value);
    }
    return values;
  }

  /** Demands that nothing is left. */
  end(): void {
    if (this.left > 0) throw this.#bad("has bytes at its end that belong to nothing");
  }

  /** Returns `part` if it was all there was to read. */
  only(part: Cursor): Cursor {
    this.end();
    return part;
  }

  #bad(what: string): Unreadable {
    const name = typeof this.#name === "number" ? `Extension ${this.#name}` : this.#name;
    return bad(`${name} ${what}`);
  }
}
