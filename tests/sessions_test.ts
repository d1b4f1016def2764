/** Tests of the table of sessions: which one goes when room is needed. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { LineEntry } from "../lib/line.ts";
import { SessionTable, type TableDriver } from "../lib/sessions.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

/** A session that writes down that it was purged. */
class Stub implements TableDriver<Stub> {
  readonly session: object = this;
  entry: LineEntry<Stub> | undefined;
  kind = "http";
  busy = false;
  receiving = false;
  requests = 0;
  purged = false;

  constructor(state: Partial<Stub> = {}) {
    Object.assign(this, state);
  }

  purge(): boolean {
    if (this.purged || this.busy) return false;
    return this.purged = true;
  }
}

/** Adds sessions that have had a request each, the least recently used one first. */
function tableOf(sessions: readonly Stub[], oneLine = false): SessionTable<Stub> {
  time = 0;
  const table = new SessionTable<Stub>({ now: () => time, oneLine });
  for (const session of sessions) table.add(session);
  return table;
}

let time = 0;

/** The rules at a time. */
const rules = (now: number, used = true) => ({
  now,
  silentMs: 250,
  startedMs: 1_000,
  used,
});

const used = () => new Stub({ requests: 1 });
const socket = () => new Stub({ requests: 1, kind: "websocket" });

describe("SessionTable.purge()", () => {
  test("takes used ones first, then WebSockets, then fresh ones, then started ones, oldest first", () => {
    const sessions = {
      "started": new Stub({ receiving: true }),
      "fresh 1": new Stub(),
      "socket 1": socket(),
      "used 1": used(),
      "started later": new Stub({ requests: 1, receiving: true }),
      "fresh 2": new Stub(),
      "socket 2": socket(),
      "used 2": used(),
    };
    const table = tableOf(Object.values(sessions));
    const order: string[] = [];
    while (table.purge(rules(1_100)) === true) {
      for (const [name, { purged }] of Object.entries(sessions)) {
        if (purged && !order.includes(name)) order.push(name);
      }
    }
    assert.deepEqual(order, [
      "used 1",
      "used 2",
      "socket 1",
      "socket 2",
      "fresh 1",
      "fresh 2",
      "started",
      "started later",
    ]);
    assert.equal(table.fresh, 0);
    for (const session of Object.values(sessions)) table.remove(session);
    assert.equal(table.all.size, 0);
  });

  test("never takes a busy one, and finds it when it is idle again", () => {
    const session = used();
    const table = tableOf([session]);
    session.busy = true;
    table.busy(session);
    table.touch(session); // a handler's own session.touch()
    assert.equal(table.purge(rules(5_000)), Infinity);
    session.busy = false;
    table.touch(session);
    assert.equal(table.purge(rules(0)), true);
    assert.equal(session.purged, true);
  });

  test("goes by the last use, of WebSockets too", () => {
    const [a, b, c, d] = [used(), used(), socket(), socket()];
    const table = tableOf([a, b, c, d]);
    table.touch(a);
    table.touch(c);
    const order = [b, a, d, c].map((expected) => {
      table.purge(rules(0));
      return expected.purged;
    });
    assert.deepEqual(order, [true, true, true, true]);
  });

  test("leaves fresh ones alone for their time, and says when to ask again", () => {
    const silent = new Stub();
    const started = new Stub({ receiving: true });
    const table = tableOf([silent, started]);
    assert.equal(table.purge(rules(249)), 250);
    assert.deepEqual([silent.purged, started.purged], [false, false]);
    assert.equal(table.purge(rules(250)), true);
    assert.deepEqual([silent.purged, started.purged], [true, false]);
    assert.equal(table.purge(rules(999)), 1_000);
    time = 500;
    table.touch(started);
    assert.equal(table.purge(rules(1_000)), 1_500);
    assert.equal(table.purge(rules(1_500)), true);
    assert.equal(started.purged, true);
  });

  test("spares used ones and WebSockets where newcomers have had their share", () => {
    const sessions = [used(), socket(), new Stub()];
    const table = tableOf(sessions);
    assert.equal(table.purge(rules(260, false)), true);
    assert.deepEqual(sessions.map(({ purged }) => purged), [false, false, true]);
    assert.equal(table.purge(rules(5_000, false)), Infinity);
  });

  test("does not count on one that closes already", () => {
    const closing = used();
    closing.purged = true;
    const other = used();
    const table = tableOf([closing, other]);
    assert.equal(table.purge(rules(0)), true);
    assert.equal(other.purged, true);
  });
});

describe("A session with several requests under way", () => {
  test("is busy until the last of them is answered, and the most recently used one then", () => {
    const [many, other] = [used(), used()];
    const table = tableOf([many, other]);
    many.busy = true;
    table.busy(many);
    table.busy(many); // the second stream begins
    table.touch(many); // the first one ends
    assert.equal(table.purge(rules(0)), true);
    assert.deepEqual([many.purged, other.purged], [false, true]);
    assert.equal(table.purge(rules(5_000)), Infinity);
    many.busy = false;
    table.touch(many);
    assert.equal(table.purge(rules(0)), true);
    assert.equal(many.purged, true);
  });

  test("keeps its place among the sessions where another driver goes on with it", () => {
    const [first, other] = [new Stub(), new Stub()];
    const table = tableOf([first, other]);
    const next = new Stub({ session: first });
    table.replace(first, next);
    assert.deepEqual([...table.all], [first, other]);
    assert.equal(table.fresh, 2);
    assert.equal(table.remove(first), false);
    assert.equal(table.purge(rules(5_000)), true);
    assert.equal(other.purged, true); // `next` came after it
    assert.equal(table.purge(rules(5_000)), true);
    assert.equal(next.purged, true);
    assert.equal(table.remove(next), true);
    table.replace(next, first); // too late
    assert.equal(table.all.size, 1);
  });
});

describe("SessionTable beside a list that is sorted each time", () => {
  /** The session that has to go, by the rules as docs/deployment.md has them. */
  function nextOf(stubs: readonly Stub[], uses: Map<Stub, number>, now: number): Stub | undefined {
    const idle = stubs.filter((stub) => !stub.busy && !stub.purged && uses.has(stub));
    const since = (stub: Stub) => Math.floor(uses.get(stub)!);
    const line = idle.toSorted((a, b) => uses.get(a)! - uses.get(b)!);
    const hasUse = (stub: Stub) => stub.requests > 0 || stub.kind !== "http";
    const isOld = (stub: Stub, ms: number) => since(stub) + ms <= now;
    return line.find((stub) => stub.kind === "http" && hasUse(stub) && !stub.receiving) ??
      line.find((stub) => stub.kind !== "http") ??
      line.find((stub) => !hasUse(stub) && !stub.receiving && isOld(stub, 250)) ??
      line.find((stub) => !hasUse(stub) && stub.receiving && isOld(stub, 1_000)) ??
      line.find((stub) => hasUse(stub) && stub.receiving && isOld(stub, 1_000));
  }

  test("closes the same ones in the same order, whatever happens before", () => {
    for (let seed = 0; seed < 200; seed++) {
      const { below } = new Random(seed);
      const which = `seed ${seed}`;
      const table = tableOf([]);
      const stubs: Stub[] = [];
      /** When each was last used; the fraction says in which order within one ms. */
      const uses = new Map<Stub, number>();
      let count = 0;
      const use = (stub: Stub): void => {
        if (!stub.busy) uses.set(stub, time + ++count / 1e6);
      };
      for (let step = 0; step < 60; step++) {
        time += below(3) === 0 ? below(400) : 0;
        const stub = stubs[below(stubs.length + 1)];
        if (stub === undefined) {
          const added = new Stub();
          stubs.push(added);
          table.add(added);
          use(added);
          continue;
        }
        const what = below(6);
        if (what === 0 && !stub.purged) {
          stub.receiving = !stub.receiving && stub.kind === "http";
        } else if (what === 1 && !stub.purged && stub.kind === "http") {
          Object.assign(stub, { busy: true, receiving: false, requests: stub.requests + 1 });
          table.busy(stub);
        } else if (what === 2) {
          stub.busy = false;
          table.touch(stub);
          use(stub);
        } else if (what === 3 && stub.requests > 0 && !stub.busy) {
          Object.assign(stub, { kind: "websocket", receiving: false });
          table.touch(stub);
          use(stub);
        } else if (what === 4) {
          assert.equal(table.remove(stub), true);
          stubs.splice(stubs.indexOf(stub), 1);
        } else {
          const expected = nextOf(stubs, uses, time);
          const before = stubs.filter(({ purged }) => purged);
          assert.equal(table.purge(rules(time)) === true, expected !== undefined, which);
          const purged = stubs.filter((stub) => stub.purged && !before.includes(stub));
          assert.deepEqual(purged, expected === undefined ? [] : [expected], which);
        }
      }
    }
  });
});

describe("SessionTable.purgeLeastRecent()", () => {
  test("goes by the last use alone, as the original, one with a part of a request last", () => {
    const [started, fresh, ws, kept] = [
      new Stub({ receiving: true }),
      new Stub(),
      socket(),
      used(),
    ];
    const table = tableOf([started, fresh, ws, kept], true);
    table.touch(fresh);
    const order = [ws, kept, fresh, started].map((expected) => {
      assert.equal(table.purgeLeastRecent(), true);
      return expected.purged;
    });
    assert.deepEqual(order, [true, true, true, true]);
    assert.equal(table.purgeLeastRecent(), false);
  });
});

describe("SessionTable.emptyWithin()", () => {
  test("says whether the last one ended in time", async () => {
    const session = used();
    const table = tableOf([session]);
    assert.equal(await table.emptyWithin(1), false);
    const empty = table.emptyWithin(4_000);
    table.remove(session);
    assert.equal(await empty, true);
    assert.equal(await table.emptyWithin(0), true);
    assert.equal(table.remove(session), false);
  });
});
