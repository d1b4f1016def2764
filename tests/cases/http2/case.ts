/**
 * What a case of HTTP/2's rules is: what a client sends on a connection of its own, and what may come
 * back.
 *
 * @module
 */
import {
  type Answer,
  type ClientOptions,
  type CodeName,
  Flag,
  type Frame,
  type Http2Client,
  requestFields,
  Type,
} from "../../http2_client.ts";
import type { Field } from "../../http2_hpack.ts";

/** What a client does next: sends bytes, or waits. */
export type Step = Uint8Array | ((client: Http2Client) => Promise<unknown> | void);

/** What may come back. */
export type Outcome =
  /** GOAWAY with one of the codes, and then the end of the connection. */
  | { goaway: CodeName[]; lastStreamId?: number }
  /** The end of the connection, with or without GOAWAY. */
  | { over: true }
  /** RST_STREAM with one of the codes on each stream; the connection is as good as before. */
  | { reset: CodeName[]; streamIds?: number[] }
  /** A whole answer on a stream, and no RST_STREAM but for NO_ERROR; the connection is as before. */
  | { status: number; streamId?: number; check?: (answer: Answer, client: Http2Client) => void }
  /** The connection is as good as before, and no stream was reset. */
  | { alive: true; sees?: (client: Http2Client) => void };

/** One case. */
export interface ConformanceCase {
  /** The rule, in a few words. */
  name: string;
  /** Where the rule is: of RFC 9113 unless another RFC is named. */
  section: string;
  /** The group and number of the suite's case; `strict` when the suite runs it only if asked to. */
  h2spec?: string;
  /** How the client begins; it has SETTINGS and their acknowledgement before the first step. */
  client?: ClientOptions & { begin?: boolean };
  steps: Step[];
  /** Any one of these. */
  expect: Outcome[];
  /** The case is about TLS, or about no TLS. */
  only?: "plain" | "tls";
}

/** A fault of the connection that has no code of its own. */
export const BROKEN = { goaway: ["PROTOCOL_ERROR"] as CodeName[] };
/** A frame of a size that it may not have. */
export const WRONG_SIZE = { goaway: ["FRAME_SIZE_ERROR"] as CodeName[] };
/** A block that cannot be decoded. */
export const BAD_HPACK = { goaway: ["COMPRESSION_ERROR"] as CodeName[] };
/** A window that grows too large. */
export const OVERFLOW = { goaway: ["FLOW_CONTROL_ERROR"] as CodeName[] };
/** A frame on a stream that is long closed. */
export const CLOSED = { goaway: ["STREAM_CLOSED"] as CodeName[] };
/** Nothing happens. */
export const ALIVE: Outcome = { alive: true };
/** The request on stream 1 is answered. */
export const OK: Outcome = { status: 200 };
/** The request on stream 1 is malformed. */
export const MALFORMED: Outcome = { reset: ["PROTOCOL_ERROR"] };
/** A malformed request may get an answer before (section 8.1.1). */
export const REFUSED: Outcome[] = [MALFORMED, { status: 400 }];

/** Waits for the answer of a stream. */
export const answered = (streamId: number): Step => (client) => client.answer(streamId);

/** Waits until the server has read all that was sent. */
export const read: Step = (client) => client.settled();

/** Waits for so many acknowledgements of SETTINGS. */
export const acknowledged = (count: number): Step => (client) =>
  client.until(() => client.frames.filter(isAck).length >= count, "an ACK");

/** Whether a frame acknowledges SETTINGS. */
export const isAck = ({ type, flags }: Frame): boolean =>
  type === Type.SETTINGS && (flags & Flag.ACK) !== 0;

/** How many bytes of DATA came on a stream. */
export function received(client: Http2Client, streamId: number): number {
  return client.soFar(streamId).body.length;
}

/** Waits for so many bytes of DATA on a stream. */
export const bytesCame = (streamId: number, count: number): Step => (client) =>
  client.until(() => received(client, streamId) >= count, `${count} bytes of DATA`);

/** Throws where two values are not the same. */
export function equal(actual: unknown, expected: unknown): void {
  if (actual !== expected) throw new Error(`${String(actual)} instead of ${String(expected)}`);
}

/** More of the stream follows. */
export const OPEN = { endStream: false };

/** More of the block follows. */
export const MORE = { endHeaders: false };

/** The scheme that all requests of a connection have. */
export type Scheme = "http" | "https";

/** The fields of requests of a scheme. */
export interface Requests {
  /** The fields of GET, with others behind them. */
  get(path?: string, ...fields: Field[]): Field[];
  /** The fields of POST, with others behind them. */
  post(path?: string, ...fields: Field[]): Field[];
}

/** Makes the fields of requests. */
export function requestsOf(scheme: Scheme): Requests {
  return {
    get: (path = "/", ...fields) => requestFields({ scheme, path, fields }),
    post: (path = "/", ...fields) => requestFields({ scheme, path, method: "POST", fields }),
  };
}
