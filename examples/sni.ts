/**
 * Three names on one port, each with its certificate; the first is read from files and follows them.
 *
 *     deno run -A examples/sni.ts
 *     bun examples/sni.ts
 *
 * Then:
 *
 *     curl --cacert certs/ca.pem https://localhost:8443/ https://red.localhost:8443/
 * https://blue.localhost:8443/
 *
 * Put another pair into certs/localhost.pem and certs/localhost.key: a second later new connections
 * get it, and those that are open live on. examples/run.ts describes `PORT` and `CERTS`.
 */
import { HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { devAuthority } from "./dev_authority.ts";
import { run } from "./run.ts";

/** Makes the server; `options` have the certificate of the first name, and `identities` the others. */
export function createServer(options: HttpsServerOptions): HttpsServer {
  const server = new HttpsServer(
    { ...options, watch: true, watchIntervalMs: 500 },
    (_, { session }) => new Response(`you asked for ${session.tls?.sni ?? "no name"}\n`),
  );
  server.addEventListener("error", ({ error }) => console.log(`${error.code}: ${error.message}`));
  server.addEventListener("expiring", ({ identity: { names, validTo } }) => {
    console.log(`The certificate of ${names.join(", ")} ends on ${validTo.toISOString()}`);
  });
  return server;
}

if (import.meta.main) {
  const { authority, localhost: { certFile, keyFile } } = await devAuthority();
  const identities = await Promise.all(["red.localhost", "blue.localhost"].map(async (name) => {
    const { cert, key } = await authority.issue({ names: [name] });
    return { cert, key };
  }));
  await run(({ certificates: _, ...options }) =>
    createServer({ ...options, cert: certFile, key: keyFile, identities })
  );
}
