/**
 * Certificates by themselves: a server gets them from Let's Encrypt, keeps and renews them; another
 * one beside it answers the authority on plain HTTP and redirects everybody else.
 *
 *     deno run -A examples/acme.ts shop.example www.shop.example
 *     bun examples/acme.ts shop.example www.shop.example
 *
 * The names must lead to this machine, and both ports must be reachable from the Internet. The
 * environment may say otherwise: `PORT` (443) and `HTTP_PORT` (80), `EMAIL` for the authority's mail,
 * `STORAGE` (certs/acme) for the directory that keeps it all, `ACME_DIRECTORY` for another authority
 * and `ACME_CA` for the file by which that one's own certificate is verified. Without `ACME_DIRECTORY`
 * it is Let's Encrypt's staging environment, whose certificates no browser trusts, but whose limits
 * are wide; the real one is https://acme-v02.api.letsencrypt.org/directory.
 *
 * By starting it with a real directory you agree to that authority's terms of service.
 */
import process from "node:process";
import { pathToFileURL } from "node:url";
import {
  automaticCertificates,
  type AutomaticOptions,
  fileStorage,
  LETS_ENCRYPT_STAGING,
} from "../lib/acme/mod.ts";
import { HttpsServer, redirectServer } from "../mod.ts";

/** Where the two servers listen. */
export interface Places {
  /** The address. Default: every address of this machine. */
  readonly hostname?: string;
  /** The port for HTTPS. */
  readonly port: number;
  /** The port for plain HTTP. */
  readonly httpPort: number;
}

/** Starts both servers; the certificates come when they come. */
export async function startShop(
  options: AutomaticOptions,
  { port, httpPort, ...address }: Places,
): Promise<{ server: HttpsServer; plain: HttpsServer }> {
  const certificates = automaticCertificates(options);
  const server = new HttpsServer(
    { ...address, port, certificates },
    (_, { session }) => new Response(`this is ${session.tls?.sni}\n`),
  );
  server.addEventListener("certificate:issued", ({ identity: { names, validTo } }) => {
    console.log(`A certificate for ${names.join(", ")}, until ${validTo.toISOString()}`);
  });
  server.addEventListener("certificate:failed", ({ names, error, problem, retryAt }) => {
    console.log(`None for ${names.join(", ")}: ${problem?.detail ?? error.message}`);
    console.log(`The next attempt is at ${retryAt?.toISOString()}`);
  });
  server.addEventListener("expiring", ({ identity: { names, validTo } }) => {
    console.log(`That of ${names.join(", ")} ends on ${validTo.toISOString()}: do something`);
  });
  await server.start();
  const httpsPort = server.address.port;
  const plain = await redirectServer({ ...address, port: httpPort, httpsPort, certificates });
  return { server, plain };
}

if (import.meta.main) {
  const { PORT = "443", HTTP_PORT = "80", EMAIL, STORAGE = "certs/acme", ...env } = process.env;
  const { ACME_DIRECTORY = LETS_ENCRYPT_STAGING, ACME_CA } = env;
  const names = process.argv.slice(2);
  if (names.length === 0) {
    console.error("Name what certificates are for: examples/acme.ts shop.example");
    process.exit(2);
  }
  await startShop({
    names,
    agreeToTerms: true,
    directory: ACME_DIRECTORY,
    storage: fileStorage(STORAGE),
    ...(EMAIL !== undefined && { email: EMAIL }),
    ...(ACME_CA !== undefined && { ca: pathToFileURL(ACME_CA) }),
  }, { port: Number(PORT), httpPort: Number(HTTP_PORT) });
  console.log(`Listening on ports ${PORT} and ${HTTP_PORT}; certificates of ${ACME_DIRECTORY}`);
}
