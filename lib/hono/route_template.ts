/**
 * The templates of Hono's routes, for the server's telemetry.
 *
 * @module
 */
import type { Context, MiddlewareHandler } from "hono";
import { matchedRoutes } from "hono/route";
import { infoOf } from "./env.ts";

/**
 * Middleware that names the route of Hono's that answers, such as `/items/:id`, in the server's
 * `http:exchange` events, metrics, traces and access logs. Use it before all else. A request that no
 * route answers has none.
 *
 * The handlers throw `INVALID_CONFIG` when the app was called by another server than httpsd.
 */
export function routeTemplate(): MiddlewareHandler {
  return async (c, next) => {
    const info = infoOf(c);
    info.route = templateAt(c, -1); // for an exchange that ends before the handler does
    try {
      await next();
    } finally {
      info.route = templateAt(c, c.req.routeIndex);
    }
  };
}

/** The template of a matched route; none of middleware for many paths behind which there is no route. */
function templateAt(c: Context, index: number): string | undefined {
  const routes = matchedRoutes(c);
  const route = routes.at(index);
  if (route === undefined) return undefined;
  const isForMany = route.method === "ALL" && route.path.endsWith("*");
  const isAnswered = c.finalized && c.res.status !== 404;
  return isForMany && route === routes.at(-1) && !isAnswered ? undefined : route.path;
}
