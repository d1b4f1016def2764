/**
 * Collects a ClientHello from the first bytes of a connection, before TLS sees them (RFC 8446
 * section 5.1; RFC 5246 for TLS 1.2; RFC 6101 for SSL 2.0, which is recognized to be refused).
 *
 * Sans I/O: bytes in, answer out. The reader only looks; the TLS stack behind it gets the same bytes
 * and decides everything that is not checked here.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { asBuffer, NO_BUFFER } from "../buffer.ts";
import { TlsError } from "../errors.ts";
import type { Alert } from "./alerts.ts";
import { type ClientHello, parseClientHello } from "./client_hello.ts";
import { bad, Cursor, Unreadable } from "./presentation.ts";

/** A ClientHello must be complete in so many bytes, record headers included: rustls's limit. */
const MAX_BYTES = 64 * 1024;

const RECORD_HEADER_BYTES = 5;
/** The longest record that rustls accepts; RFC 8446 section 5.1 and BoringSSL allow 2^14. */
const MAX_RECORD_BYTES = 2 ** 14 + 2048;
const RECORD_HANDSHAKE = 22;
/** The other records that a TLS client sends, but not first: ChangeCipherSpec, application data … */
const RECORDS_OUT_OF_PLACE = [20, 23, 24];

const HANDSHAKE_HEADER_BYTES = 4;
const HANDSHAKE_CLIENT_HELLO = 1;

/** The answer of {@linkcode ClientHelloReader.push}. */
export type PeekResult =
  /** More bytes are needed. */
  | { readonly state: "need" }
  /** The ClientHello is complete. */
  | { readonly state: "hello"; readonly hello: ClientHello }
  | BadHello;

/** The bytes are not a ClientHello. */
export interface BadHello {
  readonly state: "error";
  /**
   * Why; its code is `TLS_NOT_TLS` for other protocols, `TLS_VERSION` for SSL 2.0, else
   * `TLS_BAD_CLIENT_HELLO`.
   */
  readonly error: TlsError;
  /** The alert for the client; `undefined` for other protocols. */
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
  #buffer: Buffer = NO_BUFFER;
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
      if (major === 3) throw bad("First record is not a handshake", "unexpected_message");
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
      new TlsError("TLS_NOT_TLS", "First bytes are not a TLS handshake: use https:// on this port"),
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
    throw bad("First handshake message is not a ClientHello", "unexpected_message");
  }
}

/** Whether the bytes are, or may become, the method and the space of a request line (RFC 9112). */
function looksLikeHttp(bytes: Buffer): boolean {
  return /^[A-Z-]{1,16}(?: |$)/.test(bytes.toString("latin1", 0, 17));
}

function tooLong(bytes: number): Unreadable {
  return bad(`ClientHello is longer than ${bytes} bytes`, "illegal_parameter"); // as BoringSSL
}
