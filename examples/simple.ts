/**
 * The simplest server worth showing: an HTTPS page that shows visitors their own connection, down to
 * the first bytes that their browser sent, and gives them a client certificate to come back with.
 *
 * Run it with `deno run -A examples/simple.ts` or `bun examples/simple.ts`. `PORT` chooses the port (default:
 * 8443; 0 takes a free one), `CERTS` the directory of the certificates (default: certs/), which are
 * made when there are none.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type CertificateAuthority,
  devCertificates,
  exportPkcs12,
  openCertificateAuthority,
} from "../lib/tls/dev_certificates.ts";
import { type EventSender, serverSentEvents } from "../lib/web/sse.ts";
import { HttpsServer, type HttpsServerOptions, type RequestInfo } from "../mod.ts";
import { run, runtime } from "./run.ts";
import { CONTENT_SECURITY_POLICY, READABLE, renderPage } from "./simple_page.ts";

type Session = RequestInfo["session"];

/** The server; it listens when it is started. Without an authority it gives no client certificates. */
export function createServer(
  options: HttpsServerOptions,
  authority?: CertificateAuthority,
): HttpsServer {
  const clientAuth = authority && { ca: authority.cert, mode: "optional" as const };
  const server = new HttpsServer({ ...options, ...clientAuth && { clientAuth } }, answer);
  const watchers = watchConnections(server);

  async function answer(request: Request, { session }: RequestInfo): Promise<Response> {
    const { pathname, origin } = new URL(request.url);
    switch (`${request.method} ${pathname}`) {
      case "GET /":
      case "HEAD /":
        return showConnection(server, session, origin, authority !== undefined);
      case "GET /events":
        return serverSentEvents(request, (sender) => watchers.tell(session, sender));
      case "GET /ping":
        return text(200, "pong\n");
      case "POST /client-certificate":
        return authority === undefined ? text(404, "Not found\n") : await issue(authority, request);
    }
    const file = request.method === "GET" ? READABLE.get(pathname) : undefined;
    if (file === undefined) return text(404, "Not found\n");
    return text(200, await readFile(new URL(file, new URL("..", import.meta.url)), "utf8"));
  }

  return server;
}

if (import.meta.main) {
  await run(async (options, directory) => {
    const { ca } = await devCertificates(directory);
    const key = await readFile(join(directory, "ca.key"), "utf8");
    return createServer(options, await openCertificateAuthority({ cert: ca, key }));
  });
}

function showConnection(
  server: HttpsServer,
  session: Session,
  origin: string,
  issues: boolean,
): Response {
  const page = renderPage({
    runtime: `${runtime}`,
    url: `${origin}/`,
    session: {
      id: session.id,
      requests: session.requests,
      connectedAt: session.connectedAt,
      address: `${session.remoteAddress} port ${session.remotePort}`,
    },
    tls: session.tls,
    certificate: server.stats().certificates[0],
    password: issues ? newPassword() : undefined,
  });
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

function text(status: number, body: string): Response {
  const headers = {
    "cache-control": "no-store",
    "content-type": "text/plain; charset=utf-8",
    "x-content-type-options": "nosniff",
  };
  return new Response(body, { status, headers });
}

/** Answers the form of the page with a new client certificate, in a file that browsers import. */
async function issue(authority: CertificateAuthority, request: Request): Promise<Response> {
  // Only the page itself may ask: other sites' forms say where they are from.
  if (request.headers.get("origin") !== new URL(request.url).origin) {
    return text(403, "Ask from the page itself\n");
  }
  const tooLong = Number(request.headers.get("content-length") ?? NaN) <= 1_000 ? "" : "Too long\n";
  if (tooLong !== "") return text(413, tooLong);
  const form = new URLSearchParams(await request.text());
  const name = (form.get("name") ?? "").replaceAll(/[^\p{L}\p{N} .@_-]/gu, "").trim().slice(0, 40);
  const passphrase = form.get("password") ?? "";
  if (name === "" || !/^[\w-]{16,64}$/.test(passphrase)) return text(400, "Give a name\n");
  const { cert, key } = await authority.issue({
    usage: "client",
    subject: `CN=${name}`,
    days: 30,
  });
  const file = await exportPkcs12({ cert, key, passphrase, name: `${name} at httpsd` });
  return new Response(file, {
    headers: {
      "cache-control": "no-store",
      "content-disposition": 'attachment; filename="httpsd-client.p12"',
      "content-type": "application/x-pkcs12",
    },
  });
}

/** A password that nobody guesses, in groups that can be typed. */
function newPassword(): string {
  const letters = "abcdefghjkmnpqrstuvwxyz23456789"; // none that looks like another
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => letters[byte % letters.length]).join("")
    .replaceAll(/(.{4})(?=.)/g, "$1-");
}

/** What a page shows of an event of its connection. */
interface Told {
  readonly name: string;
  readonly at: number;
  readonly about: string;
}

/** How many events wait for a page that takes none; older ones are dropped. */
const MAX_WAITING = 50;

/** Tells pages of the events of their own connection, and of no other. */
function watchConnections(server: HttpsServer) {
  const watchers = new Map<Session, Set<(told: Told) => void>>();
  const tell = (session: Session, name: string, about: string): void => {
    for (const watcher of watchers.get(session) ?? []) watcher({ name, at: Date.now(), about });
  };
  server.addEventListener("http:header", ({ session }) => {
    tell(session, "http:header", `request ${session.requests} on this connection begins`);
  });
  server.addEventListener("http:headerssent", ({ session, bytes }) => {
    tell(session, "http:headerssent", `${bytes} bytes: the head of a response`);
  });
  server.addEventListener("http:exchange", ({ session, exchange }) => {
    const { method, path, status, responseBytes = 0, durationMs } = exchange;
    const took = `${responseBytes} bytes in ${durationMs.toFixed(1)} ms`;
    tell(session, "http:exchange", `${method} ${path} → ${status ?? "no answer"}, ${took}`);
  });

  return {
    async tell(session: Session, { send, signal }: EventSender): Promise<void> {
      const waiting: Told[] = [{
        name: "connected",
        at: session.connectedAt.getTime(),
        about: `connection ${session.id}, ${session.tls?.protocol ?? "without TLS"}`,
      }];
      let wake = (): void => {};
      const watcher = (told: Told): void => {
        waiting.push(told);
        if (waiting.length > MAX_WAITING) waiting.shift();
        wake();
      };
      const all = watchers.get(session) ?? new Set();
      watchers.set(session, all.add(watcher));
      signal.addEventListener("abort", () => wake());
      try {
        while (!signal.aborted && server.state === "running") {
          const told = waiting.shift();
          if (told !== undefined) await send({ data: JSON.stringify(told) });
          else await new Promise<void>((resolve) => wake = resolve);
        }
      } finally {
        all.delete(watcher);
        if (all.size === 0) watchers.delete(session);
      }
    },
  };
}
