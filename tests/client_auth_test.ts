/** Tests of client certificates, with OpenSSL as the client and as the attacker. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { isDeepStrictEqual } from "node:util";
import type { HttpsServerOptions } from "../lib/config.ts";
import type { SessionEvent } from "../lib/events.ts";
import { ClientAuth, loadClientAuth } from "../lib/tls/client_auth.ts";
import { loadPolicy } from "../lib/tls/client_policy.ts";
import type { Handshaken } from "../lib/tls/handshaken.ts";
import { peerCertificate } from "../lib/tls/peer_certificate.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { until } from "./support.ts";
import { TestClock } from "./test_clock.ts";
import {
  alice,
  clientCa,
  file,
  localhost,
  mallory,
  openssl,
  otherCa,
  type Pair,
  pairFor,
  ROGUES,
  sClient,
  selfSigned,
  serverCa,
  signedByOpenssl,
  startServer,
  stolen,
  type TestServer,
  type Version,
  VERSIONS,
} from "./tls_support.ts";

assertRuntime();

const ATTEMPTS = 10;
/** The limit of a test that starts a process for each of them. */
const SHUT_OUT_MS = 20_000;
/** Made here: OpenSSL's processes keep a test's own server waiting. */
const [own, other] = [selfSigned(), selfSigned()];
const required = { clientAuth: { ca: clientCa.cert, mode: "required" } } as const;
const optional = { clientAuth: { ca: clientCa.cert, mode: "optional" } } as const;

/** Tries ten times at once; every attempt must fail before any handler, each with one error. */
async function assertShutOut(
  server: TestServer,
  attempt: () => Promise<{ status: number | undefined; output: string }>,
  code: RegExp,
): Promise<void> {
  const [requests, errors] = [server.requests, server.errors.length];
  const results = await Promise.all(Array.from({ length: ATTEMPTS }, attempt));
  for (const { status, output } of results) assert.equal(status, undefined, output);
  assert.equal(server.requests, requests);
  const reported = server.errors.slice(errors);
  assert.equal(reported.length, ATTEMPTS, reported.map(({ error }) => error.message).join("\n"));
  for (const { error, phase, remoteAddress } of reported) {
    assert.match(error.code, code);
    assert.equal(phase, "handshake");
    assert.equal(remoteAddress, "127.0.0.1");
  }
}

/** A file with a session that `server` has given to a client. */
async function sessionOf(
  server: TestServer,
  version: Version,
  options: Parameters<typeof sClient>[1] = {},
): Promise<string> {
  const save = file("");
  const { status, output } = await sClient(server.port, { version, save, ...options });
  assert.equal(status, 200, output);
  return save;
}

for (const version of VERSIONS) {
  describe(`A required client certificate, ${version}`, () => {
    test("lets in clients of the CA, full and resumed", async () => {
      await using server = await startServer(required);
      const resume = await sessionOf(server, version, { client: alice });
      const again = await sClient(server.port, { version, client: alice, resume });
      assert.equal(again.resumed, true);
      assert.equal(again.facts?.resumed, true);
      assert.equal(again.facts?.authorized, true);
      assert.equal(again.facts?.subject, "CN=alice");
      assert.deepEqual(server.errors, []);
    });

    test("is also what the original's cacert asks for", async () => {
      await using server = await startServer({ cacert: clientCa.cert });
      assert.equal((await sClient(server.port, { version, client: alice })).status, 200);
      assert.equal((await sClient(server.port, { version })).status, undefined);
    });

    test("lets in clients of an intermediate of the CA", async () => {
      const intermediate = await clientCa.issueAuthority({ name: "Devices" });
      const client = await intermediate.issue({ usage: "client", subject: "CN=pump 7" });
      await using server = await startServer(required);
      const args = ["-cert_chain", file(client.cert)];
      const resume = await sessionOf(server, version, { client, args });
      for (const session of [{}, { resume }]) {
        const { facts } = await sClient(server.port, { version, client, args, ...session });
        assert.equal(facts?.authorized, true);
        assert.equal(facts?.subject, "CN=pump 7");
      }
      await assertShutOut(
        server,
        () => sClient(server.port, { version, client }), // without the link to its CA
        /^TLS_CLIENT_CERT_INVALID$/,
      );
    }, SHUT_OUT_MS);

    test("may be the very one that a client has signed itself", async () => {
      await using server = await startServer({ cacert: own.cert });
      assert.equal((await sClient(server.port, { version, client: own })).status, 200);
      await assertShutOut(
        server,
        () => sClient(server.port, { version, client: other }),
        /^TLS_CLIENT_CERT_INVALID$/,
      );
    }, SHUT_OUT_MS);

    for (const [name, client] of Object.entries(ROGUES)) {
      test(`keeps ${name} out, ten times`, async () => {
        await using server = await startServer(required);
        const code = client === undefined
          ? /^TLS_CLIENT_CERT_REQUIRED$/
          : /^TLS_CLIENT_CERT_INVALID$/;
        await assertShutOut(server, () => sClient(server.port, { version, client }), code);
        assert.equal((await sClient(server.port, { version, client: alice })).status, 200);
      }, SHUT_OUT_MS);
    }

    test("is not got round with a session of a server that asks for none", async () => {
      await using open = await startServer();
      await using server = await startServer(required);
      const resume = await sessionOf(open, version);
      await assertShutOut(
        server,
        () => sClient(server.port, { version, resume }),
        /^TLS_CLIENT_CERT_REQUIRED$/,
      );
    }, SHUT_OUT_MS);

    test("is not got round with a session of a server that trusts another CA", async () => {
      await using other = await startServer({ clientAuth: { ca: otherCa.cert } });
      await using server = await startServer(required);
      const resume = await sessionOf(other, version, { client: mallory });
      await assertShutOut(
        server,
        () => sClient(server.port, { version, resume, client: mallory }),
        /^TLS_CLIENT_CERT_INVALID$/,
      );
    }, SHUT_OUT_MS);

    test("is not got round with a session that an optional policy gave to a stranger", async () => {
      await using lenient = await startServer(optional);
      await using server = await startServer(required);
      const resume = await sessionOf(lenient, version, { client: mallory });
      await assertShutOut(
        server,
        () => sClient(server.port, { version, resume, client: mallory }),
        /^TLS_CLIENT_CERT_INVALID$/,
      );
    }, SHUT_OUT_MS);

    test("of one name is not got round by another name, none, or its session", async () => {
      const guarded = { ...await pairFor("guarded.example"), ...required };
      const open = { ...await pairFor("open.example"), clientAuth: null };
      await using server = await startServer({ identities: [guarded, open] });
      const { port } = server;
      const [asOpen, asGuarded] = [{ name: "open.example" }, { name: "guarded.example" }];
      assert.equal((await sClient(port, { version, ...asOpen })).status, 200);
      assert.equal((await sClient(port, { version, ...asGuarded, client: alice })).status, 200);
      const session = await sessionOf(server, version, asOpen);
      const nameless = await sessionOf(server, version, { name: null });
      for (const resume of [undefined, session, nameless]) {
        const session = resume === undefined ? {} : { resume };
        await assertShutOut(
          server,
          () => sClient(port, { version, ...asGuarded, ...session }),
          /^TLS_CLIENT_CERT_REQUIRED$/,
        );
        const requests = server.requests;
        for (const name of ["open.example", "localhost", "unknown.example", null]) {
          for (const host of ["guarded.example", "GUARDED.example", "guarded.example:443"]) {
            const { status } = await sClient(port, { version, name, host, ...session });
            assert.equal(status, 421, `${name} asked for ${host}`);
          }
        }
        assert.equal(server.requests, requests);
      }
    }, 30_000);
  });

  describe(`An optional client certificate, ${version}`, () => {
    test("is authorized when the CA knows it, full and resumed", async () => {
      await using server = await startServer(optional);
      const resume = await sessionOf(server, version, { client: alice });
      const { facts } = await sClient(server.port, { version, resume, client: alice });
      assert.equal(facts?.resumed, true);
      assert.equal(facts?.authorized, true);
      assert.equal(facts?.authorizationError, undefined);
    });

    for (const [name, client] of Object.entries(ROGUES)) {
      test(`never calls ${name} authorized, full or resumed`, async () => {
        await using server = await startServer(optional);
        const save = file("");
        for (const session of [{ save }, { resume: save }]) {
          const all = Array.from(
            { length: ATTEMPTS },
            () => sClient(server.port, { version, client, ...session }),
          );
          for (const { facts, output } of await Promise.all(all)) {
            if (facts === undefined) continue; // some do not get through the handshake at all
            assert.equal(facts.authorized, false, output);
            assert.equal(facts.authorizationError === undefined, client === undefined);
          }
        }
        for (const { error } of server.errors) assert.equal(error.code, "TLS_CLIENT_CERT_INVALID");
        const { facts } = await sClient(server.port, { version, client: alice });
        assert.equal(facts?.authorized, true);
      }, SHUT_OUT_MS);
    }

    test("is not authorized by a session of a server that trusts another CA", async () => {
      await using other = await startServer({ clientAuth: { ca: otherCa.cert } });
      await using server = await startServer(optional);
      const resume = await sessionOf(other, version, { client: mallory });
      const { facts } = await sClient(server.port, { version, resume, client: mallory });
      assert.equal(facts?.authorized, false);
      assert.equal(typeof facts?.authorizationError, "string");
    });
  });

  describe(`Changing the client CAs, ${version}`, () => {
    test("keeps sessions when CAs are added, and ends them with their CA", async () => {
      await using server = await startServer(required);
      const { port } = server;
      const resume = await sessionOf(server, version, { client: alice });
      const both = { ca: [clientCa.cert, otherCa.cert] };
      await server.server.reload({ clientAuth: both });
      assert.equal((await sClient(port, { version, client: alice, resume })).status, 200);
      assert.equal((await sClient(port, { version, client: mallory })).status, 200);
      const kept = await sessionOf(server, version, { client: alice });
      await server.server.reload({ clientAuth: { ca: otherCa.cert } });
      await assertShutOut(
        server,
        () => sClient(port, { version, client: alice, resume: kept }),
        /^TLS_CLIENT_CERT_INVALID$/,
      );
      assert.equal((await sClient(port, { version, client: mallory })).status, 200);
    }, SHUT_OUT_MS);
  });
}

describe("verifyClient", () => {
  /** Serves with a hook, and gives what the client got and the one error reported. */
  async function judgedBy(
    verifyClient: NonNullable<HttpsServerOptions["verifyClient"]>,
    { never = false } = {},
  ) {
    const clock = new TestClock();
    let asked = false;
    await using server = await startServer({
      ...required,
      verifyClient: (...given) => (asked = true, verifyClient(...given)),
    }, clock);
    const answer = sClient(server.port, { client: alice });
    await until(() => asked, "The hook is called");
    if (never) await clock.until(() => server.errors.length > 0, "It is cut");
    const { status } = await answer;
    assert.equal(server.requests, status === 200 ? 1 : 0);
    assert.ok(server.errors.length <= 1);
    assert.equal(server.server.sessions.size, 0);
    return { status, error: server.errors[0]?.error };
  }

  test("lets in with true, at once or later", async () => {
    for (const answer of [true, Promise.resolve(true)]) {
      assert.deepEqual(await judgedBy(() => answer), { status: 200, error: undefined });
    }
  });

  for (const answer of [undefined, null, 1, "true", {}, [], () => true]) {
    test(`shuts out with ${String(answer) || "an array"}, which only looks like a yes`, async () => {
      for (const given of [answer, Promise.resolve(answer)]) {
        const { status, error } = await judgedBy(() => given as boolean);
        assert.equal(status, undefined);
        assert.equal(error?.code, "CONNECTION_REFUSED");
        assert.match(error.message, /^Hook verifyClient returned .+: return true or false$/);
      }
    });
  }

  test("is given the certificate and the session", async () => {
    const seen: unknown[] = [];
    await judgedBy((certificate, session) => {
      seen.push(certificate.subject, session.remoteAddress, session.tls?.authorized);
      return true;
    });
    assert.deepEqual(seen, ["CN=alice", "127.0.0.1", true]);
  });

  test("shuts out with false, at once or later", async () => {
    for (const answer of [false, Promise.resolve(false)]) {
      const { status, error } = await judgedBy(() => answer);
      assert.equal(status, undefined);
      assert.equal(error?.code, "TLS_CLIENT_CERT_INVALID");
    }
  });

  test("shuts out when it throws or rejects, and reports why", async () => {
    const cause = new Error("The list is out of date");
    const throws = () => {
      throw cause;
    };
    for (const hook of [throws, () => Promise.reject(cause)]) {
      const { status, error } = await judgedBy(hook);
      assert.equal(status, undefined);
      assert.equal(error?.code, "CONNECTION_REFUSED");
      assert.equal(error?.cause, cause);
    }
  });

  test("shuts out within the deadline when it never answers", async () => {
    const { status, error } = await judgedBy(() => new Promise(() => {}), { never: true });
    assert.equal(status, undefined);
    assert.equal(error?.code, "CONNECTION_TIMEOUT");
  });

  test("is asked about resumed sessions too, and not about rejected certificates", async () => {
    const asked: string[] = [];
    const verifyClient = ({ subject }: { subject: string }) => asked.push(subject) > 0;
    await using server = await startServer({ ...optional, verifyClient });
    const resume = await sessionOf(server, "TLSv1.3", { client: alice });
    assert.equal((await sClient(server.port, { client: alice, resume })).facts?.resumed, true);
    assert.equal((await sClient(server.port, { client: mallory })).status, 200);
    assert.equal((await sClient(server.port)).status, 200);
    assert.deepEqual(asked, ["CN=alice", "CN=alice"]);
  });
});

describe("PeerCertificate", () => {
  test("gives its facts to handlers, hooks and events", async () => {
    const seen: SessionEvent["session"][] = [];
    await using server = await startServer({
      ...required,
      openFn: (session) => seen.push(session) > 0,
      userCallback: ({ state, session }) => void (state === "create" && seen.push(session!)),
      closeFn: (session) => void seen.push(session),
    });
    server.server.addEventListener("connected", ({ session }) => seen.push(session));
    server.server.addEventListener("disconnected", ({ session }) => seen.push(session));
    assert.equal((await sClient(server.port, { client: alice })).facts?.subject, "CN=alice");
    assert.equal(seen.length, 5);
    for (const { tls } of seen) {
      const certificate = tls?.peerCertificate;
      assert.equal(certificate?.subject, "CN=alice");
      assert.equal(certificate.issuer, "CN=Client CA 1");
      assert.match(certificate.serialNumber, /^[0-9A-F]+$/);
      assert.match(certificate.fingerprint256, /^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
      assert.ok(certificate.validFrom < new Date() && certificate.validTo > new Date());
      assert.ok(certificate.x509.checkPrivateKey !== undefined && certificate.der.length > 200);
      assert.equal(certificate.subjectAltName, undefined);
    }
  });

  test("does not let a name look like several", async () => {
    const client = signedByOpenssl(
      [
        "extendedKeyUsage=clientAuth",
        "subjectAltName=@san\n[san]\nDNS.1=a.example",
        "otherName.1=1.2.3.4;UTF8:x",
      ],
      "/O=a, CN=admin/CN=x\nCN=root",
    );
    await using server = await startServer(required);
    const { facts } = await sClient(server.port, { client });
    assert.equal(facts?.subject, "O=a\\, CN=admin, CN=x\\0ACN=root");
  });
});

const bob = await clientCa.issue({ usage: "client", subject: "CN=bob" });
const minted = signedByOpenssl(
  ["basicConstraints=CA:FALSE", "extendedKeyUsage=clientAuth"],
  "/CN=bob",
  alice,
);

for (const version of VERSIONS) {
  describe(`A client's own certificate as CA, ${version}`, () => {
    const strangers: Record<string, Pair | undefined> = {
      "another of the same CA": bob,
      "one that its owner has issued": minted,
      "the same, stolen": stolen(alice),
      "one of another CA": mallory,
      "none": undefined,
    };

    test("lets in exactly itself, full and resumed", async () => {
      await using server = await startServer({ cacert: alice.cert });
      const resume = await sessionOf(server, version, { client: alice });
      const again = await sClient(server.port, { version, client: alice, resume });
      assert.equal(again.facts?.resumed, true);
      assert.equal(again.facts?.authorized, true);
      assert.equal(again.facts?.subject, "CN=alice");
      assert.deepEqual(server.errors, []);
    });

    for (const [name, client] of Object.entries(strangers)) {
      test(`keeps ${name} out, ten times`, async () => {
        await using server = await startServer({ cacert: alice.cert });
        const code = client === undefined
          ? /^TLS_CLIENT_CERT_REQUIRED$/
          : /^TLS_CLIENT_CERT_INVALID$/;
        const args = client === minted ? ["-cert_chain", file(alice.cert)] : [];
        await assertShutOut(server, () => sClient(server.port, { version, client, args }), code);
      }, SHUT_OUT_MS);
    }

    test("and beside an authority, those of that authority", async () => {
      await using server = await startServer({ cacert: [alice.cert, otherCa.cert] });
      for (const client of [alice, mallory]) {
        assert.equal((await sClient(server.port, { version, client })).facts?.authorized, true);
      }
      for (const client of [bob, minted, stolen(alice), undefined]) {
        assert.equal((await sClient(server.port, { version, client })).status, undefined);
      }
      assert.equal(server.requests, 2);
    }, SHUT_OUT_MS);

    test("authorizes no others where it is optional", async () => {
      await using server = await startServer({ clientAuth: { ca: alice.cert, mode: "optional" } });
      const authorized = async (client?: Pair) => {
        const args = client === minted ? ["-cert_chain", file(alice.cert)] : [];
        return (await sClient(server.port, { version, client, args })).facts?.authorized;
      };
      assert.equal(await authorized(alice), true);
      for (const client of [bob, minted, mallory, undefined]) {
        assert.equal(await authorized(client), false);
      }
      assert.equal(await authorized(stolen(alice)), undefined); // no handshake
    }, SHUT_OUT_MS);
  });
}

describe("An intermediate authority's certificate as CA", () => {
  test("works on Deno, and is refused on Bun, which needs the root too", async () => {
    const intermediate = await clientCa.issueAuthority({ name: "Devices" });
    const client = await intermediate.issue({ usage: "client", subject: "CN=pump 7" });
    const alone = intermediate.cert.slice(0, intermediate.cert.indexOf("-----END") + 26);
    if (runtime === "bun") {
      await assert.rejects(startServer({ cacert: alone }), {
        code: "NOT_SUPPORTED",
        message: /^Option cacert: certificate CN=Devices .*Bun.*issuers too$/,
      });
    } else {
      await using server = await startServer({ cacert: alone });
      assert.equal((await sClient(server.port, { client })).facts?.authorized, true);
      assert.equal((await sClient(server.port, { client: alice })).status, undefined);
    }
    await using server = await startServer({ cacert: [alone, clientCa.cert] });
    assert.equal((await sClient(server.port, { client })).facts?.authorized, true);
  });
});

describe("The client CA in files", () => {
  const sources = (): Record<string, NonNullable<HttpsServerOptions["cacert"]>> => ({
    "a path": file(clientCa.cert),
    "a file: URL": pathToFileURL(file(clientCa.cert)),
    "several": [file(otherCa.cert), pathToFileURL(file(clientCa.cert)), serverCa.cert],
    "text": clientCa.cert,
  });
  for (const name of Object.keys(sources())) {
    test(`is read from ${name}`, async () => {
      const ca = sources()[name]!;
      for (const options of [{ cacert: ca }, { clientAuth: { ca } }]) {
        await using server = await startServer(options);
        assert.equal((await sClient(server.port, { client: alice })).facts?.authorized, true);
        assert.equal((await sClient(server.port)).status, undefined);
      }
      const auth = await loadClientAuth({ ca });
      assert.ok(auth.ca.includes(new X509Certificate(clientCa.cert).toString()));
    });
  }

  test("can be reloaded by either option", async () => {
    await using server = await startServer({ cacert: file(clientCa.cert) });
    await server.server.reload({ cacert: file(otherCa.cert) });
    assert.equal((await sClient(server.port, { client: alice })).status, undefined);
    assert.equal((await sClient(server.port, { client: mallory })).status, 200);
    await server.server.reload({ clientAuth: { ca: file(clientCa.cert), mode: "optional" } });
    assert.equal((await sClient(server.port, { client: alice })).facts?.authorized, true);
  });

  test("is named in errors by the option that was written", async () => {
    const expired = await serverCa.issueAuthority({
      days: 3,
      notAfter: new Date(Date.now() - 9e7),
    });
    const gone = file("") + "-gone";
    const keyFile = file(alice.key);
    const wrong: [NonNullable<HttpsServerOptions["cacert"]>, (option: string) => string][] = [
      [gone, (option) => `File ${gone} of option ${option} does not exist: correct the path`],
      ["", (option) => `Option ${option} is neither PEM nor the path`],
      [alice.key, (option) => `Option ${option} has no BEGIN CERTIFICATE line`],
      [keyFile, () => `File ${keyFile} has no BEGIN CERTIFICATE line`],
      [[], (option) => `Option ${option} is empty`],
      [new Uint8Array(9), (option) => `Option ${option} is not a certificate`],
      [expired.cert, (option) => `Option ${option}: certificate CN=`],
      [new URL("https://a.example/ca"), (option) => `Option ${option} is a https: URL`],
      [5 as never, (option) => `Option ${option} is not a certificate or key`],
    ];
    await using server = await startServer();
    for (const [ca, message] of wrong) {
      const says = (option: string) => (error: Error) =>
        error.message.startsWith(message(option)) || assert.fail(error.message);
      await assert.rejects(startServer({ cacert: ca }), says("cacert"));
      await assert.rejects(server.server.reload({ cacert: ca }), says("cacert"));
      await assert.rejects(startServer({ clientAuth: { ca } }), says("clientAuth.ca"));
      await assert.rejects(server.server.reload({ clientAuth: { ca } }), says("clientAuth.ca"));
      await assert.rejects(loadClientAuth({ ca }), says("clientAuth.ca"));
    }
    const both = { cacert: clientCa.cert, clientAuth: { ca: clientCa.cert } };
    await assert.rejects(server.server.reload(both), { message: /^Option cacert .*clientAuth/ });
    assert.throws(() => new ClientAuth({ ca: gone }), { message: /loadClientAuth\(\)$/ });
    assert.throws(() => new ClientAuth({ ca: pathToFileURL(gone) }), { message: /loadClientAuth/ });
  });

  test(
    "is followed by watch, for the server and for a name, and the last good one stays",
    async () => {
      const [ca, sameCa] = [file(clientCa.cert), file(clientCa.cert)];
      await using server = await startServer({
        watch: true,
        watchIntervalMs: 10,
        cacert: ca,
        identities: [{ ...await pairFor("own.example"), clientAuth: { ca: sameCa } }],
      });
      const lets = async (name: string) => {
        const clients = [alice, mallory].map((client) => sClient(server.port, { client, name }));
        return (await Promise.all(clients)).map(({ status }) => status === 200);
      };
      const becomes = (name: string, expected: boolean[]) =>
        until(
          async () => isDeepStrictEqual(await lets(name), expected),
          `${name} lets in ${expected}`,
          20_000, // two programs start for each look
        );
      const failures = () =>
        server.errors.filter(({ error }) => error.code === "INVALID_CERTIFICATE").length;
      await becomes("localhost", [true, false]);
      writeFileSync(ca, otherCa.cert);
      await becomes("localhost", [false, true]);
      assert.deepEqual(await lets("own.example"), [true, false]);
      writeFileSync(sameCa, otherCa.cert);
      await becomes("own.example", [false, true]);
      writeFileSync(ca, clientCa.cert.slice(0, 100));
      await until(() => failures() === 1, "the failure is reported");
      assert.deepEqual(await lets("localhost"), [false, true]);
      writeFileSync(ca, clientCa.cert + otherCa.cert);
      await becomes("localhost", [true, true]);
      assert.deepEqual(await lets("own.example"), [false, true]);
    },
    SHUT_OUT_MS,
  );
});

describe("A certificate that was verified before", () => {
  const certificate = new X509Certificate(alice.cert);
  const from = Date.parse(certificate.validFrom);
  const to = Date.parse(certificate.validTo);
  const socketOf = (isResumed: boolean): Handshaken => ({
    alpnProtocol: false,
    authorized: !isResumed,
    authorizationError: undefined,
    getProtocol: () => "TLSv1.3",
    getCipher: () => undefined,
    isSessionReused: () => isResumed,
    getPeerCertificate: () => ({ raw: certificate.raw }),
    getPeerX509Certificate: () => certificate,
  });

  test("counts only while it is valid, by the clock of each handshake", async () => {
    const { policy } = await loadPolicy({ ca: clientCa.cert, mode: "required" });
    const judge = (isResumed: boolean, now: number) => {
      const { authorized, error } = policy.judge(socketOf(isResumed), now);
      assert.equal(authorized, error === undefined);
      return error;
    };
    assert.equal(judge(true, to), "SESSION_NOT_VERIFIED");
    assert.equal(judge(false, to), undefined);
    for (const isResumed of [true, false]) {
      assert.equal(judge(isResumed, to), undefined);
      assert.equal(judge(isResumed, to + 1), "CERT_HAS_EXPIRED");
      assert.equal(judge(isResumed, from), undefined);
      assert.equal(judge(isResumed, from - 1), "CERT_NOT_YET_VALID");
      assert.equal(judge(isResumed, NaN), "CERT_HAS_EXPIRED");
    }
  });

  test("counts for the policy that follows with the same authority, as long as it is valid", async () => {
    const first = await loadPolicy({ ca: clientCa.cert, mode: "required" });
    assert.equal(first.policy.judge(socketOf(false), to).error, undefined);
    const { policy } = await loadPolicy({ ca: clientCa.cert, mode: "required" }, [first.policy]);
    assert.equal(policy.judge(socketOf(true), to).error, undefined);
    assert.equal(policy.judge(socketOf(true), to + 1).error, "CERT_HAS_EXPIRED");
  });
});

describe("ClientAuth", () => {
  test("throws on what is no policy", async () => {
    const expired = await serverCa.issueAuthority({
      days: 3,
      notAfter: new Date(Date.now() - 9e7),
    });
    const code = (expected: string) => (error: { code?: string }) => error.code === expected;
    assert.throws(() => new ClientAuth({ ca: "" }), code("INVALID_CERTIFICATE"));
    assert.throws(() => new ClientAuth({ ca: [] }), code("INVALID_CERTIFICATE"));
    assert.throws(() => new ClientAuth({ ca: alice.key }), code("INVALID_CERTIFICATE"));
    assert.throws(() => new ClientAuth({ ca: new Uint8Array(9) }), code("INVALID_CERTIFICATE"));
    assert.throws(() => new ClientAuth({ ca: expired.cert }), code("INVALID_CERTIFICATE"));
    assert.throws(() => new ClientAuth({ ca: 5 as unknown as string }), code("INVALID_CONFIG"));
    assert.throws(
      () => new ClientAuth({ ca: clientCa.cert, mode: "requested" as "required" }),
      code("INVALID_CONFIG"),
    );
  });

  test("takes several CAs, as PEM and DER", () => {
    const { ca } = new ClientAuth({ ca: [`${clientCa.cert}\n${otherCa.cert}`, serverCa.certDer] });
    assert.equal(ca.length, 3);
  });

  test("stops a server from starting", async () => {
    await assert.rejects(startServer({ ...localhost, cacert: "" }), {
      code: "INVALID_CERTIFICATE",
    });
  });
});

describe("a certificate's serial number", () => {
  for (
    const [serial, spelling] of [
      ["0x0ABC", "0ABC"],
      ["0x7", "07"],
      ["0x00ff", "FF"],
      ["0x1000000000000000", "1000000000000000"],
    ] as const
  ) {
    test(`${serial} is spelled ${spelling}`, () => {
      const key = file(alice.key);
      const pem = openssl([
        ...["req", "-x509", "-new", "-key", key, "-subj", "/CN=a", "-set_serial", serial],
      ]);
      assert.equal(peerCertificate(new X509Certificate(pem).raw).serialNumber, spelling);
    });
  }
});
