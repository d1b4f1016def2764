/**
 * What `httpsd serve` and `httpsd proxy` share: certificates, the address, the line that says where
 * the server is, and its end.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { HttpsServerOptions } from "../config.ts";
import { ListenError } from "../errors.ts";
import { redirectServer } from "../redirect.ts";
import { type HttpsServer, serve } from "../server.ts";
import type { OwnInspector } from "../inspector/mod.ts";
import { devCertificateSource } from "../tls/dev_certificates.ts";
import { compress } from "../web/compress.ts";
import { portOf, UsageError, type Values } from "./arguments.ts";
import { openAuthority } from "./authority.ts";
import { defaultDirectory } from "./authority_directory.ts";
import { type Output, runtimeName } from "./output.ts";
import {
  DEFAULT_PORT,
  HTTP_PORT,
  INSPECTOR_PORT,
  LOOPBACK,
  plainPortError,
  type Site,
} from "./site.ts";

/** How long requests under way may take when the server ends, in ms. */
const DRAIN_MS = 10_000;

type Handler = (request: Request) => Response | Promise<Response>;

/** What is served. */
export interface Served {
  readonly handler: Handler;
  /** What the start line says of it, such as a directory. */
  readonly what: string;
}

/** Serves until a signal ends it; returns the exit code. */
export async function serving(served: Served, values: Values, output: Output): Promise<number> {
  if (values.workers === undefined) return await serveHere(served, values, output);
  const { serveInWorkers } = await import("./workers.ts");
  return await serveInWorkers(values, output, {
    check: (port) => check(served, values, port),
    start: (port, inspectorPort) =>
      start(served, { ...values, port: String(port) }, output, inspectorPort),
    announce: (site) => announce(served, site, values, output),
  });
}

async function serveHere(served: Served, values: Values, output: Output): Promise<number> {
  const ended = signalled();
  const site = await start(served, values, output);
  announce(served, site, values, output);
  await ended;
  await site.stop();
  return 0;
}

/** Finds what is wrong before each worker does: starts the server once, for a moment. */
async function check({ handler }: Served, values: Values, port: number): Promise<void> {
  const { all } = await optionsOf(values);
  if (values.acme !== undefined) return; // it would order certificates
  const server = await serve({ ...all, port }, dressed(handler, values));
  await server.stop({ drainMs: 0 });
}

/** What a command line means for a server. */
async function optionsOf(values: Values) {
  const { host = LOOPBACK, log } = values;
  const format = formatOf(log);
  const { options, certificate, caFile } = await certificates(values);
  const clientCa = values["client-ca"];
  const all: HttpsServerOptions = {
    ...options,
    hostname: host,
    ...(clientCa !== undefined && { clientAuth: { ca: clientCa, mode: "required" } }),
  };
  return { all, format, certificate, caFile };
}

/** `inspectorPort`: of the first worker's inspector. */
async function start(
  { handler }: Served,
  values: Values,
  output: Output,
  inspectorPort?: number,
): Promise<Site> {
  const { all, format, certificate, caFile } = await optionsOf(values);
  const server = await listening(all, dressed(handler, values), values);
  reportCertificates(server, output);
  const plain = values.acme === undefined ? undefined : await plainServer(all, server, values);
  if (format !== undefined) {
    const { accessLog } = await import("../telemetry/access_log.ts");
    accessLog(server, { format });
  }
  const inspector = values.inspect === true ? await inspecting(server, inspectorPort) : undefined;
  const stop = async (): Promise<void> => {
    await Promise.all([server.stop({ drainMs: DRAIN_MS }), plain?.stop({ drainMs: DRAIN_MS })]);
    await inspector?.stop(); // until here it shows how the server ends
  };
  return { server, certificate, caFile, inspector: inspector?.url, stop };
}

/** What answers the authority of --acme on plain HTTP, and sends all others to HTTPS. */
async function plainServer(
  { certificates, hostname }: HttpsServerOptions,
  server: HttpsServer,
  values: Values,
): Promise<HttpsServer> {
  const { "http-port": given } = values;
  const port = given === undefined ? HTTP_PORT : portOf(given, "http-port");
  try {
    return await redirectServer({
      port,
      // What passes port 80 on to another one passes 443 on, too.
      httpsPort: given === undefined ? server.address.port : 443,
      ...(hostname !== undefined && { hostname }),
      ...(certificates !== undefined && { certificates }),
    });
  } catch (cause) {
    await server.stop({ drainMs: 0 });
    if (!(cause instanceof ListenError)) throw cause;
    throw plainPortError(port, cause);
  }
}

/** Writes what becomes of certificates that are got by themselves. */
function reportCertificates(server: HttpsServer, output: Output): void {
  server.addEventListener("certificate:issued", ({ identity }) => {
    const names = [...identity.names, ...identity.addresses];
    const until = identity.validTo.toISOString();
    output.say({ issued: names, until }, `A certificate for ${names.join(", ")}, until ${until}`);
  });
  server.addEventListener("certificate:failed", ({ names, error, problem, retryAt }) => {
    const why = problem?.detail ?? error.message;
    const next = retryAt === undefined ? "" : `; next try at ${retryAt.toISOString()}`;
    output.error(`No certificate for ${names.join(", ")}: ${why}${next}`);
  });
}

/** Opens the inspector: on the port that workers share, else on any where the usual one is taken. */
async function inspecting(server: HttpsServer, shared: number | undefined): Promise<OwnInspector> {
  const { inspect } = await import("../inspector/mod.ts");
  try {
    return await inspect(server, { port: shared ?? INSPECTOR_PORT });
  } catch (error) {
    const isTaken = error instanceof ListenError && error.code === "ADDRESS_IN_USE";
    if (!isTaken || shared !== undefined) throw error;
    return await inspect(server);
  }
}

/** Listens on the port that was asked for, or on any where none was and the usual one is taken. */
async function listening(
  options: HttpsServerOptions,
  handler: Handler,
  { port }: Values,
): Promise<HttpsServer> {
  const wanted = port === undefined ? DEFAULT_PORT : portOf(port);
  try {
    return await serve({ ...options, port: wanted }, handler);
  } catch (error) {
    const isTaken = error instanceof ListenError && error.code === "ADDRESS_IN_USE";
    if (!isTaken || port !== undefined) throw error;
    return await serve({ ...options, port: 0 }, handler);
  }
}

function formatOf(log: string | undefined): "common" | "combined" | "json" | undefined {
  if (log === undefined || log === "common" || log === "combined" || log === "json") return log;
  throw new UsageError(`--log is common, combined or json, not ${JSON.stringify(log)}`);
}

/** The handler with what options add to every answer. */
function dressed(
  handler: Handler,
  { cors = false, compress: compresses = false }: Values,
): Handler {
  let answer = handler;
  if (compresses) {
    const plain = answer;
    answer = async (request) => await compress(await plain(request), request);
  }
  return cors ? withCors(answer) : answer;
}

/** Lets pages of every origin read answers, without cookies (Fetch standard, CORS protocol). */
function withCors(handler: Handler): Handler {
  return async (request) => {
    const { headers } = request;
    const isPreflight = request.method === "OPTIONS" && headers.has("origin") &&
      headers.has("access-control-request-method");
    const answer = isPreflight ? new Response(null, { status: 204 }) : await handler(request);
    const fields = new Headers(answer.headers);
    fields.set("access-control-allow-origin", "*");
    fields.set("access-control-expose-headers", "*");
    if (isPreflight) {
      fields.set("access-control-allow-methods", "*");
      fields.set("access-control-allow-headers", "*");
      fields.set("access-control-max-age", "600");
    }
    if (answer.status === 101) return answer;
    const { status, statusText } = answer;
    return new Response(answer.body, { status, statusText, headers: fields });
  };
}

/** The certificates that the command line asks for, in the server's options. */
async function certificates(
  values: Values,
): Promise<{ options: HttpsServerOptions; certificate: string; caFile?: string }> {
  const { cert, key, acme, host = LOOPBACK } = values;
  if ((cert === undefined) !== (key === undefined)) {
    throw new UsageError("--cert and --key are given together");
  }
  if (acme === undefined && values.email !== undefined) {
    throw new UsageError("--email is for --acme");
  }
  if (acme === undefined && values["http-port"] !== undefined) {
    throw new UsageError("--http-port is for --acme");
  }
  if (values["http-port"] !== undefined) portOf(values["http-port"], "http-port");
  if (cert !== undefined && key !== undefined) {
    if (acme !== undefined) throw new UsageError("--acme is instead of --cert and --key");
    return { options: { cert, key, watch: true }, certificate: cert };
  }
  if (acme !== undefined) {
    return {
      options: await acmeOptions(acme, values),
      certificate: `ACME, for ${acme.join(", ")}`,
    };
  }
  const directory = values.certs ?? defaultDirectory();
  const caFile = join(directory, "ca.pem");
  const certificate = `of this machine's authority, in ${directory}`;
  if (isLoopback(host)) {
    return { options: { certificates: devCertificateSource(directory) }, certificate, caFile };
  }
  const { authority } = await openAuthority(directory);
  const issued = await authority.issue({ names: localNames(host) });
  return { options: { cert: issued.cert, key: issued.key }, certificate, caFile };
}

async function acmeOptions(names: readonly string[], values: Values): Promise<HttpsServerOptions> {
  const { automaticCertificates, fileStorage } = await import("../acme/mod.ts");
  const directory = values["acme-directory"];
  const caFile = values["acme-ca"];
  const source = automaticCertificates({
    names,
    agreeToTerms: true,
    storage: fileStorage(join(values.certs ?? defaultDirectory(), "acme")),
    ...(values.email !== undefined && { email: values.email }),
    ...(directory !== undefined && { directory }),
    ...(caFile !== undefined && { ca: readFileSync(caFile, "utf8") }),
  });
  return { certificates: source };
}

function isLoopback(host: string): boolean {
  return ["127.0.0.1", "::1", "[::1]", "localhost"].includes(host);
}

/** By which names other machines may know this one. */
function localNames(host: string): string[] {
  const isAny = ["0.0.0.0", "::", "[::]"].includes(host);
  const addresses = isAny
    ? Object.values(networkInterfaces()).flatMap((all) => all ?? [])
      .map(({ address }) => address.split("%", 1)[0]!)
    : [host.replace(/^\[|\]$/g, "")];
  return [...new Set(["localhost", "127.0.0.1", "::1", hostname(), ...addresses])];
}

/** Writes where the server is, and how to trust it. */
function announce(served: Served, site: Site, values: Values, output: Output): void {
  const { server, certificate, caFile, inspector } = site;
  const { port } = server.address;
  const host = values.acme?.[0] ?? nameOf(values.host ?? LOOPBACK);
  const url = `https://${host}${port === 443 ? "" : `:${port}`}/`;
  const readyMs = Math.round(performance.now());
  const lines = [
    `httpsd on ${runtimeName()}, ready after ${readyMs} ms`,
    `  ${url}  ${served.what}`,
    `  Certificate: ${certificate}`,
  ];
  if (caFile !== undefined) {
    lines.push(`  To trust it: httpsd trust, or curl --cacert ${quoted(caFile)} ${url}`);
  }
  if (inspector !== undefined) lines.push(`  Inspector: ${inspector}`);
  if (!isLoopback(values.host ?? LOOPBACK)) lines.push("  Other machines can reach it");
  else if (values.acme !== undefined) {
    lines.push(
      "  The authority cannot, unless something passes port 80 on: --host 0.0.0.0 lets it",
    );
  }
  output.say(
    { url, port, what: served.what, certificate, caFile, inspector, readyMs },
    lines.join("\n"),
  );
  if (values.open === true) openBrowser(url, output);
}

function nameOf(host: string): string {
  if (isLoopback(host)) return "localhost";
  if (["0.0.0.0", "::", "[::]"].includes(host)) return hostname();
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
}

/** A path as a shell takes it. */
function quoted(path: string): string {
  return /^[\w./@:+-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}

function openBrowser(url: string, output: Output): void {
  const [command, ...args] = process.platform === "darwin"
    ? ["open", url]
    : process.platform === "win32"
    ? ["cmd", "/c", "start", "", url]
    : ["xdg-open", url];
  const browser = spawn(command!, args, { stdio: "ignore", detached: true });
  browser.on("error", () => output.error(`No browser was opened: ${command} is missing`));
  browser.unref();
}

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process. */
function signalled(): Promise<void> {
  return new Promise((resolve) => {
    let times = 0;
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.on(signal, () => ++times > 1 ? process.exit(130) : resolve());
    }
  });
}
