/** CAs that lie, stall and flood: each case ends in an error that names it, in time, and without keys. */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import net, { type AddressInfo } from "node:net";
import { inspect } from "node:util";
import { acmeClient, newAccountKey } from "../lib/acme/mod.ts";
import { HttpsdError } from "../lib/errors.ts";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import { acmeErrorOf, clientOf } from "./acme_support.ts";
import { type HostileCase, hostileCases, NAME, startFakeCa } from "./acme_fake_ca.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();

const accountKey = await newAccountKey();
const privateKey = await newAccountKey();
const issued = await (await createCertificateAuthority()).issue({ names: [NAME] });

/** What must be in no error: the keys, as PEM and as the numbers in a JWK. */
const secrets = [accountKey, privateKey].flatMap((pem) => [
  ...pem.split("\n").slice(1, -2),
  createPrivateKey(pem).export({ format: "jwk" })["d"] as string,
]);
const hmacKey = "c2VjcmV0IG9mIHRoZSBleHRlcm5hbCBhY2NvdW50";

function call(hostile: HostileCase, { directory, ca }: { directory: string; ca: string }) {
  const client = acmeClient({
    directory,
    ca,
    accountKey,
    externalAccount: { kid: "kid-1", hmacKey },
    // What is to be late is; what is not has time, on a busy machine too.
    ...(hostile.error?.code === "ACME_TIMEOUT" ? { requestMs: 700, orderMs: 1_500 } : {}),
  });
  if (hostile.call === "renewalInfo") return client.renewalInfo(issued.cert);
  if (hostile.call === "revoke") return client.revoke({ certificate: issued.cert });
  const answers = new Set<string>();
  return client.order({
    names: hostile.names ?? [NAME],
    privateKey,
    preferredChain: "A root that is not there",
    solvers: [{
      type: "http-01",
      set: ({ token }) => void answers.add(token),
      remove: ({ token }) => void answers.delete(token),
    }],
  }).finally(() => assert.equal(answers.size, 0));
}

describe("A CA that answers", () => {
  for (const hostile of hostileCases()) {
    test(`${hostile.at} with ${hostile.name}`, async () => {
      await using ca = await startFakeCa(hostile, privateKey);
      const outcome = await call(hostile, ca).then(
        (value) => ({ value }),
        (error: unknown) => ({ error }),
      );
      if (hostile.error === undefined) {
        assert.ok("value" in outcome, inspect(outcome));
        const gives = Object.keys(hostile.gives!).map((name) => [
          name,
          (outcome.value as unknown as Record<string, unknown>)[name],
        ]);
        assert.deepEqual(Object.fromEntries(gives), hostile.gives);
        assert.ok(!inspect(outcome.value).includes("javascript:"));
      } else {
        assert.ok("error" in outcome, inspect(outcome));
        const { error } = outcome;
        assert.ok(error instanceof HttpsdError, inspect(error));
        assert.match(error.code, new RegExp(`^${hostile.error.code}$`), inspect(error));
        assert.match(error.message, new RegExp(hostile.error.message ?? ""));
        if (hostile.error.retryAfterMs !== undefined) {
          assert.equal(Reflect.get(error, "retryAfterMs"), hostile.error.retryAfterMs);
        }
        if (hostile.error.problem !== undefined) {
          assert.deepEqual(Reflect.get(error, "problem"), hostile.error.problem);
        }
        const text = inspect(error, { depth: 20, showHidden: true, maxStringLength: Infinity });
        for (const secret of [...secrets, hmacKey]) assert.ok(!text.includes(secret), text);
      }
      const requests = [...ca.asked.values()].reduce((sum, count) => sum + count, 0);
      assert.ok(requests <= (hostile.requests ?? 40), `${requests} requests`);
      await until(() => ca.open() === 0, "the client has left");
    });
  }
});

describe("The client", () => {
  const right: HostileCase = { name: "", at: "directory" };

  test("issues when the answers are right", async () => {
    await using ca = await startFakeCa(right, privateKey);
    assert.equal((await call(right, ca) as { privateKey: string }).privateKey, privateKey);
  });

  test("trusts no other authority than it was given", async () => {
    await using fake = await startFakeCa(right, privateKey);
    const other = await createCertificateAuthority();
    const { directory } = fake;
    for (const ca of [{ ca: other.cert }, {}]) {
      const client = acmeClient({ directory, accountKey, ...ca });
      const { cause } = await acmeErrorOf(client.directory(), "ACME_UNREACHABLE");
      assert.match(String((cause as { code: unknown }).code), /VERIFY|SELF_SIGNED|UNKNOWN|ISSUER/);
    }
    assert.equal(fake.asked.size, 0);
  });

  test("does not take a certificate for another name", async () => {
    await using fake = await startFakeCa(right, privateKey);
    const { port } = new URL(fake.directory);
    const client = await clientOf({
      directory: `https://127.0.0.2:${port}/directory`,
      ca: fake.ca,
    });
    await acmeErrorOf(client.directory(), "ACME_UNREACHABLE");
  });

  test("gives up one that does not shake hands, and one that is not there", async () => {
    const server = net.createServer((socket) => socket.on("error", () => {}).resume());
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const directory = `https://127.0.0.1:${port}/directory`;
    const client = acmeClient({ directory, accountKey, requestMs: 300 });
    await acmeErrorOf(client.directory(), "ACME_TIMEOUT");
    await once(server.close(), "close"); // the client has left
    await acmeErrorOf(client.directory(), "ACME_UNREACHABLE");
  });

  test("refuses options that cannot be, without their secrets", async () => {
    const bad: [options: object, message: RegExp][] = [
      [{}, /accountKey .*is missing/],
      [{ accountKey: "secret-key" }, /accountKey cannot be read/],
      [{ accountKey, directory: "http://ca.example/" }, /directory .*must be an https URL/],
      [{ accountKey, directory: "ca.example" }, /directory .*must be a URL/],
      [{ accountKey, email: "nobody" }, /email .*must be an e-mail address/],
      [{ accountKey, email: "a@b.example?cc=c@d.example" }, /email/],
      [{ accountKey, externalAccount: { kid: "1", hmacKey: "secret key!" } }, /hmacKey/],
      [{ accountKey, eab: {} }, /write externalAccount/],
      [{ accountKey, directoryURL: "" }, /did you mean directory/],
    ];
    for (const [options, message] of bad) {
      assert.throws(() => acmeClient(options as never), (error: HttpsdError) => {
        assert.match(error.message, message);
        assert.ok(
          !inspect(error).includes("secret-key") && !inspect(error).includes("secret key!"),
        );
        return true;
      });
    }
    const client = acmeClient({ accountKey, directory: "https://127.0.0.1:1/" });
    const solvers = [{ type: "http-01" as const, set() {}, remove() {} }];
    for (
      const [options, message] of [
        [{ names: [], solvers }, /names has 0 names/],
        [{ names: ["shop_1.example"], solvers }, /which no CA signs/],
        [{ names: ["*.com"], solvers }, /which no CA signs/],
        [{ names: ["a.example"], solvers: [] }, /solvers .*must have a solver/],
        [{ names: ["a.example"], solvers: [{ type: "dns" }] }, /must be a solver/],
        [{ names: ["a.example"], solvers, privateKey: "secret-key" }, /private key cannot be read/],
        [{ names: ["a.example"], solvers, domains: [] }, /write names/],
        [{ names: ["a.example"], solvers, replaces: "x" }, /directory|cannot be reached|PEM/],
      ] as const
    ) await assert.rejects(client.order(options as never), { message });
  });
});

const rejections: unknown[] = [];
const collect = (event: Event) => rejections.push(event);
addEventListener("unhandledrejection", collect);
afterAll(() => {
  removeEventListener("unhandledrejection", collect);
  assert.deepEqual(rejections, []);
});
