/**
 * Answers challenges through the storage, so that any process that shares it can answer.
 *
 * @module
 */
import { ACME_TLS } from "../alpn.ts";
import type { SourceSelection } from "../tls/certificate_source.ts";
import { loadIdentity } from "../tls/identity.ts";
import type { Records } from "./records.ts";
import type { SolverOf } from "./types.ts";

/** Answers http-01: a server on plain HTTP looks the token up. */
export function httpSolver(records: Records): SolverOf<"http-01"> {
  return {
    type: "http-01",
    set: ({ token, keyAuthorization, expires }) =>
      records.keepChallenge("http-01", token, { keyAuthorization, expires }),
    remove: ({ token }) => records.keepChallenge("http-01", token, undefined),
  };
}

/** Answers tls-alpn-01: the server looks the name up that the CA sends. */
export function tlsAlpnSolver(records: Records): SolverOf<"tls-alpn-01"> {
  return {
    type: "tls-alpn-01",
    set: ({ serverName, certificate: chain, privateKey, expires }) =>
      records.keepChallenge("tls-alpn-01", serverName, {
        certificate: { chain, privateKey },
        expires,
      }),
    remove: ({ serverName }) => records.keepChallenge("tls-alpn-01", serverName, undefined),
  };
}

/** The answer to an http-01 challenge that is pending anywhere. */
export async function httpAnswer(
  records: Records,
  token: string,
  now: number,
): Promise<string | undefined> {
  const challenge = await records.challenge("http-01", token);
  return challenge !== undefined && challenge.expires > now
    ? challenge.keyAuthorization
    : undefined;
}

/** What to show for a tls-alpn-01 challenge that is pending anywhere. */
export async function tlsAlpnAnswer(
  records: Records,
  serverName: string,
  now: number,
): Promise<SourceSelection | undefined> {
  const { certificate, expires = 0 } = await records.challenge("tls-alpn-01", serverName) ?? {};
  if (certificate === undefined || expires <= now) return undefined;
  const identity = await loadIdentity({ cert: certificate.chain, key: certificate.privateKey });

  return { identity, alpnProtocols: [ACME_TLS] };
}
