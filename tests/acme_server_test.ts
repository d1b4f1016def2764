/**
 * Servers that get their certificates by themselves, from a real Pebble that rejects half of all
 * nonces: each challenge, restarts, several processes, renewals under load, a CA that is down.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import tls from "node:tls";
import { inspect } from "node:util";
import { afterAll, describe } from "bun:test";
import { createClient } from "redis";
import { startShop } from "../examples/acme.ts";
import { automaticCertificatesWith } from "../lib/acme/automatic.ts";
import {
  type AutomaticOptions,
  type CertificateStorage,
  fileStorage,
  redisStorage,
} from "../lib/acme/mod.ts";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { CertificateFailedEvent } from "../lib/events.ts";
import { redirectServer } from "../lib/redirect.ts";
import { HttpsServer } from "../lib/server.ts";
import type { CertificateSource } from "../lib/tls/certificate_source.ts";
import { type Pebble, type PebbleOptions, startPebble, testWithPebble } from "./pebble.ts";
import { startBroker } from "./bus_support.ts";
import { freePorts } from "./ports.ts";
import { testsWith } from "./programs.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { type Child, end, received, start, until } from "./support.ts";
import { sClient } from "./tls_support.ts";

assertRuntime();

/** The seconds that a certificate lives that is renewed under load: 40 in a long run. */
const MOMENT = process.env["HTTPSD_LONG"] === undefined ? 12 : 40;

const UNRECOGNIZED_NAME = 112;
const directory = mkdtempSync(join(tmpdir(), "httpsd-acme-"));
const pebbles: Promise<Pebble>[] = [];
const children: Child[] = [];
afterAll(async () => {
  for (const child of children) end(child);
  for (const pebble of pebbles) await (await pebble)[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});

let shared: Promise<Pebble> | undefined;

/** The Pebble that most tests have; it rejects half of all nonces. */
function sharedPebble(): Promise<Pebble> {
  return shared ??= newPebble({ rejectedNonces: 50 });
}

function newPebble(options: PebbleOptions): Promise<Pebble> {
  const profiles = { default: 7_776_000, moment: MOMENT, ...options.profiles };
  const pebble = startPebble({ ...options, profiles });
  pebbles.push(pebble);
  return pebble;
}

let folders = 0;
const newFolder = () => join(directory, `${++folders}`);

/** Certificates of a Pebble. */
function certificatesOf(
  pebble: Pebble,
  folder: string,
  options: Partial<AutomaticOptions>,
  random?: () => number,
): CertificateSource {
  return automaticCertificatesWith({ ...(random && { random }) }, {
    directory: pebble.directory,
    ca: pebble.ca,
    agreeToTerms: true,
    profile: "default",
    storage: options.storage ?? fileStorage(folder, { lockMs: 1_000 }),
    ...options,
  });
}

/** A server, and all that has happened to it. */
interface Running extends AsyncDisposable {
  readonly server: HttpsServer;
  readonly port: number;
  /** The types of its events of certificates, in order. */
  readonly types: string[];
  /** Its events of all kinds. */
  readonly events: Event[];
  issued(count?: number): Promise<void>;
}

async function serving(
  certificates: CertificateSource,
  options: HttpsServerOptions = {},
): Promise<Running> {
  const server = new HttpsServer(
    { hostname: "127.0.0.1", port: 0, certificates, timeouts: { drainMs: 0 }, ...options },
    (request) => new Response(new URL(request.url).hostname),
  );
  const types: string[] = [];
  const events: Event[] = [];
  for (const type of ["certificate:issued", "certificate:failed", "expiring", "error"] as const) {
    server.addEventListener(type, (event) => {
      types.push(type);
      events.push(event);
    });
  }
  await server.start();
  return {
    server,
    port: server.address.port,
    types,
    events,
    issued: (count = 1) =>
      until(
        () => types.filter((type) => type === "certificate:issued").length >= count,
        `${count} certificates are issued`,
        MOMENT === 40 ? 250_000 : 50_000,
      ),
    [Symbol.asyncDispose]: () => server.stop(),
  };
}

/** Asks a server by a name, and verifies its certificate; gives the fingerprint. */
async function fingerprintOf(port: number, name: string, ca: string): Promise<string> {
  const socket = tls.connect({ port, host: "127.0.0.1", servername: name, ca });
  await once(socket, "secureConnect");
  assert.equal(socket.authorized, true);
  const { fingerprint256 } = socket.getPeerCertificate();
  const answer = received(socket);
  socket.write(`GET / HTTP/1.1\r\nHost: ${name}\r\nConnection: close\r\n\r\n`);
  assert.match((await answer).toString(), new RegExp(`^HTTP/1.1 200 OK[^]*${name}$`));
  socket.destroy();
  return fingerprint256;
}

/** How many orders a Pebble has had. */
function ordersOf(pebble: Pebble): number {
  return pebble.output().split("Added order").length - 1;
}

/** The last bytes of each line of the private keys that are kept in a folder. */
function secretsIn(folder: string): string[] {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  const texts = files.map(({ parentPath, name }) => readFileSync(join(parentPath, name), "utf8"));
  return texts.flatMap((text) =>
    [...text.matchAll(/PRIVATE KEY-----\\n(.+?)\\n-----END/g)].flatMap(([, key = ""]) =>
      key.split("\\n").filter((line) => line.length >= 16).map((line) => line.slice(-16))
    )
  );
}

const MS = 60_000; // Pebble is a program of its own, on a busy machine

describe("A server gets its certificate", () => {
  testWithPebble("by http-01, which redirectServer() answers, and keeps it", async () => {
    const pebble = await sharedPebble();
    const folder = newFolder();
    const challenges = ["http-01"] as const;
    const certificates = certificatesOf(pebble, folder, { names: ["http.example"], challenges });
    const options = { hostname: "127.0.0.1", port: pebble.httpPort, httpsPort: pebble.tlsPort };
    await using plain = await redirectServer({ ...options, certificates });
    const before = ordersOf(pebble);
    const lines: unknown[] = [];
    const { log, error, warn } = console;
    console.log = console.error = console.warn = (...args) => void lines.push(...args);
    let fingerprint: string;
    const root = await pebble.root();
    try {
      await using first = await serving(certificates);
      await first.issued();
      fingerprint = await fingerprintOf(first.port, "http.example", root);
      assert.deepEqual(first.types, ["certificate:issued"]);
      lines.push(...first.events, certificates, first.server, plain);
    } finally {
      Object.assign(console, { log, error, warn });
    }
    // Nobody but the storage has the keys.
    const secrets = secretsIn(folder);
    assert.ok(secrets.length >= 4, "an account's key and the certificate's");
    const seen = inspect(lines, { depth: Infinity, showHidden: true, maxStringLength: null });
    for (const secret of secrets) assert.ok(!seen.includes(secret));

    // A restart orders nothing.
    const again = certificatesOf(pebble, folder, { names: ["http.example"], challenges });
    await using second = await serving(again);
    assert.equal(await fingerprintOf(second.port, "http.example", root), fingerprint);
    assert.equal(ordersOf(pebble) - before, 1);
    assert.deepEqual(second.types, []);
  }, MS);

  testWithPebble("by http-01, answered by a server of its own routes", async () => {
    const pebble = await sharedPebble();
    const certificates = certificatesOf(pebble, newFolder(), {
      names: ["127.0.0.1"],
      challenges: ["http-01"],
    });
    await using _plain = await serving(certificates, {
      port: pebble.httpPort,
      transportMode: "insecure",
    });
    await using all = await serving(certificates);
    await all.issued();
    const { output, status } = await sClient(all.port, { name: null, host: "127.0.0.1" });
    assert.equal(status, 200);
    assert.match(output, /Server certificate/);
  }, MS);

  if (runtime === "bun") {
    testWithPebble("by tls-alpn-01, which it answers itself", async () => {
      const pebble = await sharedPebble();
      const names = ["alpn.example"];
      const challenges = ["tls-alpn-01"] as const;
      const certificates = certificatesOf(pebble, newFolder(), { names, challenges });
      await using all = await serving(certificates, { port: pebble.tlsPort });
      await all.issued();
      await fingerprintOf(all.port, "alpn.example", await pebble.root());
      assert.deepEqual(all.types, ["certificate:issued"]);
    }, MS);
  }

  testWithPebble("for a wildcard by dns-01", async () => {
    const pebble = await sharedPebble();
    const set = new Map<string, string>();
    const certificates = certificatesOf(pebble, newFolder(), {
      names: ["*.dns.example"],
      dns: {
        async set({ recordName, recordValue }) {
          set.set(recordName, recordValue);
          await pebble.setTxt(recordName, recordValue);
        },
        async remove({ recordName }) {
          set.delete(recordName);
          await pebble.clearTxt(recordName);
        },
      },
    });
    await using all = await serving(certificates);
    await all.issued();
    await fingerprintOf(all.port, "any.dns.example", await pebble.root());
    await until(() => set.size === 0, "the record is removed");
    const refused = await sClient(all.port, { name: "dns.example" });
    assert.equal(refused.alert, UNRECOGNIZED_NAME);
  }, MS);
});

describe("examples/acme.ts", () => {
  testWithPebble("is a server with a certificate, and one that redirects to it", async () => {
    const pebble = await sharedPebble();
    const { log } = console;
    const lines: string[] = [];
    console.log = (line) => void lines.push(line);
    const { server, plain } = await startShop({
      names: ["example.example"],
      agreeToTerms: true,
      directory: pebble.directory,
      ca: pebble.ca,
      challenges: ["http-01"],
      profile: "default",
      storage: fileStorage(newFolder()),
    }, { hostname: "127.0.0.1", port: 0, httpPort: pebble.httpPort });
    try {
      await until(() => lines.length > 0, "it says something", 40_000);
      assert.match(lines[0]!, /^A certificate for example\.example, until 20/);
      const { status } = await sClient(server.address.port, { name: "example.example" });
      assert.equal(status, 200);
      const answer = await fetch(`http://127.0.0.1:${plain.address.port}/a`, {
        redirect: "manual",
      });
      assert.equal(answer.status, 308);
      await answer.body?.cancel();
    } finally {
      console.log = log;
      await Promise.all([server.stop({ drainMs: 0 }), plain.stop({ drainMs: 0 })]);
    }
  }, MS);
});

describe("On demand", () => {
  testWithPebble("a client gets a certificate in its handshake, and others an alert", async () => {
    const pebble = await sharedPebble();
    const asked: string[] = [];
    const certificates = certificatesOf(pebble, newFolder(), {
      challenges: ["http-01"],
      onDemand: {
        ask: (name) => {
          asked.push(name);
          return name === "demand.example";
        },
      },
    });
    const hostname = "127.0.0.1";
    await using _plain = await redirectServer({ hostname, port: pebble.httpPort, certificates });
    await using all = await serving(certificates, {
      timeouts: { handshakeMs: 60_000, drainMs: 0 },
    });
    const root = await pebble.root();
    const before = ordersOf(pebble);
    const clients = Array.from(
      { length: 5 },
      () => fingerprintOf(all.port, "demand.example", root),
    );
    assert.equal(new Set(await Promise.all(clients)).size, 1);
    assert.equal((await sClient(all.port, { name: "refused.example" })).alert, UNRECOGNIZED_NAME);
    assert.deepEqual(asked, ["demand.example", "refused.example"]);
    assert.equal(ordersOf(pebble) - before, 1);
  }, MS);
});

describe("Several processes", () => {
  testWithPebble("make one order over files, and answer each other's challenges", async () => {
    const folder = newFolder();
    await shareOrders(
      fileStorage(folder),
      "many.example",
      `
      import { fileStorage } from ${module("../lib/acme/mod.ts")};
      const storage = fileStorage(${JSON.stringify(folder)});`,
    );
  }, MS);

  testsWith("redis-server")("make one order over Redis, and answer each other's", async () => {
    await using broker = await startBroker("redis");
    const { port } = broker;
    const client = createClient({ url: `redis://127.0.0.1:${port}` });
    client.on("error", () => {});
    await client.connect();
    try {
      await shareOrders(
        redisStorage(client),
        "redis.example",
        `
        import { redisStorage } from ${module("../lib/acme/mod.ts")};
        import { createClient } from "redis";
        const client = createClient({ url: "redis://127.0.0.1:${port}" });
        await client.connect();
        const storage = redisStorage(client);`,
      );
    } finally {
      client.destroy();
    }
  }, MS);
});

function module(path: string): string {
  return JSON.stringify(new URL(path, import.meta.url).href);
}

/** Two processes with one storage, which the other one opens by `opening` as `storage`. */
async function shareOrders(
  storage: CertificateStorage,
  name: string,
  opening: string,
): Promise<void> {
  const pebble = await sharedPebble();
  const names = [name];
  const [port] = await freePorts(1);
  const before = ordersOf(pebble);
  // Another process: an HTTPS server, and the only one that Pebble can ask.
  const script = `${opening}
      import { automaticCertificates } from ${module("../lib/acme/mod.ts")};
      import { HttpsServer, redirectServer } from ${module("../mod.ts")};
      const certificates = automaticCertificates({
        directory: ${JSON.stringify(pebble.directory)},
        ca: ${JSON.stringify(pebble.ca)},
        agreeToTerms: true,
        profile: "default",
        challenges: ["http-01"],
        names: ${JSON.stringify(names)},
        storage,
      });
      const hostname = "127.0.0.1";
      await redirectServer({ hostname, port: ${pebble.httpPort}, certificates });
      const server = new HttpsServer({ hostname, port: ${port}, certificates },
        () => new Response(${JSON.stringify(name)}));
      server.addEventListener("certificate:issued", () => console.log("issued"));
      server.addEventListener("certificate:failed", ({ error }) => console.log(error));
      await server.start();
      console.log("started");`;
  const args = runtime === "deno" ? ["eval", "--node-modules-dir=manual"] : ["-e"];
  const child = start(process.execPath, [...args, script]);
  children.push(child);
  const challenges = ["http-01"] as const;
  const certificates = certificatesOf(pebble, "", { names, challenges, storage });
  await until(() => child.output().includes("started"), "the other process starts", 20_000);
  await using all = await serving(certificates);
  const root = await pebble.root();
  let fingerprint: string | undefined;
  await until(
    async () => {
      fingerprint = await fingerprintOf(all.port, name, root).catch(() => undefined);
      return fingerprint !== undefined;
    },
    "this one has a certificate",
    40_000,
  );
  await until(() => child.output().includes("issued"), "the other has one", 40_000);
  assert.equal(await fingerprintOf(port!, name, root), fingerprint);
  assert.equal(ordersOf(pebble) - before, 1);

  // This one orders; the other, which has nothing to do with the name, answers.
  const own = certificatesOf(pebble, "", { names: [`own.${name}`], challenges, storage });
  await using alone = await serving(own);
  await alone.issued();
  end(child);
  await child.done;
}

describe("Renewal", () => {
  testWithPebble("three times under load fails no handshake", async () => {
    const pebble = await sharedPebble();
    const names = ["load.example"];
    const options = { names, challenges: ["http-01"] as const, profile: "moment" };
    const random = MOMENT === 40 ? undefined : () => 0.05;
    const certificates = certificatesOf(pebble, newFolder(), options, random);
    const hostname = "127.0.0.1";
    await using _plain = await redirectServer({ hostname, port: pebble.httpPort, certificates });
    await using all = await serving(certificates);
    await all.issued();
    const root = await pebble.root();
    const shown = new Set<string>();
    let handshakes = 0;
    let loading = true;
    const clients = Array.from({ length: 3 }, async () => {
      while (loading) {
        shown.add(await fingerprintOf(all.port, "load.example", root)); // it fails on any error
        handshakes++;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    });
    const load = Promise.all(clients);
    await Promise.race([load, all.issued(4)]);
    loading = false;
    await load;
    assert.deepEqual(new Set(all.types), new Set(["certificate:issued"]));
    assert.ok(shown.size >= 3 && handshakes > 10, `${shown.size} in ${handshakes} handshakes`);
  }, MOMENT === 40 ? 300_000 : MS);

  testWithPebble("while the CA is down keeps the old one, and says so", async () => {
    const pebble = await newPebble({ profiles: { breath: 4 } });
    const names = ["down.example"];
    const options = { names, challenges: ["http-01"] as const, profile: "breath" };
    const folder = newFolder();
    const certificates = certificatesOf(pebble, folder, options, () => 0);
    const hostname = "127.0.0.1";
    await using _plain = await redirectServer({ hostname, port: pebble.httpPort, certificates });
    await using all = await serving(certificates);
    await all.issued();
    pebble.stop();
    // It may have been renewed before.
    await until(() => all.types.includes("certificate:failed"), "the renewal fails", 40_000);
    const shown = async () =>
      /-----BEGIN CERT[^]+-----END/.exec((await sClient(all.port, { name: names[0]! })).output)![0];
    const last = await shown();
    await until(() => all.types.includes("expiring"), "its end is reported", 40_000);
    assert.ok(all.types.indexOf("certificate:failed") < all.types.indexOf("expiring"));
    assert.equal(await shown(), last);
    const failure = all.events[all.types.indexOf("certificate:failed")] as CertificateFailedEvent;
    assert.deepEqual(failure.names, names);
    assert.match(failure.error.code, /^ACME_(UNREACHABLE|TIMEOUT)$/);
    assert.ok(failure.retryAt instanceof Date);
    const seen = inspect(all.events, { depth: Infinity, showHidden: true });
    for (const secret of secretsIn(folder)) assert.ok(!seen.includes(secret));
  }, MS);
});
