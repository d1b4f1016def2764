/**
 * The simplest server: an HTTPS page that shows visitors their own connection.
 *
 * Run it with `deno run -A examples/simple.ts` or `bun examples/simple.ts`. `PORT` chooses the port (default:
 * 8443; 0 takes a free one), `CERTS` the directory of the certificates (default: certs/), which are
 * made when there are none.
 */
import { HttpsServer, type HttpsServerOptions, type RequestInfo } from "../mod.ts";
import { run, runtime } from "./run.ts";
import { CONTENT_SECURITY_POLICY, renderPage, type Section } from "./simple_page.ts";

/** The server; it listens when it is started. */
export function createServer(options: HttpsServerOptions): HttpsServer {
  return new HttpsServer(options, showConnection);
}

if (import.meta.main) await run(createServer);

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
