/**
 * What the tests of the TLS front share: certificates good and bad, a server that writes down what
 * happens to it, and OpenSSL as its client.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { spawn, spawnSync } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import tls from "node:tls";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { ServerErrorEvent } from "../lib/events.ts";
import { type Clock, systemClock } from "../lib/net/clock.ts";
import { type HttpsServer, serverWithClock } from "../lib/server.ts";
import { createCertificateAuthority, type IssuedCertificate } from "../lib/tls/dev_certificates.ts";
import { withOptions } from "./support.ts";

/** The versions that every behaviour is tested with. */
export const VERSIONS = ["TLSv1.2", "TLSv1.3"] as const;

/** One of them. */
export type Version = typeof VERSIONS[number];

/** A certificate and its key as PEM texts. */
export type Pair = Pick<IssuedCertificate, "cert" | "key">;

const DAY_MS = 86_400_000;
const directory = mkdtempSync(join(tmpdir(), "httpsd-tls-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));

let files = 0;

/** Writes a file for this test run and gives its path. */
export function file(content: string): string {
  const path = join(directory, `${++files}.pem`);
  writeFileSync(path, content);
  return path;
}

/** The authorities of this test run: what servers show, and two for clients. */
export const serverCa = await createCertificateAuthority({ name: "Server CA" });
export const clientCa = await createCertificateAuthority({ name: "Client CA 1" });
export const otherCa = await createCertificateAuthority({ name: "Client CA 2" });

/** Where the server authority's certificate lies, for clients. */
export const serverCaFile: string = file(serverCa.cert);

/** A server's certificate for names. */
export async function pairFor(...names: string[]): Promise<Pair> {
  const { cert, key } = await serverCa.issue({ names });
  return { cert, key };
}

/** A certificate for localhost. */
export const localhost: Pair = await pairFor("localhost", "127.0.0.1");

/** A client's certificate of {@linkcode clientCa}. */
export const alice: Pair = await clientCa.issue({ usage: "client", subject: "CN=alice" });

/** A client's certificate of {@linkcode otherCa}. */
export const mallory: Pair = await otherCa.issue({ usage: "client", subject: "CN=mallory" });

/** Clients' certificates that are rejected where {@linkcode clientCa} is trusted. */
export const ROGUES: Readonly<Record<string, Pair | undefined>> = {
  "no certificate": undefined,
  "a self-signed certificate": selfSigned(),
  "another CA's certificate": mallory,
  "an expired certificate": await clientCa.issue({
    usage: "client",
    subject: "CN=old",
    days: 10,
    notAfter: new Date(Date.now() - DAY_MS),
  }),
  "a certificate that is not valid yet": await clientCa.issue({
    usage: "client",
    subject: "CN=young",
    notBefore: new Date(Date.now() + DAY_MS),
  }),
  "a server's certificate": await clientCa.issue({ usage: "server", subject: "CN=server" }),
  "a certificate of 64 KiB": signedByOpenssl(["extendedKeyUsage=clientAuth", manyNames()]),
  "an X.509 version 1 certificate": signedByOpenssl([]),
  "a stolen certificate": stolen(alice),
};

/** Runs `openssl` to its end, which must be a good one. */
export function openssl(args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync("openssl", args, { encoding: "utf8" });
  assert.equal(status, 0, `openssl ${args.join(" ")}: ${stderr}`);
  return stdout;
}

/** A client's certificate that is self-signed. */
export function selfSigned(): Pair {
  const [cert, key] = [file(""), file("")];
  openssl([
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
    ...["-subj", "/CN=alice", "-addext", "extendedKeyUsage=clientAuth"],
    ...["-addext", "keyUsage=digitalSignature", "-keyout", key, "-out", cert],
  ]);
  return { cert: openssl(["x509", "-in", cert]), key: openssl(["pkey", "-in", key]) };
}

/** What the library does not issue: certificates as OpenSSL makes them. */
export function signedByOpenssl(
  extensions: readonly string[],
  subject = "/CN=alice",
  issuer: Pair = clientCa,
): Pair {
  const key = file(alice.key);
  const request = file("");
  openssl(["req", "-new", "-key", key, "-subj", subject, "-utf8", "-out", request]);
  const cert = openssl([
    ...["x509", "-req", "-in", request, "-days", "30"],
    ...["-CA", file(issuer.cert), "-CAkey", file(issuer.key)],
    ...(extensions.length > 0 ? ["-extfile", file(extensions.join("\n"))] : []),
  ]);
  return { cert, key: alice.key };
}

function manyNames(): string {
  const names = Array.from(
    { length: 1_100 },
    (_, i) => `DNS.${i} = ${i}.${"x".repeat(60)}.example`,
  );
  return `subjectAltName = @names\n[names]\n${names.join("\n")}`;
}

/**
 * A certificate with a key that is not its own. OpenSSL compares the certificate with the public
 * half in the key's file, so the thief writes the victim's there (RFC 5915).
 */
export function stolen({ cert }: Pair): Pair {
  const { d } = createPrivateKey(mallory.key).export({ format: "jwk" });
  const { x, y } = new X509Certificate(cert).publicKey.export({ format: "jwk" });
  const der = Buffer.concat([
    Buffer.from("30770201010420", "hex"),
    Buffer.from(d!, "base64url"),
    Buffer.from("a00a06082a8648ce3d030107a14403420004", "hex"),
    Buffer.from(x!, "base64url"),
    Buffer.from(y!, "base64url"),
  ]);
  const lines = der.toString("base64").match(/.{1,64}/g)!.join("\n");
  return { cert, key: `-----BEGIN EC PRIVATE KEY-----\n${lines}\n-----END EC PRIVATE KEY-----\n` };
}

/** A server on a port of 127.0.0.1, and what has happened to it. */
export interface TestServer extends AsyncDisposable {
  readonly server: HttpsServer;
  readonly port: number;
  /** Its `error` events. */
  readonly errors: ServerErrorEvent[];
  /** How many requests have reached the handler. */
  readonly requests: number;
}

/** What the handler of a {@linkcode TestServer} answers as JSON. */
export interface Facts {
  readonly authorized: boolean;
  readonly authorizationError?: string;
  readonly subject?: string;
  readonly resumed: boolean;
  readonly protocol: string;
  readonly cipher: string;
  readonly sni?: string;
  readonly alpn?: string;
  readonly remoteAddress: string;
}

/**
 * Starts a server with a certificate for localhost, unless given another; `clock` is that of its
 * deadlines.
 */
export async function startServer(
  options: HttpsServerOptions = {},
  clock: Clock = systemClock,
): Promise<TestServer> {
  let requests = 0;
  const own = options.cert !== undefined || options.pfx !== undefined;
  const server = serverWithClock(
    clock,
    withOptions(
      { hostname: "127.0.0.1", port: 0, timeouts: { drainMs: 0 }, ...(own ? {} : localhost) },
      options,
    ),
    (_request, { session }) => {
      requests++;
      const { peerCertificate, hello: _, ...facts } = session.tls ?? {};
      return Response.json({
        ...facts,
        subject: peerCertificate?.subject,
        remoteAddress: session.remoteAddress,
      });
    },
  );
  const errors: ServerErrorEvent[] = [];
  server.addEventListener("error", (event) => errors.push(event));
  await server.start();
  return {
    server,
    port: server.address.port,
    errors,
    get requests() {
      return requests;
    },
    [Symbol.asyncDispose]: () => server.stop(),
  };
}

/** How `openssl s_client` is to behave. */
export interface ClientOptions {
  readonly version?: Version;
  /** The address to connect to. Default: `127.0.0.1`. */
  readonly address?: string;
  /** The server name to send; `null`: none. Default: `localhost`. */
  readonly name?: string | null;
  /** The host to ask for. Default: the server name, or `localhost`. */
  readonly host?: string;
  /** The request's target. Default: `/`. */
  readonly target?: string;
  /** The certificate to show. */
  readonly client?: Pair | undefined;
  /** A file to keep the session in. */
  readonly save?: string;
  /** A file with a session to resume. */
  readonly resume?: string;
  readonly args?: readonly string[];
}

/** What `openssl s_client` has seen. */
export interface ClientResult {
  /** All that it printed. */
  readonly output: string;
  /** The status of the response, if one came. */
  readonly status: number | undefined;
  /** What the handler has answered. */
  readonly facts: Facts | undefined;
  /** The number of the alert that ended the connection, if one came. */
  readonly alert: number | undefined;
  /** Whether OpenSSL says that the session was resumed. */
  readonly resumed: boolean;
  /** The common name of the server's certificate. */
  readonly serverName: string | undefined;
}

const pemFiles = new Map<string, string>();

/** A file with a text, the same for the same text. */
function fileOf(pem: string): string {
  const path = pemFiles.get(pem) ?? file(pem);
  pemFiles.set(pem, path);
  return path;
}

/** Sends one request with `openssl s_client`, and waits until the server has closed. */
export async function sClient(port: number, options: ClientOptions = {}): Promise<ClientResult> {
  const { version, name = "localhost", host = name ?? "localhost", client, save, resume } = options;
  const { address = "127.0.0.1", target = "/" } = options;
  const args = [
    ...[
      "s_client",
      "-connect",
      `${authorityOf(address)}:${port}`,
      "-CAfile",
      serverCaFile,
      "-ign_eof",
    ],
    ...(version === undefined ? [] : [version === "TLSv1.2" ? "-tls1_2" : "-tls1_3"]),
    ...(name === null ? ["-noservername"] : ["-servername", name]),
    ...(client === undefined ? [] : ["-cert", fileOf(client.cert), "-key", fileOf(client.key)]),
    ...(save === undefined ? [] : ["-sess_out", save]),
    ...(resume === undefined ? [] : ["-sess_in", resume]),
    ...(options.args ?? []),
  ];
  const request = `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
  const output = await run("openssl", args, request);
  const json = /\r\n\r\n(\{.*?\})/s.exec(output)?.[1];
  return {
    output,
    status: numberIn(output, /HTTP\/1\.1 (\d+)/),
    facts: json === undefined ? undefined : JSON.parse(json),
    alert: numberIn(output, /SSL alert number (\d+)/),
    resumed: /^Reused, /m.test(output),
    serverName: /^subject=.*?CN = ([^,\n]+)/m.exec(output)?.[1],
  };
}

/** An address as it is written before a port. */
export function authorityOf(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}

/** Shakes hands with this runtime's own client, without a request. */
export async function handshake(port: number, servername: string): Promise<tls.TLSSocket> {
  const socket = tls.connect({ port, host: "127.0.0.1", servername, ca: serverCa.cert });
  await once(socket, "secureConnect");
  socket.on("error", () => {}); // tests look at what the server has seen
  return socket;
}

/** Runs a program and gives all that it prints. */
export async function run(command: string, args: readonly string[], input = ""): Promise<string> {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (bytes: Buffer) => output += bytes.toString("latin1"));
  child.stderr.on("data", (bytes: Buffer) => output += bytes.toString("latin1"));
  child.stdin.on("error", () => {}); // it may be over before it has read all
  child.stdin.end(input);
  return await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", () => resolve(output));
  });
}

function numberIn(text: string, pattern: RegExp): number | undefined {
  const match = pattern.exec(text);
  return match === null ? undefined : Number(match[1]);
}
