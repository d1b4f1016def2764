/**
 * Reads the header that a proxy sends before the client's bytes, in version 1 (text) and version 2
 * (binary) of HAProxy's "The PROXY protocol".
 *
 * Sans I/O: bytes in, answer out. Only bytes from trusted proxies should get here: the sender of
 * the header chooses the client's address. Both versions are in one file: the reader recognizes the
 * version by the first byte, and both give the same result.
 *
 * @module
 */
import { Buffer, isUtf8 } from "node:buffer";
import { isIPv4, isIPv6 } from "node:net";
import { asBuffer } from "../buffer.ts";
import { GrowingBytes } from "../bytes.ts";
import { shortAddress } from "../endpoints.ts";
import { ConnectionError } from "../errors.ts";

const V1_SIGNATURE = Buffer.from("PROXY ", "latin1");
const V1_MAX_BYTES = 107; // with CRLF, section 2.1

const V2_SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
const V2_FIXED_BYTES = 16;
/** The cap on what follows the fixed part; the standard's own senders stay far below it. */
const V2_MAX_BYTES = 4096;

const UNIX_PATH_BYTES = 108;
const MAX_UNIQUE_ID_BYTES = 128;
const SSL_FIXED_BYTES = 5;

const TlvType = {
  alpn: 0x01,
  authority: 0x02,
  crc32c: 0x03,
  uniqueId: 0x05,
  ssl: 0x20,
  sslVersion: 0x21,
  sslCommonName: 0x22,
  sslCipher: 0x23,
} as const;

/** One end of the connection that the proxy accepted. */
export interface ProxyEndpoint {
  /** The IP address in its shortest form, or the path of a UNIX socket (empty when unnamed). */
  readonly address: string;
  /** The port; `undefined` for UNIX sockets. */
  readonly port: number | undefined;
}

/** A type-length-value of a version 2 header, as it was sent. */
export interface ProxyTlv {
  /** The type, for example `0x30` for a network namespace. */
  readonly type: number;
  /** The value. */
  readonly value: Uint8Array;
}

/** What the proxy says about the client's TLS (`PP2_TYPE_SSL`, section 2.2.6). */
export interface ProxySsl {
  /** Whether the client connected over TLS. */
  readonly tls: boolean;
  /** Whether the client showed a certificate on this connection. */
  readonly certificateOnConnection: boolean;
  /** Whether the client showed a certificate in this session, which may have been resumed. */
  readonly certificateInSession: boolean;
  /** Whether the client showed a certificate and the proxy verified it. */
  readonly verified: boolean;
  /** The TLS version, for example `TLSv1.3`. */
  readonly version: string | undefined;
  /** The common name in the client's certificate. */
  readonly commonName: string | undefined;
  /** The cipher suite by its OpenSSL name. */
  readonly cipher: string | undefined;
}

/** A whole PROXY header. */
export interface ProxyHeader {
  /** The version of the protocol. */
  readonly version: 1 | 2;
  /** `LOCAL`: the proxy speaks for itself (a health check); `PROXY`: it relays a client. */
  readonly command: "LOCAL" | "PROXY";
  /** The kind of addresses; `unspecified` for version 1 `UNKNOWN`, `LOCAL` and `AF_UNSPEC`. */
  readonly family: "IPv4" | "IPv6" | "unix" | "unspecified";
  /** The client. When `undefined`, the connection's own addresses are the ones to use. */
  readonly source: ProxyEndpoint | undefined;
  /** The address that the client connected to; `undefined` when `source` is. */
  readonly destination: ProxyEndpoint | undefined;
  /** The type-length-values, in order; empty for version 1 and for `LOCAL`. */
  readonly tlvs: readonly ProxyTlv[];
  /** The application protocol agreed with the client, one character per byte (Latin-1). */
  readonly alpn: string | undefined;
  /** The host name that the client asked for (SNI), as sent. */
  readonly authority: string | undefined;
  /** The proxy's identifier of the connection, up to 128 bytes. */
  readonly uniqueId: Uint8Array | undefined;
  /** The client's TLS. */
  readonly ssl: ProxySsl | undefined;
  /** How many bytes the header took. */
  readonly length: number;
}

/** The answer of {@linkcode ProxyHeaderReader.push}. */
export type ProxyResult =
  /** More bytes are needed. */
  | { readonly state: "need" }
  /** The header is complete; `rest` are the pushed bytes behind it. */
  | { readonly state: "done"; readonly header: ProxyHeader; readonly rest: Uint8Array }
  /** The first bytes are not a PROXY header; `rest` are all bytes that were pushed. */
  | { readonly state: "absent"; readonly rest: Uint8Array }
  /** The header breaks the protocol or its caps; `error.code` is `PROXY_HEADER`. */
  | { readonly state: "error"; readonly error: ConnectionError };

const NEED: ProxyResult = { state: "need" };

/**
 * Collects the first bytes of a connection until they make a PROXY header.
 *
 * It holds at most 107 bytes of version 1, and 16 bytes and 4 KiB of version 2; a header that is
 * longer is an error. No input makes it throw. It gives one answer other than `need` and must not be
 * used after it.
 *
 * A `PP2_TYPE_CRC32C` is checked. `UNKNOWN`, `LOCAL` and `AF_UNSPEC` come without addresses.
 */
export class ProxyHeaderReader {
  readonly #taken = new GrowingBytes();

  /** Takes the next bytes. */
  push(bytes: Uint8Array): ProxyResult {
    try {
      return this.#push(bytes);
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
      return { state: "error", error };
    }
  }

  #push(bytes: Uint8Array): ProxyResult {
    // Header bytes are taken as far as the length is known, so that nothing behind it is copied.
    for (let taken = 0;;) {
      const wanted = this.#wanted();
      if (wanted === "absent") {
        return { state: "absent", rest: Buffer.concat([this.#bytes, bytes.subarray(taken)]) };
      }
      if (wanted === 0) {
        // A copy, since what is kept of the header would hold on to the whole buffer.
        const header = parseHeader(this.#bytes.slice());
        return { state: "done", header, rest: bytes.subarray(taken) };
      }
      if (taken === bytes.length) return NEED;
      const piece = bytes.subarray(taken, taken + wanted);
      this.#taken.add(piece, V2_FIXED_BYTES + V2_MAX_BYTES, V1_MAX_BYTES);
      taken += piece.length;
    }
  }

  get #bytes(): Uint8Array {
    return this.#taken.bytes;
  }

  /** How many bytes can be taken at least before there is more to decide; 0 at the end. */
  #wanted(): number | "absent" {
    if (startsLike(this.#bytes, V1_SIGNATURE)) return wantedOfV1(this.#bytes);
    if (startsLike(this.#bytes, V2_SIGNATURE)) return wantedOfV2(this.#bytes);
    return "absent";
  }
}

/** Whether one of the two is the beginning of the other. */
function startsLike(bytes: Uint8Array, signature: Uint8Array): boolean {
  const length = Math.min(bytes.length, signature.length);
  return Buffer.compare(bytes.subarray(0, length), signature.subarray(0, length)) === 0;
}

function wantedOfV1(bytes: Uint8Array): number {
  if (bytes.at(-1) === 0x0a) return 0;
  if (bytes.length === V1_MAX_BYTES) throw bad(`line is longer than ${V1_MAX_BYTES} bytes`);
  return 1;
}

function wantedOfV2(bytes: Uint8Array): number {
  if (bytes.length < V2_SIGNATURE.length) return 1;
  if (bytes.length < V2_FIXED_BYTES) return V2_FIXED_BYTES - bytes.length;
  const length = bytes[14]! << 8 | bytes[15]!;
  if (length > V2_MAX_BYTES) throw bad(`header is longer than ${V2_MAX_BYTES} bytes`);
  return V2_FIXED_BYTES + length - bytes.length;
}

function parseHeader(bytes: Uint8Array): ProxyHeader {
  return bytes[0] === V1_SIGNATURE[0] ? parseV1(bytes) : parseV2(bytes);
}

/** What a header without addresses and type-length-values says. */
const PLAIN = {
  family: "unspecified",
  source: undefined,
  destination: undefined,
  tlvs: [],
  alpn: undefined,
  authority: undefined,
  uniqueId: undefined,
  ssl: undefined,
} as const;

/** Reads the line of version 1, up to its LF (section 2.1). */
function parseV1(bytes: Uint8Array): ProxyHeader {
  const line = latin1(bytes);
  if (!line.endsWith("\r\n")) throw bad("line does not end with CRLF");
  const [
    ,
    protocol,
    source = "",
    destination = "",
    sourcePort = "",
    destinationPort = "",
    ...more
  ] = line.slice(0, -2).split(" ");
  const common = { ...PLAIN, version: 1, command: "PROXY", length: bytes.length } as const;
  // What follows UNKNOWN on the line must be ignored.
  if (protocol === "UNKNOWN") return common;
  if (protocol !== "TCP4" && protocol !== "TCP6") throw bad("line names an unknown protocol");
  if (more.length > 0) throw bad("line has too many fields");

  const isAddress = protocol === "TCP4" ? isIPv4 : isIPv6WithoutZone;
  if (!isAddress(source) || !isAddress(destination)) throw bad("line has a malformed address");
  return {
    ...common,
    family: protocol === "TCP4" ? "IPv4" : "IPv6",
    source: { address: shortAddress(source), port: parsePort(sourcePort) },
    destination: { address: shortAddress(destination), port: parsePort(destinationPort) },
  };
}

function parsePort(text: string): number {
  const port = /^(0|[1-9][0-9]{0,4})$/.test(text) ? Number(text) : NaN;
  if (!(port <= 65535)) throw bad("line has a malformed port");
  return port;
}

/** Reads version 2 (section 2.2). */
function parseV2(bytes: Uint8Array): ProxyHeader {
  const [versionAndCommand, familyAndTransport] = bytes.subarray(V2_SIGNATURE.length);
  const common = { ...PLAIN, version: 2, length: bytes.length } as const;
  // LOCAL: the family and all that follows must be ignored.
  if (versionAndCommand === 0x20) return { ...common, command: "LOCAL" };
  if (versionAndCommand !== 0x21) throw bad("header has an unknown version or command");

  const block = bytes.subarray(V2_FIXED_BYTES);
  const addresses = parseAddresses(familyAndTransport!, block);
  const tlvs = parseTlvs(block.subarray(addresses.length));
  if (tlvs === undefined) throw bad("header ends in the middle of a type-length-value");
  checkCrc32c(bytes, tlvs);
  return {
    ...common,
    command: "PROXY",
    family: addresses.family,
    source: addresses.source,
    destination: addresses.destination,
    tlvs,
    ...readTlvs(tlvs),
  };
}

interface Addresses extends Pick<ProxyHeader, "family" | "source" | "destination"> {
  /** How many bytes of the block they take. */
  length: number;
}

/** Reads the address block; stream and datagram transports look the same in it. */
function parseAddresses(familyAndTransport: number, block: Uint8Array): Addresses {
  switch (familyAndTransport) {
    case 0x00:
      return { family: "unspecified", source: undefined, destination: undefined, length: 0 };
    case 0x11:
    case 0x12:
      return { family: "IPv4", ...parseInternetAddresses(block, 4, (bytes) => bytes.join(".")) };
    case 0x21:
    case 0x22:
      return { family: "IPv6", ...parseInternetAddresses(block, 16, formatIPv6) };
    case 0x31:
    case 0x32:
      return { family: "unix", ...parseUnixAddresses(block) };
    default:
      throw bad("header has an unknown address family or transport");
  }
}

function parseInternetAddresses(
  block: Uint8Array,
  size: number,
  format: (address: Uint8Array) => string,
): Omit<Addresses, "family"> {
  const length = 2 * size + 4;
  if (block.length < length) throw bad("header is too short for its addresses");
  const port = (at: number): number => block[at]! << 8 | block[at + 1]!;
  return {
    source: { address: format(block.subarray(0, size)), port: port(2 * size) },
    destination: { address: format(block.subarray(size, 2 * size)), port: port(2 * size + 2) },
    length,
  };
}

function parseUnixAddresses(block: Uint8Array): Omit<Addresses, "family"> {
  const length = 2 * UNIX_PATH_BYTES;
  if (block.length < length) throw bad("header is too short for its addresses");
  const endpoint = (at: number): ProxyEndpoint => {
    const padded = block.subarray(at, at + UNIX_PATH_BYTES);
    const end = padded.indexOf(0);
    return { address: latin1(end === -1 ? padded : padded.subarray(0, end)), port: undefined };
  };
  return { source: endpoint(0), destination: endpoint(UNIX_PATH_BYTES), length };
}

/** Reads type-length-values to the end; `undefined` when the last one is cut off. */
function parseTlvs(bytes: Uint8Array): ProxyTlv[] | undefined {
  const tlvs: ProxyTlv[] = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes.length - at < 3) return undefined;
    const start = at + 3;
    const end = start + (bytes[at + 1]! << 8 | bytes[at + 2]!);
    if (end > bytes.length) return undefined;
    tlvs.push({ type: bytes[at]!, value: bytes.subarray(start, end) });
    at = end;
  }
  return tlvs;
}

/** Picks the values with a meaning; what is malformed among them stays in `tlvs` only. */
function readTlvs(
  tlvs: readonly ProxyTlv[],
): Pick<ProxyHeader, "alpn" | "authority" | "uniqueId" | "ssl"> {
  const alpn = findTlv(tlvs, TlvType.alpn);
  const authority = findTlv(tlvs, TlvType.authority);
  const uniqueId = findTlv(tlvs, TlvType.uniqueId);
  const ssl = findTlv(tlvs, TlvType.ssl);
  return {
    alpn: alpn && latin1(alpn),
    authority: authority && decodeUtf8(authority),
    uniqueId: uniqueId && uniqueId.length <= MAX_UNIQUE_ID_BYTES ? uniqueId : undefined,
    ssl: ssl && parseSsl(ssl),
  };
}

function findTlv(tlvs: readonly ProxyTlv[], type: number): Uint8Array | undefined {
  return tlvs.find((tlv) => tlv.type === type)?.value;
}

/** Reads `PP2_TYPE_SSL`: flags, the result of the verification (0 is good), type-length-values. */
function parseSsl(value: Uint8Array): ProxySsl | undefined {
  if (value.length < SSL_FIXED_BYTES) return undefined;
  const tlvs = parseTlvs(value.subarray(SSL_FIXED_BYTES));
  if (tlvs === undefined) return undefined;
  const flags = value[0]!;
  const hasCertificate = (flags & 0x06) !== 0;
  const version = findTlv(tlvs, TlvType.sslVersion);
  const commonName = findTlv(tlvs, TlvType.sslCommonName);
  const cipher = findTlv(tlvs, TlvType.sslCipher);
  return {
    tls: (flags & 0x01) !== 0,
    certificateOnConnection: (flags & 0x02) !== 0,
    certificateInSession: (flags & 0x04) !== 0,
    verified: hasCertificate && value.subarray(1, SSL_FIXED_BYTES).every((byte) => byte === 0),
    version: version && latin1(version),
    commonName: commonName && decodeUtf8(commonName),
    cipher: cipher && latin1(cipher),
  };
}

/** Checks the checksum over the whole header, in which it counts as zeros (section 2.2.4). */
function checkCrc32c(header: Uint8Array, tlvs: readonly ProxyTlv[]): void {
  const [checksum, another] = tlvs.filter(({ type }) => type === TlvType.crc32c);
  if (checksum === undefined) return;
  if (another !== undefined || checksum.value.length !== 4) throw bad("checksum is malformed");
  const [a, b, c, d] = checksum.value;
  const expected = (a! << 24 | b! << 16 | c! << 8 | d!) >>> 0;
  const zeroed = Uint8Array.from(header);
  const at = checksum.value.byteOffset - header.byteOffset;
  zeroed.fill(0, at, at + 4);
  if (crc32c(zeroed) !== expected) throw bad("checksum does not match the header");
}

/** The CRC-32C of each byte (RFC 9260 appendix A, reflected). */
const CRC32C_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >>> 1 ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) crc = crc >>> 8 ^ CRC32C_TABLE[(crc ^ byte) & 0xff]!;
  return ~crc >>> 0;
}

function bad(reason: string): ConnectionError {
  return new ConnectionError("PROXY_HEADER", `PROXY header is refused: ${reason}`);
}

function isIPv6WithoutZone(text: string): boolean {
  return isIPv6(text) && !text.includes("%");
}

function formatIPv6(bytes: Uint8Array): string {
  return shortAddress(Buffer.from(bytes).toString("hex").replace(/.{4}(?!$)/g, "$&:"));
}

function latin1(bytes: Uint8Array): string {
  return asBuffer(bytes).toString("latin1");
}

/** Decodes UTF-8; `undefined` when it is malformed. */
function decodeUtf8(bytes: Uint8Array): string | undefined {
  return isUtf8(bytes) ? asBuffer(bytes).toString("utf8") : undefined;
}
