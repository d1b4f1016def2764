/**
 * A Hono app with nothing between it and the server: it sees the client's address and certificate.
 *
 *     deno run -A examples/hono.ts
 *     bun examples/hono.ts
 *
 * `CLIENT_CA` names the file of the authority whose certificates open /fleet; without it no client
 * is asked for one. examples/run.ts describes `PORT` and `CERTS`.
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { Hono } from "hono";
import { etag } from "hono/etag";
import { logger } from "hono/logger";
import { getConnInfo, hsts, type HttpsdEnv, requireClientCertificate } from "../lib/hono/mod.ts";
import { compress } from "../lib/web/compress.ts";
import { serverSentEvents } from "../lib/web/sse.ts";
import { HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { run } from "./run.ts";

/** The app, which any server could serve that passes it a session. */
export const app: Hono<HttpsdEnv> = new Hono<HttpsdEnv>();

app.use(logger(), hsts());

app.get("/", (c) => {
  const { address, port } = getConnInfo(c).remote as { address: string; port: number };
  const { protocol, cipher } = c.env.session.tls ?? { protocol: "no TLS", cipher: "none" };
  return c.text(`Hello ${address} port ${port}, by ${protocol} with ${cipher}\n`);
});

app.get("/numbers", etag(), async (c) => {
  const numbers = Array.from({ length: 1000 }, (_, i) => i);
  return await compress(c.json({ numbers }), c.req.raw);
});

app.get("/countdown", (c) =>
  serverSentEvents(c.req.raw, async ({ send }) => {
    for (let i = 3; i >= 0; i--) await send({ data: String(i) });
  }));

app.post("/upload", async (c) => {
  const { file } = await c.req.parseBody();
  if (!(file instanceof File)) return c.text("Send a form with a file named file\n", 400);
  return c.json({ name: file.name, type: file.type, bytes: file.size });
});

const fleet = new Hono<HttpsdEnv>().use(requireClientCertificate());
fleet.get("/", (c) => c.text(`Welcome ${c.var.clientCertificate!.subject}\n`));
app.route("/fleet", fleet);

/** Makes the server; `clientCa` is the PEM of the authority that clients' certificates are from. */
export function createServer(options: HttpsServerOptions, clientCa?: string): HttpsServer {
  const clientAuth = clientCa && { clientAuth: { ca: clientCa, mode: "optional" as const } };
  return new HttpsServer({ ...options, ...clientAuth }, app.fetch);
}

if (import.meta.main) {
  const file = process.env["CLIENT_CA"];
  const clientCa = file === undefined ? undefined : readFileSync(file, "utf8");
  await run((options) => createServer(options, clientCa));
}
