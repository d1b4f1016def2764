/**
 * What httpsd passes to a Hono app, and what this room's middleware reads of it.
 *
 * @module
 */
import type { Context } from "hono";
import { ConfigError } from "../errors.ts";
import type { RequestInfo } from "../fetch/fetch_handler.ts";
import type { ServerHandle } from "../http/server_handle.ts";
import type { PeerCertificate } from "../tls/peer_certificate.ts";

/**
 * The environment of an app that httpsd serves: `new Hono<HttpsdEnv>()`, or
 * `new Hono<HttpsdEnv<HttpsServer>>()` to see the whole server in `c.env.server`.
 */
export interface HttpsdEnv<S = ServerHandle> {
  /** `c.env`: the session and the server. */
  Bindings: RequestInfo<S>;
  /** `c.var`: what this module's middleware sets. */
  Variables: {
    /** The client's certificate, if it was verified; set by {@linkcode clientCertificate}. */
    clientCertificate?: PeerCertificate | undefined;
  };
}

/**
 * What the server has passed to an app.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when the app was called by another server than httpsd
 */
export function infoOf(c: Context): RequestInfo {
  const info = (c.env ?? {}) as Partial<RequestInfo>;
  if (info.session !== undefined) return info as RequestInfo;
  throw new ConfigError(
    "INVALID_CONFIG",
    "c.env has no session: serve the app with httpsd, or call app.fetch(request, info)",
  );
}

/**
 * The session of a request.
 *
 * @throws {ConfigError} `INVALID_CONFIG` when the app was called by another server than httpsd
 */
export function sessionOf(c: Context): RequestInfo["session"] {
  return infoOf(c).session;
}

/** The certificate of a request's client, if it was verified. */
export function standingCertificate(c: Context): PeerCertificate | undefined {
  const { tls } = sessionOf(c);
  return tls?.authorized ? tls.peerCertificate : undefined;
}
