/**
 * How requests come and answers go where there are no sockets: the platform's own `Request` goes
 * to the handler, and the handler's own `Response` to the platform.
 *
 * @module
 */
import type { Transport } from "../httpd/dispatcher.ts";
import type { Exchange } from "../httpd/exchange.ts";
import { usableResponse } from "../httpd/usable_response.ts";
import type { FetchExchange } from "./session.ts";

/** The transport of requests without sockets; it is for exchanges of `FetchSession` only. */
export const fetchTransport: Transport = {
  requestFor: (exchange) => (exchange as FetchExchange).head.request,
  sendResponse: (exchange, result) => (exchange as FetchExchange).pass(usableResponse(result)),
  acceptWebSocket: refuseWebSocket,
  offerUpgrade: () => undefined,
};

/** A WebSocket needs a connection of its own; who did not ask for one is told what is here. */
function refuseWebSocket(exchange: Exchange): void {
  if (exchange.head.get("upgrade")?.toLowerCase().includes("websocket")) {
    exchange.sendError(501, "WebSockets are not served without a socket");
  } else {
    exchange.sendError(426, "This resource is a WebSocket", [["Upgrade", "websocket"]]);
  }
}
