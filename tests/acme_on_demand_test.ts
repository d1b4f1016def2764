/** Certificates for names that clients ask for first: whom the program lets in, and how often. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { OnDemandOptions } from "../lib/acme/on_demand.ts";
import {
  DAY_MS,
  HOUR_MS,
  MemoryStorage,
  MINUTE_MS,
  TestCa,
  TestTime,
  watched,
} from "./automatic_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();

/** A source that asks `ask`, and writes down about what. */
async function running(
  ask: (name: string) => unknown = () => true,
  options: Partial<OnDemandOptions> = {},
  storage = new MemoryStorage(),
  names: readonly string[] = [],
) {
  const time = new TestTime();
  const ca = new TestCa(time);
  const asked: string[] = [];
  const onDemand: OnDemandOptions = {
    ask: (name) => {
      asked.push(name);
      return ask(name) as boolean;
    },
    ...options,
  };
  const all = watched(time, ca, storage, { onDemand, names });
  await all.start();
  return { time, ca, storage, asked, onDemand, ...all };
}

describe("On demand, a name", () => {
  test("that the program lets in gets one order, however many clients ask", async () => {
    await using all = await running();
    const gate = Promise.withResolvers<void>();
    all.ca.gate = gate.promise;
    const clients = Array.from({ length: 20 }, () => all.ask("a.example"));
    await until(() => all.ca.orders.length === 1, "it is ordered");
    clients.push(all.ask("a.example"), all.ask("a.example"));
    gate.resolve();
    const shown = await Promise.all(clients);
    assert.equal(new Set(shown).size, 1);
    assert.ok(typeof shown[0] === "object");
    assert.deepEqual(shown[0].names, ["a.example"]);
    assert.equal(await all.ask("a.example"), shown[0]);
    assert.deepEqual([all.ca.names, all.asked], [["a.example"], ["a.example"]]);
    assert.equal(all.issued.length, 1);
    assert.equal(all.source.covers("a.example"), true);
    assert.equal(all.source.covers("b.example"), false);
  });

  test("whose CA is slow is not asked about or ordered again when the client has gone", async () => {
    await using all = await running();
    const gate = Promise.withResolvers<void>();
    all.ca.gate = gate.promise;
    void all.ask("a.example"); // its handshake is over by its deadline
    await until(() => all.ca.orders.length === 1, "it is ordered");
    await all.time.advance(5 * MINUTE_MS);
    const second = all.ask("a.example");
    gate.resolve();
    assert.equal(typeof await second, "object");
    assert.deepEqual([all.ca.orders.length, all.asked.length], [1, 1]);
  });

  test(
    "is one of 500 at once: 40 are asked about once and ordered, however slow ask is",
    async () => {
      const gate = Promise.withResolvers<boolean>();
      await using all = await running(() => gate.promise, { maxPerMinute: 40 });
      const clients = Array.from({ length: 500 }, (_, i) => all.ask(`n${i}.example`));
      await until(() => all.asked.length === 40, "the program is asked");
      const refused = await Promise.all(clients.slice(40)); // at once, not after the others
      assert.deepEqual(new Set(refused), new Set(["refused"]));
      assert.deepEqual(all.ca.orders, []);
      gate.resolve(true);
      const shown = await Promise.all(clients.slice(0, 40));
      assert.equal(new Set(shown.map((one) => typeof one === "object" && one.names[0])).size, 40);
      assert.deepEqual([all.ca.orders.length, all.asked.length, all.errors], [40, 40, []]);
    },
  );

  test("that is in the storage is not asked about", async () => {
    const first = await running();
    await first.ask("a.example");
    await first.stop();
    await using second = await running(() => false, { maxPerMinute: 1 }, first.storage);
    assert.equal(await second.ask("b.example"), "refused"); // the one question of this minute
    const shown = await second.ask("a.example");
    assert.ok(typeof shown === "object");
    assert.equal(shown.fingerprint256, first.issued[0]!.fingerprint256);
    assert.deepEqual([second.asked, second.ca.orders.length], [["b.example"], 0]);
  });

  const refusals: Record<string, () => unknown> = {
    "false": () => false,
    "nothing": () => undefined,
    "a text": () => "yes",
    "a promise of a number": () => Promise.resolve(1),
    "a throw": () => {
      throw new Error("no");
    },
    "a rejection": () => Promise.reject(new Error("no")),
  };
  for (const [name, ask] of Object.entries(refusals)) {
    test(`that is answered by ${name} is refused, and nothing ordered or kept`, async () => {
      await using all = await running(ask);
      const before = all.storage.texts.size;
      assert.equal(await all.ask("a.example"), "refused");
      assert.equal(await all.ask("a.example"), "refused");
      assert.deepEqual(all.asked, ["a.example", "a.example"]);
      assert.equal(all.ca.orders.length, 0);
      assert.equal(all.storage.texts.size, before);
      assert.equal(all.storage.calls.filter((call) => call.startsWith("lock")).length, 0);
      const codes = name === "false" ? [] : ["HOOK_FAILED", "HOOK_FAILED"];
      assert.deepEqual(all.errors.map(({ code }) => code), codes);
    });
  }

  test("beyond the questions of a minute is refused without one", async () => {
    await using all = await running(() => false, { maxPerMinute: 3 });
    for (let i = 0; i < 10; i++) assert.equal(await all.ask(`n${i}.example`), "refused");
    assert.equal(all.asked.length, 3);
    await all.time.advance(MINUTE_MS + 1);
    for (let i = 0; i < 10; i++) await all.ask(`n${i}.example`);
    assert.equal(all.asked.length, 6);
    assert.deepEqual(all.errors, []);
  });

  test("that no CA signs is not asked about", async () => {
    await using all = await running();
    for (const name of ["localhost", "a_b.example", "192.0.2.1", "A.example", "a..example", ""]) {
      assert.equal(await all.ask(name), undefined, name);
    }
    assert.equal(await all.ask(), undefined);
    assert.deepEqual(all.asked, []);
  });

  test("among the option names is ordered without a question", async () => {
    await using all = await running(() => false, {}, undefined, ["shop.example"]);
    await until(() => all.issued.length === 1, "it is issued");
    assert.equal(typeof await all.ask("shop.example"), "object");
    assert.equal(await all.ask("a.example"), "refused");
    assert.deepEqual(all.asked, ["a.example"]);
  });

  test("whose order failed is refused until it is tried again, without a question", async () => {
    await using all = await running();
    all.ca.fail("ACME_CHALLENGE_FAILED", { retryAfterMs: HOUR_MS });
    assert.equal(await all.ask("a.example"), "refused");
    assert.equal(all.failed.length, 1);
    all.ca.failure = undefined;
    for (let i = 0; i < 3; i++) assert.equal(await all.ask("a.example"), "refused");
    assert.deepEqual([all.ca.orders.length, all.asked.length], [1, 1]);
    await all.time.advance(HOUR_MS);
    assert.equal(typeof await all.ask("a.example"), "object");
    assert.deepEqual([all.ca.orders.length, all.asked.length], [2, 2]);
  });

  test("is renewed when a client asks, and the program lets it in again", async () => {
    let lets = true;
    await using all = await running(() => lets);
    const { time, ca } = all;
    const first = await all.ask("a.example");
    await time.advance(65 * DAY_MS);
    assert.equal(ca.orders.length, 1); // nothing is renewed that nobody asks for
    assert.equal(await all.ask("a.example"), first); // at once; the new one comes later
    await until(() => all.issued.length === 2, "it is renewed");
    assert.equal(await all.ask("a.example"), all.issued[1]);
    assert.ok(ca.orders[1]!.replaces !== undefined);

    lets = false;
    await time.advance(65 * DAY_MS);
    assert.equal(await all.ask("a.example"), all.issued[1]);
    await until(() => all.asked.length === 3, "the program is asked");
    for (let i = 0; i < 3; i++) assert.equal(await all.ask("a.example"), all.issued[1]);
    assert.deepEqual([all.asked.length, ca.orders.length], [3, 2]);

    lets = true;
    await time.advance(40 * DAY_MS);
    const fresh = await all.ask("a.example"); // what has ended is not shown while another comes
    assert.equal(fresh, all.issued[2]);
  });

  test("whose storage fails fails that handshake, and the next is looked up again", async () => {
    await using all = await running();
    all.storage.broken = true;
    await assert.rejects(all.ask("a.example"), { code: "ACME_STORAGE_FAILED" });
    all.storage.broken = false;
    assert.equal(typeof await all.ask("a.example"), "object");
  });
});
