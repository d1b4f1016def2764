/**
 * Hono's WebSocket helper on httpsd's WebSocket.
 *
 * @module
 */
import {
  defineWebSocketHelper,
  type UpgradeWebSocket,
  WSContext,
  type WSReadyState,
} from "hono/ws";
import type { UpgradedWebSocket } from "../websocket/browser_socket.ts";
import type { WebSocketSettings } from "../websocket/options.ts";
import { upgradeWebSocket as upgrade } from "../websocket/upgrade.ts";

/**
 * Makes a WebSocket of a request, as Hono's helper for other runtimes does; a request that asks for
 * none goes on to the next handler. Options are those of httpsd's own `upgradeWebSocket`.
 *
 * ```ts
 * app.get("/ws", upgradeWebSocket(() => ({ onMessage: ({ data }, ws) => ws.send(`${data}`) })));
 * ```
 */
export const upgradeWebSocket: UpgradeWebSocket<UpgradedWebSocket, WebSocketSettings> =
  defineWebSocketHelper<UpgradedWebSocket, WebSocketSettings>((c, events, options) => {
    if (c.req.header("upgrade")?.toLowerCase() !== "websocket") return;
    const { socket, response } = upgrade(c.req.raw, options);
    const context = new WSContext<UpgradedWebSocket>({
      raw: socket,
      url: socket.url,
      get protocol() {
        return socket.protocol;
      },
      get readyState() {
        return socket.readyState as WSReadyState;
      },
      send: (data) => void socket.send(data),
      close: (code, reason) => socket.close(code, reason),
    });
    socket.onopen = (event) => events.onOpen?.(event, context);
    socket.onmessage = (event) => events.onMessage?.(event as MessageEvent, context);
    socket.onclose = (event) => events.onClose?.(event as CloseEvent, context);
    socket.onerror = (event) => events.onError?.(event, context);
    return response;
  });
