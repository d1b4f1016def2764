/**
 * Which handler a request goes to: the first route that matches its path and method, in the order
 * of registration (original: `httpd_register_uri_handler`).
 *
 * @module
 */
import { StateError } from "../errors.ts";
import { optionError, shown } from "../options.ts";
import type { Exchange } from "./exchange.ts";
import { ANY, METHODS } from "./methods.ts";
import { PathTable, type Pattern } from "./path_table.ts";

/** Decides whether `path`, which has no query, is one that `template` is for. */
export type UriMatcher = (template: string, path: string) => boolean;

/** Answers an exchange; what it throws or rejects with is answered as an error. */
export type ExchangeHandler = (exchange: Exchange) => void | Promise<void>;

/** A handler and the requests that it is for. */
export interface Route {
  /** The path that it is for, as the option `uriMatch` compares it. */
  readonly uri: string;
  /** The method in upper case, or `"ANY"` for all but CONNECT and TRACE. */
  readonly method: string;
  /** Answers a request. */
  readonly handle: ExchangeHandler;
}

/** A route that was found; one object for all requests. */
interface Found {
  readonly route: Route;
}

/** What became of the search for a route. */
export type Match =
  | Found
  /** No route has the path (empty), or those that have it take only these methods. */
  | { readonly route: undefined; readonly allow: readonly string[] };

/** The routes of a server. A request keeps its route, whatever becomes of the table meanwhile. */
export class Router {
  readonly #uriMatch: UriMatcher;
  readonly #max: number;
  readonly #read: ((template: string) => Pattern) | undefined;
  #routes: readonly Found[] = [];
  /** The routes by their paths; made when it is needed after a removal. */
  #table: PathTable<Found> | undefined;

  /**
   * Makes an empty table of at most `max` routes. `read` reads templates as `uriMatch` takes them;
   * without it, each template is asked about for each request.
   */
  constructor(uriMatch: UriMatcher, max: number, read?: (template: string) => Pattern) {
    this.#uriMatch = uriMatch;
    this.#max = max;
    this.#read = read;
  }

  /** The routes for a path, in the order of registration. */
  #matching(path: string): Iterable<Found> {
    if (this.#read === undefined) return this.#asked(path);
    this.#table ??= tableOf(this.#routes, this.#read);
    return this.#table.find(path);
  }

  /** The same by asking the matcher about each route, as far as they are looked at. */
  *#asked(path: string): Iterable<Found> {
    for (const found of this.#routes) if (this.#matches(found.route.uri, path)) yield found;
  }

  /**
   * Whether a template is for a path: only `true` counts.
   *
   * @throws {ConfigError} `INVALID_CONFIG` when the program's matcher returns neither `true` nor
   * `false`, such as a promise, which would open the route to every path
   */
  #matches(template: string, path: string): boolean {
    const answer: unknown = this.#uriMatch(template, path);
    if (typeof answer === "boolean") return answer;
    throw optionError("", "uriMatch", `returned ${shown(answer)}: return true or false`);
  }

  /**
   * Adds a route, which takes effect with the next request.
   *
   * @throws {StateError} `HANDLER_EXISTS` when a route that is there already would always be
   * chosen instead; `HANDLERS_FULL`
   */
  add(route: Route): void {
    for (const { route: known } of this.#matching(route.uri)) {
      if (known.method !== route.method && known.method !== ANY) continue;
      throw new StateError(
        "HANDLER_EXISTS",
        `Route ${known.method} ${known.uri} is for ${route.method} ${route.uri} already: ` +
          "remove it first, or add it later",
      );
    }
    if (this.#routes.length >= this.#max) {
      throw new StateError(
        "HANDLERS_FULL",
        `There are ${this.#max} routes already: raise limits.maxRoutes`,
      );
    }
    const found = { route };
    this.#routes = [...this.#routes, found]; // a matcher that adds routes goes on with the old ones
    if (this.#read !== undefined) this.#table?.add(this.#read(route.uri), found);
  }

  /**
   * Removes the routes of a template, or the one for `method`.
   *
   * @throws {StateError} `NOT_FOUND`
   */
  remove(uri: string, method?: string): void {
    if (typeof uri !== "string") {
      throw new StateError(
        "NOT_FOUND",
        `unroute() takes the uri of a route, not ${shown(uri)}: write unroute(uri, method)`,
      );
    }
    const left = this.#routes.filter(({ route }) =>
      route.uri !== uri || (method !== undefined && route.method !== method)
    );
    if (left.length === this.#routes.length) {
      throw new StateError("NOT_FOUND", `There is no route for ${method ?? "any method"} ${uri}`);
    }
    this.#routes = left;
    this.#table = undefined;
  }

  /** The route for a request; HEAD goes to GET's where it has none of its own. */
  match(method: string, path: string): Match {
    let allow: Set<string> | undefined;
    let get: Found | undefined;
    for (const found of this.#matching(path)) {
      const { route } = found;
      if (route.method === method) return found;
      if (route.method === ANY && !mustBeNamed(method)) return get ?? found;
      if (route.method === "GET" && method === "HEAD") get ??= found;
      (allow ??= new Set()).add(route.method);
    }
    if (get !== undefined) return get;
    return allow === undefined ? NO_ROUTE : { route: undefined, allow: allowed(allow) };
  }
}

function tableOf(
  routes: readonly Found[],
  read: (template: string) => Pattern,
): PathTable<Found> {
  const table = new PathTable<Found>();
  for (const found of routes) table.add(read(found.route.uri), found);
  return table;
}

const NO_ROUTE: Match = { route: undefined, allow: [] };

function mustBeNamed(method: string): boolean {
  return method === "CONNECT" || method === "TRACE";
}

/** The methods for an `Allow` field (RFC 9110 section 10.2.1). */
function allowed(methods: Set<string>): string[] {
  if (methods.delete(ANY)) {
    for (const method of METHODS) if (!mustBeNamed(method)) methods.add(method);
  }
  if (methods.has("GET")) methods.add("HEAD");
  return [...methods];
}
