/**
 * What the Dockerfile, the systemd units and fly.toml of this folder start: a server that takes its
 * place from the environment, and stops in good order at SIGTERM.
 *
 * `PORT` (default: 8443), `HTTP_PORT` for a redirect (default: none), `DATA` for what is to be kept
 * (default: the working directory, or that of systemd), `ACME` for names whose certificates Let's
 * Encrypt gives, with commas between them, by which you agree to its terms (default: none, a
 * certificate for localhost is made), `TRUSTED_PROXIES` for addresses that send a PROXY header.
 */
import process from "node:process";
import { inheritedSockets, redirectServer, serve } from "@httpsd/httpsd";
import { automaticCertificates, fileStorage } from "@httpsd/httpsd/acme";
import { devCertificateSource } from "@httpsd/httpsd/dev-certificates";

const { ACME, HTTP_PORT, PORT = "8443", STATE_DIRECTORY, TRUSTED_PROXIES } = process.env;
const { DATA = STATE_DIRECTORY ?? "." } = process.env;

const certificates = ACME === undefined
  ? devCertificateSource(`${DATA}/certs`)
  : automaticCertificates({
    names: ACME.split(","),
    agreeToTerms: true,
    storage: fileStorage(`${DATA}/acme`),
  });
const [socket] = inheritedSockets();
const place = socket === undefined ? { port: Number(PORT) } : { fd: socket.fd };
const proxies = TRUSTED_PROXIES === undefined
  ? {}
  : { proxyProtocol: { trustedProxies: TRUSTED_PROXIES.split(","), mode: "optional" as const } };

const server = await serve(
  { certificates, ...place, ...proxies },
  (_, { session }) => new Response(`Hello ${session.remoteAddress}\n`),
);
const plain = HTTP_PORT === undefined
  ? undefined
  : await redirectServer({ port: Number(HTTP_PORT), certificates });
console.log(`Listening on ${"port" in server.address ? server.address.port : "a socket"}`);

process.once("SIGTERM", async () => {
  await Promise.all([server.stop({ drainMs: 8_000 }), plain?.stop()]); // docker stop waits for 10 s
  process.exit(0);
});
