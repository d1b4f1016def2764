/**
 * The server's side of the opening handshake as pure functions (RFC 6455 section 4.2): check the
 * request, choose a subprotocol, make the fields of the answer.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { isToken, listMembers } from "../http/token.ts";
import type { DeflateAgreement } from "./deflate_negotiation.ts";
import { type ExtensionOffer, parseExtensions } from "./extensions.ts";

/** What a request head must offer to be checked; the HTTP parser's `RequestHead` does. */
export interface UpgradeRequest {
  /** The method as sent. */
  readonly method: string;
  /** The version of HTTP, such as `1.1`. */
  readonly version: string;
  /** The first value of a field, by its name in lower case. */
  get(lowerName: string): string | undefined;
  /** All values of a field in order, by its name in lower case. */
  getAll(lowerName: string): string[];
}

/** A request that may become a WebSocket. */
export interface AcceptedUpgrade {
  /** Distinguishes it from {@linkcode RefusedUpgrade}. */
  readonly ok: true;
  /** The value of the answer's Sec-WebSocket-Accept field. */
  readonly accept: string;
  /** The subprotocols that the client offers, the preferred first; empty when it offers none. */
  readonly protocols: readonly string[];
  /** The extensions that the client offers, the preferred first. */
  readonly extensions: readonly ExtensionOffer[];
}

/** A request that is not a valid opening handshake, and how to answer it. */
export interface RefusedUpgrade {
  /** Distinguishes it from {@linkcode AcceptedUpgrade}. */
  readonly ok: false;
  /** 400, 405 or 426. */
  readonly status: number;
  /** Fields that the answer must have. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Says what was wrong, fit for the answer's body. */
  readonly message: string;
}

/** The one version there is (RFC 6455 section 4.1). */
const VERSION = "13";

/** What a 426 must have (RFC 9110 section 15.5.22). */
const UPGRADE: RefusedUpgrade["headers"] = [["Upgrade", "websocket"], ["Connection", "Upgrade"]];

/** Appended to the key before it is hashed (RFC 6455 section 1.3). */
const ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** Base64 of exactly 16 bytes: the last digit before the padding has four zero bits. */
const KEY = /^[A-Za-z0-9+/]{21}[AQgw]==$/;

/**
 * Checks that a request is a valid opening handshake (RFC 6455 section 4.2.1): GET, HTTP/1.1, Host,
 * no body, `Upgrade: websocket`, `Connection: upgrade`, version 13, one key of 16 bytes, well-formed
 * protocols and extensions. Origin is the application's to check.
 *
 * @returns what to accept it with, or how to refuse it: 405 for another method, 426 for another
 * version or no upgrade at all, else 400
 */
export function checkUpgrade(request: UpgradeRequest): AcceptedUpgrade | RefusedUpgrade {
  const refusal = checkMethodAndVersion(request) ?? checkUpgradeFields(request) ??
    checkVersion(request) ?? checkKey(request);
  if (refusal !== undefined) return refusal;

  const protocols = parseProtocols(request.getAll("sec-websocket-protocol"));
  if (protocols === undefined) return refuse(400, "Invalid Sec-WebSocket-Protocol header");
  const extensions = parseExtensions(request.getAll("sec-websocket-extensions"));
  if (extensions === undefined) return refuse(400, "Invalid Sec-WebSocket-Extensions header");

  const accept = acceptKey(request.get("sec-websocket-key")!);
  return { ok: true, accept, protocols, extensions };
}

function checkMethodAndVersion(request: UpgradeRequest): RefusedUpgrade | undefined {
  if (request.method !== "GET") {
    return refuse(405, "WebSocket handshake needs the GET method", [["Allow", "GET"]]);
  }
  if (request.version === "1.0") return refuse(400, "WebSocket handshake needs HTTP/1.1");
  if (!request.get("host")) return refuse(400, "Missing Host header");
  // A body's bytes would be taken for frames, or frames for a body.
  if (
    request.get("transfer-encoding") !== undefined || (request.get("content-length") ?? "0") !== "0"
  ) {
    return refuse(400, "WebSocket handshake must not have a body");
  }
  return undefined;
}

function checkUpgradeFields(request: UpgradeRequest): RefusedUpgrade | undefined {
  const upgrade = request.getAll("upgrade");
  if (upgrade.length === 0) {
    return refuse(426, "This resource is a WebSocket", UPGRADE);
  }
  if (!haveMember(upgrade, "websocket")) return refuse(400, "Upgrade header lacks websocket");
  if (!haveMember(request.getAll("connection"), "upgrade")) {
    return refuse(400, "Connection header lacks upgrade");
  }
  return undefined;
}

function checkVersion(request: UpgradeRequest): RefusedUpgrade | undefined {
  const versions = request.getAll("sec-websocket-version");
  if (versions.length === 0) return refuse(400, "Missing Sec-WebSocket-Version header");
  if (versions.length > 1) return refuse(400, "More than one Sec-WebSocket-Version header");
  if (versions[0] !== VERSION) {
    return refuse(426, "WebSocket version not supported", [
      ...UPGRADE,
      ["Sec-WebSocket-Version", VERSION],
    ]);
  }
  return undefined;
}

function checkKey(request: UpgradeRequest): RefusedUpgrade | undefined {
  const keys = request.getAll("sec-websocket-key");
  if (keys.length === 0) return refuse(400, "Missing Sec-WebSocket-Key header");
  if (keys.length > 1) return refuse(400, "More than one Sec-WebSocket-Key header");
  if (!KEY.test(keys[0]!)) return refuse(400, "Invalid Sec-WebSocket-Key header");
  return undefined;
}

function refuse(
  status: number,
  message: string,
  headers: RefusedUpgrade["headers"] = [],
): RefusedUpgrade {
  return { ok: false, status, headers, message };
}

/** Whether a list over all values of a field has the token, in any case. */
function haveMember(values: readonly string[], lowerToken: string): boolean {
  return values.some((value) => listMembers(value.toLowerCase()).includes(lowerToken));
}

/** Undefined when the list has no elements, other than tokens, or one twice (section 4.1 item 10). */
function parseProtocols(values: readonly string[]): string[] | undefined {
  if (values.length === 0) return [];
  const protocols = values.flatMap(listMembers)
    .filter((element) => element !== ""); // RFC 9110 section 5.6.1.2: skip empty list elements
  const valid = protocols.length > 0 && protocols.every(isToken) &&
    new Set(protocols).size === protocols.length;
  return valid ? protocols : undefined;
}

/**
 * The value of Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2 item 5.4):
 * proof that the server read the handshake, not a secret.
 */
export function acceptKey(key: string): string {
  return createHash("sha1").update(key + ACCEPT_GUID).digest("base64");
}

/**
 * Chooses the subprotocol: the first that the client offers and the server supports, since the
 * client lists them by preference (RFC 6455 section 4.1 item 10). Names are case-sensitive.
 *
 * @returns undefined when they share none: the answer then has no Sec-WebSocket-Protocol, and a
 * client that needs one fails the connection
 */
export function chooseProtocol(
  offered: readonly string[],
  supported: readonly string[],
): string | undefined {
  return offered.find((protocol) => supported.includes(protocol));
}

/**
 * The fields of the 101 answer (RFC 6455 section 4.2.2).
 *
 * @param upgrade the checked request
 * @param protocol the chosen subprotocol, one that the client offered
 * @param deflate the agreement on compression
 */
export function acceptHeaders(
  upgrade: AcceptedUpgrade,
  protocol?: string,
  deflate?: DeflateAgreement,
): [name: string, value: string][] {
  const headers: [string, string][] = [
    ["Upgrade", "websocket"],
    ["Connection", "Upgrade"],
    ["Sec-WebSocket-Accept", upgrade.accept],
  ];
  if (protocol !== undefined) headers.push(["Sec-WebSocket-Protocol", protocol]);
  if (deflate !== undefined) headers.push(["Sec-WebSocket-Extensions", deflate.response]);
  return headers;
}
