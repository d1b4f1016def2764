/**
 * The heads and trailers of responses as field blocks (RFC 9113 section 8.3.2).
 *
 * Most answers of a server are equal, but for their length. So the heads that were sent before are
 * kept as a tree: a path from its root is a head, a field after the other. Where an answer goes on
 * along a path, nothing is checked or encoded again, and at its end the block is found that was sent
 * last time.
 *
 * @module
 */
import { concat } from "../bytes.ts";
import { dateNow } from "../http/date.ts";
import {
  assertFieldValue,
  assertStatus,
  badResponse,
  type Fields,
  Role,
  roleOf,
} from "../http/response_rules.ts";
import { encodeField, isSensitive } from "./hpack/encoder.ts";

/** How many fields are kept, in all heads; then the tree begins anew. */
const MAX_KEPT = 1_000;

/** A longer field is not kept. */
const MAX_KEPT_BYTES = 1_024;

/** How many fields may follow the same one, and how many blocks end with it; the oldest go first. */
const MAX_BRANCHES = 8;

/** A block that ends with a field. */
interface Ending {
  readonly length: number | undefined;
  /** The `Date` that was added, if one was. */
  readonly date: string | undefined;
  readonly block: Uint8Array;
}

let kept = 0;

/** A head as far as it goes. It never changes: adding a field gives another one. */
export class PartialHead {
  readonly #before: PartialHead | undefined;
  readonly #name: string;
  readonly #value: string;
  readonly #bytes: Uint8Array;
  /** Whether it is part of the tree. */
  readonly #kept: boolean;
  #branches: PartialHead[] | undefined;
  #nextBranch = 0;
  #endings: Ending[] | undefined;
  #nextEnding = 0;

  /** Makes a head that goes on from another with a field, or begins with one. */
  constructor(before: PartialHead | undefined, name: string, value: string, isKept: boolean) {
    this.#before = before;
    this.#name = name;
    this.#value = value;
    this.#bytes = name === "" ? new Uint8Array(0) : encodeField(name.toLowerCase(), value);
    this.#kept = isKept && this.#bytes.length <= MAX_KEPT_BYTES;
  }

  /**
   * Adds a field.
   *
   * @throws {HttpError} `BAD_RESPONSE` for a name or value that HTTP does not allow
   */
  field(name: string, value: string): PartialHead {
    const branches = this.#branches;
    if (branches !== undefined) {
      for (let i = 0; i < branches.length; i++) {
        const branch = branches[i]!;
        if (branch.#name === name && branch.#value === value) return branch;
      }
    }
    return this.#branch(name, value);
  }

  #branch(name: string, value: string): PartialHead {
    roleOf(name);
    assertFieldValue(name, value);
    const branch = new PartialHead(
      this,
      name,
      value,
      this.#kept && !isSensitive(name.toLowerCase()),
    );
    if (branch.#kept) {
      const branches = this.#branches ??= [];
      branches[this.#nextBranch] = branch;
      this.#nextBranch = (this.#nextBranch + 1) % MAX_BRANCHES;
      if (++kept > MAX_KEPT) forget();
    }
    return branch;
  }

  /**
   * Returns the block of the whole head, which must not be changed, with a `Content-Length` where one
   * is given, and with the `Date` unless it is among the fields.
   */
  end(length: number | undefined, dated: boolean): Uint8Array {
    const date = dated ? undefined : dateNow();
    const endings = this.#endings;
    if (endings !== undefined) {
      for (let i = 0; i < endings.length; i++) {
        const ending = endings[i]!;
        if (ending.length === length && ending.date === date) return ending.block;
      }
    }
    return this.#end(length, date);
  }

  #end(length: number | undefined, date: string | undefined): Uint8Array {
    const pieces = PartialHead.#pieces(this);
    if (date !== undefined) pieces.push(dateField(date));
    if (length !== undefined) pieces.push(encodeField("content-length", String(length)));
    const block = concat(pieces);
    if (this.#kept) {
      const endings = this.#endings ??= [];
      endings[this.#nextEnding] = { length, date, block };
      this.#nextEnding = (this.#nextEnding + 1) % MAX_BRANCHES;
    }
    return block;
  }

  static #pieces(last: PartialHead): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    for (let head: PartialHead | undefined = last; head !== undefined; head = head.#before) {
      pieces.push(head.#bytes);
    }
    return pieces.reverse();
  }
}

let dateText = "";
let dateBytes: Uint8Array = new Uint8Array(0);

function dateField(date: string): Uint8Array {
  if (date !== dateText) {
    dateText = date;
    dateBytes = encodeField("date", date);
  }
  return dateBytes;
}

/** The beginnings of all heads, by status, and of all trailer sections, in the place of 0. */
let roots: (PartialHead | undefined)[] = [];

function forget(): void {
  roots = [];
  kept = 0;
}

/**
 * Begins the head of a response.
 *
 * @throws {HttpError} `BAD_RESPONSE` for a status that HTTP/2 does not allow
 */
export function beginHead(status: number): PartialHead {
  return roots[status] ??= firstOf(status);
}

function firstOf(status: number): PartialHead {
  assertStatus(status);
  if (status === 101) throw badResponse("HTTP/2 has no status 101: it opens tunnels with 200");
  return new PartialHead(undefined, ":status", String(status), true);
}

/**
 * The block of an interim response, or of the answer that opens a tunnel. Fields that belong to a
 * connection of HTTP/1.1 are left out.
 *
 * @throws {HttpError} `BAD_RESPONSE` for a name, value or status that HTTP/2 does not allow
 */
export function encodeHead(status: number, fields: Fields): Uint8Array {
  return endToEnd(beginHead(status), fields).end(undefined, true);
}

/** What answers the key that `Http2RequestHead` makes up; a client of HTTP/2 has sent none. */
const ACCEPT = "sec-websocket-accept";

/**
 * The block that opens a tunnel in the place of a 101 with these fields (RFC 8441 section 5).
 *
 * @throws {HttpError} `BAD_RESPONSE` for a name or value that HTTP does not allow
 */
export function encodeTunnelHead(fields: Fields): Uint8Array {
  return encodeHead(200, [...fields].filter(([name]) => name.toLowerCase() !== ACCEPT));
}

/**
 * The block of a trailer section. Fields that belong to a connection of HTTP/1.1 are left out.
 *
 * @throws {HttpError} `BAD_RESPONSE` for a name or value that HTTP does not allow
 */
export function encodeTrailers(fields: Fields): Uint8Array {
  const root = roots[0] ??= new PartialHead(undefined, "", "", true);
  return endToEnd(root, fields).end(undefined, true);
}

function endToEnd(head: PartialHead, fields: Fields): PartialHead {
  for (const [name, value] of fields) {
    const role = roleOf(name);
    if (role === Role.HopByHop || role === Role.Connection || role === Role.Upgrade) continue;
    head = head.field(name, value);
  }
  return head;
}
