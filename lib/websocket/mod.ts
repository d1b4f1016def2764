/**
 * WebSockets (RFC 6455) with permessage-deflate (RFC 7692): on routes with `websocket`, and in fetch
 * handlers with {@linkcode upgradeWebSocket}.
 *
 * @example
 * ```ts
 * server.route({
 *   uri: "/ws",
 *   websocket: { onMessage: (ws, message) => ws.send(message) },
 * });
 * ```
 *
 * @module
 */
export { CloseCode } from "./close.ts";
export type { DeflateOptions } from "./deflate_negotiation.ts";
export type {
  SocketEventHandler,
  UpgradedWebSocket,
  UpgradedWebSocketEventMap,
} from "./browser_socket.ts";
export { Opcode } from "./opcode.ts";
export type { BroadcastData } from "./hub.ts";
export type {
  WebSocketDeflateOptions,
  WebSocketLimits,
  WebSocketOptions,
  WebSocketRouteTimeouts,
  WebSocketSettings,
  WebSocketTimeouts,
} from "./options.ts";
export { type Bytes, PreparedMessage } from "./prepared_message.ts";
export type { WebSocketFrame, WebSocketMessage, WebSocketMessageStream } from "./incoming.ts";
export { type CloseInfo, type OutgoingFrame, ReadyState, type ServerWebSocket } from "./socket.ts";
export { upgradeWebSocket, type WebSocketUpgrade } from "./upgrade.ts";
