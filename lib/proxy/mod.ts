/**
 * Passes requests on to one upstream: bodies stream both ways, WebSockets too, in any version of
 * HTTP that this server speaks. The upstream learns who the client is by fields that no client can
 * forge.
 *
 * @example
 * ```ts
 * import { serve } from "@httpsd/httpsd";
 * import { proxy } from "@httpsd/httpsd/proxy";
 *
 * await serve({ cert, key, port: 8443 }, proxy("http://127.0.0.1:3000"));
 * ```
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import { HttpError } from "../errors.ts";
import { connectionInfo } from "../fetch/connection_info.ts";
import { streamOf } from "../fetch/request.ts";
import { exchangeOf } from "../fetch/served_request.ts";
import { readBefore } from "../http/body.ts";
import { urlPath } from "../url_path.ts";
import { offeredWebSocket } from "../websocket/passing.ts";
import { answerBody } from "./bodies.ts";
import {
  clientLocation,
  isLoop,
  type Mount,
  requestFields,
  responseFields,
  upstreamPath,
} from "./fields.ts";
import { checkProxy, type ProxyConfig, type ProxyOptions } from "./options.ts";
import { failed, Upstream, type UpstreamAnswer, type UpstreamRequest } from "./upstream.ts";
import { addHandshake, asksForWebSocket, joinWebSocket } from "./websocket.ts";

export type { ProxyOptions, UpstreamLimits, UpstreamTimeouts } from "./options.ts";
export type { UpstreamTls } from "./tls.ts";

/** Statuses whose answers have no body (RFC 9110 sections 15.3.5, 15.3.6, 15.4.5). */
const BODILESS = new Set([204, 205, 304]);

/**
 * Makes a handler that passes requests on to the server at `upstream`, an `http:` or `https:` URL
 * whose path is put before the request's.
 *
 * To the upstream go the request's fields but those that concern one connection (RFC 9110 section
 * 7.6.1), and those by which an upstream believes to know the client: `Client-Cert`,
 * `Client-Cert-Chain`, `Forwarded`, `X-Forwarded-*`, `X-Real-IP` and their like, in any spelling. This
 * server writes `Forwarded` (RFC 7239), `X-Forwarded-For`, `-Host` and `-Proto`, `Via`, and
 * `Client-Cert` (RFC 9440) when it has verified the client's certificate. Bodies are passed on as
 * they are, compressed ones too; trailers and 1xx answers are not. Absolute redirects to the
 * upstream itself are written as the client can follow them.
 *
 * It answers 502 `UPSTREAM_FAILED` when there is no usable answer, 504 `UPSTREAM_TIMEOUT` when
 * there is none in time, 508 `PROXY_LOOP` to a request that has come through it before; each is an
 * `error` event with the `cause`. A client that leaves ends the request to the upstream, and an
 * upstream that ends its answer early cuts the client's. Code that drops an answer must cancel its
 * body, or the connection to the upstream stays open.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option, `INVALID_CERTIFICATE` where one of `tls`
 * cannot be used
 */
export function proxy(
  upstream: string | URL,
  options: ProxyOptions = {},
): (request: Request) => Promise<Response> {
  const { target, config } = checkProxy(upstream, options);
  const mount: Mount = { target, stripPrefix: urlPath(config.stripPrefix) };
  const pseudonym = `httpsd-${randomUUID().slice(0, 8)}`;
  const server = new Upstream(target, config);

  return async (request) => {
    if (isLoop(request, pseudonym)) {
      throw new HttpError(508, "PROXY_LOOP", "The request has come through this proxy before");
    }
    const url = new URL(request.url);
    const path = upstreamPath(url, mount);
    if (path === undefined) {
      throw new HttpError(404, "ROUTE_NOT_FOUND", `No path below ${config.stripPrefix}`);
    }
    const opensWebSocket = asksForWebSocket(request);
    if (opensWebSocket) offeredWebSocket(request); // refuses one that is malformed
    const fields = requestFields({
      request,
      session: connectionInfo(request)?.session,
      host: config.host === "client" ? undefined : target.host,
      pseudonym,
      opensWebSocket,
    });
    await config.onRequest?.(fields, request);
    const key = opensWebSocket ? addHandshake(fields) : undefined;
    const answer = await server.request({
      method: request.method,
      path,
      fields,
      ...bodyOf(request),
      signal: request.signal,
    });
    return toResponse(request, answer, { url, mount, key, config });
  };
}

/**
 * The body that comes, all of it, and its length where that is known. What a request says of its
 * length is true of the client's own body alone: an upstream that is told of bytes which do not
 * follow would take the next request on the connection for them.
 *
 * @throws {StateError} `BODY_USED`
 */
function bodyOf(request: Request): Pick<UpstreamRequest, "body" | "length"> {
  if (request.bodyUsed) throw readBefore();
  const exchange = exchangeOf(request);
  if (exchange === undefined) return { body: request.body, length: undefined };
  // The runtimes make streams of empty bodies for some methods, and show none for GET and HEAD.
  if (!exchange.hasBody) return { body: null, length: undefined };
  const length = request.headers.get("content-length") ?? undefined;
  return { body: request.body ?? streamOf(exchange), length };
}

/** What an answer is read with. */
interface Asked {
  readonly url: URL;
  readonly mount: Mount;
  /** The key of the opening handshake that was made. */
  readonly key: string | undefined;
  readonly config: ProxyConfig;
}

function toResponse(request: Request, answer: UpstreamAnswer, asked: Asked): Response {
  const { message, tunnel } = answer;
  try {
    const headers = responseFields(message.rawHeaders);
    if (tunnel !== undefined) {
      if (asked.key === undefined) throw new Error("It answers 101, which nothing had asked for");
      const idleMs = asked.config.timeouts.webSocketIdleMs;
      return joinWebSocket(request, answer, { key: asked.key, fields: headers, idleMs });
    }
    const location = headers.get("location");
    if (location !== null) {
      headers.set("location", clientLocation(location, asked.url, asked.mount));
    }
    const status = message.statusCode!;
    const init = { status, statusText: message.statusMessage ?? "", headers };
    if (request.method === "HEAD" || BODILESS.has(status)) {
      if (status === 205) answer.request.destroy(); // it may go on, and nothing would end that
      else message.resume();
      return new Response(null, init);
    }
    return new Response(answerBody(message, answer.request, asked.config.timeouts.idleMs), init);
  } catch (error) {
    answer.request.destroy();
    tunnel?.socket.destroy();
    throw error instanceof HttpError ? error : failed(error);
  }
}
