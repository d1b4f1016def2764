/**
 * What the tests of ACME share: clients of a Pebble, and solvers that answer it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type AcmeClient,
  acmeClient,
  type AcmeClientOptions,
  type HttpChallenge,
  newAccountKey,
  type SolverOf,
  type TlsAlpnChallenge,
} from "../lib/acme/mod.ts";
import { AcmeError } from "../lib/errors.ts";
import type { Pebble } from "./pebble.ts";
import { type Child, end, start, until } from "./support.ts";

/** Makes a client of a Pebble, with a new account. */
export async function clientOf(
  pebble: Pick<Pebble, "directory" | "ca">,
  options: Partial<AcmeClientOptions> = {},
): Promise<AcmeClient> {
  const { directory, ca } = pebble;
  return acmeClient({
    directory,
    ca,
    accountKey: await newAccountKey(),
    agreeToTerms: true,
    ...options,
  });
}

/** A solver, with what it was asked for. */
export type TestSolver<T extends "http-01" | "dns-01" | "tls-alpn-01"> =
  & SolverOf<T>
  & AsyncDisposable
  & {
    /** What it answers now, by path, record or server name. */
    readonly answers: ReadonlyMap<string, unknown>;
    /** What it was called for, in order. */
    readonly calls: readonly string[];
  };

/** Answers http-01 on a port of 127.0.0.1; 0 is any. */
export async function httpSolver(
  port: number,
): Promise<TestSolver<"http-01"> & { readonly port: number }> {
  const answers = new Map<string, string>();
  const calls: string[] = [];
  const server = createServer((request, response) => {
    response.setHeader("connection", "close");
    const answer = answers.get(request.url ?? "");
    if (answer === undefined) response.statusCode = 404;
    response.end(answer ?? "not here");
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    type: "http-01",
    port: (server.address() as AddressInfo).port,
    answers,
    calls,
    set({ identifier, path, keyAuthorization }: HttpChallenge) {
      calls.push(`set ${identifier.value}`);
      answers.set(path, keyAuthorization);
    },
    remove({ identifier, path }: HttpChallenge) {
      calls.push(`remove ${identifier.value}`);
      answers.delete(path);
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await once(server.close(), "close");
    },
  };
}

/** Answers dns-01 through Pebble's DNS server. */
export function dnsSolver(
  { setTxt, clearTxt }: Pick<Pebble, "setTxt" | "clearTxt">,
): TestSolver<"dns-01"> {
  const answers = new Map<string, string>();
  const calls: string[] = [];
  return {
    type: "dns-01",
    answers,
    calls,
    async set({ recordName, recordValue }) {
      calls.push(`set ${recordName}`);
      answers.set(`${recordName} ${recordValue}`, recordValue);
      await setTxt(recordName, recordValue);
    },
    async remove({ recordName, recordValue }) {
      calls.push(`remove ${recordName}`);
      answers.delete(`${recordName} ${recordValue}`);
      await clearTxt(recordName);
    },
    settled({ recordName }) {
      calls.push(`settled ${recordName}`);
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/**
 * Answers tls-alpn-01 on a port of 127.0.0.1, one name at a time, by OpenSSL's server: Deno's TLS shows
 * no certificate with a critical extension that it does not know.
 */
export function tlsAlpnSolver(port: number): TestSolver<"tls-alpn-01"> {
  const answers = new Map<string, TlsAlpnChallenge>();
  const calls: string[] = [];
  const folder = mkdtempSync(join(tmpdir(), "httpsd-alpn-"));
  const file = join(folder, "pair.pem");
  let server: Child | undefined;
  return {
    type: "tls-alpn-01",
    answers,
    calls,
    async set(challenge) {
      calls.push(`set ${challenge.serverName}`);
      answers.set(challenge.serverName, challenge);
      writeFileSync(file, challenge.certificate + challenge.privateKey);
      const alpn = ["-alpn", "acme-tls/1", "-cert", file, "-key", file];
      server = start("openssl", ["s_server", "-accept", `127.0.0.1:${port}`, ...alpn]);
      await until(() => server!.output().includes("ACCEPT"), "OpenSSL listens");
    },
    async remove({ serverName }) {
      answers.delete(serverName);
      end(server!);
      await server!.done;
    },
    [Symbol.asyncDispose]() {
      rmSync(folder, { recursive: true });
      return Promise.resolve();
    },
  };
}

/** Has OpenSSL verify a chain by a root, at a time. */
export function assertVerified(chain: string, root: string, at = Date.now()): void {
  const folder = mkdtempSync(join(tmpdir(), "httpsd-chain-"));
  try {
    const file = join(folder, "chain.pem");
    const rootFile = join(folder, "root.pem");
    writeFileSync(file, chain);
    writeFileSync(rootFile, root);
    const time = String(Math.ceil(at / 1000) + 1);
    const args = ["verify", "-attime", time, "-CAfile", rootFile, "-untrusted", file, file];
    const { status, stderr } = spawnSync("openssl", args, { encoding: "utf8" });
    assert.equal(status, 0, stderr);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The error that a call of the client rejects with; fails when it is none of ours. */
export async function acmeErrorOf(call: Promise<unknown>, code: string): Promise<AcmeError> {
  const error = await call.then(
    () => assert.fail(`It did not reject with ${code}`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof AcmeError, String(error));
  assert.equal(error.code, code, error.message);
  return error;
}
