/** The ACME client against a real CA, Pebble. */
import assert from "node:assert/strict";
import { describe } from "bun:test";
import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { certificateId, newAccountKey } from "../lib/acme/mod.ts";
import { ConfigError } from "../lib/errors.ts";
import {
  acmeErrorOf,
  assertVerified,
  clientOf,
  dnsSolver,
  httpSolver,
  tlsAlpnSolver,
} from "./acme_support.ts";
import { startPebble, testWithPebble } from "./pebble.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const MS = 60_000; // Pebble and OpenSSL are programs of their own, on a busy machine

describe("order()", () => {
  testWithPebble("issues for names and addresses by http-01", async () => {
    await using pebble = await startPebble();
    await using solver = await httpSolver(pebble.httpPort);
    const client = await clientOf(pebble, { email: "ops@shop.example" });
    const names = ["shop.example", "127.0.0.1", "Bücher.example"];
    const certificate = await client.order({ names, solvers: [solver] });
    assert.deepEqual(certificate.names, ["shop.example", "127.0.0.1", "xn--bcher-kva.example"]);
    const parsed = new X509Certificate(certificate.chain);
    for (const name of ["shop.example", "xn--bcher-kva.example"]) {
      assert.equal(parsed.checkHost(name), name);
    }
    assert.equal(parsed.checkIP("127.0.0.1"), "127.0.0.1");
    assert.match(certificate.privateKey, /^-----BEGIN PRIVATE KEY-----\n/);
    assert.equal(certificate.notAfter, Date.parse(parsed.validTo));
    assert.ok(certificate.notBefore <= Date.now() && !certificate.replaced);
    assertVerified(certificate.chain, await pebble.root());
    assert.equal(solver.answers.size, 0); // all was taken away
  }, MS);

  testWithPebble("issues for a name and its wildcard at once by dns-01", async () => {
    await using pebble = await startPebble();
    const solver = dnsSolver(pebble);
    await using http = await httpSolver(pebble.httpPort);
    const names = ["*.shop.example", "shop.example"];
    const { chain } = await (await clientOf(pebble)).order({ names, solvers: [solver] });
    const { subjectAltName = "" } = new X509Certificate(chain);
    assert.deepEqual(subjectAltName.split(", ").sort(), ["DNS:*.shop.example", "DNS:shop.example"]);
    assert.deepEqual(solver.calls.filter((call) => call.startsWith("se")), [
      "set _acme-challenge.shop.example",
      "set _acme-challenge.shop.example",
      "settled _acme-challenge.shop.example",
      "settled _acme-challenge.shop.example",
    ]);
    assert.equal(solver.answers.size, 0);
    // The first solver that can is taken: http-01 cannot for a wildcard.
    const client = await clientOf(pebble); // an account for which the CA has nothing to take again
    await client.order({ names, solvers: [http, dnsSolver(pebble)] });
    assert.deepEqual(http.calls, ["set shop.example", "remove shop.example"]);
    const unsolved = (await clientOf(pebble)).order({ names, solvers: [http] });
    const error = await acmeErrorOf(unsolved, "ACME_NO_SOLVER");
    assert.match(error.message, /No solver proves \*\.shop\.example: give one of type dns-01/);
  }, MS);

  testWithPebble("issues for names and addresses by tls-alpn-01", async () => {
    await using pebble = await startPebble();
    await using solver = tlsAlpnSolver(pebble.tlsPort);
    const client = await clientOf(pebble);
    const { chain } = await client.order({ names: ["shop.example"], solvers: [solver] });
    assert.equal(new X509Certificate(chain).checkHost("shop.example"), "shop.example");
    const addressed = await client.order({ names: ["127.0.0.1"], solvers: [solver] });
    assert.equal(new X509Certificate(addressed.chain).checkIP("127.0.0.1"), "127.0.0.1");
    assert.deepEqual(solver.calls, ["set shop.example", "set 1.0.0.127.in-addr.arpa"]);
    assert.equal(solver.answers.size, 0);
  }, MS);

  testWithPebble(
    "takes profiles that the CA has, keys of the caller, and other kinds",
    async () => {
      await using pebble = await startPebble();
      await using solver = await httpSolver(pebble.httpPort);
      const client = await clientOf(pebble);
      const { profiles, renewalInfo, externalAccountRequired } = await client.directory();
      assert.deepEqual(Object.keys(profiles), ["default", "moment", "shortlived"]);
      assert.ok(renewalInfo && !externalAccountRequired);
      const order = { names: ["shop.example"], solvers: [solver] };
      const short = await client.order({ ...order, profile: "shortlived", keyType: "RSA 2048" });
      assert.equal(short.notAfter - short.notBefore, 518_399_000);
      assert.equal(new X509Certificate(short.chain).publicKey.asymmetricKeyType, "rsa");
      const { privateKey } = short;
      const moment = await client.order({ ...order, profile: "moment", privateKey });
      assert.equal(moment.notAfter - moment.notBefore, 39_000);
      assert.equal(moment.privateKey, privateKey);
      assert.notEqual(moment.chain, short.chain);
      await assert.rejects(client.order({ ...order, profile: "long" }), {
        code: "INVALID_CONFIG",
        message: /profile is "long", which the CA does not have: default, moment, shortlived/,
      });
    },
    MS,
  );

  testWithPebble("takes the chain that ends below the preferred root", async () => {
    await using pebble = await startPebble({ alternateRoots: 2 });
    await using solver = await httpSolver(pebble.httpPort);
    const client = await clientOf(pebble);
    const order = { names: ["shop.example"], solvers: [solver] };
    const { chain } = await client.order(order);
    assertVerified(chain, await pebble.root(0));
    const root = await pebble.root(2);
    const preferredChain = /CN=(.*)/.exec(new X509Certificate(root).subject)![1]!;
    const preferred = await client.order({ ...order, preferredChain });
    assertVerified(preferred.chain, root);
    assert.throws(() => assertVerified(chain, root));
    const other = await client.order({ ...order, preferredChain: "No such root" });
    assertVerified(other.chain, await pebble.root(0));
  }, MS);

  testWithPebble("goes on when half of all nonces are rejected", async () => {
    await using pebble = await startPebble({ rejectedNonces: 50 });
    await using solver = await httpSolver(pebble.httpPort);
    const client = await clientOf(pebble);
    for (const name of ["a.example", "b.example", "c.example"]) {
      const { chain } = await client.order({ names: [name], solvers: [solver] });
      assertVerified(chain, await pebble.root());
    }
    assert.match(pebble.output(), /reject 50%/);
  }, MS);

  testWithPebble("gives up when all are rejected", async () => {
    await using pebble = await startPebble({ rejectedNonces: 100 });
    const client = await clientOf(pebble);
    const { problem } = await acmeErrorOf(client.account(), "ACME_REFUSED");
    assert.equal(problem?.type, "urn:ietf:params:acme:error:badNonce");
  }, MS);

  testWithPebble("says what the CA found when a challenge fails, and cleans up", async () => {
    await using pebble = await startPebble();
    await using solver = await httpSolver(0); // not where the CA asks
    const client = await clientOf(pebble);
    const order = client.order({ names: ["shop.example"], solvers: [solver] });
    const { problem, message } = await acmeErrorOf(order, "ACME_CHALLENGE_FAILED");
    assert.equal(problem?.type, "urn:ietf:params:acme:error:connection");
    assert.match(message, /^The CA could not verify shop\.example: connection, /);
    assert.deepEqual(solver.calls, ["set shop.example", "remove shop.example"]);
  }, MS);

  testWithPebble("ends with its signal, and with its time, and removes what was set", async () => {
    await using pebble = await startPebble();
    await using solver = await httpSolver(pebble.httpPort);
    const controller = new AbortController();
    const waiting = { ...solver, settled: () => controller.abort(new Error("Enough")) };
    const client = await clientOf(pebble);
    const order = { names: ["shop.example"], solvers: [waiting], signal: controller.signal };
    await assert.rejects(client.order(order), { message: "Enough" });
    assert.deepEqual(solver.calls, ["set shop.example", "remove shop.example"]);
    await assert.rejects(client.order(order), { message: "Enough" });
    const never = { ...solver, settled: () => new Promise<void>(() => {}) };
    const hasty = await clientOf(pebble, { orderMs: 2_000 });
    await acmeErrorOf(hasty.order({ names: ["shop.example"], solvers: [never] }), "ACME_TIMEOUT");
    assert.equal(solver.answers.size, 0);
  }, MS);

  testWithPebble("contains what solvers do", async () => {
    await using pebble = await startPebble();
    await using solver = await httpSolver(pebble.httpPort);
    const client = await clientOf(pebble);
    const names = ["shop.example"];
    const fail = () => Promise.reject(new Error("No entry"));
    for (const step of ["set", "settled"] as const) {
      const order = client.order({ names, solvers: [{ ...solver, [step]: fail }] });
      const { message } = await acmeErrorOf(order, "ACME_SOLVER_FAILED");
      assert.equal(message, `The http-01 solver's ${step}() failed for shop.example: No entry`);
    }
    assert.equal(solver.answers.size, 0);
    const failures: string[] = [];
    const onFailure = (error: Error) => failures.push(error.message);
    const { chain } = await client.order({
      names,
      solvers: [{ ...solver, remove: fail }],
      onFailure,
    });
    assert.ok(chain);
    assert.deepEqual(failures, ["The http-01 solver's remove() failed for shop.example: No entry"]);
  }, MS);
});

describe("renewalInfo()", () => {
  testWithPebble("gives the CA's window, and replaces a certificate once", async () => {
    await using pebble = await startPebble();
    await using solver = await httpSolver(pebble.httpPort);
    const client = await clientOf(pebble);
    // Without a profile Pebble takes any.
    const order = { names: ["shop.example"], solvers: [solver], profile: "default" };
    const first = await client.order(order);
    const info = await client.renewalInfo(first.chain);
    assert.ok(info && first.notBefore < info.start && info.start < info.end);
    assert.ok(info.end < first.notAfter && info.retryAfterMs >= 60_000);
    const window = { start: new Date(0), end: new Date(1_000) };
    await pebble.setRenewalInfo(first.chain, window);
    const moved = await client.renewalInfo(first.chain);
    assert.deepEqual([moved?.start, moved?.end], [0, 1_000]);
    const replaces = first.chain;
    assert.equal((await client.order({ ...order, replaces })).replaced, true);
    assert.equal((await client.order({ ...order, replaces })).replaced, false); // alreadyReplaced
    // Nor does a certificate of another CA keep one from being issued.
    await using elsewhere = await startPebble({ httpPort: pebble.httpPort });
    const other = await clientOf(elsewhere);
    assert.equal((await other.order({ ...order, replaces })).replaced, false);
    await acmeErrorOf(other.renewalInfo(replaces), "ACME_REFUSED");
  }, MS);
});

describe("An account", () => {
  testWithPebble("is found by its key, changed, and given another key", async () => {
    await using pebble = await startPebble();
    await using solver = await httpSolver(pebble.httpPort);
    const accountKey = await newAccountKey();
    const client = await clientOf(pebble, { accountKey, email: "ops@shop.example" });
    const { url, status } = await client.account();
    assert.equal(status, "valid");
    assert.equal((await (await clientOf(pebble, { accountKey })).account()).url, url);
    assert.equal((await client.updateAccount({ email: ["a@shop.example"] })).url, url);
    const next = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey
      .export({ type: "pkcs8", format: "pem" }) as string;
    await client.rollKey(next);
    await client.order({ names: ["shop.example"], solvers: [solver] });
    assert.equal((await (await clientOf(pebble, { accountKey: next })).account()).url, url);
    assert.notEqual((await (await clientOf(pebble, { accountKey })).account()).url, url);
    await client.deactivate();
    const { problem } = await acmeErrorOf(client.account(), "ACME_REFUSED");
    assert.equal(problem?.type, "urn:ietf:params:acme:error:unauthorized");
  }, MS);

  testWithPebble("is bound to an external one where the CA asks for that", async () => {
    const hmacKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    await using pebble = await startPebble({ externalAccounts: { "kid-1": hmacKey } });
    const without = await clientOf(pebble);
    assert.ok((await without.directory()).externalAccountRequired);
    const { problem } = await acmeErrorOf(without.account(), "ACME_REFUSED");
    assert.equal(problem?.type, "urn:ietf:params:acme:error:externalAccountRequired");
    const wrong = await clientOf(pebble, {
      externalAccount: { kid: "kid-1", hmacKey: "AAAA".repeat(16) },
    });
    await acmeErrorOf(wrong.account(), "ACME_REFUSED");
    const bound = await clientOf(pebble, { externalAccount: { kid: "kid-1", hmacKey } });
    assert.equal((await bound.account()).status, "valid");
  }, MS);

  testWithPebble("is made again when the CA has lost it", async () => {
    await using pebble = await startPebble();
    const client = await clientOf(pebble);
    const { url } = await client.account();
    await pebble.stop();
    await using again = await startPebble({ port: pebble.port });
    await using solver = await httpSolver(again.httpPort);
    await client.order({ names: ["shop.example"], solvers: [solver] });
    assert.notEqual((await client.account()).url, url);
  }, MS);

  testWithPebble("needs the CA's terms to be agreed to", async () => {
    await using pebble = await startPebble();
    const client = await clientOf(pebble, { agreeToTerms: false });
    await assert.rejects(client.account(), {
      code: "INVALID_CONFIG",
      message: /^Option agreeToTerms is not true: read the CA's terms at data:text/,
    });
  }, MS);
});

describe("revoke()", () => {
  testWithPebble(
    "revokes by the account's key and by the certificate's, with a reason",
    async () => {
      await using pebble = await startPebble();
      await using solver = await httpSolver(pebble.httpPort);
      const client = await clientOf(pebble);
      const order = { names: ["shop.example"], solvers: [solver] };
      const serial = (chain: string) => new X509Certificate(chain).serialNumber.toLowerCase();
      const one = await client.order(order);
      assert.equal((await pebble.statusOf(serial(one.chain))).Status, "Valid");
      await client.revoke({ certificate: one.chain, reason: "superseded" });
      const { Status, Reason } = await pebble.statusOf(serial(one.chain));
      assert.deepEqual([Status, Reason], ["Revoked", 4]);
      const { problem } = await acmeErrorOf(
        client.revoke({ certificate: one.chain }),
        "ACME_REFUSED",
      );
      assert.equal(problem?.type, "urn:ietf:params:acme:error:alreadyRevoked");
      const two = await client.order(order);
      const stranger = await clientOf(pebble);
      await acmeErrorOf(stranger.revoke({ certificate: two.chain }), "ACME_REFUSED");
      await stranger.revoke({ certificate: two.chain, privateKey: two.privateKey });
      assert.equal((await pebble.statusOf(serial(two.chain))).Status, "Revoked");
    },
    MS,
  );
});

describe("certificateId()", () => {
  testWithPebble("is undefined without an authority's key identifier, and refuses garbage", () => {
    assert.throws(() => certificateId("garbage"), ConfigError);
    return Promise.resolve();
  }, MS);
});
