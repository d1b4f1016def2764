/**
 * The option `certificates`: a source that is asked before `certSelect`, its life with the server,
 * what it reports, the 421 rule, and challenges by plain HTTP.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HttpsServerOptions } from "../lib/config.ts";
import { AcmeError, ConfigError } from "../lib/errors.ts";
import { redirectServer } from "../lib/redirect.ts";
import { HttpsServer } from "../lib/server.ts";
import { type CertSelect, refuse } from "../lib/tls/cert_select.ts";
import type { CertificateSource, SourceReports } from "../lib/tls/certificate_source.ts";
import { devCertificateSource } from "../lib/tls/dev_certificates.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import type { Identity } from "../lib/tls/loaded_identity.ts";
import { RawClient, readResponses } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";
import {
  alice,
  clientCa,
  localhost,
  pairFor,
  sClient,
  serverCa,
  startServer,
} from "./tls_support.ts";

assertRuntime();

const a = await loadIdentity(await pairFor("a.example", "192.0.2.1"));
const b = await loadIdentity(await pairFor("b.example"));
const UNRECOGNIZED_NAME = 112;
const INTERNAL_ERROR = 80;

/** A source of some identities by their names. */
function sourceOf(
  identities: readonly Identity[],
  more: Partial<CertificateSource> = {},
): CertificateSource {
  const find = (name: string) => identities.find(({ names }) => names.includes(name));
  return {
    select: ({ serverName = "" }) => find(serverName),
    covers: (name) => find(name) !== undefined,
    ...more,
  };
}

/** A server that has nothing but a source. */
async function withSourceAlone(
  certificates: CertificateSource,
  options: HttpsServerOptions = {},
): Promise<{ server: HttpsServer; port: number } & AsyncDisposable> {
  const server = new HttpsServer(
    { hostname: "127.0.0.1", port: 0, certificates, timeouts: { drainMs: 0 }, ...options },
    () => new Response("hello\n"),
  );
  await server.start();
  return { server, port: server.address.port, [Symbol.asyncDispose]: () => server.stop() };
}

describe("A source of certificates", () => {
  test("is enough, and clients that it has nothing for are refused", async () => {
    await using all = await withSourceAlone(sourceOf([a, b]));
    for (const name of ["a.example", "b.example"]) {
      assert.equal((await sClient(all.port, { name })).serverName, name);
    }
    assert.equal((await sClient(all.port, { name: "c.example" })).alert, UNRECOGNIZED_NAME);
    assert.equal((await sClient(all.port, { name: null })).alert, UNRECOGNIZED_NAME);
  });

  test("is asked before certSelect, which is asked where it has nothing", async () => {
    const asked: (string | undefined)[] = [];
    const certSelect: CertSelect = ({ serverName }) => {
      asked.push(serverName);
      return serverName === "b.example" ? b : undefined;
    };
    for (const nothing of [undefined, null, Promise.resolve(undefined)]) {
      asked.length = 0;
      const certificates = sourceOf([], {
        select: ({ serverName }) => serverName === "a.example" ? Promise.resolve(a) : nothing,
      });
      await using server = await startServer({ certificates, certSelect });
      for (const name of ["a.example", "b.example", "localhost"]) {
        assert.equal((await sClient(server.port, { name })).serverName, name);
      }
      assert.deepEqual(asked, ["b.example", "localhost"]);
    }
  });

  test("may answer later, and what it does goes on past the handshake's deadline", async () => {
    const clock = new TestClock();
    const slow = Promise.withResolvers<Identity>();
    let asked = 0;
    const done: Identity[] = [];
    const certificates = sourceOf([a], {
      select: () => {
        asked++;
        return slow.promise.then((identity) => (done.push(identity), identity));
      },
    });
    await using server = await startServer(
      { certificates, timeouts: { handshakeMs: 300 } },
      clock,
    );
    const first = sClient(server.port, { name: "a.example" });
    await until(() => asked === 1, "the source is asked");
    await clock.until(() => server.errors.length === 1, "the handshake is over");
    assert.equal(server.errors[0]!.error.code, "TLS_HANDSHAKE_TIMEOUT");
    assert.equal((await first).status, undefined);
    slow.resolve(a);
    await until(() => done.length === 1, "its work is done");
    assert.equal((await sClient(server.port, { name: "a.example" })).serverName, "a.example");
  });

  test("refuses by refuse(), and rotates by another answer", async () => {
    const next = await loadIdentity(await pairFor("a.example"));
    let shown: Identity | undefined = a;
    const certificates = sourceOf([a], { select: () => shown ?? refuse() });
    await using server = await startServer({ certificates });
    const fingerprint = async () => (await sClient(server.port, { name: "a.example" })).output;
    const first = await fingerprint();
    shown = next;
    assert.notEqual(await fingerprint(), first);
    shown = undefined;
    assert.equal(
      (await sClient(server.port, { name: "a.example" })).alert,
      UNRECOGNIZED_NAME,
    );
  });

  test("answers a challenge under a protocol of its own", async () => {
    const challenge = { identity: a, alpnProtocols: ["acme-tls/1"] };
    const certificates = sourceOf([a], {
      select: ({ alpnProtocols }) => alpnProtocols.includes("acme-tls/1") ? challenge : a,
    });
    await using server = await startServer({ certificates });
    const { output } = await sClient(server.port, {
      name: "a.example",
      args: ["-alpn", "acme-tls/1"],
    });
    assert.match(output, /ALPN protocol: acme-tls\/1/);
    assert.equal((await sClient(server.port, { name: "a.example" })).status, 200);
    assert.equal(server.requests, 1);
  });

  const bad: Record<string, () => unknown> = {
    "throws": () => {
      throw new Error("no");
    },
    "rejects": () => Promise.reject(new Error("no")),
    "returns text": () => "a.example",
    "resolves with a pair": () => Promise.resolve(localhost),
    "brings a policy of its own": () => ({ identity: a, clientAuth: null }),
    "speaks what is no protocol": () => ({ identity: a, alpnProtocols: [""] }),
    "has a thenable that breaks the rules": () => ({
      then(_: unknown, reject: (cause: unknown) => void) {
        reject(new Error("no"));
        throw new Error("again");
      },
    }),
  };
  for (const [name, select] of Object.entries(bad)) {
    test(`that ${name} fails that one handshake`, async () => {
      let once = true;
      const certificates = sourceOf([a], {
        select: ((...given) => {
          if (!once) return sourceOf([a]).select(...given);
          once = false;
          return select();
        }) as CertificateSource["select"],
      });
      await using server = await startServer({ certificates });
      assert.equal((await sClient(server.port, { name: "a.example" })).alert, INTERNAL_ERROR);
      assert.deepEqual(
        server.errors.map(({ error, phase }) => [error.code, phase]),
        [["TLS_SELECTION_FAILED", "selection"]],
      );
      assert.equal((await sClient(server.port, { name: "a.example" })).status, 200);
    });
  }

  test("is checked when the server is made", () => {
    for (const certificates of [a, {}, () => a, { select: () => a }, "certs"]) {
      assert.throws(() => new HttpsServer({ certificates } as never), {
        code: "INVALID_CONFIG",
        message: /^Option certificates is .*: it must be a source of certificates/,
      });
    }
  });
});

describe("A source and 421", () => {
  test("its names are under the server's policy", async () => {
    const clientAuth = { ca: clientCa.cert };
    const admin = { ...await pairFor("admin.example"), clientAuth };
    await using server = await startServer({ certificates: sourceOf([a, b]), identities: [admin] });
    const status = async (name: string, host: string, client?: typeof alice) =>
      (await sClient(server.port, { name, host, ...(client && { client }) })).status;
    assert.equal(await status("a.example", "a.example"), 200);
    assert.equal(await status("a.example", "b.example"), 200);
    assert.equal(await status("a.example", "localhost"), 200);
    assert.equal(await status("a.example", "admin.example"), 421);
    assert.equal(await status("admin.example", "admin.example", alice), 200);
    assert.equal(await status("admin.example", "a.example", alice), 421);
    assert.equal(await status("localhost", "a.example"), 200);
    assert.deepEqual(server.errors, []);
  });

  test("with certSelect, only names that it covers are reached from another name", async () => {
    const certificates = sourceOf([a, b], {
      covers: (name) => ["a.example", "b.example", "192.0.2.1"].includes(name),
    });
    await using server = await startServer({ certificates, certSelect: () => undefined });
    const status = async (host: string) =>
      (await sClient(server.port, { name: "a.example", host })).status;
    assert.equal(await status("a.example"), 200);
    assert.equal(await status("b.example"), 200);
    assert.equal(await status("192.0.2.1"), 200);
    assert.equal(await status("c.example"), 421);
  });

  test("a name is not covered when covers() fails, which is reported", async () => {
    const failing: (() => unknown)[] = [
      () => {
        throw new Error("no");
      },
      () => Promise.resolve(true),
      () => "yes",
    ];
    for (const covers of failing) {
      const certificates = sourceOf([a], { covers: covers as () => boolean });
      await using server = await startServer({ certificates, certSelect: () => undefined });
      const { status } = await sClient(server.port, { name: "a.example", host: "b.example" });
      assert.equal(status, 421);
      assert.deepEqual(server.errors.map(({ error }) => error.code), ["HOOK_FAILED"]);
    }
  });
});

describe("A source's life", () => {
  test("begins before the server listens and ends before the event stop", async () => {
    const calls: string[] = [];
    const given: SourceReports[] = [];
    const certificates = sourceOf([a], {
      start: async (reports) => {
        given.push(reports);
        await new Promise((resolve) => setTimeout(resolve, 1));
        calls.push(`start, ${server.state}`);
      },
      stop: async (reports) => {
        given.push(reports);
        await new Promise((resolve) => setTimeout(resolve, 1));
        calls.push("stop");
      },
    });
    const server = new HttpsServer({ hostname: "127.0.0.1", port: 0, certificates });
    for (const type of ["start", "stop"] as const) {
      server.addEventListener(type, () => void calls.push(`event ${type}`));
    }
    for (let run = 0; run < 2; run++) {
      await server.start();
      await server.stop();
    }
    const once = ["start, starting", "event start", "stop", "event stop"];
    assert.deepEqual(calls, [...once, ...once]);
    assert.equal(new Set(given).size, 1);
  });

  test("a start that fails is the server's, and what began is ended", async () => {
    const mistake = new ConfigError("NOT_SUPPORTED", "Not here");
    const failures: [unknown, string][] = [[mistake, "NOT_SUPPORTED"], [
      new Error("no"),
      "INVALID_CERTIFICATE",
    ]];
    for (const [cause, code] of failures) {
      let stopped = 0;
      const certificates = sourceOf([a], {
        start: () => Promise.reject(cause),
        stop: () => void stopped++,
      });
      const server = new HttpsServer({ hostname: "127.0.0.1", port: 0, certificates });
      await assert.rejects(server.start(), { code });
      assert.equal(stopped, 1);
      assert.equal(server.state, "idle");
    }
  });

  test("stop() of a server that starts ends when what began is ended", async () => {
    const began = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    let isEnded = false;
    const certificates = sourceOf([a], {
      start: () => began.resolve(),
      stop: () => ended.promise,
    });
    const server = new HttpsServer({ hostname: "127.0.0.1", port: 0, certificates });
    const starting = assert.rejects(server.start(), { code: "NOT_STARTED" });
    await began.promise;
    const stopped = server.stop().then(() => assert.ok(isEnded, "It is over too early"));
    await turns();
    isEnded = true;
    ended.resolve();
    await stopped;
    assert.equal(server.state, "idle");
    await starting;
    await server.start();
    await server.stop();
  });

  test("a stop that fails is reported, and the server stops", async () => {
    const certificates = sourceOf([a], { stop: () => Promise.reject(new Error("no")) });
    const server = await startServer({ certificates });
    await server.server.stop();
    assert.deepEqual(server.errors.map(({ error }) => error.code), ["HOOK_FAILED"]);
  });

  test("is not begun by a server on plain HTTP", async () => {
    let calls = 0;
    const count = () => void calls++;
    const certificates = sourceOf([a], { start: count, stop: count });
    await using server = await startServer({ certificates, transportMode: "insecure" });
    await server.server.stop();
    assert.equal(calls, 0);
  });
});

describe("What a source reports", () => {
  test("becomes events, as long as the server runs", async () => {
    let reports!: SourceReports;
    const certificates = sourceOf([a], { start: (given) => void (reports = given) });
    await using server = await startServer({ certificates });
    const seen: unknown[] = [];
    const { server: httpsd } = server;
    for (const type of ["certificate:issued", "expiring"] as const) {
      httpsd.addEventListener(type, ({ id, identity }) => void seen.push([type, id, identity]));
    }
    const problem = { type: "urn:ietf:params:acme:error:dns", detail: "no such name" };
    const error = new AcmeError("ACME_REFUSED", "Refused", { problem });
    const retryAt = new Date();
    reports.issued(a);
    reports.expiring(a);
    reports.failed({ names: ["a.example"], error, retryAt }); // nothing listens for it yet
    assert.deepEqual(server.errors.map((event) => event.error), [error]);
    httpsd.addEventListener("certificate:failed", (event) => {
      seen.push([event.id, event.names, event.error, event.problem, event.retryAt]);
    });
    reports.failed({ names: ["a.example"], error, retryAt });
    const all = [
      ["certificate:issued", 101, a],
      ["expiring", 100, a],
      [102, ["a.example"], error, problem, retryAt],
    ];
    assert.deepEqual(seen, all);
    await httpsd.stop();
    reports.issued(a);
    reports.expiring(a);
    assert.deepEqual(seen, all);
    assert.equal(server.errors.length, 1);
  });

  test("the server itself reports the end of what the source does not renew", async () => {
    const hour = 3_600_000;
    const { cert, key } = await serverCa.issue({
      names: ["short.example"],
      notBefore: new Date(Date.now() - 20 * hour),
      notAfter: new Date(Date.now() + 4 * hour), // less than a third of its lifetime is left
    });
    const short = await loadIdentity({ cert, key });
    const certificates = sourceOf([short], { identities: () => [short] });
    await using server = await startServer({ certificates });
    const ending: Identity[] = [];
    server.server.addEventListener("expiring", ({ identity }) => void ending.push(identity));
    await until(() => ending.length === 1, "the event has come");
    assert.equal(ending[0], short);
  });
});

describe("Challenges on plain HTTP", () => {
  const PATH = "/.well-known/acme-challenge/";
  const certificates = sourceOf([a], {
    answerChallenge(token) {
      if (token === "throws") throw new Error("no");
      return token === "abc-_1" ? Promise.resolve("abc-_1.thumbprint") : undefined;
    },
  });

  async function ask(port: number, ...requests: string[]): Promise<(string | undefined)[][]> {
    const client = await RawClient.connect(port);
    const text = requests.map((line) => `${line} HTTP/1.1\r\nHost: a.example\r\n\r\n`).join("");
    const methods = requests.map((line) => line.split(" ")[0]!);
    client.send(text.replace(/\r\n$/, "Connection: close\r\n\r\n"));
    const responses = readResponses(await client.rest(), methods);
    client.destroy();
    return responses.map(({ status, fields, body }) => [
      String(status),
      fields["location"],
      body,
    ]);
  }

  test("are answered before routes, which get what is not pending", async () => {
    await using server = await startServer({ certificates, transportMode: "insecure" });
    server.server.route({
      uri: `${PATH}abc-_1`,
      method: "GET",
      handler: () => new Response("route"),
    });
    server.server.route({
      uri: `${PATH}other`,
      method: "GET",
      handler: () => new Response("route"),
    });
    server.server.route({
      uri: `${PATH}abc-_1`,
      method: "POST",
      handler: () => new Response("post"),
    });
    const answers = await ask(
      server.port,
      `GET ${PATH}abc-_1`,
      `HEAD ${PATH}abc-_1`,
      `POST ${PATH}abc-_1`,
      `GET ${PATH}other`,
      `GET ${PATH}throws`,
    );
    const [get, head, post, other, throws] = answers;
    assert.deepEqual(get, ["200", undefined, "abc-_1.thumbprint"]);
    assert.deepEqual(head, ["200", undefined, ""]);
    assert.deepEqual(post, ["200", undefined, "post"]);
    assert.deepEqual(other, ["200", undefined, "route"]);
    assert.equal(throws![0], "200"); // the handler's
    assert.deepEqual(server.errors.map(({ error }) => error.code), ["HOOK_FAILED"]);
  });

  test("redirectServer() answers them and redirects the rest", async () => {
    await using server = await redirectServer({ hostname: "127.0.0.1", port: 0, certificates });
    const answers = await ask(
      server.address.port,
      `GET ${PATH}abc-_1`,
      `GET ${PATH}unknown`,
      "POST /a%20b/?c=d&e=%2f",
      "GET http://other.example:8080/x",
    );
    assert.deepEqual(answers, [
      ["200", undefined, "abc-_1.thumbprint"],
      ["308", `https://a.example${PATH}unknown`, ""],
      ["308", "https://a.example/a%20b/?c=d&e=%2f", ""],
      ["308", "https://other.example/x", ""],
    ]);
  });

  test("redirectServer() goes to another port, and checks its options", async () => {
    const options = { hostname: "127.0.0.1", port: 0, httpsPort: 8443 };
    await using server = await redirectServer(options);
    assert.deepEqual(await ask(server.address.port, `GET ${PATH}abc-_1`), [
      ["308", `https://a.example:8443${PATH}abc-_1`, ""],
    ]);
    await assert.rejects(redirectServer({ ...options, target: "x" } as never), {
      code: "INVALID_CONFIG",
      message: /^Option target of redirectServer\(\) is not known/,
    });
    await assert.rejects(redirectServer({ ...options, httpsPort: 0 }), { code: "INVALID_CONFIG" });
  });
});

describe("devCertificateSource()", () => {
  test("makes certificates when the server starts, for localhost and for no name", async () => {
    const directory = mkdtempSync(join(tmpdir(), "httpsd-source-"));
    try {
      const certificates = devCertificateSource(join(directory, "certs"));
      await using all = await withSourceAlone(certificates);
      assert.equal((await sClient(all.port, { name: "localhost" })).status, 200);
      assert.equal((await sClient(all.port, { name: null })).status, 200);
      assert.equal((await sClient(all.port, { name: "a.example" })).alert, UNRECOGNIZED_NAME);
      assert.equal(certificates.covers("127.0.0.1"), true);
      assert.equal(certificates.covers("a.example"), false);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("fails the start when the directory cannot be used", async () => {
    const server = new HttpsServer({ certificates: devCertificateSource("/dev/null"), port: 0 });
    await assert.rejects(server.start(), { code: "INVALID_CERTIFICATE" });
    assert.throws(() => devCertificateSource(""), { code: "INVALID_CONFIG" });
  });
});
