/**
 * The checks of an edge app's options: those of a server that mean something without sockets, and
 * its own.
 *
 * @module
 */
import * as v from "valibot";
import { type HttpsServerOptions, isServerOption, SHARED_ENTRIES } from "../config.ts";
import type { HttpsdError } from "../errors.ts";
import { SERVER_NAMES } from "../foreign_names.ts";
import type { Session } from "../http/session.ts";
import { adviceFrom, callback, checkOptions, members, oneOf } from "../options.ts";
import type { ForwardedField } from "./forwarded.ts";

/** The options of a server that mean something without sockets. */
export type SharedOptions = Pick<
  HttpsServerOptions,
  "uriMatch" | "maxUriHandlers" | "maxRespHeaders" | "maxBodyBytes" | "handlerTimeoutMs"
>;

/** The options of {@linkcode createEdgeApp}; the shared ones have the defaults of a server. */
export interface EdgeOptions extends SharedOptions {
  /**
   * Takes the client's certificate from this field, as `session.tls.peerCertificate`, `authorized`.
   * Name it only where every request comes through a proxy that verifies certificates and removes
   * or replaces what a client sends in the field. Default: no field is believed.
   */
  readonly trustForwardedCertificates?: ForwardedField;
  /**
   * Called with the error of a handler that fails or a request that is refused. Default:
   * `console.error`.
   */
  readonly reportError?: (error: HttpsdError, session: Session) => void;
}

const advice = adviceFrom(SERVER_NAMES);

const SCHEMA = members({
  ...SHARED_ENTRIES,
  trustForwardedCertificates: v.optional(oneOf("client-cert", "x-forwarded-client-cert")),
  reportError: v.optional(
    callback<(error: HttpsdError, session: Session) => void>(),
    () => console.error,
  ),
}, {
  advice: (name) =>
    isServerOption(name)
      ? "is not known to edge apps: it is for servers with sockets, leave it out"
      : advice(name),
});

/** An edge app's options, with all defaults in. */
export type EdgeConfig = v.InferOutput<typeof SCHEMA>;

/**
 * Checks options and fills in the defaults.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function resolveEdgeConfig(options: EdgeOptions): EdgeConfig {
  return checkOptions("createEdgeApp()", SCHEMA, options);
}
