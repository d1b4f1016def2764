/**
 * The checks of an edge app's options: those of a server that mean something without sockets, and
 * its own.
 *
 * @module
 */
import * as v from "valibot";
import {
  GROUPS as SERVER_GROUPS,
  type HttpsServerOptions,
  isServerOption,
  uriMatch,
} from "../config.ts";
import type { HttpsdError } from "../errors.ts";
import { SERVER_NAMES } from "../foreign_names.ts";
import type { Session } from "../http/session.ts";
import {
  type ServerLimits,
  type ServerTimeouts,
  SHARED_LIMITS,
  SHARED_TIMEOUTS,
} from "../limits.ts";
import {
  type Advice,
  adviceFrom,
  adviceInGroup,
  callback,
  checkOptions,
  members,
  type MembersWords,
  oneOf,
} from "../options.ts";
import type { ForwardedField } from "./forwarded.ts";

/** The options of a server that mean something without sockets, with the defaults of a server. */
export interface SharedOptions extends Pick<HttpsServerOptions, "uriMatch"> {
  /** How many, and how large. */
  readonly limits?: Pick<ServerLimits, "maxBodyBytes" | "maxResponseFields" | "maxRoutes">;
  /** For how long. */
  readonly timeouts?: Pick<ServerTimeouts, "handlerMs">;
}

/** The options of {@linkcode createEdgeApp}. */
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

const GROUPS = { limits: Object.keys(SHARED_LIMITS), timeouts: Object.keys(SHARED_TIMEOUTS) };
const OF_SERVERS = Object.values(SERVER_GROUPS).flat();

const ofSockets: Advice = (name) =>
  isServerOption(name) || OF_SERVERS.includes(name)
    ? "is not known to edge apps: it is for servers with sockets, leave it out"
    : advice(name);

const inGroup: MembersWords = {
  advice: adviceInGroup(GROUPS, (name) => Object.hasOwn(ENTRIES, name), ofSockets),
  shape: "an object of options",
};

const ENTRIES = {
  uriMatch,
  limits: v.optional(members(SHARED_LIMITS, inGroup), {}),
  timeouts: v.optional(members(SHARED_TIMEOUTS, inGroup), {}),
  trustForwardedCertificates: v.optional(oneOf("client-cert", "x-forwarded-client-cert")),
  reportError: v.optional(
    callback<(error: HttpsdError, session: Session) => void>(),
    () => console.error,
  ),
};

const SCHEMA = members(ENTRIES, { advice: ofSockets, groups: GROUPS });

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
