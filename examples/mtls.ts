/**
 * Clients that show certificates: only those of our CA get in, less those that are revoked.
 *
 *     deno run -A examples/mtls.ts
 *     bun examples/mtls.ts
 *
 * It writes certificates for alice and for mallory, who is revoked, into certs/. Then:
 *
 *     curl --cacert certs/ca.pem --cert certs/alice.pem --key certs/alice.key
 * https://localhost:8443/
 *     curl --cacert certs/ca.pem --cert certs/mallory.pem --key certs/mallory.key
 * https://localhost:8443/
 *     curl --cacert certs/ca.pem https://localhost:8443/
 *
 * Only the first is answered. examples/run.ts describes `PORT` and `CERTS`.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { CertificateAuthority } from "../lib/tls/dev_certificates.ts";
import { HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { devAuthority, DIRECTORY } from "./dev_authority.ts";
import { run } from "./run.ts";

/** What this example needs besides the server's options. */
export interface MtlsOptions {
  /** The CA that clients' certificates come from, as PEM. */
  readonly ca: string;
  /** Serial numbers that get in no more. */
  readonly revoked: ReadonlySet<string>;
}

/** Makes the server. */
export function createServer(
  options: HttpsServerOptions,
  { ca, revoked }: MtlsOptions,
): HttpsServer {
  const server = new HttpsServer({
    ...options,
    clientAuth: { ca, mode: "required" },
    verifyClient: ({ serialNumber }) => !revoked.has(serialNumber),
  }, (_, { session }) => {
    const { subject, validTo } = session.tls!.peerCertificate!; // no client gets here without one
    return new Response(`hello ${subject}, until ${validTo.toISOString()}\n`);
  });
  server.addEventListener("error", ({ error, remoteAddress }) => {
    console.log(`${remoteAddress}: ${error.code}: ${error.message}`);
  });
  return server;
}

/** Issues a client's certificate into the directory and gives its serial number. */
async function issueClient(authority: CertificateAuthority, name: string): Promise<string> {
  const { cert, key, serialNumber } = await authority.issue({
    usage: "client",
    subject: `CN=${name}`,
  });
  await writeFile(join(DIRECTORY, `${name}.pem`), cert);
  await writeFile(join(DIRECTORY, `${name}.key`), key, { mode: 0o600 });
  return serialNumber;
}

if (import.meta.main) {
  const { authority } = await devAuthority();
  await issueClient(authority, "alice");
  const revoked = new Set([await issueClient(authority, "mallory")]);
  await run((options) => createServer(options, { ca: authority.cert, revoked }));
}
