/** Automatic certificates, with a CA and a time that do as the test says: got, kept, renewed. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { inspect } from "node:util";
import { automaticCertificates } from "../lib/acme/automatic.ts";
import type { AutomaticOptions } from "../lib/acme/automatic_options.ts";
import {
  DAY_MS,
  HOUR_MS,
  MemoryStorage,
  MINUTE_MS,
  TestCa,
  TestTime,
  watched,
} from "./automatic_support.ts";
import type { SourceReports } from "../lib/tls/certificate_source.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { turns, until } from "./support.ts";

assertRuntime();

const PROBLEM = { type: "urn:ietf:params:acme:error:rateLimited", detail: "Too many" };

/** A CA, a storage and a source that has its certificate. */
async function running(options: Partial<AutomaticOptions> = {}, random?: () => number) {
  const time = new TestTime();
  const ca = new TestCa(time);
  const storage = new MemoryStorage();
  const all = watched(time, ca, storage, options, random);
  await all.start();
  const names = options.names?.length ?? 1;
  await until(() => all.issued.length === names && time.timers === names, "it has certificates");
  return { time, ca, storage, ...all };
}

describe("The first certificate", () => {
  test("is ordered at the start, which does not wait; clients do", async () => {
    const time = new TestTime();
    const ca = new TestCa(time);
    const storage = new MemoryStorage();
    const gate = Promise.withResolvers<void>();
    ca.gate = gate.promise;
    await using all = watched(time, ca, storage, { names: ["shop.example", "192.0.2.1"] });
    assert.equal(await all.ask("shop.example"), undefined); // no server runs
    await all.start();
    await until(() => ca.orders.length === 2, "both are ordered");
    const clients = [all.ask("shop.example"), all.ask("shop.example"), all.ask()];
    gate.resolve();
    const [shop, same, address] = await Promise.all(clients);
    assert.ok(typeof shop === "object" && typeof address === "object");
    assert.equal(shop, same);
    assert.deepEqual(shop.names, ["shop.example"]);
    assert.deepEqual(address.addresses, ["192.0.2.1"]); // where the client has connected to
    assert.equal(await all.ask("other.example"), undefined);
    assert.deepEqual(ca.names.sort(), ["192.0.2.1", "shop.example"]);
    assert.equal(all.issued.length, 2);
    assert.deepEqual(all.errors, []);
    assert.deepEqual([...storage.locks.keys()], []);
    for (const name of ["shop.example", "192.0.2.1"]) {
      assert.equal(all.source.covers(name), true);
      assert.equal(storage.keysOf(name).length, 1);
    }
    assert.equal(all.source.covers("other.example"), false);
  });

  test("is for clients that name no server, if it is the first of the names", async () => {
    await using all = await running({ names: ["a.example", "b.example"] });
    const shown = await all.ask();
    assert.ok(typeof shown === "object");
    assert.deepEqual(shown.names, ["a.example"]);
  });

  test("may be a wildcard's, which an exact name comes before", async () => {
    const dns = { set() {}, remove() {} };
    await using all = await running({ names: ["*.a.example", "b.a.example"], dns });
    const shown = async (name: string) => {
      const identity = await all.ask(name);
      return typeof identity === "object" ? identity.names : identity;
    };
    assert.deepEqual(await shown("c.a.example"), ["*.a.example"]);
    assert.deepEqual(await shown("b.a.example"), ["b.a.example"]);
    assert.deepEqual(await shown("a.example"), undefined);
    assert.deepEqual(all.ca.orders[0]!.solvers.map(({ type }) => type), ["dns-01"]);
  });

  test("is ordered with what the options say", async () => {
    const order = { profile: "shortlived", keyType: "RSA 2048", preferredChain: "Root" } as const;
    await using all = await running(order);
    const { profile, keyType, preferredChain, names, replaces, solvers } = all.ca.orders[0]!;
    assert.deepEqual({ profile, keyType, preferredChain }, order);
    assert.deepEqual(names, ["shop.example"]);
    assert.equal(replaces, undefined);
    const types = runtime === "deno" ? ["http-01"] : ["http-01", "tls-alpn-01"];
    assert.deepEqual(solvers.map(({ type }) => type), types);
  });

  if (runtime === "bun") {
    test("is proven on port 443 first if a server is there, or if the program says so", async () => {
      for (
        const [options, port, expected] of [
          [{}, 443, "tls-alpn-01"],
          [{}, 8443, "http-01"],
          [{ challenges: ["tls-alpn-01", "http-01"] }, 8443, "tls-alpn-01"],
          [{ challenges: ["http-01", "tls-alpn-01"] }, 443, "http-01"],
        ] as const
      ) {
        const time = new TestTime();
        const ca = new TestCa(time);
        await using all = watched(time, ca, new MemoryStorage(), options);
        await all.start(port);
        await until(() => all.issued.length === 1, "it is issued");
        assert.equal(ca.orders[0]!.solvers[0]!.type, expected);
      }
    });
  }
});

describe("A restart", () => {
  test("orders nothing, and has the certificate at once", async () => {
    const first = await running();
    const before = await first.ask("shop.example");
    await first.stop();
    assert.equal(first.time.timers, 0);
    const { time, ca, storage } = first;
    await using second = watched(time, ca, storage);
    await second.start();
    const after = await second.ask("shop.example");
    assert.ok(typeof before === "object" && typeof after === "object");
    assert.equal(after.fingerprint256, before.fingerprint256);
    await until(() => time.timers === 1, "the first look is over");
    await time.advance(30 * DAY_MS);
    assert.equal(ca.orders.length, 1);
    assert.deepEqual([second.issued, second.errors], [[], []]);
  });

  test("of the same source works as the first start did", async () => {
    const all = await running();
    await all.stop();
    assert.equal(await all.ask("shop.example"), undefined);
    await all.start();
    assert.equal(typeof await all.ask("shop.example"), "object");
    assert.equal(all.ca.orders.length, 1);
    await all.stop();
  });

  test("in the middle of an order gives it up, which is no failure", async () => {
    const time = new TestTime();
    const ca = new TestCa(time);
    const storage = new MemoryStorage();
    ca.gate = new Promise(() => {});
    const all = watched(time, ca, storage);
    await all.start();
    await until(() => ca.orders.length === 1, "it is ordered");
    const waiting = all.ask("shop.example");
    await all.stop();
    assert.equal(await waiting, undefined);
    assert.deepEqual([all.failed, all.errors], [[], []]);
    assert.deepEqual([...storage.locks.keys()], []);
    ca.gate = undefined;
    await all.start();
    await until(() => all.issued.length === 1, "it is ordered again at once");
    await all.stop();
  });

  test("shows what is kept even when it has ended", async () => {
    const first = await running();
    await first.stop();
    const { time, ca, storage } = first;
    await time.advance(100 * DAY_MS);
    ca.fail("ACME_UNREACHABLE");
    await using second = watched(time, ca, storage);
    await second.start();
    await until(() => second.failed.length === 1, "the renewal has failed");
    assert.equal(typeof await second.ask("shop.example"), "object");
    assert.equal(second.expiring.length, 1);
  });
});

describe("A renewal", () => {
  for (const days of [90, 6]) {
    test(`comes when a third of ${days} days is left, and replaces`, async () => {
      await using all = await running();
      const { time, ca } = all;
      ca.lifetimeMs = days * DAY_MS;
      await time.until(
        () => all.issued.length === 2,
        "the one of 90 days is renewed",
        12 * HOUR_MS,
      );
      const since = time.now();
      const before = await all.ask("shop.example");
      await time.until(() => all.issued.length === 3, "it is renewed");
      const took = (time.now() - since) / DAY_MS;
      assert.ok(Math.abs(took - days * 2 / 3) < 0.2 + days / 20, `after ${took} days`);
      const { replaces } = ca.orders[2]!;
      assert.ok(typeof before === "object" && replaces?.includes(before.certPem.slice(30, 200)));
      assert.equal(await all.ask("shop.example"), all.issued[2]);
      assert.deepEqual([all.failed, all.expiring, all.errors], [[], [], []]);
    });
  }

  test("comes in the CA's window, and sooner when that moves", async () => {
    await using all = await running({}, () => 0.5);
    const { time, ca } = all;
    const begin = time.now();
    const windowOf = (day: number) => () => ({
      start: begin + day * DAY_MS,
      end: begin + (day + 1) * DAY_MS,
      retryAfterMs: 6 * HOUR_MS,
    });
    ca.window = windowOf(70);
    await time.advance(69 * DAY_MS); // a third was left on day 60
    assert.equal(ca.orders.length, 1);
    assert.ok(ca.questions >= 4 * 68 && ca.questions <= 4 * 70, `${ca.questions} questions`);
    ca.window = windowOf(69);
    await time.until(() => all.issued.length === 2, "it is renewed");
    const day = (time.now() - begin) / DAY_MS;
    assert.ok(day > 69.4 && day < 69.7, `on day ${day}`);
  });

  test("goes on by the lifetime when the CA's window cannot be asked for", async () => {
    await using all = await running();
    all.ca.renewalInfo = () => Promise.reject(new Error("no"));
    await all.time.until(() => all.issued.length === 2, "it is renewed", DAY_MS);
    assert.ok(all.errors.length > 0);
  });

  test("that fails keeps the old one, says so, and tries again ever later", async () => {
    await using all = await running({}, () => 0.5);
    const { time, ca, storage } = all;
    const old = await all.ask("shop.example");
    ca.fail("ACME_REFUSED", { problem: PROBLEM });
    await time.until(() => all.failed.length > 0, "it fails");
    const [first] = all.failed;
    assert.deepEqual(first!.names, ["shop.example"]);
    assert.equal(first!.error, ca.failure);
    assert.ok(first!.retryAt! > new Date(time.now() - DAY_MS));
    const orders = ca.orders.length;
    await time.advance(HOUR_MS);
    assert.ok(ca.orders.length - orders <= 4, "no more than four in an hour");
    await time.advance(4 * DAY_MS);
    const later = ca.orders.length;
    await time.advance(DAY_MS);
    assert.ok(ca.orders.length - later <= 3, "two in a day then");
    assert.equal(await all.ask("shop.example"), old);
    assert.equal(all.expiring.length, 0); // a sixth of its time is not reached yet
    assert.equal(storage.keysOf("shop.example").length, 2); // certificate and failures

    await time.until(() => all.expiring.length === 1, "its end is reported", DAY_MS);
    const left = (all.expiring[0]!.validTo.getTime() - time.now()) / DAY_MS;
    assert.ok(left > 13 && left <= 15, `${left} days before`);
    await time.advance(2 * DAY_MS);
    assert.equal(all.expiring.length, 1);

    ca.failure = undefined;
    await time.until(() => all.issued.length === 2, "it is renewed after all");
    assert.notEqual(await all.ask("shop.example"), old);
    assert.equal(storage.keysOf("shop.example").length, 1);
  });

  test("tries another challenge after a failure", async () => {
    const dns = { set() {}, remove() {} };
    const time = new TestTime();
    const ca = new TestCa(time);
    ca.fail("ACME_CHALLENGE_FAILED");
    await using all = watched(time, ca, new MemoryStorage(), {
      challenges: ["http-01", "dns-01"],
      dns,
    });
    await all.start();
    await time.until(() => ca.orders.length === 3, "three attempts", MINUTE_MS);
    assert.deepEqual(ca.orders.map(({ solvers }) => solvers.map(({ type }) => type)), [
      ["http-01", "dns-01"],
      ["dns-01", "http-01"],
      ["http-01", "dns-01"],
    ]);
  });

  test("waits as long as the CA says, over a restart too", async () => {
    const time = new TestTime();
    const ca = new TestCa(time);
    const storage = new MemoryStorage();
    ca.fail("ACME_RATE_LIMITED", { problem: PROBLEM, retryAfterMs: 2 * DAY_MS });
    const first = watched(time, ca, storage);
    await first.start();
    await until(() => first.failed.length === 1, "it fails");
    assert.equal(first.failed[0]!.retryAt!.getTime(), time.now() + 2 * DAY_MS);
    assert.equal(await first.ask("shop.example"), undefined);
    await first.stop();
    ca.failure = undefined;
    await using second = watched(time, ca, storage);
    await second.start();
    await until(() => time.timers === 1, "the first look is over");
    await time.advance(2 * DAY_MS - HOUR_MS);
    assert.equal(ca.orders.length, 1);
    await time.until(() => second.issued.length === 1, "it is ordered", HOUR_MS);
    assert.equal(ca.orders.length, 2);
  });
});

describe("A clock that jumps", () => {
  test("drops no certificate, and does not keep it from being renewed when it is right again", async () => {
    await using all = await running();
    const { time, ca } = all;
    const right = time.now.bind(time);
    let ahead = -3_650 * DAY_MS;
    time.now = () => right() + ahead;
    await time.advance(2 * HOUR_MS);
    assert.equal(ca.orders.length, 1);
    ahead = 3_650 * DAY_MS;
    ca.fail("ACME_UNREACHABLE");
    await time.advance(2 * HOUR_MS);
    assert.ok(ca.orders.length > 1 && ca.orders.length <= 8, `${ca.orders.length} orders`);
    assert.equal(typeof await all.ask("shop.example"), "object");
    ahead = 0;
    ca.failure = undefined;
    const orders = ca.orders.length;
    await time.advance(30 * DAY_MS);
    assert.equal(ca.orders.length, orders); // it is valid, as the clock says now
    await time.until(() => all.issued.length === 2, "it is renewed");
    assert.ok(right() < all.issued[0]!.validTo.getTime());
    assert.equal(ca.orders.length, orders + 1);
  });
});

describe("Two processes with one storage", () => {
  test("make one order, and both have the certificate", async () => {
    const time = new TestTime();
    const ca = new TestCa(time);
    const storage = new MemoryStorage();
    const gate = Promise.withResolvers<void>();
    ca.gate = gate.promise;
    await using one = watched(time, ca, storage);
    await using other = watched(time, ca, storage);
    await Promise.all([one.start(), other.start()]);
    await until(() => ca.orders.length === 1 && time.timers === 1, "one waits for the other");
    gate.resolve();
    await time.until(() => one.issued.length + other.issued.length === 2, "both have it", 1_000);
    assert.equal(ca.orders.length, 1);
    assert.equal(one.issued[0]!.fingerprint256, other.issued[0]!.fingerprint256);
    await time.until(() => one.issued.length + other.issued.length === 4, "and renew it", DAY_MS);
    assert.equal(ca.orders.length, 2);
    assert.equal(one.issued[1]!.fingerprint256, other.issued[1]!.fingerprint256);
  });

  test("count a failure for both", async () => {
    const time = new TestTime();
    const ca = new TestCa(time);
    const storage = new MemoryStorage();
    ca.fail("ACME_REFUSED");
    await using one = watched(time, ca, storage);
    await using other = watched(time, ca, storage);
    await Promise.all([one.start(), other.start()]);
    await time.until(() => one.failed.length + other.failed.length === 1, "it fails", 100);
    await time.advance(MINUTE_MS);
    assert.equal(ca.orders.length, 1);
    assert.equal(one.failed.length + other.failed.length, 1);
  });

  test("a lock that is lost ends its order, which is no failure: the other one's counts", async () => {
    const time = new TestTime();
    const ca = new TestCa(time);
    const storage = new MemoryStorage();
    ca.gate = new Promise(() => {});
    await using all = watched(time, ca, storage);
    await all.start();
    await until(() => ca.orders.length === 1, "it is ordered");
    const [name, lock] = [...storage.locks].find(([key]) => key.endsWith("/shop.example"))!;
    storage.locks.set(name, new AbortController()); // another process has it now
    lock.abort(new Error("lost"));
    await until(() => ca.orders[0]!.signal!.aborted, "the order is over");
    const elsewhere = new MemoryStorage();
    const other = watched(time, ca, elsewhere);
    ca.gate = undefined;
    await other.start();
    await until(() => other.issued.length === 1, "the other process has a certificate");
    for (const [key, text] of elsewhere.texts) storage.texts.set(key, text);
    await other.stop();
    await time.until(() => all.issued.length === 1, "it has that one", 100);
    assert.equal(ca.orders.length, 2);
    assert.deepEqual([all.failed, all.errors], [[], []]);
    assert.ok(!storage.calls.some((call) => call.startsWith("set") && call.includes("/failures/")));
  });
});

describe("A storage that fails", () => {
  test("fails the start, and the next start works", async () => {
    const time = new TestTime();
    const ca = new TestCa(time);
    const storage = new MemoryStorage();
    storage.broken = true;
    await using all = watched(time, ca, storage);
    await assert.rejects(all.start(), { code: "ACME_STORAGE_FAILED" });
    await all.stop();
    storage.broken = false;
    await all.start();
    await until(() => all.issued.length === 1, "it has a certificate");
  });

  test("fails the starts of two servers at once, of which none is left without certificates", async () => {
    const time = new TestTime();
    const ca = new TestCa(time);
    const storage = new MemoryStorage();
    storage.broken = true;
    await using all = watched(time, ca, storage);
    const { source } = all;
    const other: SourceReports = { issued() {}, failed() {}, expiring() {}, error() {} };
    const failed = { code: "ACME_STORAGE_FAILED" };
    await Promise.all([
      assert.rejects(all.start(), failed),
      assert.rejects(async () => await source.start!(other), failed),
    ]);
    storage.broken = false;
    await all.start();
    await until(() => all.issued.length === 1, "it has a certificate");
  });

  test("later keeps the certificate in force, and orders nothing without a lock", async () => {
    await using all = await running();
    const { time, ca, storage } = all;
    storage.broken = "lock";
    await time.until(() => all.failed.length > 0, "a renewal fails");
    assert.equal(all.failed[0]!.error.code, "ACME_STORAGE_FAILED");
    assert.equal(ca.orders.length, 1);
    assert.equal(typeof await all.ask("shop.example"), "object");
    storage.broken = false;
    await time.until(() => all.issued.length === 2, "it is renewed");
  });

  test("to keep a certificate reports it, and shows it all the same", async () => {
    const time = new TestTime();
    const ca = new TestCa(time);
    const storage = new MemoryStorage();
    const gate = Promise.withResolvers<void>();
    ca.gate = gate.promise;
    await using all = watched(time, ca, storage);
    await all.start();
    await until(() => ca.orders.length === 1, "it is ordered");
    storage.broken = "set";
    gate.resolve();
    await until(() => all.issued.length === 1, "it is issued");
    assert.deepEqual(all.errors.map(({ code }) => code), ["ACME_STORAGE_FAILED"]);
    assert.equal(typeof await all.ask("shop.example"), "object");
  });

  test("with garbage in it is reported without what it has, and a certificate ordered", async () => {
    const first = await running();
    await first.stop();
    const { time, ca, storage } = first;
    const [key] = storage.keysOf("shop.example");
    const good = storage.texts.get(key!)!;
    const secret = good.slice(good.indexOf("PRIVATE KEY") + 20, good.indexOf("PRIVATE KEY") + 60);
    for (
      const text of [good.slice(1), `x${good}`, "null", "[]", "{}", '{"chain":"a","privateKey":""}']
    ) {
      storage.texts.set(key!, text);
      await using all = watched(time, ca, storage);
      await all.start();
      await until(() => all.issued.length === 1, "it is ordered");
      assert.ok(all.errors.length > 0);
      for (const error of all.errors) {
        assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes(secret));
      }
    }
  });
});

describe("automaticCertificates()", () => {
  const storage = new MemoryStorage();
  const dns = { set() {}, remove() {} };
  const bad: [string, object, RegExp, string?][] = [
    ["no names", { storage }, /^Option names of automaticCertificates\(\) is empty/],
    ["no storage", { names: ["a.example"] }, /^Option storage .* is missing/],
    ["a storage that is none", { names: ["a.example"], storage: {} }, /must be a storage/],
    ["a path as the storage", { names: ["a.example"], storage: "certs" }, /must be a storage/],
    ["a name that no CA signs", { names: ["a b"], storage }, /which no CA signs/],
    ["a wildcard without dns", { names: ["*.a.example"], storage }, /the wildcard .* dns-01 alone/],
    [
      "an address with dns alone",
      { names: ["192.0.2.1"], storage, dns },
      /the address 192\.0\.2\.1/,
    ],
    [
      "dns that is not used",
      { names: ["a.example"], storage, dns, challenges: ["http-01"] },
      /dns .* is not used/,
    ],
    ["dns-01 without dns", { names: ["a.example"], storage, challenges: ["dns-01"] }, /give dns/],
    ["no challenge", { names: ["a.example"], storage, challenges: [] }, /is empty: leave it out/],
    [
      "an unknown challenge",
      { names: ["a.example"], storage, challenges: ["http"] },
      /must be "http-01"/,
    ],
    ["plain http", { names: ["a.example"], storage, directory: "http://a.example/" }, /https URL/],
    ["a misspelt option", { names: ["a.example"], storage, profil: "x" }, /did you mean profile/],
    ["another's option", { domains: ["a.example"], storage }, /write names/],
    ["onDemand without ask", { onDemand: {}, storage }, /onDemand\.ask .* is missing/],
  ];
  for (const [name, options, message, code = "INVALID_CONFIG"] of bad) {
    test(`refuses ${name}`, () => {
      assert.throws(() => automaticCertificates(options as never), { code, message });
    });
  }

  test("on Deno refuses tls-alpn-01 alone, and leaves it out beside others", async () => {
    const options = { names: ["a.example"], storage, challenges: ["tls-alpn-01"] } as const;
    if (runtime !== "deno") return void automaticCertificates(options);
    assert.throws(() => automaticCertificates(options), {
      code: "NOT_SUPPORTED",
      message: /tls-alpn-01 alone, which Deno's TLS cannot answer/,
    });
    await using all = await running({ challenges: ["tls-alpn-01", "http-01"] });
    assert.deepEqual(all.ca.orders[0]!.solvers.map(({ type }) => type), ["http-01"]);
  });

  test("asks one client of the CA for all names, and four orders at a time", async () => {
    const names = Array.from({ length: 9 }, (_, i) => `n${i}.example`);
    const time = new TestTime();
    const ca = new TestCa(time);
    const gate = Promise.withResolvers<void>();
    ca.gate = gate.promise;
    await using all = watched(time, ca, new MemoryStorage(), { names });
    await all.start();
    await until(() => ca.orders.length === 4, "four are under way");
    await turns();
    assert.equal(ca.orders.length, 4);
    gate.resolve();
    await until(() => all.issued.length === 9, "all are issued");
    assert.deepEqual(ca.names.sort(), names);
  });
});
