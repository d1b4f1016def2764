/**
 * Which handler a request goes to: the first route that matches its path and method, in the order
 * of registration (original: `httpd_register_uri_handler`).
 *
 * @module
 */
import { StateError } from "../errors.ts";
import type { HttpdRequest } from "./request.ts";

/** Answers a request of the httpd API; a returned `Response` is sent. */
export type RouteHandler = (
  request: HttpdRequest,
) => Response | void | Promise<Response | void>;

/** A handler and the requests that it is for (original: `httpd_uri_t`). */
export interface Route {
  /** The path that it matches, compared as sent: not decoded, case-sensitive. */
  readonly uri: string;
  /** The method, in upper case. */
  readonly method: string;
  /** What answers. */
  readonly handler: RouteHandler;
}

/** What became of the search for a route. */
export type Match =
  | { readonly route: Route }
  /** No route has the path (empty), or those that have it take only these methods. */
  | { readonly route: undefined; readonly allow: readonly string[] };

/** The routes of a server. */
export class Router {
  #routes: readonly Route[] = [];

  /** How many routes there are. */
  get size(): number {
    return this.#routes.length;
  }

  /**
   * Adds a route, which takes effect with the next request.
   *
   * @throws {StateError} `HANDLER_EXISTS`
   */
  add(route: Route): void {
    if (this.#routes.some((known) => known.uri === route.uri && known.method === route.method)) {
      throw new StateError(
        "HANDLER_EXISTS",
        `A route for ${route.method} ${route.uri} exists: remove it first`,
      );
    }
    this.#routes = [...this.#routes, Object.freeze({ ...route })];
  }

  /** The route for a request. */
  match(method: string, path: string): Match {
    const allow: string[] = [];
    for (const route of this.#routes) {
      if (route.uri !== path) continue;
      if (route.method === method) return { route };
      allow.push(route.method);
    }
    return { route: undefined, allow };
  }
}
