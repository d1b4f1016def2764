/** Tests of certificates and client CAs that change while the server runs. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import { HttpsServer } from "../lib/server.ts";
import type { Identity } from "../lib/tls/loaded_identity.ts";
import { assertRuntime } from "./runtime.ts";
import { received, turns, until } from "./support.ts";
import {
  alice,
  clientCa,
  file,
  handshake,
  localhost,
  mallory,
  otherCa,
  type Pair,
  pairFor,
  sClient,
  serverCa,
  startServer,
  type TestServer,
  VERSIONS,
} from "./tls_support.ts";

assertRuntime();

/** The fingerprint of a certificate in PEM. */
function fingerprint({ cert }: Pair): string {
  return new X509Certificate(cert).fingerprint256;
}

const REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/** The fingerprint of the certificate that a server shows now; it must answer a request too. */
async function shown({ port }: TestServer, name = "localhost"): Promise<string> {
  const socket = await handshake(port, name);
  const { fingerprint256 } = socket.getPeerCertificate();
  const answer = received(socket);
  socket.write(REQUEST);
  assert.match((await answer).toString("latin1"), /^HTTP\/1\.1 200 /);
  socket.destroy();
  return fingerprint256;
}

/** Waits until the server shows a pair's certificate under a name. */
function becomes(server: TestServer, pair: Pair, name: string): Promise<void> {
  return until(
    async () => await shown(server, name) === fingerprint(pair),
    `The new certificate of ${name} is shown`,
  );
}

const next = await pairFor("localhost");
const a = await pairFor("a.example");
const b = await pairFor("b.example");

describe("reload()", () => {
  test("shows the new certificate to new connections, and lets old ones live on", async () => {
    await using server = await startServer();
    const socket = await handshake(server.port, "localhost");
    assert.equal(socket.getPeerCertificate().fingerprint256, fingerprint(localhost));
    await server.server.reload(next);
    assert.equal(await shown(server), fingerprint(next));
    const answer = received(socket);
    socket.write(REQUEST);
    assert.match((await answer).toString(), /^HTTP\/1\.1 200 /);
    socket.destroy();
    assert.deepEqual(server.errors, []);
  });

  test("keeps the last good of everything when one thing is bad", async () => {
    await using server = await startServer({ identities: [a], cacert: clientCa.cert });
    const code = { code: "INVALID_CERTIFICATE" };
    const { server: httpsd } = server;
    await assert.rejects(httpsd.reload({ cert: next.cert, key: localhost.key }), code);
    await assert.rejects(httpsd.reload({ ...next, key: "" }), code);
    await assert.rejects(
      httpsd.reload({ ...next, identities: [{ cert: b.cert, key: a.key }] }),
      code,
    );
    await assert.rejects(httpsd.reload({ ...next, clientAuth: { ca: alice.key } }), code);
    await assert.rejects(httpsd.reload({ ...next, identities: [{ ...b, names: ["*"] }] }), {
      code: "INVALID_CONFIG",
    });
    const { serverName } = await sClient(server.port, { name: "a.example", client: alice });
    assert.equal(serverName, "a.example");
    const { output, status } = await sClient(server.port, { client: alice });
    assert.equal(status, 200);
    assert.ok(output.includes(localhost.cert.trim()));
  });

  test("replaces the identities of names", async () => {
    await using server = await startServer({ identities: [a] });
    await server.server.reload({ identities: [b] });
    assert.equal(await shown(server, "b.example"), fingerprint(b));
    assert.equal((await sClient(server.port, { name: "a.example" })).serverName, "localhost");
    await server.server.reload({ identities: [] });
    assert.equal((await sClient(server.port, { name: "b.example" })).serverName, "localhost");
  });

  test("changes which CAs client certificates must come from, and whether any is required", async () => {
    await using server = await startServer({ cacert: clientCa.cert });
    const lets = async () => {
      const results = [alice, mallory, undefined].map((client) => sClient(server.port, { client }));
      return (await Promise.all(results)).map(({ status }) => status === 200);
    };
    assert.deepEqual(await lets(), [true, false, false]);
    await server.server.reload({ clientAuth: { ca: otherCa.cert } });
    assert.deepEqual(await lets(), [false, true, false]);
    await server.server.reload({ clientAuth: { ca: clientCa.cert, mode: "optional" } });
    assert.deepEqual(await lets(), [true, true, true]);
    await server.server.reload({ clientAuth: null });
    assert.deepEqual(await lets(), [true, true, true]);
    await server.server.reload({ cacert: clientCa.cert } as object);
    assert.deepEqual(await lets(), [true, false, false]);
  });

  test("reads files again, also when the same options are given", async () => {
    const [cert, key] = [file(a.cert), file(a.key)];
    const options = { identities: [{ cert, key, names: ["a.example"] }] };
    await using server = await startServer(options);
    const renewed = await pairFor("a.example");
    writeFileSync(cert, renewed.cert);
    writeFileSync(key, renewed.key);
    await server.server.reload(options);
    assert.equal(await shown(server, "a.example"), fingerprint(renewed));
  });

  test("takes its turn, and does not throw away what the one before it has done", async () => {
    await using server = await startServer();
    await Promise.all([
      server.server.reload(next),
      server.server.reload({ identities: [a] }),
      server.server.reload({ cert: "" }).catch(() => {}),
      server.server.reload({ identities: [a, b] }),
    ]);
    assert.equal(await shown(server), fingerprint(next));
    assert.equal(await shown(server, "a.example"), fingerprint(a));
    assert.equal(await shown(server, "b.example"), fingerprint(b));
  });

  test("throws when there is nothing to reload", async () => {
    const server = await startServer();
    await server.server.stop();
    await assert.rejects(server.server.reload(next), { code: "NOT_STARTED" });
    await using plain = await startServer({ transportMode: "insecure" });
    await assert.rejects(plain.server.reload(next), { code: "NOT_STARTED" });
  });

  for (const version of VERSIONS) {
    test(`serves clients that come back with a session, ${version}`, async () => {
      await using server = await startServer({ cacert: clientCa.cert });
      const resume = file("");
      const { port } = server;
      assert.equal((await sClient(port, { version, client: alice, save: resume })).status, 200);
      const again = async () => {
        const { facts, resumed } = await sClient(port, { version, client: alice, resume });
        assert.equal(facts?.authorized, true);
        assert.equal(facts.subject, "CN=alice");
        return resumed;
      };
      await server.server.reload({ ...localhost, clientAuth: { ca: clientCa.cert } });
      assert.equal(await again(), true); // nothing has changed
      await server.server.reload(next);
      await again(); // Deno resumes, Bun shakes hands anew
    });
  }

  test("loses none of 1,000 handshakes in 50 rotations, each with a whole identity", async () => {
    const HANDSHAKES = 1_000;
    const ROTATIONS = 50;
    const CLIENTS = 10;
    const pairs = [localhost, next, await pairFor("localhost")];
    await using server = await startServer();
    const seen = new Map<string, number>();
    let done = 0;
    const client = async () => {
      while (done < HANDSHAKES) {
        done++;
        const certificate = await shown(server); // fails unless certificate and key are a pair
        seen.set(certificate, (seen.get(certificate) ?? 0) + 1);
      }
    };
    const clients = Promise.all(Array.from({ length: CLIENTS }, client));
    for (let rotation = 1; rotation <= ROTATIONS; rotation++) {
      await until(
        () => done >= rotation * HANDSHAKES / (ROTATIONS + 1),
        "Handshakes go on",
        30_000,
      );
      await server.server.reload(pairs[rotation % pairs.length]!);
    }
    await clients;
    assert.deepEqual(server.errors.map(({ error }) => error.message), []);
    const known = new Set(pairs.map(fingerprint));
    for (const certificate of seen.keys()) assert.ok(known.has(certificate));
    assert.equal(seen.size, pairs.length);
    assert.equal([...seen.values()].reduce((sum, count) => sum + count), HANDSHAKES);
  }, 60_000);
});

describe("watch: true", () => {
  /** Puts a pair in the place of another, as careful programs do. */
  function replace(files: Pair, pair: Pair): void {
    for (const part of ["cert", "key"] as const) {
      writeFileSync(`${files[part]}.new`, pair[part]);
      renameSync(`${files[part]}.new`, files[part]);
    }
  }

  test("follows the files, keeps the last good pair, and goes on from there", async () => {
    const files = { cert: file(localhost.cert), key: file(localhost.key) };
    const named = { cert: file(a.cert), key: file(a.key) };
    await using server = await startServer({
      ...files,
      identities: [named],
      watch: true,
      watchIntervalMs: 10,
    });
    replace(files, next);
    await becomes(server, next, "localhost");
    assert.equal(await shown(server, "a.example"), fingerprint(a));

    const renewed = await pairFor("a.example");
    replace(named, renewed);
    await becomes(server, renewed, "a.example");
    assert.equal(server.errors.length, 0);

    writeFileSync(files.key, alice.key);
    await until(() => server.errors.length > 0, "The bad pair is reported");
    assert.equal(server.errors[0]?.error.code, "INVALID_CERTIFICATE");
    assert.equal(await shown(server), fingerprint(next));

    replace(files, localhost);
    await becomes(server, localhost, "localhost");
    assert.equal(server.errors.length, 1);
  });

  test("follows all files where several have the same certificate in turn", async () => {
    const names = ["a.example", "b.example"] as const;
    const [old, renewed, last] = [await pairFor(...names), await pairFor(...names), a];
    const first = { cert: file(old.cert), key: file(old.key) };
    const second = { cert: file(old.cert), key: file(old.key) };
    await using server = await startServer({
      ...localhost,
      identities: [{ ...first, names: ["a.example"] }, { ...second, names: ["b.example"] }],
      watch: true,
      watchIntervalMs: 10,
    });
    replace(first, renewed);
    await becomes(server, renewed, "a.example");
    replace(second, renewed);
    await becomes(server, renewed, "b.example");
    replace(second, b);
    await becomes(server, b, "b.example");
    replace(first, last);
    await becomes(server, last, "a.example");
  });

  test("follows the files of a reload that have the certificate in force", async () => {
    const [before, after] = [localhost, localhost].map(({ cert, key }) => ({
      cert: file(cert),
      key: file(key),
    })) as [Pair, Pair];
    await using server = await startServer({ ...before, watch: true, watchIntervalMs: 10 });
    await server.server.reload(after);
    replace(after, next);
    await until(
      async () => await shown(server) === fingerprint(next),
      "The new certificate is shown",
    );
  });

  test("stops with the server", async () => {
    const files = { cert: file(localhost.cert), key: file(localhost.key) };
    const server = await startServer({ ...files, watch: true, watchIntervalMs: 5 });
    await server.server.stop();
    writeFileSync(files.key, alice.key);
    await new Promise((resolve) => setTimeout(resolve, 50)); // ten times the interval
    assert.deepEqual(server.errors, []);
  });

  test("does not begin in a server that a start listener has stopped", async () => {
    const files = { cert: file(localhost.cert), key: file(localhost.key) };
    const others = { cert: file(next.cert), key: file(next.key) };
    const server = new HttpsServer({
      ...files,
      hostname: "127.0.0.1",
      port: 0,
      watch: true,
      watchIntervalMs: 5,
    });
    let stopped: Promise<void> | undefined;
    server.addEventListener("start", () => void (stopped = server.stop()), { once: true });
    await server.start();
    await stopped;
    const { promise: failed, resolve } = Promise.withResolvers<unknown>();
    server.addEventListener("error", ({ error }) => resolve(error.cause));
    await server.start(); // at rest it would report nothing
    await server.reload(others);
    writeFileSync(files.cert, "no certificate");
    writeFileSync(others.cert, "no certificate");
    assert.match(String(await failed), new RegExp(`${others.cert}`));
    await server.stop();
  });
});

describe("expiring", () => {
  test("comes when a third of a short lifetime is left, unless the days are given", async () => {
    const issue = async (name: string, hoursAgo: number, hoursLeft: number): Promise<Pair> => {
      const at = (hours: number) => new Date(Date.now() + hours * 3_600_000);
      const { cert, key } = await serverCa.issue({
        names: [name],
        notBefore: at(-hoursAgo),
        notAfter: at(hoursLeft),
      });
      return { cert, key };
    };
    const [fresh, old] = [await issue("localhost", 1, 143), await issue("b.example", 100, 44)];
    const [long, aged] = [
      await issue("c.example", 1, 24 * 60),
      await issue("d.example", 1_800, 330),
    ];
    for (
      const [options, expected] of [
        [{}, [old, aged]],
        [{ expiryNoticeDays: 14 }, [fresh, old, aged]],
        [{ expiryNoticeDays: 0 }, []],
      ] as const
    ) {
      const identities = [old, long, aged];
      const reported: string[] = [];
      await using server = await startServer({ ...fresh, identities, ...options });
      server.server.addEventListener("expiring", ({ identity }) => {
        reported.push(identity.fingerprint256);
      });
      await until(() => reported.length === expected.length, "all are reported");
      await turns();
      assert.deepEqual(reported.sort(), expected.map(fingerprint).sort());
    }
  });

  test("comes once for each certificate in force that ends soon", async () => {
    const shortLived = async (name: string): Promise<Pair> => {
      const { cert, key } = await serverCa.issue({ names: [name], days: 5 });
      return { cert, key };
    };
    const [soon, sooner] = [await shortLived("localhost"), await shortLived("localhost")];
    const reported: Identity[] = [];
    await using server = await startServer({ ...soon, identities: [a], expiryNoticeDays: 10 });
    server.server.addEventListener("expiring", ({ identity }) => reported.push(identity));
    await until(
      () => reported.length === 1,
      "The first is reported, to a listener that was added after the start",
    );
    await server.server.reload({ identities: [] });
    await server.server.reload(sooner);
    await server.server.reload(sooner);
    await server.server.reload(next);
    const fingerprints = reported.map(({ fingerprint256 }) => fingerprint256);
    assert.deepEqual(fingerprints, [fingerprint(soon), fingerprint(sooner)]);
    assert.ok(reported[0]!.validTo > new Date());
  });
});
