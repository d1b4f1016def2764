/**
 * The web half of a captive portal: whatever a device asks for, it is sent to the one page, which
 * is how phones notice that they must sign in (ESP-IDF's `http_server/captive_portal`; its access
 * point and DNS server have no counterpart here).
 *
 *     deno run -A examples/captive_portal.ts
 *     bun examples/captive_portal.ts
 *
 * Then, for example: `curl -L http://localhost:8080/generate_204`. Phones look for portals without
 * TLS, so this example serves plain HTTP. examples/run.ts describes `PORT`.
 */
import { HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { run } from "./run.ts";

const PAGE = `<!doctype html>
<meta name="viewport" content="width=device-width">
<title>Captive portal</title>
<h1>Welcome</h1>
<p>This network leads to this page and nowhere else.
`;

/** Makes the server; as in the original, 13 devices fit in, and the quietest makes room. */
export function createServer(options: HttpsServerOptions): HttpsServer {
  return new HttpsServer({ ...options, limits: { maxConnections: 13, ...options.limits } })
    .route({ uri: "/", method: "GET", handler: (request) => request.send(PAGE) })
    .onError(404, (_error, request) => {
      // iOS takes a redirection without a body for no portal.
      request?.status(303).header("Location", "/").send("Redirect to the captive portal");
    });
}

if (import.meta.main) await run(createServer, { port: 8080, insecure: true });
