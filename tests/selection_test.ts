/** Tests of how a certificate is chosen: by name, by protocol, by signature, by the user's hook. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Socket } from "node:net";
import type { HttpsServerOptions } from "../lib/config.ts";
import { TlsError } from "../lib/errors.ts";
import {
  type CertSelect,
  type CertSelection,
  type HandshakeInfo,
  refuse,
} from "../lib/tls/cert_select.ts";
import { ClientAuth } from "../lib/tls/client_auth.ts";
import type { ClientHello } from "../lib/tls/client_hello.ts";
import { SecurityContext } from "../lib/tls/context.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import type { HostOptions } from "../lib/tls/options.ts";
import { Selector, type SelectorOptions } from "../lib/tls/selector.ts";
import { assertRuntime } from "./runtime.ts";
import { clientHello, connectTcp, received, turns, until } from "./support.ts";
import { TestClock } from "./test_clock.ts";
import {
  alice,
  authorityOf,
  clientCa,
  type ClientOptions,
  file,
  handshake,
  localhost,
  pairFor,
  sClient,
  serverCa,
  startServer,
  type TestServer,
  VERSIONS,
} from "./tls_support.ts";

assertRuntime();

const a = await pairFor("a.example");
const b = await pairFor("b.example");
const identityA = await loadIdentity(a);

for (const version of VERSIONS) {
  describe(`Static selection, ${version}`, () => {
    /** Who answers to each name. */
    async function namesOf(options: HttpsServerOptions, names: readonly (string | null)[]) {
      await using server = await startServer(options);
      const answers: Record<string, string | number | undefined> = {};
      for (const name of names) {
        const { serverName, alert } = await sClient(server.port, { version, name });
        answers[name ?? "none"] = serverName ?? alert;
      }
      return answers;
    }

    test("goes by exact name, wildcard, default", async () => {
      const identities = [
        await pairFor("*.example.com"),
        await pairFor("www.example.com"),
        { ...a, names: ["a.example", "alias.example"] },
        b,
      ];
      const names = [
        ...["a.example", "A.Example", "alias.example", "b.example", "www.example.com"],
        ...["x.example.com", "x.y.example.com", "example.com", "unknown.example", null],
      ];
      assert.deepEqual(await namesOf({ identities }, names), {
        "a.example": "a.example",
        "A.Example": "a.example",
        "alias.example": "a.example",
        "b.example": "b.example",
        "www.example.com": "www.example.com",
        "x.example.com": "*.example.com",
        "x.y.example.com": "localhost",
        "example.com": "localhost",
        "unknown.example": "localhost",
        "none": "localhost",
      });
    });

    test("refuses unknown names with strictSni, and serves those that name none", async () => {
      const names = ["a.example", "unknown.example", null];
      assert.deepEqual(await namesOf({ identities: [a], strictSni: true }, names), {
        "a.example": "a.example",
        "unknown.example": 112,
        "none": "localhost",
      });
    });

    test("never lets a client choose another policy for a name", async () => {
      const ec = await serverCa.issue({ names: ["guarded.example", "*.guarded.example"] });
      const rsa = await serverCa.issue({
        names: ["guarded.example", "localhost"],
        algorithm: "RSA 2048",
      });
      const clientAuth = { ca: clientCa.cert };
      const guarded = { cert: ec.cert, key: ec.key, clientAuth };
      const fallback = { cert: rsa.cert, key: rsa.key };
      await assert.rejects(
        startServer({ identities: [guarded, { ...fallback, names: ["GUARDED.example"] }] }),
        { code: "INVALID_CONFIG", message: /guarded\.example.*clientAuth/ },
      );
      const open = { ...await pairFor("*.guarded.example"), names: ["x.guarded.example"] };
      await using server = await startServer({ ...fallback, identities: [guarded, open] });
      for (const args of [[], ["-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"]]) {
        const name = "guarded.example";
        assert.equal((await sClient(server.port, { version, name, args })).status, undefined);
      }
      const [under, above] = [{ name: "y.guarded.example" }, { name: "x.guarded.example" }];
      assert.equal((await sClient(server.port, { version, ...under })).status, undefined);
      assert.equal((await sClient(server.port, { version, ...above })).status, 200);
      assert.equal(server.requests, 1);
    });

    test("chooses EC or RSA by what the client can check", async () => {
      const rsa = await serverCa.issue({ names: ["both.example"], algorithm: "RSA 2048" });
      const identities = [await pairFor("both.example"), { cert: rsa.cert, key: rsa.key }];
      await using server = await startServer({ identities });
      const signatures: Record<string, RegExp> = {
        "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256": /Peer signature type: ECDSA/,
        "ECDSA+SHA256": /Peer signature type: ECDSA/,
        "RSA-PSS+SHA256:RSA+SHA256": /Peer signature type: RSA/,
      };
      for (const [sigalgs, signature] of Object.entries(signatures)) {
        const args = ["-sigalgs", sigalgs];
        const { status, output } = await sClient(server.port, {
          version,
          name: "both.example",
          args,
        });
        assert.equal(status, 200, output);
        assert.match(output, signature);
      }
    });

    test("speaks the protocols of each identity, in the server's order", async () => {
      const identities = [{ ...a, alpnProtocols: ["x", "http/1.1"] }, { ...b, alpnProtocols: [] }];
      await using server = await startServer({ identities, alpnProtocols: ["http/1.1", "y"] });
      const agreed = async (name: string) => {
        const args = ["-alpn", "y,http/1.1,x"];
        return (await sClient(server.port, { version, name, args })).facts?.alpn;
      };
      assert.equal(await agreed("a.example"), "x");
      assert.equal(await agreed("b.example"), undefined);
      assert.equal(await agreed("localhost"), "http/1.1");
    });

    test("answers ACME's challenge by ALPN, and closes", async () => {
      const challenge = { ...await pairFor("a.example"), alpnProtocols: ["acme-tls/1"] };
      await using server = await startServer({ identities: [a, challenge] });
      const validator = { version, name: "a.example", args: ["-alpn", "acme-tls/1"] };
      const { output, status } = await sClient(server.port, validator);
      assert.match(output, /ALPN protocol: acme-tls\/1/);
      assert.equal(status, undefined);
      assert.equal(server.requests, 0);
      assert.equal((await sClient(server.port, { version, name: "a.example" })).status, 200);
    });
  });

  describe(`certSelect, ${version}`, () => {
    const answers: Record<string, (() => CertSelection | PromiseLike<CertSelection>)> = {
      "an identity": () => identityA,
      "a promise of one": () => Promise.resolve(identityA),
      "a thenable of one": () =>
        ({ then: (f: (it: CertSelection) => void) => f(identityA) }) as never,
      "a context": () => ({ identity: identityA, alpnProtocols: ["x"] }),
    };
    for (const [name, answer] of Object.entries(answers)) {
      test(`takes ${name}`, async () => {
        await using server = await startServer({ certSelect: answer as CertSelect });
        const { serverName, status } = await sClient(server.port, { version });
        assert.deepEqual({ serverName, status }, { serverName: "a.example", status: 200 });
      });
    }

    for (const nothing of [undefined, null, Promise.resolve(undefined)]) {
      test(`leaves it to the names with ${nothing}`, async () => {
        const certSelect = () => nothing;
        await using server = await startServer({ identities: [a], certSelect });
        for (const name of ["a.example", "localhost"]) {
          assert.equal((await sClient(server.port, { version, name })).serverName, name);
        }
      });
    }

    test("refuses with the alert that it was given", async () => {
      const certSelect: CertSelect = ({ serverName }) =>
        serverName === "a.example" ? refuse() : Promise.resolve(refuse("access_denied"));
      await using server = await startServer({ certSelect });
      assert.equal((await sClient(server.port, { version, name: "a.example" })).alert, 112);
      assert.equal((await sClient(server.port, { version, name: "b.example" })).alert, 49);
      const reported = server.errors.map(({ error, phase, sni }) => [error.code, phase, sni]);
      assert.deepEqual(reported, [
        ["TLS_SELECTION_FAILED", "selection", "a.example"],
        ["TLS_SELECTION_FAILED", "selection", "b.example"],
      ]);
    });

    test("brings its own client-auth policy and protocols", async () => {
      const clientAuth = new ClientAuth({ ca: clientCa.cert });
      const certSelect: CertSelect = ({ serverName }) =>
        serverName === "a.example"
          ? { identity: identityA, clientAuth, alpnProtocols: ["x"] }
          : undefined;
      await using server = await startServer({ certSelect });
      const { port } = server;
      const name = "a.example";
      const { facts } = await sClient(port, { version, name, client: alice, args: ["-alpn", "x"] });
      assert.equal(facts?.subject, "CN=alice");
      assert.equal(facts.alpn, "x");
      assert.equal((await sClient(port, { version, name })).status, undefined);
      assert.equal((await sClient(port, { version, name: "b.example" })).status, 200);
      assert.equal((await sClient(port, { version, name: "b.example", host: name })).status, 421);
      assert.equal((await sClient(port, { version, name: null, host: name })).status, 421);
      // Of two hosts in one request, the target's is meant (RFC 9112 section 3.2.2).
      const other = { version, name: "b.example" };
      const target = `https://${name}/`;
      assert.equal((await sClient(port, { ...other, target })).status, 421);
      const own = await sClient(port, { ...other, host: name, target: "https://b.example/" });
      assert.equal(own.status, 200);
    });

    const thrown = new Error("The database is down");
    const nonsense: Record<string, () => unknown> = {
      "throws": () => {
        throw thrown;
      },
      "rejects": () => Promise.reject(thrown),
      "rejects with nothing": () => Promise.reject(undefined),
      "answers a number": () => 5,
      "answers a text": () => "a.example",
      "answers PEM": () => a,
      "answers false": () => false,
      "answers a promise of nonsense": () => Promise.resolve({ identity: {} }),
      "answers a policy that is none": () => ({ identity: identityA, clientAuth: { ca: "x" } }),
      "answers protocols that are none": () => ({ identity: identityA, alpnProtocols: [5] }),
      "answers HTTP/2, which is turned off": () => ({ identity: identityA, alpnProtocols: ["h2"] }),
      "answers a too long protocol": () => ({
        identity: identityA,
        alpnProtocols: ["x".repeat(256)],
      }),
      "answers what throws when it is looked at": () =>
        new Proxy({}, {
          get: () => {
            throw thrown;
          },
        }),
    };
    for (const [name, hook] of Object.entries(nonsense)) {
      test(`fails one connection when it ${name}`, async () => {
        const certSelect = ((hello) =>
          hello.serverName === "a.example" ? hook() : undefined) as CertSelect;
        await using server = await startServer({ certSelect, http2: false });
        assert.equal((await sClient(server.port, { version, name: "a.example" })).alert, 80);
        assert.equal((await sClient(server.port, { version })).status, 200);
        assert.equal(server.errors.length, 1);
        const { error, phase, sni } = server.errors[0]!;
        assert.equal(error.code, "TLS_SELECTION_FAILED", String(error));
        assert.deepEqual([phase, sni], ["selection", "a.example"]);
        if (name === "throws" || name === "rejects") assert.equal(error.cause, thrown);
      });
    }

    test("fails one connection within the deadline when it never answers", async () => {
      let asked = false;
      const certSelect: CertSelect = ({ serverName }) => {
        if (serverName !== "a.example") return undefined;
        asked = true;
        return new Promise(() => {});
      };
      const clock = new TestClock();
      await using server = await startServer({ certSelect, timeouts: { handshakeMs: 300 } }, clock);
      const waiting = sClient(server.port, { version, name: "a.example" });
      await until(() => asked, "The hook is called");
      const fast = await sClient(server.port, { version });
      assert.equal(server.errors.length, 0);
      await clock.advance(400);
      const slow = await waiting;
      assert.equal(slow.status, undefined);
      assert.equal(fast.status, 200);
      assert.deepEqual(server.errors.map(({ error }) => error.code), ["TLS_HANDSHAKE_TIMEOUT"]);
      assert.equal(server.errors[0]?.phase, "selection");
    });
  });
}

describe("certSelect", () => {
  test("sees what the client offers and where it comes from", async () => {
    const seen: [ClientHello, HandshakeInfo][] = [];
    const tlsUserData = { tenant: 7 };
    const certSelect: CertSelect = (...args) => void seen.push(args);
    await using server = await startServer({ certSelect, tlsUserData });
    const args = ["-alpn", "h3,http/1.1", "-groups", "P-256:X25519", "-sigalgs", "ECDSA+SHA256"];
    const { status } = await sClient(server.port, { name: "Www.Example.", args });
    assert.equal(status, 200);
    const [hello, handshake] = seen[0]!;
    assert.equal(hello.serverName, "www.example");
    assert.deepEqual(hello.alpnProtocols, ["h3", "http/1.1"]);
    assert.deepEqual(hello.versions.slice(0, 2), [0x0304, 0x0303]);
    assert.ok(hello.cipherSuites.includes(0x1301));
    assert.deepEqual(hello.groups, [23, 29]);
    assert.deepEqual(hello.signatureAlgorithms, [0x0403]);
    assert.match(hello.ja4, /^t13d\d{4}h3_[0-9a-f]{12}_[0-9a-f]{12}$/);
    assert.equal(handshake.remoteAddress, "127.0.0.1");
    assert.equal(handshake.localPort, server.port);
    assert.equal(handshake.tlsUserData, tlsUserData);
  });

  test("may be all there is", async () => {
    const options = { cert: undefined as never, key: undefined as never };
    await using server = await startServer({ ...options, certSelect: () => identityA });
    assert.equal((await sClient(server.port)).serverName, "a.example");
  });

  test("holds 200 connections in a hook without one waiting for another", async () => {
    // None is answered before all are asked.
    const { promise: answer, resolve } = Promise.withResolvers<undefined>();
    let asked = 0;
    const certSelect: CertSelect = () => {
      if (++asked === 200) resolve(undefined);
      return answer;
    };
    await using server = await startServer({ certSelect });
    const sockets = await Promise.all(
      Array.from({ length: 200 }, () => handshake(server.port, "localhost")),
    );
    for (const socket of sockets) socket.destroy();
    assert.deepEqual(server.errors, []);
  }, 30_000);

  test("may answer a client that is gone", async () => {
    let answer: () => void = () => {};
    const certSelect: CertSelect = () =>
      new Promise((resolve) => answer = () => resolve(undefined));
    for (const leave of ["end", "resetAndDestroy"] as const) {
      await using server = await startServer({ certSelect });
      answer = () => {};
      const before = answer;
      const socket = await connectTcp(server.port);
      socket.write(await clientHello());
      await until(() => answer !== before, "The hook is called");
      const closed = received(socket);
      socket[leave]();
      answer();
      await until(() => server.errors.length > 0, "An error event");
      await closed;
      assert.deepEqual(server.errors.map(({ error }) => error.code), ["TLS_PEER_CLOSED"]);
    }
  });

  test("may answer after the deadline and after stop()", async () => {
    const answers: (() => void)[] = [];
    const certSelect: CertSelect = () =>
      new Promise((resolve) => answers.push(() => resolve(identityA)));
    const clock = new TestClock();
    await using server = await startServer({ certSelect, timeouts: { handshakeMs: 200 } }, clock);
    const late = sClient(server.port);
    await until(() => answers.length === 1, "The hook is called");
    await clock.advance(300);
    await late;
    const cut = sClient(server.port);
    await until(() => answers.length === 2, "The hook is called again");
    await server.server.stop();
    assert.equal((await cut).status, undefined);
    for (const answer of answers) answer();
    await turns();
    const codes = server.errors.map(({ error }) => error.code);
    assert.deepEqual(codes, ["TLS_HANDSHAKE_TIMEOUT", "CONNECTION_ABORTED"]);
    assert.equal(server.requests, 0);
  });
});

const FIRST = "127.0.0.1";
const SECOND = "127.0.0.2";
const SIXTH = "::1";
const second = await pairFor("second.example", SECOND);
const sixth = await pairFor("sixth.example", SIXTH);
const alsoFirst = await pairFor("first.example", FIRST);
const alsoSecond = await pairFor("twin.example", SECOND);

for (const version of VERSIONS) {
  describe(`Selection by address, ${version}`, () => {
    /** Servers of the same options on three addresses, and a client that names none by default. */
    async function servers(options: HttpsServerOptions) {
      const started = new Map<string, TestServer>();
      const stop = async () => {
        for (const { server } of started.values()) await server.stop();
      };
      try {
        for (const hostname of [FIRST, SECOND, SIXTH]) {
          started.set(hostname, await startServer({ ...options, hostname }));
        }
      } catch (error) {
        await stop();
        throw error;
      }
      const request = (address: string, client: ClientOptions = {}) =>
        sClient(started.get(address)!.port, {
          version,
          address,
          name: null,
          host: authorityOf(address),
          ...client,
        });
      const requests = () =>
        [...started.values()].reduce((sum, server) => sum + server.requests, 0);
      return { request, requests, [Symbol.asyncDispose]: stop };
    }

    test("shows who names no server the certificate of the address", async () => {
      await using all = await servers({ identities: [second, sixth] });
      const shown = async (address: string, name: string | null = null) =>
        (await all.request(address, { name })).serverName;
      assert.equal(await shown(FIRST), "localhost");
      assert.equal(await shown(SECOND), "second.example");
      assert.equal(await shown(SIXTH), "sixth.example");
      assert.equal(await shown(FIRST, "second.example"), "second.example");
      assert.equal(await shown(SECOND, "unknown.example"), "localhost");
      assert.equal(await shown(SECOND, "localhost"), "localhost");
    });

    test("does not let the policy of an address be got round", async () => {
      const guarded = { ...second, clientAuth: { ca: clientCa.cert } };
      await using all = await servers({ identities: [guarded, sixth] });
      const status = async (address: string, client: ClientOptions = {}) =>
        (await all.request(address, client)).status;
      const save = file("");
      assert.equal(await status(FIRST, { save }), 200);
      assert.equal(await status(SIXTH), 200);
      assert.equal(await status(SECOND, { client: alice }), 200);
      assert.equal(await status(SECOND, { client: alice, host: "second.example" }), 200);
      const before = all.requests();
      assert.equal(await status(SECOND), undefined);
      assert.equal(await status(SECOND, { resume: save }), undefined);
      for (const host of [SECOND, `${SECOND}:443`, `[::ffff:${SECOND}]`, "second.example"]) {
        assert.equal(await status(FIRST, { host }), 421, host);
        assert.equal(await status(FIRST, { host, name: "localhost" }), 421, host);
        assert.equal(await status(SIXTH, { host }), 421, host);
        assert.equal(await status(SIXTH, { host, name: "sixth.example" }), 421, host);
      }
      assert.equal(await status(SECOND, { client: alice, host: FIRST }), 421);
      assert.equal(all.requests(), before);
    });

    test("is asked after certSelect, whose choice holds for the address", async () => {
      const clientAuth = new ClientAuth({ ca: clientCa.cert });
      const certSelect: CertSelect = (_, { localAddress }) =>
        localAddress === FIRST ? { identity: identityA, clientAuth } : undefined;
      await using all = await servers({ identities: [second, sixth], certSelect });
      const { serverName, status } = await all.request(SECOND);
      assert.deepEqual([serverName, status], ["second.example", 200]);
      assert.equal((await all.request(FIRST)).status, undefined);
      const known = await all.request(FIRST, { client: alice });
      assert.deepEqual([known.serverName, known.status], ["a.example", 200]);
      assert.equal((await all.request(FIRST, { client: alice, host: SECOND })).status, 421);
      assert.equal((await all.request(FIRST, { client: alice, host: "192.0.2.7" })).status, 200);
    });
  });
}

describe("SecurityContext", () => {
  test("fails the handshake when the runtime does not take what it is made of", async () => {
    const context = new SecurityContext({
      identity: identityA,
      alpnProtocols: [5 as unknown as string],
      clientAuth: undefined,
      settings: {
        minVersion: "TLSv1.2",
        maxVersion: "TLSv1.3",
        ciphers: undefined,
        sessionTickets: true,
      },
    });
    for (let i = 0; i < 2; i++) {
      const error = await new Promise<unknown>((resolve, reject) =>
        context.accept(new Socket(), { failed: resolve, secured: reject })
      );
      assert.ok(error instanceof TlsError && error.code === "TLS_ERROR");
      assert.ok(error.cause instanceof TypeError);
    }
  });
});

describe("Option identities", () => {
  test("takes nothing that it would have to ignore", async () => {
    const wrong: [object, RegExp][] = [
      [{ ...a, clientauth: { ca: clientCa.cert } }, /identities\.0\.clientauth is not known/],
      [{ ...a, clientAuth: { ca: clientCa.cert, modes: "required" } }, /clientAuth\.modes is not/],
      [{ ...a, clientAuth: { ca: clientCa.cert, mode: "request" } }, /mode.*"optional"/],
      [{ ...a, names: "a.example" }, /identities\.0\.names/],
      [{ ...a, names: ["*.com"] }, /names holds "\*\.com"/],
    ];
    for (const [identity, message] of wrong) {
      const options = { identities: [identity as HostOptions] };
      await assert.rejects(startServer(options), { code: "INVALID_CONFIG", message });
    }
  });
});

describe("Selector", () => {
  const NAMES = 10_000;
  const endpoints = { remoteAddress: "192.0.2.1", remotePort: 1, localAddress: "", localPort: 443 };
  const OPTIONS: SelectorOptions = {
    fallback: localhost,
    hosts: [],
    clientAuth: undefined,
    alpnProtocols: [],
    served: { http1: true, http2: true },
    strictSni: false,
    certSelect: undefined,
    tlsUserData: undefined,
    settings: {
      minVersion: "TLSv1.2",
      maxVersion: "TLSv1.3",
      ciphers: undefined,
      sessionTickets: true,
    },
  };

  function selectorOf(certSelect: CertSelect): Promise<Selector> {
    return Selector.load({ ...OPTIONS, certSelect });
  }

  /** The first name of what is shown at an address to a client that names no server. */
  function shownAt(selector: Selector, localAddress: string): string | undefined {
    const nameless = {
      serverName: undefined,
      alpnProtocols: [] as string[],
      versions: [0x0304],
      signatureAlgorithms: [0x0403],
    } as unknown as ClientHello;
    const context = selector.select(nameless, { ...endpoints, localAddress });
    return context instanceof SecurityContext ? context.identity.names[0] : undefined;
  }

  const clientAuth = { ca: clientCa.cert };
  const owners: Record<string, [address: string, hosts: HostOptions[], shown: string]> = {
    "the fallback, for what its certificate is for": [
      FIRST,
      [{ ...alsoFirst, clientAuth }],
      "localhost",
    ],
    "a host that names it, before the fallback": [
      FIRST,
      [{ ...a, clientAuth, names: ["a.example", FIRST] }],
      "a.example",
    ],
    "no host whose names leave it out": [
      SECOND,
      [{ ...alsoSecond, names: ["twin.example"] }],
      "localhost",
    ],
    "a host that names it, before one whose certificate is for it": [
      SECOND,
      [{ ...alsoSecond, clientAuth }, { ...a, names: [SECOND] }],
      "a.example",
    ],
  };
  for (const [what, [address, hosts, shown]] of Object.entries(owners)) {
    test(`gives an address to ${what}`, async () => {
      assert.equal(shownAt(await Selector.load({ ...OPTIONS, hosts }), address), shown);
    });
  }

  test("knows an address in every spelling", async () => {
    const hosts = [{ ...a, names: ["2001:DB8:0::7", "fe80::1"] }, second];
    const selector = await Selector.load({ ...OPTIONS, hosts });
    for (const address of ["2001:db8::7", "fe80::1%eth0"]) {
      assert.equal(shownAt(selector, address), "a.example", address);
    }
    assert.equal(shownAt(selector, `::ffff:${SECOND}`), "second.example");
    for (const address of ["::ffff:192.0.2.1", "2001:db8::8", "", "second.example"]) {
      assert.equal(shownAt(selector, address), "localhost", address);
    }
  });

  test("refuses who names no server at an address of none, without a fallback", async () => {
    const options = { ...OPTIONS, fallback: undefined, hosts: [second], strictSni: true };
    const selector = await Selector.load(options);
    assert.equal(shownAt(selector, SECOND), "second.example");
    assert.equal(shownAt(selector, FIRST), undefined);
  });

  test("does not take two policies for one address", async () => {
    const twin = { ...alsoSecond, clientAuth };
    const message = /127\.0\.0\.2.*clientAuth.*names/;
    const rejected = { code: "INVALID_CONFIG", message };
    await assert.rejects(Selector.load({ ...OPTIONS, hosts: [second, twin] }), rejected);
    const [one, other] = [{ ...second, names: [SECOND] }, { ...twin, names: [SECOND] }];
    await assert.rejects(Selector.load({ ...OPTIONS, hosts: [one, other] }), rejected);
    const equal = { ...second, clientAuth };
    const hosts = [equal, twin];
    assert.equal(shownAt(await Selector.load({ ...OPTIONS, hosts }), SECOND), "second.example");
  });

  const helloOf = (serverName: string) => ({ serverName }) as ClientHello;

  test("keeps one context for an identity, whatever names attackers think of", async () => {
    const selector = await selectorOf(() => identityA);
    const contexts = new Set<unknown>();
    for (let i = 0; i < NAMES; i++) {
      contexts.add(selector.select(helloOf(`${i}.attack.example`), endpoints));
    }
    assert.equal(contexts.size, 1);
    assert.ok([...contexts][0] instanceof SecurityContext);
  });

  test("keeps no more than 4,096 contexts when the hook makes one for each name", async () => {
    const selector = await selectorOf(({ serverName }) => ({
      identity: identityA,
      alpnProtocols: [serverName!],
    }));
    const choose = (i: number) => selector.select(helloOf(`${i}.example`), endpoints);
    const first = choose(0);
    assert.equal(choose(0), first);
    const contexts = Array.from({ length: NAMES }, (_, i) => choose(i));
    assert.equal(choose(NAMES - 1), contexts[NAMES - 1]);
    assert.equal(choose(NAMES - 4_096), contexts[NAMES - 4_096]);
    assert.notEqual(choose(NAMES - 4_097), contexts[NAMES - 4_097]);
    assert.notEqual(choose(0), first);
  });

  test("distinguishes protocols that look alike when joined", async () => {
    const lists = [["a,b"], ["a", "b"], [], ["a"]];
    let next = 0;
    const selector = await selectorOf(() => ({
      identity: identityA,
      alpnProtocols: lists[next++]!,
    }));
    const contexts = new Set(lists.map(() => selector.select(helloOf("a"), endpoints)));
    assert.equal(contexts.size, lists.length);
  });
});
