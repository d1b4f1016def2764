/**
 * What tests of the Hono adapter share.
 *
 * @module
 */
import "reflect-metadata";
import type { HttpsdEnv } from "../lib/hono/mod.ts";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import type { PeerCertificate } from "../lib/tls/peer_certificate.ts";

export const clientCa = await createCertificateAuthority({ name: "Fleet CA" });

export const pump = await clientCa.issue({
  usage: "client",
  subject: "CN=pump 7",
  names: ["pump7.example.com", "spiffe://example.com/pump/7"],
});

/** What an app sees of a client: enough of a session for the middleware. */
export function infoWith(certificate: PeerCertificate | undefined, authorized = true) {
  const tls = { peerCertificate: certificate, authorized };
  return {
    session: { remoteAddress: "::1", remotePort: 9, tls },
  } as unknown as HttpsdEnv["Bindings"];
}
