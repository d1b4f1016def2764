/**
 * A gateway of devices, whole: each device shows a certificate of the fleet's authority, reports by
 * POST, and gets commands by WebSocket, by topic; operators see and command them from another port,
 * which only this machine reaches, beside metrics, health and the inspector.
 *
 *     deno run -A examples/gateway.ts
 *     bun examples/gateway.ts
 *
 * It writes a certificate for the device pump-1 into certs/. Then:
 *
 *     curl --cacert certs/ca.pem --cert certs/pump-1.pem --key certs/pump-1.key \
 *       --json '{"celsius":21.5}' https://localhost:8443/report
 *     curl --data open http://127.0.0.1:9464/devices/pump-1
 *     curl http://127.0.0.1:9464/metrics
 *
 * and the inspector is on http://127.0.0.1:9464/inspector. In production: `ACME=gateway.example` for
 * a certificate of Let's Encrypt's, by which you agree to its terms. examples/run.ts describes `PORT`
 * and `CERTS`; `ADMIN_PORT` is the operators'.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { automaticCertificates, fileStorage } from "../lib/acme/mod.ts";
import { inspector } from "../lib/inspector/mod.ts";
import { rateLimit } from "../lib/rate_limit/mod.ts";
import { health } from "../lib/telemetry/health.ts";
import { metrics } from "../lib/telemetry/metrics.ts";
import {
  type HttpdRequest,
  HttpsServer,
  type HttpsServerOptions,
  matchWildcard,
  type Session,
} from "../mod.ts";
import { devAuthority, DIRECTORY } from "./dev_authority.ts";
import { run } from "./run.ts";

/** The name of a device: all that the subject of its certificate says, since a part may look like it. */
const NAME = /^CN=([\w-]{1,64})$/;

/** The device behind a session, which no session is without. */
function nameOf({ tls }: Session): string {
  return NAME.exec(tls!.peerCertificate!.subject)![1]!;
}

/**
 * Whether a request is an operator's. Their browsers also send what pages of other sites ask for, and
 * the names of such sites may lead here.
 */
function isOperators(request: HttpdRequest): boolean {
  const site = request.get("Sec-Fetch-Site") ?? "none";
  const name = request.host?.replace(/:\d+$/, "");
  return (site === "none" || site === "same-origin") &&
    (name === "127.0.0.1" || name === "localhost");
}

/** What a device has reported last, and when. */
interface Report {
  readonly at: string;
  readonly report: unknown;
}

/** Makes the devices' server and the operators'. */
export function createGateway(
  options: HttpsServerOptions,
  { ca, adminPort, maxDevices = 10_000 }: { ca: string; adminPort: number; maxDevices?: number },
): { devices: HttpsServer; admin: HttpsServer } {
  const reports = new Map<string, Report>();
  const devices = new HttpsServer({
    ...options,
    clientAuth: { ca, mode: "required" },
    // A device whose certificate has no name of ours is turned away before it can ask anything.
    verifyClient: ({ subject }) => NAME.test(subject),
    // At the cap the device that was used least recently makes room; it connects again when it can.
    limits: { ...options.limits, maxConnections: maxDevices, maxBodyBytes: 16 * 1024 },
  });
  const limit = rateLimit({ by: "clientCertificate", limit: 120, windowMs: 60_000 });

  devices.route({
    uri: "/report",
    method: "POST",
    handler: limit.route(async (request) => {
      const report: unknown = await request.json();
      reports.set(nameOf(request.session), { at: new Date().toISOString(), report });
      return new Response(null, { status: 204 });
    }),
  });
  devices.route({
    uri: "/commands",
    websocket: {
      pingPeriodMs: 20_000, // through home routers
      async onOpen(ws) {
        await ws.subscribe(`device/${nameOf(ws.session)}`);
        await ws.subscribe("all");
        await ws.send("ready");
      },
      onMessage(ws, message) { // the answer to a command
        reports.set(nameOf(ws.session), { at: new Date().toISOString(), report: String(message) });
      },
    },
  });
  devices.addEventListener("error", ({ error, phase, remoteAddress }) => {
    console.error(`${remoteAddress ?? "-"} ${phase}: ${error.code}: ${error.message}`);
  });

  const exposed = metrics(devices);
  const state = health(devices);
  const page = inspector(devices);
  const admin = new HttpsServer(
    {
      transportMode: "insecure",
      hostname: "127.0.0.1",
      port: adminPort,
      uriMatch: matchWildcard,
    },
    (request) =>
      new URL(request.url).pathname === "/inspector" ? page.fetch(request) : state.fetch(request),
  );
  admin.use((request, next) =>
    isOperators(request) ? next() : new Response("For operators\n", { status: 403 })
  );
  admin.route({
    uri: "/metrics",
    method: "GET",
    handler: (request) => exposed.response(request.get("accept")),
  });
  admin.route({
    uri: "/devices",
    method: "GET",
    handler: (request) => request.sendJson(Object.fromEntries(reports)),
  });
  admin.route({
    uri: "/devices/*",
    method: "POST",
    async handler(request) {
      const name = request.path.slice("/devices/".length);
      const topic = name === "all" ? "all" : `device/${name}`;
      const told = devices.publish(topic, await request.text());
      request.status(told === 0 ? 404 : 202).sendJson({ told });
    },
  });
  return { devices, admin };
}

if (import.meta.main) {
  const { ACME, ADMIN_PORT = "9464" } = process.env;
  const { authority } = await devAuthority();
  const pump = await authority.issue({ usage: "client", subject: "CN=pump-1" });
  await writeFile(join(DIRECTORY, "pump-1.pem"), pump.cert);
  await writeFile(join(DIRECTORY, "pump-1.key"), pump.key, { mode: 0o600 });
  const certificates = ACME === undefined ? {} : {
    certificates: automaticCertificates({
      names: ACME.split(","),
      agreeToTerms: true,
      storage: fileStorage(join(DIRECTORY, "acme")),
    }),
  };
  let operators: HttpsServer | undefined;
  await run((options) => {
    const { devices, admin } = createGateway(
      { ...options, ...certificates },
      { ca: authority.cert, adminPort: Number(ADMIN_PORT) },
    );
    operators = admin;
    return devices;
  });
  await operators?.start();
  operators?.unref(); // it goes when the devices' server has stopped
}
