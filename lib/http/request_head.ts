/**
 * The head of a request, whatever brought it: HTTP/1.1's parser, or a platform's `Request`.
 *
 * @module
 */

/** The version of HTTP that a client speaks, as far as a handler could notice it. */
export type HttpVersion = "1.0" | "1.1" | "2";

/** The line and the fields of a request. */
export interface RequestHead {
  /** The method, such as `GET`. */
  readonly method: string;
  /** The target as sent. */
  readonly target: string;
  /**
   * The path as sent, without the query: `*` for a request to the server as a whole, empty for
   * CONNECT.
   */
  readonly path: string;
  /** The query as sent, without the `?`; empty when there is none. */
  readonly query: string;
  /** The `host[:port]` that the request is for; `undefined` where an HTTP/1.0 client names none. */
  readonly host: string | undefined;
  /** The version of HTTP. */
  readonly version: HttpVersion;
  /** The declared length of the body in bytes. */
  readonly contentLength: number | undefined;
  /** Whether the request comes with a body that is not empty, or may not be. */
  readonly hasBody: boolean;
  /** Whether the client waits for 100 (Continue) before it sends the body. */
  readonly expectContinue: boolean;
  /** The bytes as received; `undefined` where the head did not come as text on a connection. */
  readonly raw: Uint8Array | undefined;
  /** How many fields there are. */
  readonly fieldCount: number;
  /**
   * Returns the name of a field.
   *
   * @throws {RangeError} `index` is not 0 to `fieldCount - 1`
   */
  fieldName(index: number): string;
  /**
   * Returns the value of a field.
   *
   * @throws {RangeError} `index` is not 0 to `fieldCount - 1`
   */
  fieldValue(index: number): string;
  /** Returns the value of the first field of this name, given in lower case. */
  get(lowerName: string): string | undefined;
  /** Returns the values of all fields of this name, given in lower case, in order. */
  getAll(lowerName: string): string[];
}

/** What is known of a request whose head could not be read: that a client asked. */
const UNREAD_HEAD: RequestHead = {
  method: "GET",
  target: "",
  path: "",
  query: "",
  host: undefined,
  version: "1.1",
  contentLength: undefined,
  hasBody: false,
  expectContinue: false,
  raw: undefined,
  fieldCount: 0,
  fieldName: noField,
  fieldValue: noField,
  get: () => undefined,
  getAll: () => [],
};

const UNREAD_HEADS: Readonly<Record<HttpVersion, RequestHead>> = {
  "1.0": Object.freeze({ ...UNREAD_HEAD, version: "1.0" }),
  "1.1": Object.freeze(UNREAD_HEAD),
  "2": Object.freeze({ ...UNREAD_HEAD, version: "2" }),
};

/** Returns what stands for the head of a request that could not be read, in a version of HTTP. */
export function unreadHead(version: HttpVersion): RequestHead {
  return UNREAD_HEADS[version];
}

/** Whether a head is one that could not be read. */
export function isUnread(head: RequestHead): boolean {
  return head === UNREAD_HEADS[head.version];
}

function noField(index: number): never {
  throw new RangeError(`Field ${index} of 0`);
}
