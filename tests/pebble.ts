/**
 * A certificate authority for tests: Pebble, with a DNS server that says what a test wants, both on free
 * ports of 127.0.0.1. Each has a home of its own, and ends with its test.
 *
 * @module
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { freePorts } from "./ports.ts";
import { type ProgramTest, testsWith } from "./programs.ts";
import { certificates, type Child, end, start, until } from "./support.ts";

// Where .ci/pebble puts it when it may not write to /usr/local/bin.
process.env["PATH"] += `${delimiter}${join(homedir(), ".cache", "httpsd", "pebble")}`;

/** Registers a test that needs Pebble 2.10. */
export const testWithPebble: ProgramTest = testsWith("pebble");

/** What a Pebble may be started with. */
export interface PebbleOptions {
  /** How many of 100 nonces are rejected. Default: 0. */
  readonly rejectedNonces?: number;
  /** External accounts that are asked for: HMAC keys in base64url by their names. Default: none. */
  readonly externalAccounts?: Readonly<Record<string, string>>;
  /** The profiles, with the seconds that their certificates are valid. */
  readonly profiles?: Readonly<Record<string, number>>;
  /** How many roots there are besides the first. Default: 0. */
  readonly alternateRoots?: number;
  /** The port at which http-01 is asked. Default: a free one. */
  readonly httpPort?: number;
  /** The port at which tls-alpn-01 is asked. Default: a free one. */
  readonly tlsPort?: number;
  /** How many seconds it waits before it looks at a challenge. Default: 0. */
  readonly validationSeconds?: number;
  /** The port of its directory, as of one that is started again. Default: a free one. */
  readonly port?: number;
}

/** A running Pebble. */
export interface Pebble extends AsyncDisposable {
  /** The URL of its directory. */
  readonly directory: string;
  /** PEM of the authority that its directory's own certificate is verified by. */
  readonly ca: string;
  /** The port of its directory. */
  readonly port: number;
  /** The port at which it asks for answers to http-01. */
  readonly httpPort: number;
  /** The port at which it asks for answers to tls-alpn-01. */
  readonly tlsPort: number;
  /** PEM of a root by which its certificates are verified; 1 and up: the alternate ones. */
  root(index?: number): Promise<string>;
  /** What Pebble says of a certificate: `Valid` or `Revoked`, by its serial number in hexadecimal. */
  statusOf(serialNumber: string): Promise<{ Status: string; Reason?: number }>;
  /** Sets what it says about the renewal of a certificate. */
  setRenewalInfo(certificate: string, window: { start: Date; end: Date }): Promise<void>;
  /** Adds a TXT record; the name has no dot at its end. */
  setTxt(name: string, value: string): Promise<void>;
  /** Takes the TXT records of a name away. */
  clearTxt(name: string): Promise<void>;
  /** Has a name resolve to these IPv4 addresses. Others resolve to 127.0.0.1. */
  setA(name: string, addresses: readonly string[]): Promise<void>;
  /** What Pebble has written so far. */
  output(): string;
  /** Ends it; it forgets all. */
  stop(): Promise<void>;
}

/** How long a program may take to start on a busy machine, in ms. */
const START_MS = 20_000;

/** The profiles that there are unless a test asks for others. */
const PROFILES = { default: 7_776_000, shortlived: 518_400, moment: 40 };

/** Starts Pebble. */
export async function startPebble(options: PebbleOptions = {}): Promise<Pebble> {
  const home = await mkdtemp(join(tmpdir(), "httpsd-pebble-"));
  const children: Child[] = [];
  const stop = async () => {
    children.forEach(end);
    await Promise.allSettled(children.map(({ done }) => done));
  };
  try {
    const dns = await startDns(children);
    const ports = await freePorts(4);
    const port = options.port ?? ports[0]!;
    const management = ports[1]!;
    const httpPort = options.httpPort ?? ports[2]!;
    const tlsPort = options.tlsPort ?? ports[3]!;
    const { ca } = await certificates();
    await writeConfig(home, options, { port, management, httpPort, tlsPort });
    const args = ["-config", join(home, "config.json"), "-dnsserver", `127.0.0.1:${dns.port}`];
    const pebble = run(children, "env", [...environment(options), "pebble", ...args]);
    const directory = `https://127.0.0.1:${port}/dir`;
    await until(
      () => fetched(directory, ca).then(() => true, () => false),
      "Pebble answers",
      START_MS,
    );
    const managed = (path: string, body?: object) =>
      fetched(`https://127.0.0.1:${management}/${path}`, ca, body);
    return {
      directory,
      ca,
      port,
      httpPort,
      tlsPort,
      root: (index = 0) => managed(`roots/${index}`),
      statusOf: async (serial) => JSON.parse(await managed(`cert-status-by-serial/${serial}`)),
      setRenewalInfo: async (certificate, { start, end }) => {
        const window = { start: start.toISOString(), end: end.toISOString() };
        const ariResponse = JSON.stringify({ suggestedWindow: window });
        await managed("set-renewal-info/", { certificate, ariResponse });
      },
      setTxt: (name, value) => dns.tell("set-txt", { host: `${name}.`, value }),
      clearTxt: (name) => dns.tell("clear-txt", { host: `${name}.` }),
      setA: (name, addresses) => dns.tell("add-a", { host: `${name}.`, addresses }),
      output: pebble.output,
      stop,
      async [Symbol.asyncDispose]() {
        await stop();
        await rm(home, { recursive: true });
      },
    };
  } catch (error) {
    const said = children.map((child) => child.output()).join("\n");
    await stop();
    await rm(home, { recursive: true });
    throw new Error(`Pebble does not start; .ci/pebble installs it: ${said}`, { cause: error });
  }
}

async function writeConfig(
  home: string,
  { externalAccounts, profiles = PROFILES }: PebbleOptions,
  { port, management, httpPort, tlsPort }: Record<string, number>,
): Promise<void> {
  const { cert, key } = await certificates();
  const certificate = join(home, "cert.pem");
  const privateKey = join(home, "key.pem");
  const named = Object.entries(profiles).map(([name, validityPeriod]) =>
    [name, { description: `Valid for ${validityPeriod} s`, validityPeriod }] as const
  );
  const pebble = {
    listenAddress: `127.0.0.1:${port}`,
    managementListenAddress: `127.0.0.1:${management}`,
    certificate,
    privateKey,
    httpPort,
    tlsPort,
    ocspResponderURL: "",
    retryAfter: { authz: 0, order: 0 },
    keyAlgorithm: "ecdsa",
    profiles: Object.fromEntries(named),
    externalAccountBindingRequired: externalAccounts !== undefined,
    ...(externalAccounts === undefined ? {} : { externalAccountMACKeys: externalAccounts }),
  };
  await writeFile(certificate, cert);
  await writeFile(privateKey, key);
  await writeFile(join(home, "config.json"), JSON.stringify({ pebble }));
}

function environment({
  rejectedNonces = 0,
  alternateRoots = 0,
  validationSeconds = 0,
}: PebbleOptions): string[] {
  return [
    `PEBBLE_WFE_NONCEREJECT=${rejectedNonces}`,
    `PEBBLE_ALTERNATE_ROOTS=${alternateRoots}`,
    "PEBBLE_AUTHZREUSE=0", // of 100 valid authorizations one is taken again all the same
    ...(validationSeconds === 0
      ? ["PEBBLE_VA_NOSLEEP=1"]
      : [`PEBBLE_VA_SLEEPTIME=${validationSeconds}`]),
  ];
}

/** Starts a program that ends with the others. */
function run(children: Child[], command: string, args: readonly string[]): Child {
  const child = start(command, args, "");
  child.done.catch(() => {}); // where there is no such program nothing answers, which is reported
  children.push(child);
  return child;
}

/** Starts the DNS server. */
async function startDns(children: Child[]) {
  const [port, management] = await freePorts(2);
  const off = ["-doh", "", "-http01", "", "-https01", "", "-tlsalpn01", ""];
  const own = ["-dnsserver", `127.0.0.1:${port}`, "-management", `127.0.0.1:${management}`];
  // Pebble connects to the first address: nothing listens on ::1.
  run(children, "pebble-challtestsrv", [...own, ...off, "-defaultIPv6", ""]);
  const tell = async (path: string, body: object): Promise<void> => {
    await fetched(`http://127.0.0.1:${management}/${path}`, undefined, body);
  };
  await until(
    () => tell("clear-txt", { host: "nobody.example." }).then(() => true, () => false),
    "pebble-challtestsrv answers",
    START_MS,
  );
  return { port, tell };
}

/** The body of a GET, or of a POST with JSON; rejects when the status is not 200. */
function fetched(url: string, ca: string | undefined, body?: object): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { "user-agent": "httpsd-tests" }; // without one Pebble refuses
    const options = { agent: false, method: body ? "POST" : "GET", headers };
    const request = ca === undefined
      ? httpRequest(url, options)
      : httpsRequest(url, { ...options, ca });
    request.on("error", reject);
    request.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => text += chunk);
      response.on("end", () => {
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`${url} answers with ${response.statusCode}: ${text}`));
      });
      response.on("error", reject);
    });
    request.end(body && JSON.stringify(body));
  });
}
