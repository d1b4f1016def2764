/**
 * WebSocket servers whose time goes as the test says.
 *
 * @module
 */
import type { HttpsServerOptions } from "../lib/config.ts";
import type { WebSocketOptions } from "../lib/websocket/mod.ts";
import type { Mode } from "./http_support.ts";
import { until } from "./support.ts";
import { TestClock } from "./test_clock.ts";
import { type FrameClient, withRoute } from "./websocket_support.ts";

/** A route whose time goes as the test says; `came` resolves when so many bytes have come. */
export async function timed(
  websocket: WebSocketOptions,
  mode: Mode = "plain",
  options: HttpsServerOptions = {},
) {
  const clock = new TestClock();
  const host = await withRoute(websocket, options, mode, clock);
  let bytes = 0;
  host.server.addEventListener("data", (event) => void (bytes += event.bytes));
  const came = (wanted: number) => until(() => bytes >= wanted, `${wanted} bytes have come`);
  return { ...host, clock, came: (more: number) => came(bytes + more), bytes: () => bytes };
}

/** Sends bytes and waits until the server has them. */
export async function sendAll(
  { bytes }: { bytes: () => number },
  client: FrameClient,
  data: Uint8Array,
): Promise<void> {
  const before = bytes();
  client.send(data);
  await until(() => bytes() >= before + data.length, `${data.length} bytes have come`);
}

export const DEFLATE = { "Sec-WebSocket-Extensions": "permessage-deflate" };
