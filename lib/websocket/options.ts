/**
 * The options of a WebSocket route, and of an upgrade in a fetch handler; with the defaults and the
 * checks.
 *
 * @module
 */
import * as v from "valibot";
import type { ConfigError, HttpsdError } from "../errors.ts";
import { WEBSOCKET_NAMES } from "../foreign_names.ts";
import type { ServerHandle } from "../http/server_handle.ts";
import type { HttpdRequest } from "../httpd/request.ts";
import {
  type Advice,
  adviceFrom,
  adviceInGroup,
  checkOptions,
  duration,
  either,
  endless,
  endlessMs,
  flag,
  hook,
  many,
  members,
  type MembersWords,
  number,
  optionError,
  rate,
  size,
  string,
  yesOrNo,
} from "../options.ts";
import type { DeflateOptions } from "./deflate_negotiation.ts";
import { isToken } from "../http/token.ts";
import type { CloseInfo, ServerWebSocket } from "./socket.ts";
import type { WebSocketFrame, WebSocketMessage } from "./incoming.ts";

/** permessage-deflate, and from which size on it is used. */
export interface WebSocketDeflateOptions extends DeflateOptions {
  /** Shorter messages, in bytes, are sent as they are. Default: 1,024. */
  readonly threshold?: number;
}

/**
 * How much a WebSocket may take. Sizes are in bytes, and `Infinity` turns a limit off. The defaults
 * are httpsd's own.
 */
export interface WebSocketLimits {
  /**
   * The longest message from the client, also once inflated (ws: `maxPayload`; Bun:
   * `maxPayloadLength`). Longer: 1009. Default: 1 MiB.
   */
  readonly maxPayloadBytes?: number;
  /** The most frames of one message from the client. More: 1008. Default: 1,024. */
  readonly maxFragments?: number;
  /**
   * How much may wait for the client to read (Bun: `backpressureLimit`). When something is sent
   * while more than this waits, the client is closed with 1008. A program that awaits each `send()`
   * never comes near. Default: 4 MiB.
   */
  readonly maxBufferedBytes?: number;
  /** The most Ping and Pong frames from the client in a second. More: 1008. Default: 100. */
  readonly maxPingsPerSecond?: number;
  /**
   * How fast a message must come while it is waited for; 0 for any speed. Slower, after 5 s: 1008.
   * Default: 240, as `limits.minBodyBytesPerSecond` of a server.
   */
  readonly minMessageBytesPerSecond?: number;
  /**
   * How many bytes a client's compressed messages may inflate to in a second; with
   * `clientContextTakeover` each also counts the window before it, up to 32 KiB. Beyond them nothing
   * is read until it is due. Default: 16 MiB.
   */
  readonly maxInflatedBytesPerSecond?: number;
}

/** How long a WebSocket may take, in ms; `Infinity`: no limit. The defaults are httpsd's own. */
export interface WebSocketTimeouts {
  /**
   * How long a message may take from its first byte to its last, while it is waited for; also a
   * frame's header. Longer: 1008. Also how long the program may take nothing of so much that its
   * socket is stopped; then 1011. Default: 300,000, as `timeouts.requestMs` of a server.
   */
  readonly messageMs?: number;
  /**
   * How long no message may go either way (Bun: `idleTimeout`); then it is closed with 1001.
   * Default:
   * `Infinity`.
   */
  readonly idleMs?: number;
  /** How long the closing handshake may take before the connection is cut. Default: 5,000. */
  readonly closeMs?: number;
}

/** The timeouts of a WebSocket route. */
export interface WebSocketRouteTimeouts extends WebSocketTimeouts {
  /** How long `onUpgrade` may take; then the answer is 503. Not `Infinity`. Default: 10,000. */
  readonly upgradeMs?: number;
}

/** How a WebSocket is spoken. Times are in ms. */
export interface WebSocketSettings {
  /**
   * The subprotocols that the server speaks (original: `supported_subprotocol`). The first that the
   * client offers and the server speaks is chosen. Default: none.
   */
  readonly protocols?: readonly string[];
  /** Whether and how messages are compressed (RFC 7692). Default: false, as in ws and Bun. */
  readonly deflate?: boolean | WebSocketDeflateOptions;
  /**
   * How long nothing may come from the client before it is sent a Ping; `Infinity` for none.
   * Default: 30,000.
   */
  readonly pingPeriodMs?: number;
  /** How long nothing may come before the client counts as dead. Default: twice `pingPeriodMs`. */
  readonly notAliveMs?: number;
  /** The limits of a socket. */
  readonly limits?: WebSocketLimits;
  /** How long it may take. */
  readonly timeouts?: WebSocketTimeouts;
}

/**
 * A WebSocket route: its settings and its callbacks. Callbacks may be async. Those of one socket
 * that receive are called one after another, each when the promise of the one before has settled;
 * meanwhile what the client sends waits in a bounded queue, and then in the client. A callback that
 * throws closes its socket with 1011 and becomes an `error` event.
 */
export interface WebSocketOptions<S = ServerHandle> extends WebSocketSettings {
  /**
   * Called with a valid opening handshake, before it is answered (original: `ws_pre_handshake_cb`).
   * The place to check Origin and credentials. A returned `Response` refuses; returning nothing
   * accepts; fields set with `request.header()` are then sent with the 101.
   */
  readonly onUpgrade?: (
    request: HttpdRequest<S>,
  ) => Response | void | Promise<Response | void>;
  /** How long it may take; `upgradeMs` is for `onUpgrade`. */
  readonly timeouts?: WebSocketRouteTimeouts;
  /**
   * Called once the socket is open (original: `ws_post_handshake_cb`). When there is neither
   * `onMessage` nor `onFrame`, it may read the socket itself, by iterating over it or with
   * `messages`. If it has not begun to when its promise settles, what the client sends is thrown
   * away.
   */
  readonly onOpen?: (ws: ServerWebSocket, request: HttpdRequest<S>) => void | Promise<void>;
  /** Called with each message: text as a string, binary as bytes that are yours to keep. */
  readonly onMessage?: (ws: ServerWebSocket, message: WebSocketMessage) => void | Promise<void>;
  /**
   * Called with each data frame and each Pong as it comes, instead of `onMessage`: fragments are
   * not put together, and long frames come in pieces (original: the handler of a WebSocket URI).
   * Cannot be combined with `deflate`.
   */
  readonly onFrame?: (ws: ServerWebSocket, frame: WebSocketFrame) => void | Promise<void>;
  /** The longest piece that `onFrame` is given; what is no longer comes whole. Default: 64 KiB. */
  readonly maxPieceBytes?: number;
  /**
   * Whether Ping and Close frames come to `onFrame` too, and must be answered by it (original:
   * `handle_ws_control_frames`). A Close that it leaves unanswered is answered after it.
   * Default: false.
   */
  readonly manualControlFrames?: boolean;
  /** Called with the payload of each Ping, which has been answered; not beside `onFrame`. */
  readonly onPing?: (ws: ServerWebSocket, payload: Uint8Array) => void | Promise<void>;
  /** Called with the payload of each Pong; not beside `onFrame`. */
  readonly onPong?: (ws: ServerWebSocket, payload: Uint8Array) => void | Promise<void>;
  /** Called once, as the last, when the socket's connection is over and its messages are handled. */
  readonly onClose?: (ws: ServerWebSocket, info: CloseInfo) => void | Promise<void>;
  /** Called with what made the socket fail, before `onClose`. */
  readonly onError?: (ws: ServerWebSocket, error: HttpsdError) => void | Promise<void>;
}

const DEFAULT_THRESHOLD = 1_024;

const windowBits = v.optional(number("a number of bits", 8, 15));

const LIMITS = {
  maxPayloadBytes: size(1024 * 1024),
  maxFragments: many(1024),
  maxBufferedBytes: size(4 * 1024 * 1024),
  maxPingsPerSecond: many(100),
  minMessageBytesPerSecond: rate(240),
  maxInflatedBytesPerSecond: size(16 * 1024 * 1024),
};

const TIMEOUTS = {
  messageMs: endless(300_000),
  idleMs: endless(Infinity),
  closeMs: endless(5_000),
};

const ROUTE_TIMEOUTS = { ...TIMEOUTS, upgradeMs: duration(10_000) };

/** The groups of options, with the names in each. */
const GROUPS = { limits: Object.keys(LIMITS), timeouts: Object.keys(TIMEOUTS) };
const ROUTE_GROUPS = { limits: GROUPS.limits, timeouts: Object.keys(ROUTE_TIMEOUTS) };

const advice = adviceFrom(WEBSOCKET_NAMES);

const inGroup: MembersWords = {
  advice: adviceInGroup(ROUTE_GROUPS, (name) => Object.hasOwn(ROUTE, name), advice),
  shape: "an object of options",
};

const limits = v.optional(members(LIMITS, inGroup), {});

const SETTINGS = {
  protocols: v.optional(
    v.array(
      v.pipe(string("must be a token"), v.check(isToken, "must be a token")),
      "must be an array of subprotocols",
    ),
    [],
  ),
  deflate: v.optional(
    either<boolean, WebSocketDeflateOptions & { readonly threshold: number }>(
      (value) => typeof value === "boolean",
      yesOrNo,
      members({
        threshold: size(DEFAULT_THRESHOLD, 0),
        serverContextTakeover: v.optional(yesOrNo),
        clientContextTakeover: v.optional(yesOrNo),
        serverMaxWindowBits: windowBits,
        clientMaxWindowBits: windowBits,
        level: v.optional(number("zlib's effort", 0, 9)),
        memLevel: v.optional(number("zlib's memory level", 1, 9)),
      }, { shape: "true, false or an object of WebSocketDeflateOptions" }) as v.GenericSchema<
        WebSocketDeflateOptions & { readonly threshold: number }
      >,
    ),
    false,
  ),
  pingPeriodMs: endless(30_000),
  notAliveMs: v.optional(endlessMs),
  limits,
  timeouts: v.optional(members(TIMEOUTS, inGroup), {}),
};

const ROUTE = {
  ...SETTINGS,
  timeouts: v.optional(members(ROUTE_TIMEOUTS, inGroup), {}),
  onUpgrade: hook(),
  onOpen: hook(),
  onMessage: hook(),
  onFrame: hook(),
  maxPieceBytes: size(64 * 1024),
  manualControlFrames: flag(false),
  onPing: hook(),
  onPong: hook(),
  onClose: hook(),
  onError: hook(),
};

const ROUTE_SCHEMA = members(ROUTE, {
  advice,
  shape: "an object of WebSocketOptions",
  groups: ROUTE_GROUPS,
});

/** The options of a route that do not apply to a fetch handler. */
const ofRoutes: Advice = (name) =>
  Object.hasOwn(ROUTE, name)
    ? "is for WebSocket routes: use the socket's own events, such as socket.onmessage"
    : advice(name);

const SETTINGS_SCHEMA = /* @__PURE__ */ members(SETTINGS, {
  advice: ofRoutes,
  shape: "an object of WebSocketSettings",
  groups: GROUPS,
});

/** The callbacks of an open socket. */
export type SocketCallbacks = Pick<
  WebSocketOptions,
  "onMessage" | "onFrame" | "onPing" | "onPong" | "onClose" | "onError"
>;

/** Settings with all defaults in. */
export interface SocketConfig {
  /** The subprotocols. */
  readonly protocols: readonly string[];
  /** How long nothing may come before a Ping. */
  readonly pingPeriodMs: number;
  /** How long nothing may come before the client counts as dead. */
  readonly notAliveMs: number;
  /** How much the socket may take. */
  readonly limits: Readonly<Required<WebSocketLimits>>;
  /** How long it may take. */
  readonly timeouts: Readonly<Required<WebSocketTimeouts>>;
  /** How to compress; `undefined`: not at all. */
  readonly deflate: WebSocketDeflateOptions & { readonly threshold: number } | undefined;
  /** The longest piece of a frame. */
  readonly maxPieceBytes: number;
  /** Whether Ping and Close are the frame callback's to answer. */
  readonly manualControlFrames: boolean;
  /** The callbacks of an open socket. */
  readonly callbacks: SocketCallbacks;
}

/** A route's options with all defaults in. */
export interface RouteConfig<S = ServerHandle> extends SocketConfig {
  /** What may refuse a handshake. */
  readonly onUpgrade: WebSocketOptions<S>["onUpgrade"];
  /** How long it may take, in ms. */
  readonly upgradeMs: number;
  /** The callbacks of an open socket. */
  readonly onOpen: WebSocketOptions<S>["onOpen"];
}

/**
 * Checks the options of a WebSocket route and fills in the defaults.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function resolveRouteOptions<S>(options: WebSocketOptions<S>): RouteConfig<S> {
  const output = checkOptions(ROUTE_NAME, ROUTE_SCHEMA, options);
  const { onFrame, onMessage, onPing, onPong } = options;
  if (onFrame !== undefined && (onMessage ?? onPing ?? onPong) !== undefined) {
    throw invalid("onFrame", "excludes onMessage, onPing and onPong: all frames come to it");
  }
  if (onFrame !== undefined && output.deflate !== false) {
    throw invalid("deflate", "goes with whole messages only: use onMessage instead of onFrame");
  }
  if (output.manualControlFrames && onFrame === undefined) {
    throw invalid("manualControlFrames", "needs onFrame, to answer them");
  }
  return {
    ...resolveCommon(output),
    maxPieceBytes: output.maxPieceBytes,
    manualControlFrames: output.manualControlFrames,
    callbacks: options,
    onUpgrade: options.onUpgrade,
    onOpen: options.onOpen,
    upgradeMs: output.timeouts.upgradeMs,
  };
}

/**
 * Checks the settings of a socket that a fetch handler upgrades, and fills in the defaults.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function resolveSettings(
  settings: WebSocketSettings,
  callbacks: SocketCallbacks,
): SocketConfig {
  const output = checkOptions("upgradeWebSocket()", SETTINGS_SCHEMA, settings);
  return {
    ...resolveCommon(output),
    maxPieceBytes: Infinity,
    manualControlFrames: false,
    callbacks,
  };
}

function resolveCommon(
  output: v.InferOutput<typeof SETTINGS_SCHEMA>,
): Omit<SocketConfig, "maxPieceBytes" | "manualControlFrames" | "callbacks"> {
  const { notAliveMs = 2 * output.pingPeriodMs } = output;
  const deflate: SocketConfig["deflate"] = output.deflate === true
    ? { threshold: DEFAULT_THRESHOLD }
    : output.deflate || undefined;
  return { ...output, notAliveMs, deflate };
}

/** What messages call a WebSocket route. */
const ROUTE_NAME = "the WebSocket route";

function invalid(name: string, problem: string): ConfigError {
  return optionError(ROUTE_NAME, name, problem);
}
