/**
 * How requests come and answers go on connections.
 *
 * @module
 */
import type { WebSocketHub } from "../websocket/hub.ts";
import { acceptWebSocket, offerUpgrade } from "../websocket/upgrade.ts";
import type { Transport } from "../http/dispatcher.ts";
import { sendResponse } from "../fetch/send_response.ts";
import { requestFor } from "../fetch/served_request.ts";

/** The transport of a server whose open WebSockets `hub` holds. */
export function connectionTransport(hub: WebSocketHub): Transport {
  return {
    requestFor,
    sendResponse,
    acceptWebSocket: (exchange, request, config) => acceptWebSocket(exchange, request, config, hub),
    offerUpgrade: (exchange, request) => offerUpgrade(request, exchange, hub),
  };
}
