/**
 * Certificates made when they are first asked for: any name under localhost gets one, while its
 * client waits in the handshake. Other names are refused with a TLS alert.
 *
 *     deno run -A examples/cert_select.ts
 *     bun examples/cert_select.ts
 *
 * Then:
 *
 *     curl --cacert certs/ca.pem https://localhost:8443/ https://any.localhost:8443/
 *     curl --cacert certs/ca.pem --connect-to ::localhost: https://example.com:8443/
 *
 * examples/run.ts describes `PORT` and `CERTS`.
 */
import type { CertificateAuthority } from "../lib/tls/dev_certificates.ts";
import {
  type CertSelect,
  HttpsServer,
  type HttpsServerOptions,
  type Identity,
  loadIdentity,
  refuse,
} from "../mod.ts";
import { devAuthority } from "./dev_authority.ts";
import { run } from "./run.ts";

/** Clients choose the names: without a limit they would choose how much memory this takes. */
const MAX_IDENTITIES = 100;

/** Makes the server; `authority` issues the certificates. */
export function createServer(
  options: HttpsServerOptions,
  authority: CertificateAuthority,
): HttpsServer {
  const identities = new Map<string, Promise<Identity>>();

  const certSelect: CertSelect = ({ serverName, ja4 }, { remoteAddress }) => {
    console.log(`${remoteAddress} asks for ${serverName ?? "no name"}, JA4 ${ja4}`);
    if (serverName === undefined) return undefined; // the default certificate
    if (!`.${serverName}`.endsWith(".localhost")) return refuse("unrecognized_name");
    const known = identities.get(serverName);
    if (known !== undefined) return known;
    if (identities.size >= MAX_IDENTITIES) return refuse("access_denied");
    const identity = issue(authority, serverName);
    identities.set(serverName, identity);
    identity.catch(() => identities.delete(serverName)); // the next client may have more luck
    return identity;
  };

  return new HttpsServer(
    { ...options, certSelect },
    (_, { session }) => new Response(`hello ${session.tls?.sni ?? "no name"}\n`),
  );
}

async function issue(authority: CertificateAuthority, name: string): Promise<Identity> {
  const { cert, key } = await authority.issue({ names: [name] });
  return await loadIdentity({ cert, key });
}

if (import.meta.main) {
  const { authority } = await devAuthority();
  await run((options) => createServer(options, authority));
}
