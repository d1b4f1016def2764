/**
 * The simplest server: an HTTPS page that shows visitors their own connection.
 *
 * Run it with `npm start` (Deno) or `npm run start:bun` (Bun). `PORT` chooses the port (default:
 * 8443; 0 takes a free one), `CERTS` the directory of the certificates (default: certs/), which are
 * made when there are none.
 */
import process from "node:process";
import { fileURLToPath } from "node:url";
import { devCertificates } from "../lib/tls/dev_certificates.ts";
import { HttpsdError, type RequestInfo, serve } from "../mod.ts";
import { CONTENT_SECURITY_POLICY, renderPage, type Section } from "./simple_page.ts";

const runtime = "Deno" in globalThis ? "Deno" : "Bun";

try {
  await main();
} catch (error) {
  if (!isExpected(error)) throw error;
  console.error(`httpsd: ${error.message}`);
  process.exit(1);
}

async function main(): Promise<void> {
  const port = Number(process.env["PORT"] ?? 8443);
  const directory = process.env["CERTS"] ?? fileURLToPath(new URL("../certs", import.meta.url));
  const { cert, key, caFile } = await devCertificates(directory);

  const server = await serve({ cert, key, port, hostname: "127.0.0.1" }, showConnection);

  let stopping = false;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, async () => {
      if (stopping) return; // Ctrl-C may arrive twice: from the terminal and from npm
      stopping = true;
      await server.stop({ drainMs: 1000 });
      process.exit(0);
    });
  }

  const url = `https://localhost:${server.address.port}/`;
  console.log(`Listening on ${url} (${runtime})`);
  console.log(`Clients have to trust ${caFile}, like this:`);
  console.log(`  curl --cacert ${caFile} ${url}`);
}

function showConnection(request: Request, { session }: RequestInfo): Response {
  if (new URL(request.url).pathname !== "/") return new Response("Not found\n", { status: 404 });
  const page = renderPage(
    "Your connection",
    `As httpsd on ${runtime} sees it.`,
    describeConnection(session),
  );
  return new Response(page, {
    headers: {
      "cache-control": "no-store",
      "content-security-policy": CONTENT_SECURITY_POLICY,
      "content-type": "text/html; charset=utf-8",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
    },
  });
}

function describeConnection(session: RequestInfo["session"]): Section[] {
  const { tls } = session;
  const sections: Section[] = [{
    heading: "Connection",
    rows: [
      ["Your address", `${session.remoteAddress} port ${session.remotePort}`],
      ["Connection", `#${session.id}, since ${new Date(session.connectedAt).toISOString()}`],
      ["Requests on it", String(session.requests)],
    ],
  }];
  if (tls === undefined) return sections;
  const tlsSection: Section = {
    heading: "TLS",
    rows: [
      ["Version", tls.protocol],
      ["Cipher suite", tls.cipher],
      ["Server name (SNI)", tls.sni ?? "none sent"],
      ["Protocol (ALPN)", tls.alpn ?? "none agreed"],
      ["Handshake", tls.resumed ? "resumed an earlier session" : "full"],
      ["Your certificate", tls.peerCertificate?.subject ?? "none: this server asks for none"],
    ],
  };
  return [tlsSection, ...sections];
}

/** Tells what people can mend (a busy port, a bad certificate, no permission) from bugs. */
function isExpected(error: unknown): error is Error {
  return error instanceof HttpsdError || (error instanceof Error && error.name === "NotCapable");
}
