/**
 * The same routes where the platform ends TLS: this file listens on nothing, its default export is
 * called by the platform that does.
 *
 *     deno serve --port 8443 --cert certs/localhost.pem --key certs/localhost.key examples/edge.ts
 *     PORT=8080 bun examples/edge.ts
 *
 * On Cloudflare Workers it is a complete worker; bundlers make one file of it:
 * `bun build --target=browser --external 'node:*' examples/edge.ts`.
 */
import { createEdgeApp, type EdgeApp, matchWildcard } from "../lib/edge/mod.ts";

/** The app, which any platform can serve. */
const app: EdgeApp = createEdgeApp(
  { uriMatch: matchWildcard },
  (request, { session }) => {
    const { protocol } = session.tls ?? { protocol: "a TLS that the platform keeps to itself" };
    const { pathname } = new URL(request.url);
    return new Response(
      `Hello ${session.remoteAddress || "stranger"} at ${pathname}, ${protocol}\n`,
    );
  },
);

app.route({
  uri: "/hello",
  method: "GET",
  handler: (request) => request.send(`Hello ${request.query.get("name") ?? "world"}\n`),
});

// Answers while the request still comes: neither side waits for the other, or holds much of it.
app.route({
  uri: "/echo",
  method: "POST",
  handler: async (request) => {
    request.type(request.get("content-type") ?? "application/octet-stream");
    for (let piece = await request.recv(); piece !== undefined; piece = await request.recv()) {
      await request.sendChunk(piece);
    }
    request.end();
  },
});

app.route({
  uri: "/secret/*",
  method: "ANY",
  handler: (request) => {
    const { tls } = request.session;
    if (!tls?.authorized) return request.sendError(403);
    request.send(`Welcome, ${tls.peerCertificate?.subject}\n`);
  },
});

export default app;
