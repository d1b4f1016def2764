/**
 * permessage-deflate (RFC 7692): which parameters client and server agree on.
 *
 * @module
 */
import { ConfigError } from "../errors.ts";
import type { ExtensionOffer } from "./extensions.ts";

/** How a server offers permessage-deflate. */
export interface DeflateOptions {
  /**
   * Whether the server keeps its compression window between messages: better compression, but
   * 256 KiB per connection, and no frame can be shared by the receivers of a broadcast. Default
   * false.
   */
  readonly serverContextTakeover?: boolean;
  /** Whether the client may keep its window: up to 32 KiB per connection here. Default false. */
  readonly clientContextTakeover?: boolean;
  /** The server's window, 8 to 15: 2^n bytes; less if the client asks for less. Default 15. */
  readonly serverMaxWindowBits?: number;
  /**
   * The client's window, 8 to 15. A client that takes no such parameter (it did not offer
   * `client_max_window_bits`) loses its context takeover instead, so that the window still costs
   * nothing here. Default 15.
   */
  readonly clientMaxWindowBits?: number;
  /** zlib's effort, 0 to 9. Default 6. */
  readonly level?: number;
  /** zlib's hash table and buffer, 1 to 9: 2^(n + 9) bytes. Default 8. */
  readonly memLevel?: number;
}

/** What client and server agreed on: the parameters of both directions. */
export interface DeflateAgreement {
  /** The value of the response's Sec-WebSocket-Extensions field. */
  readonly response: string;
  /** Whether the server keeps its window between messages. */
  readonly serverContextTakeover: boolean;
  /** Whether the client keeps its window between messages. */
  readonly clientContextTakeover: boolean;
  /** The server's window, 8 to 15. */
  readonly serverMaxWindowBits: number;
  /** The client's window, 8 to 15. */
  readonly clientMaxWindowBits: number;
  /** zlib's effort, 0 to 9. */
  readonly level: number;
  /** zlib's memory level, 1 to 9. */
  readonly memLevel: number;
}

const EXTENSION = "permessage-deflate";

/**
 * Accepts the first offer of permessage-deflate that is well-formed (RFC 7692 sections 5.1 and 7.1).
 * An offer with an unknown, repeated or malformed parameter is passed over.
 *
 * @returns undefined when there is none: then the connection goes without compression
 * @throws {ConfigError} `INVALID_CONFIG` when an option lies outside its range
 */
export function negotiateDeflate(
  offers: readonly ExtensionOffer[],
  options: DeflateOptions = {},
): DeflateAgreement | undefined {
  checkOptions(options);
  for (const offer of offers) {
    const params = offer.name === EXTENSION ? readParams(offer) : undefined;
    if (params !== undefined) return agree(params, options);
  }
  return undefined;
}

function checkOptions(options: DeflateOptions): void {
  checkRange("serverMaxWindowBits", options.serverMaxWindowBits, 8, 15);
  checkRange("clientMaxWindowBits", options.clientMaxWindowBits, 8, 15);
  checkRange("level", options.level, 0, 9);
  checkRange("memLevel", options.memLevel, 1, 9);
}

function checkRange(name: string, value: number | undefined, low: number, high: number): void {
  if (value === undefined || Number.isInteger(value) && value >= low && value <= high) return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `Deflate option ${name} is ${value}: use a whole number from ${low} to ${high}`,
  );
}

/** The parameters of one offer (RFC 7692 section 7.1). */
interface OfferedParams {
  serverNoContextTakeover: boolean;
  clientNoContextTakeover: boolean;
  /** Undefined: not asked for. */
  serverMaxWindowBits: number | undefined;
  /** Undefined: the client takes no window; 15 when it offered no value. */
  clientMaxWindowBits: number | undefined;
}

function readParams(offer: ExtensionOffer): OfferedParams | undefined {
  const params: OfferedParams = {
    serverNoContextTakeover: false,
    clientNoContextTakeover: false,
    serverMaxWindowBits: undefined,
    clientMaxWindowBits: undefined,
  };
  const names = new Set<string>();
  for (const [name, value] of offer.params) {
    if (names.has(name)) return undefined;
    names.add(name);
    if (name === "server_no_context_takeover" && value === undefined) {
      params.serverNoContextTakeover = true;
    } else if (name === "client_no_context_takeover" && value === undefined) {
      params.clientNoContextTakeover = true;
    } else if (name === "server_max_window_bits" && isWindowBits(value)) {
      params.serverMaxWindowBits = Number(value);
    } else if (
      name === "client_max_window_bits" && (value === undefined || isWindowBits(value))
    ) {
      params.clientMaxWindowBits = Number(value ?? 15);
    } else {
      return undefined;
    }
  }
  return params;
}

/** 8 to 15 without leading zeros (RFC 7692 section 7.1.2). */
function isWindowBits(value: string | undefined): value is string {
  return value !== undefined && /^(?:[89]|1[0-5])$/.test(value);
}

function agree(params: OfferedParams, options: DeflateOptions): DeflateAgreement {
  const serverMaxWindowBits = Math.min(
    params.serverMaxWindowBits ?? 15,
    options.serverMaxWindowBits ?? 15,
  );
  const clientLimit = options.clientMaxWindowBits ?? 15;
  const clientMaxWindowBits = params.clientMaxWindowBits === undefined
    ? 15
    : Math.min(params.clientMaxWindowBits, clientLimit);

  const serverContextTakeover = (options.serverContextTakeover ?? false) &&
    !params.serverNoContextTakeover;
  const clientContextTakeover = (options.clientContextTakeover ?? false) &&
    !params.clientNoContextTakeover && clientMaxWindowBits <= clientLimit;

  let response = EXTENSION;
  if (!serverContextTakeover) response += "; server_no_context_takeover";
  if (!clientContextTakeover) response += "; client_no_context_takeover";
  if (params.serverMaxWindowBits !== undefined || serverMaxWindowBits < 15) {
    response += `; server_max_window_bits=${serverMaxWindowBits}`;
  }
  if (params.clientMaxWindowBits !== undefined) {
    response += `; client_max_window_bits=${clientMaxWindowBits}`;
  }
  return {
    response,
    serverContextTakeover,
    clientContextTakeover,
    serverMaxWindowBits,
    clientMaxWindowBits,
    level: options.level ?? 6,
    memLevel: options.memLevel ?? 8,
  };
}
