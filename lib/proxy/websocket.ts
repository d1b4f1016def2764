/**
 * WebSockets to the upstream: this server makes the opening handshake (RFC 6455 section 4.1) there
 * as the client made it here, over whichever version of HTTP.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { listMembers } from "../http/token.ts";
import { acceptKey } from "../websocket/handshake.ts";
import { passWebSocket } from "../websocket/passing.ts";
import { Splice } from "./splice.ts";
import { failed, type UpstreamAnswer } from "./upstream.ts";

/** Whether a request asks to become a WebSocket. */
export function asksForWebSocket(request: Request): boolean {
  return listMembers((request.headers.get("upgrade") ?? "").toLowerCase()).includes("websocket");
}

/** Adds the fields of the opening handshake; returns its key. */
export function addHandshake(fields: Headers): string {
  const key = randomBytes(16).toString("base64");
  fields.set("connection", "Upgrade");
  fields.set("upgrade", "websocket");
  fields.set("sec-websocket-version", "13");
  fields.set("sec-websocket-key", key);
  return key;
}

/**
 * Returns the response that joins the client with the upstream, which has answered 101; `fields` are
 * the upstream's, for the client.
 *
 * @throws {HttpError} 502 `UPSTREAM_FAILED` when its answer is not one to this handshake
 */
export function joinWebSocket(
  request: Request,
  answer: UpstreamAnswer,
  { key, fields, idleMs }: { key: string; fields: Headers; idleMs: number },
): Response {
  const { message, tunnel } = answer;
  const { socket, head } = tunnel!;
  try {
    assertAccepted(message, key, request.headers.get("sec-websocket-protocol"));
    const response = passWebSocket(request, {
      speak: (tunnel) => new Splice(tunnel, socket, head, idleMs),
      refused: () => socket.destroy(),
    });
    for (const [name, value] of fields) response.headers.append(name, value);
    socket.on("error", () => {}); // until it is spoken with; then the splice deals with it
    return response;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function assertAccepted(message: IncomingMessage, key: string, offered: string | null): void {
  const chosen = message.headers["sec-websocket-protocol"];
  const problem = message.headers.upgrade?.toLowerCase() !== "websocket"
    ? "Upgrade is not websocket"
    : message.headers["sec-websocket-accept"] !== acceptKey(key)
    ? "Sec-WebSocket-Accept is wrong"
    : chosen !== undefined && !listMembers(offered ?? "").includes(chosen)
    ? "Sec-WebSocket-Protocol was not offered"
    : undefined;
  if (problem !== undefined) throw failed(new Error(problem));
}
