/**
 * The answers that an authority asks for over plain HTTP (RFC 8555 section 8.3): the server's source
 * of certificates is asked before any route.
 *
 * @module
 */
import { exchangeHandler } from "./fetch/fetch_handler.ts";
import type { Exchange } from "./http/exchange.ts";
import type { ExchangeHandler, Router } from "./http/router.ts";
import type { ContainedSource } from "./tls/certificate_source.ts";

/** The path of a challenge, with its token. */
const CHALLENGE = /^\/\.well-known\/acme-challenge\/([A-Za-z0-9_-]{1,256})$/;

/**
 * The routes of `router`, and before them those of pending challenges; a token that `source` does not
 * know goes to the routes, then to `fallback`.
 */
export function withChallenges(
  source: ContainedSource,
  router: Pick<Router, "match">,
  fallback: ExchangeHandler | undefined,
): Pick<Router, "match"> {
  const otherwise = (exchange: Exchange): void | Promise<void> => {
    const { route } = router.match(exchange.head.method, exchange.head.path);
    const handle = route?.handle ?? fallback;
    if (handle !== undefined) return handle(exchange);
    exchange.sendError(404, "There is no such challenge");
  };
  const route = {
    uri: "/.well-known/acme-challenge/*",
    method: "GET",
    async handle(exchange: Exchange): Promise<void> {
      const token = CHALLENGE.exec(exchange.head.path)?.[1] ?? "";
      const answer = await source.answerChallenge(token);
      await (answer === undefined ? otherwise : answering(answer))(exchange);
    },
  };
  return {
    match(method, path) {
      const asks = (method === "GET" || method === "HEAD") && CHALLENGE.test(path);
      return asks ? { route } : router.match(method, path);
    },
  };
}

function answering(text: string): ExchangeHandler {
  const headers = { "Content-Type": "application/octet-stream", "Cache-Control": "no-store" };
  return exchangeHandler(() => new Response(text, { headers }));
}
