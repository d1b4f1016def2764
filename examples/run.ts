/**
 * What the examples share: starting one from the command line. `PORT` chooses the port (0 takes a
 * free one), `CERTS` the directory of the certificates (default: certs/), which are made when there
 * are none.
 */
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { devCertificateSource } from "../lib/tls/dev_certificates.ts";
import { HttpsdError, type HttpsServer, type HttpsServerOptions } from "../mod.ts";

/** The runtime that runs the example. */
export const runtime: "Deno" | "Bun" = "Deno" in globalThis ? "Deno" : "Bun";

/** Where an example listens unless the environment says otherwise. */
export interface RunOptions {
  /** The port. Default: 8443. */
  readonly port?: number;
  /** Without TLS, for the few examples that make no sense with it. Default: `false`. */
  readonly insecure?: boolean;
}

/** Makes a server of options; the directory is where the certificates are kept. */
type CreateServer = (
  options: HttpsServerOptions,
  directory: string,
) => HttpsServer | Promise<HttpsServer>;

/** Starts the server that `createServer` makes, and stops it at SIGINT and SIGTERM. */
export async function run(
  createServer: CreateServer,
  options: RunOptions = {},
): Promise<void> {
  try {
    await start(createServer, options);
  } catch (error) {
    if (!isExpected(error)) throw error;
    console.error(`httpsd: ${error.message}`);
    process.exit(1);
  }
}

async function start(
  createServer: CreateServer,
  { port = 8443, insecure = false }: RunOptions,
): Promise<void> {
  const address = { hostname: "127.0.0.1", port: Number(process.env["PORT"] ?? port) };
  const directory = process.env["CERTS"] ?? fileURLToPath(new URL("../certs", import.meta.url));
  const server = await createServer(
    insecure ? { ...address, transportMode: "insecure" } : {
      ...address,
      // For a public name, automaticCertificates() instead: examples/acme.ts.
      certificates: devCertificateSource(directory),
    },
    directory,
  );
  await server.start();
  stopOnSignals(server);

  const url = `${insecure ? "http" : "https"}://localhost:${server.address.port}/`;
  console.log(`Listening on ${url} (${runtime})`);
  if (insecure) return;
  const caFile = join(directory, "ca.pem");
  console.log(`Clients have to trust ${caFile}, like this:`);
  console.log(`  curl --cacert ${caFile} ${url}`);
}

function stopOnSignals(server: HttpsServer): void {
  let stopping = false;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, async () => {
      if (stopping) return; // Ctrl-C may arrive twice: from the terminal and from npm
      stopping = true;
      await server.stop({ drainMs: 1000 });
      process.exit(0);
    });
  }
}

/** Whether the user can fix an error (a busy port, a bad certificate, no permission), unlike a bug. */
function isExpected(error: unknown): error is Error {
  return error instanceof HttpsdError || (error instanceof Error && error.name === "NotCapable");
}
