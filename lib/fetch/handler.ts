/**
 * The options and handler of a server, in any of the forms that other servers accept.
 *
 * @module
 */
import { ConfigError } from "../errors.ts";
import { isPlain, optionError, shown } from "../options.ts";

/** A function that answers, or an object with such a `fetch`. */
type Given<H> = H | { fetch: H } | undefined;

/** What a server is made with. */
export interface Arguments<O, H> {
  /** The options, without `fetch`. */
  readonly options: O;
  /** What answers where no route does. */
  readonly handler: H | undefined;
}

/**
 * Takes apart what a server is given: `(options, handler)`, `(options, app)` with an `app.fetch`, or
 * one object that has options and `fetch`, as Deno and Bun have it for a default export.
 *
 * @throws {ConfigError} `INVALID_CONFIG` saying what to write
 */
export function takeArguments<O extends object, H extends (...args: never[]) => unknown>(
  callee: string,
  options: O,
  handler: Given<H>,
): Arguments<O, H> {
  if (typeof options === "function") {
    throw new ConfigError(
      "INVALID_CONFIG",
      `${callee} takes its options first: write ${callee.slice(0, -1)}{ cert, key }, handler)`,
    );
  }
  if (!hasFetch(options)) return { options, handler: takeHandler(callee, handler) };
  if (!isOptions(options)) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `${callee} was given an app, and no certificate: write ${
        callee.slice(0, -1)
      }{ cert, key }, app)`,
    );
  }
  if (handler !== undefined) {
    throw optionError(callee, "fetch", "is a handler beside the one that is given: leave one out");
  }
  const { fetch: _, ...rest } = options;
  return { options: rest as O, handler: takeHandler<H>(callee, options as { fetch: H }) };
}

/**
 * The handler, whether it is a function or has a `fetch`.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when it is neither
 */
function takeHandler<H extends (...args: never[]) => unknown>(
  callee: string,
  handler: Given<H>,
): H | undefined {
  if (
    typeof (handler as { listen?: unknown } | undefined)?.listen === "function" &&
    !hasFetch(handler)
  ) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `The handler of ${callee} is an app for node:http, with handlers of (req, res): use Hono, or ` +
        "put httpsd before its server by proxy()",
    );
  }
  if (handler === undefined || typeof handler === "function") return handler;
  if (hasFetch(handler)) return ((...args: never[]) => handler.fetch(...args)) as H;
  const { default: exported } = Object(handler) as { default?: unknown };
  const instead = hasFetch(exported)
    ? "give its default export"
    : handler as unknown instanceof Promise
    ? "await it"
    : 'write (request) => new Response("hello\\n"), or give an object with fetch';
  throw new ConfigError(
    "INVALID_CONFIG",
    `The handler of ${callee} is ${shown(handler)}: ${instead}`,
  );
}

function hasFetch(thing: unknown): thing is { fetch: (...args: never[]) => unknown } {
  return typeof (thing as { fetch?: unknown } | null | undefined)?.fetch === "function";
}

/** Whether an object with a `fetch` has options beside it, as a literal may; an app has not. */
function isOptions(thing: object): boolean {
  const prototype = Object.getPrototypeOf(thing);
  return isPlain(thing) && (prototype === Object.prototype || prototype === null);
}
