/**
 * One field of a header list, with what a request may do with it (RFC 9113 sections 8.2 and 8.3).
 *
 * A field is checked when it is made. HPACK's tables keep it as it is, so that one which is sent
 * with every request is checked once.
 *
 * @module
 */
import type { Target } from "../http/request_rules.ts";
import { isFieldValue } from "../http/token.ts";

/** What a field is to a request. */
export const FieldKind = {
  /** An ordinary field for the handler. */
  Message: 0,
  /** No request may have it; see {@linkcode whyMalformed}. */
  Malformed: 1,
  /** `:method`. */
  Method: 2,
  /** `:scheme`. */
  Scheme: 3,
  /** `:authority`. */
  Authority: 4,
  /** `:path`. */
  Path: 5,
  /** `:protocol` of an extended CONNECT (RFC 8441 section 4). */
  Protocol: 6,
  /** `Host`. */
  Host: 7,
  /** `Content-Length`. */
  Length: 8,
  /** `Cookie`, which may be split into several fields (RFC 9113 section 8.2.3). */
  Cookie: 9,
  /** `Expect`. */
  Expect: 10,
} as const;

/** One of the values of {@linkcode FieldKind}. */
export type FieldKind = (typeof FieldKind)[keyof typeof FieldKind];

/** The kinds of pseudo-fields lie between these two. */
const FIRST_PSEUDO = FieldKind.Method;
const LAST_PSEUDO = FieldKind.Protocol;

/** The kinds of names that have a meaning of their own. */
const KINDS: ReadonlyMap<string, FieldKind> = new Map([
  [":method", FieldKind.Method],
  [":scheme", FieldKind.Scheme],
  [":authority", FieldKind.Authority],
  [":path", FieldKind.Path],
  [":protocol", FieldKind.Protocol],
  ["host", FieldKind.Host],
  ["content-length", FieldKind.Length],
  ["cookie", FieldKind.Cookie],
  ["expect", FieldKind.Expect],
  // These belong to one connection, and HTTP/2 has its own means (RFC 9113 section 8.2.2).
  ["connection", FieldKind.Malformed],
  ["keep-alive", FieldKind.Malformed],
  ["proxy-connection", FieldKind.Malformed],
  ["transfer-encoding", FieldKind.Malformed],
  ["upgrade", FieldKind.Malformed],
]);

/** A token in lower case (RFC 9110 section 5.1, RFC 9113 section 8.2). */
const NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;

/** All that `TE` may say (RFC 9113 section 8.2.2). */
const ASKS_FOR_TRAILERS = /^trailers$/i;

/** One field of a header list; never changes. */
export class Field {
  /** The name, one character per byte. */
  readonly name: string;
  /** The value, one character per byte. */
  readonly value: string;
  /** What it is to a request. */
  readonly kind: FieldKind;
  /** What a `:path` was read as; kept since the same field often comes again. */
  target: Target | undefined = undefined;
  /** The `Host` field that says the same as an `:authority`, kept for the same reason. */
  host: Field | undefined = undefined;

  /** Makes a field and checks it. */
  constructor(name: string, value: string) {
    this.name = name;
    this.value = value;
    this.kind = kindOf(name, value);
  }

  /** What the field counts for in a table and in a list (RFC 7541 section 4.1). */
  get size(): number {
    return this.name.length + this.value.length + 32;
  }

  /** Whether it is one of a request's pseudo-fields. */
  get isPseudo(): boolean {
    return this.kind >= FIRST_PSEUDO && this.kind <= LAST_PSEUDO;
  }
}

function kindOf(name: string, value: string): FieldKind {
  if (!isWellFormedValue(value)) return FieldKind.Malformed;
  const kind = KINDS.get(name);
  if (kind !== undefined) return kind;
  if (!NAME.test(name)) return FieldKind.Malformed;
  return name === "te" && !ASKS_FOR_TRAILERS.test(value) ? FieldKind.Malformed : FieldKind.Message;
}

/** Whether it has no character that HTTP forbids, and no blank at an end (RFC 9113 section 8.2.1). */
function isWellFormedValue(value: string): boolean {
  return isFieldValue(value) && !isBlank(value, 0) && !isBlank(value, value.length - 1);
}

function isBlank(value: string, at: number): boolean {
  const character = value.charCodeAt(at);
  return character === 0x20 || character === 0x09;
}

/** So much of a name is shown in a message. */
const SHOWN_CHARACTERS = 40;

/** Says what is wrong with a field of the kind `Malformed`. */
export function whyMalformed({ name, value }: Field): string {
  if (!isWellFormedValue(value)) return "A field value has a character that is not allowed there";
  if (name === "te") return "Only trailers may be asked for by a TE field";
  if (KINDS.has(name)) return `The field ${name} belongs to HTTP/1.1 alone`;
  const shown = JSON.stringify(name.slice(0, SHOWN_CHARACTERS));
  if (name.startsWith(":")) return `${shown} is no pseudo-field of a request`;
  return `The field name ${shown} is not a token in lower case`;
}
