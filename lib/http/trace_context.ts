/**
 * Where a request comes from in a distributed trace: the fields `traceparent` and `tracestate` (W3C
 * Trace Context, level 1).
 *
 * @module
 */
import type { RequestHead } from "./request_head.ts";

/** What a client says of the trace that its request belongs to. */
export interface TraceContext {
  /** The trace: 32 digits of hexadecimal in lower case, not all zero. */
  readonly traceId: string;
  /** The client's span, the parent of what is done here: 16 such digits, not all zero. */
  readonly parentId: string;
  /** The flags, 0 to 255. */
  readonly flags: number;
  /** Whether the client records the trace: the lowest flag. */
  readonly sampled: boolean;
  /** What tracing systems pass on (`tracestate`); empty when there is none, or it is malformed. */
  readonly state: string;
}

/** Behind the version 00 nothing may follow; a later one may add more behind another `-`. */
const TRACEPARENT = /^(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const ZEROS = /^0+$/;
const STATE_MEMBER =
  /^[ \t]*(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e][ \t]*$/;
const MAX_STATE_BYTES = 512;
const MAX_STATE_MEMBERS = 32;

/** Reads the trace context of a request; `undefined` when there is none, or no valid one. */
export function traceContextOf(head: RequestHead): TraceContext | undefined {
  const [first, ...others] = head.getAll("traceparent");
  if (first === undefined || others.length > 0) return undefined;
  const found = TRACEPARENT.exec(first);
  if (found === null) return undefined;
  const [, version, traceId = "", parentId = "", flags = "", rest] = found;
  if (version === "00" && rest !== undefined) return undefined;
  if (ZEROS.test(traceId) || ZEROS.test(parentId)) return undefined;
  const bits = Number.parseInt(flags, 16);
  const state = stateOf(head.getAll("tracestate"));
  return { traceId, parentId, flags: bits, sampled: (bits & 1) === 1, state };
}

/** The members of all fields as one list; empty when one of them is malformed. */
function stateOf(fields: readonly string[]): string {
  const list = fields.join(",");
  if (list === "" || list.length > MAX_STATE_BYTES) return "";
  const members = list.split(",").filter((member) => member.trim() !== "");
  if (members.length > MAX_STATE_MEMBERS) return "";
  if (!members.every((member) => STATE_MEMBER.test(member))) return "";
  return members.map((member) => member.trim()).join(",");
}
