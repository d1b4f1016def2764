/**
 * The heads and trailers of responses as field blocks (RFC 9113 section 8.3.2).
 *
 * Most answers of a server differ in a few values only. So what they share is kept as a tree, in
 * which a path from the root is the beginning of a head, field by field. A field that is found
 * there was checked and encoded before. A name that has many values, such as ETag, is not kept: its
 * fields go behind the others, since the order of names means nothing (RFC 9110 section 5.3).
 *
 * @module
 */
import { NO_BYTES } from "../bytes.ts";
import { dateNow } from "../http/date.ts";
import {
  assertFieldValue,
  assertStatus,
  badResponse,
  type Fields,
  Role,
  roleOf,
} from "../http/response_rules.ts";
import { encodeField, encodeLength, isSensitive, mostBytes } from "./hpack/encoder.ts";

/** How many fields are kept in all; then the tree is cleared. */
const MAX_KEPT = 1_000;

/** A longer field is not kept, nor the bytes of a longer head. */
const MAX_KEPT_BYTES = 2_048;

/** How many fields may follow the same one in the tree, and how many of those have the same name. */
const MAX_BRANCHES = 32;
const MAX_VALUES = 8;

/** A field in the tree, behind those on its path. */
class Node {
  readonly before: Node | undefined;
  readonly name: string;
  readonly value: string;
  #branches: Node[] = [];
  /** The encoded path, once that was needed twice. */
  #bytes: Uint8Array | undefined = undefined;
  #wasEncoded = false;
  // The block that was made of it last:
  #block: Uint8Array | undefined = undefined;
  #length: number | undefined = undefined;
  #date: string | undefined = undefined;

  constructor(before: Node | undefined, name: string, value: string) {
    this.before = before;
    this.name = name;
    this.value = value;
  }

  /** Finds the field that follows; `undefined` when it is not in the tree. */
  find(name: string, value: string): Node | undefined {
    const branches = this.#branches;
    for (let i = 0; i < branches.length; i++) {
      const branch = branches[i]!;
      if (branch.name === name && branch.value === value) return branch;
    }
    return undefined;
  }

  /** Adds a field that was checked; `undefined` when it is not to be kept. */
  add(name: string, lowerName: string, value: string): Node | undefined {
    if (name.length + value.length > MAX_KEPT_BYTES) return undefined;
    if (tree.varying.has(name) || isSensitive(lowerName)) return undefined;
    const others = this.#branches.filter((branch) => branch.name !== name);
    if (this.#branches.length - others.length === MAX_VALUES) {
      tree.varying.add(name);
      this.#branches = others;
      return undefined;
    }
    if (this.#branches.length === MAX_BRANCHES) this.#branches = [];
    if (++tree.size > MAX_KEPT) forget();
    const branch = new Node(this, name, value);
    this.#branches.push(branch);
    return branch;
  }

  /** The block that was made of it last, if that ended in the same way. */
  lastBlock(length: number | undefined, date: string | undefined): Uint8Array | undefined {
    return this.#length === length && this.#date === date ? this.#block : undefined;
  }

  /** Keeps a block, of a path that was seen before. */
  keepBlock(block: Uint8Array, length: number | undefined, date: string | undefined): void {
    if (this.#bytes === undefined) return;
    this.#block = block;
    this.#length = length;
    this.#date = date;
  }

  /** Encodes the path; the bytes are good until the next is encoded. */
  encode(): Uint8Array {
    if (this.#bytes !== undefined) return this.#bytes;
    const path: Node[] = [this];
    let known = this.before;
    while (known !== undefined && known.#bytes === undefined) {
      path.push(known);
      known = known.before;
    }
    let end = 0;
    if (known !== undefined) {
      scratch.set(known.#bytes!);
      end = known.#bytes!.length;
    }
    for (let i = path.length - 1; i >= 0; i--) end = path[i]!.#encodeAt(end);
    return scratch.subarray(0, end);
  }

  #encodeAt(start: number): number {
    const most = start + mostBytes(this.name, this.value);
    if (most > scratch.length) scratch = enlarged(scratch, 2 * most);
    const isRoot = this.name === "";
    const end = isRoot ? start : encodeField(this.name.toLowerCase(), this.value, scratch, start);
    if (this.#wasEncoded && end <= MAX_KEPT_BYTES) this.#bytes = scratch.slice(0, end);
    this.#wasEncoded = true;
    return end;
  }
}

/** What is kept: the fields, and the names of which no more are. */
const tree = {
  size: 0,
  heads: [] as (Node | undefined)[],
  trailers: new Node(undefined, "", ""),
  varying: new Set<string>(),
};

function forget(): void {
  tree.size = 0;
  tree.heads = [];
  tree.trailers = new Node(undefined, "", "");
  tree.varying.clear();
}

/** Where paths are encoded; at most `MAX_KEPT` fields of `MAX_KEPT_BYTES`. */
let scratch = new Uint8Array(2 * MAX_KEPT_BYTES);

function enlarged(bytes: Uint8Array, length: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(length);
  larger.set(bytes);
  return larger;
}

/** A head, or a trailer section, as far as it goes. */
export class PartialHead {
  #node: Node;
  /** The fields that are not in the tree, by their names in lower case. */
  #own: Map<string, string[]> | undefined = undefined;

  /** Begins with a field of the tree. */
  constructor(node: Node) {
    this.#node = node;
  }

  /**
   * Adds a field.
   *
   * @throws {HttpError} `BAD_RESPONSE` for a name or value that HTTP does not allow
   */
  field(name: string, value: string): this {
    const found = this.#own === undefined ? this.#node.find(name, value) : undefined;
    if (found === undefined) this.#addField(name, value);
    else this.#node = found;
    return this;
  }

  #addField(name: string, value: string): void {
    roleOf(name);
    assertFieldValue(name, value);
    const lower = name.toLowerCase();
    const values = this.#own?.get(lower); // those of one name keep their order
    if (values !== undefined) return void values.push(value);
    const node = this.#node.find(name, value) ?? this.#node.add(name, lower, value);
    if (node !== undefined) this.#node = node;
    else (this.#own ??= new Map()).set(lower, [value]);
  }

  /**
   * Returns the block, which must not be changed: with a `Content-Length` where one is given, and
   * with the `Date` unless that is among the fields.
   */
  end(length: number | undefined, dated: boolean): Uint8Array {
    const date = dated ? undefined : dateNow();
    const node = this.#node;
    if (this.#own !== undefined) return this.#block(length, date, this.#own);
    const last = node.lastBlock(length, date);
    if (last !== undefined) return last;
    const block = this.#block(length, date, NO_FIELDS);
    node.keepBlock(block, length, date);
    return block;
  }

  #block(
    length: number | undefined,
    date: string | undefined,
    own: ReadonlyMap<string, readonly string[]>,
  ): Uint8Array {
    const path = this.#node.encode();
    let most = path.length + MOST_END_BYTES;
    for (const [name, values] of own) {
      for (const value of values) most += mostBytes(name, value);
    }
    const start = reserve(most);
    arena.set(path, start);
    let end = start + path.length;
    for (const [name, values] of own) {
      for (const value of values) end = encodeField(name, value, arena, end);
    }
    if (date !== undefined) {
      const bytes = dateBytes(date);
      arena.set(bytes, end);
      end += bytes.length;
    }
    if (length !== undefined) end = encodeLength(length, arena, end);
    arenaUsed = end;
    return arena.subarray(start, end);
  }
}

const NO_FIELDS: ReadonlyMap<string, readonly string[]> = new Map();

/** The most bytes of a `Date` and a `Content-Length`. */
const MOST_END_BYTES = 96;

/** How much memory is taken at a time; little, since a block that is kept keeps all of it. */
const ARENA_BYTES = 2_048;

/** The memory that blocks are parts of. What was handed out is never written again. */
let arena: Uint8Array<ArrayBuffer> = NO_BYTES;
let arenaUsed = 0;

/** Finds room for so many bytes in the arena; returns where it begins. */
function reserve(length: number): number {
  if (arenaUsed + length > arena.length) {
    arena = new Uint8Array(Math.max(length, ARENA_BYTES));
    arenaUsed = 0;
  }
  return arenaUsed;
}

let lastDate = "";
let lastDateBytes: Uint8Array = NO_BYTES;

/** The encoded `Date`; made once a second. */
function dateBytes(date: string): Uint8Array {
  if (date !== lastDate) {
    lastDate = date;
    const bytes = new Uint8Array(mostBytes("date", date));
    lastDateBytes = bytes.subarray(0, encodeField("date", date, bytes, 0));
  }
  return lastDateBytes;
}

/**
 * Begins the head of a response.
 *
 * @throws {HttpError} `BAD_RESPONSE` for a status that HTTP/2 does not allow
 */
export function beginHead(status: number): PartialHead {
  return new PartialHead(tree.heads[status] ??= firstOf(status));
}

function firstOf(status: number): Node {
  assertStatus(status);
  if (status === 101) throw badResponse("HTTP/2 has no status 101: it opens tunnels with 200");
  return new Node(undefined, ":status", String(status));
}

/**
 * The block of an interim response, or of the answer that opens a tunnel. Fields that belong to a
 * connection of HTTP/1.1 are left out.
 *
 * @throws {HttpError} `BAD_RESPONSE` for a name, value or status that HTTP/2 does not allow
 */
export function encodeHead(status: number, fields: Fields): Uint8Array {
  return addAll(beginHead(status), fields).end(undefined, true);
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
  return addAll(new PartialHead(tree.trailers), fields).end(undefined, true);
}

function addAll(head: PartialHead, fields: Fields): PartialHead {
  for (const [name, value] of fields) {
    const role = roleOf(name);
    if (role === Role.HopByHop || role === Role.Connection || role === Role.Upgrade) continue;
    head.field(name, value);
  }
  return head;
}
