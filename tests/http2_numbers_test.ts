/** Windows, settings, budgets, priorities and turns of HTTP/2. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Budget } from "../lib/http2/budgets.ts";
import { errorCodeName } from "../lib/http2/error_code.ts";
import { ClientPriorities, parsePriority, type Priority } from "../lib/http2/priority.ts";
import { StreamIds } from "../lib/http2/stream_ids.ts";
import { type Scheduled, Scheduler, TURN_BYTES } from "../lib/http2/scheduler.ts";
import { MAX_WINDOW } from "../lib/http2/bounds.ts";
import { checkSetting, PeerSettings, SettingId, settingsEntries } from "../lib/http2/settings.ts";
import { ReceiveWindow, SendWindow } from "../lib/http2/windows.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

describe("SendWindow", () => {
  test("goes down by what is sent and up by WINDOW_UPDATE", () => {
    const window = new SendWindow(10);
    window.take(10);
    assert.equal(window.size, 0);
    assert.equal(window.change(5), true);
    assert.equal(window.size, 5);
  });

  test("may be below 0 after a change of the setting, and comes back (6.9.2)", () => {
    const window = new SendWindow(65_535);
    window.take(60_000);
    assert.equal(window.change(16_384 - 65_535), true);
    assert.equal(window.size, -43_616);
    assert.equal(window.change(43_616), true);
    assert.equal(window.size, 0);
  });

  test("never grows beyond 2^31-1 (6.9.1)", () => {
    const window = new SendWindow(1);
    assert.equal(window.change(MAX_WINDOW), false);
    assert.equal(window.size, 1);
    assert.equal(window.change(MAX_WINDOW - 1), true);
    assert.equal(window.size, MAX_WINDOW);
    assert.equal(window.change(1), false);
  });
});

describe("ReceiveWindow", () => {
  test("is given back in one go when half of it is owed", () => {
    const window = new ReceiveWindow(100);
    assert.equal(window.receive(80), true);
    assert.equal(window.giveBack(49), 0);
    assert.equal(window.size, 20);
    assert.equal(window.giveBack(1), 50);
    assert.equal(window.size, 70);
    assert.equal(window.giveBack(30), 0);
  });

  test("reports what is sent beyond it", () => {
    const window = new ReceiveWindow(100);
    assert.equal(window.receive(100), true);
    assert.equal(window.receive(1), false);
  });

  test("of the connection begins with what the client knows, and grows at once", () => {
    const window = new ReceiveWindow(1 << 20, 65_535);
    assert.equal(window.size, 65_535);
    assert.equal(window.giveBack(0), (1 << 20) - 65_535);
    assert.equal(window.size, 1 << 20);
  });

  test("gives back all that is owed when it is asked to", () => {
    const window = new ReceiveWindow(100_000, 65_535);
    assert.equal(window.giveBack(0), 34_465);
    assert.equal(window.giveBack(0), 0);
    assert.equal(window.giveBack(1), 0);
    assert.equal(window.giveBack(0), 1);
  });

  test("larger than its target gives back no more than has come", () => {
    const window = new ReceiveWindow(1_000, 65_535);
    assert.equal(window.giveBack(0), 0);
    assert.equal(window.receive(65_535), true);
    window.change(1_000 - 65_535); // the client has acknowledged the setting
    assert.equal(window.size, -64_535);
    assert.equal(window.giveBack(65_535), 65_535);
    assert.equal(window.size, 1_000);
  });

  test("never lets the client wait for what was read", () => {
    const random = new Random(9113);
    for (let round = 0; round < 200; round++) {
      const target = 1 + random.below(100);
      const window = new ReceiveWindow(target);
      let unread = 0;
      for (let turn = 0; turn < 200; turn++) {
        const bytes = random.below(window.size + 1);
        assert.equal(window.receive(bytes), true);
        unread += bytes;
        const taken = random.below(unread + 1);
        unread -= taken;
        window.giveBack(taken);
        assert.ok(window.size + unread <= target, "never more than the target");
      }
      window.giveBack(unread);
      assert.ok(window.size >= target / 2, "open again when all is read");
    }
  });
});

describe("settings", () => {
  const { EnablePush, InitialWindowSize, MaxFrameSize, EnableConnectProtocol } = SettingId;
  const table: [id: number, value: number, code: string | undefined][] = [
    [SettingId.HeaderTableSize, 2 ** 32 - 1, undefined],
    [SettingId.MaxConcurrentStreams, 0, undefined],
    [SettingId.MaxHeaderListSize, 2 ** 32 - 1, undefined],
    [EnablePush, 0, undefined],
    [EnablePush, 1, undefined],
    [EnablePush, 2, "PROTOCOL_ERROR"],
    [InitialWindowSize, 0, undefined],
    [InitialWindowSize, 2 ** 31 - 1, undefined],
    [InitialWindowSize, 2 ** 31, "FLOW_CONTROL_ERROR"],
    [MaxFrameSize, 2 ** 14 - 1, "PROTOCOL_ERROR"],
    [MaxFrameSize, 2 ** 14, undefined],
    [MaxFrameSize, 2 ** 24 - 1, undefined],
    [MaxFrameSize, 2 ** 24, "PROTOCOL_ERROR"],
    [EnableConnectProtocol, 1, undefined],
    [EnableConnectProtocol, 2, "PROTOCOL_ERROR"],
    [SettingId.NoRfc7540Priorities, 1, undefined],
    [SettingId.NoRfc7540Priorities, 2, "PROTOCOL_ERROR"],
    [0, 2 ** 32 - 1, undefined],
    [0x0a, 2 ** 32 - 1, undefined],
  ];
  for (const [id, value, code] of table) {
    test(`setting ${id} of ${value} is ${code ?? "allowed"}`, () => {
      const fault = checkSetting(id, value);
      assert.equal(fault && errorCodeName(fault.code), code);
      assert.equal(fault?.scope, code && "connection");
    });
  }

  test("of the client are these until they come (6.5.2)", () => {
    assert.deepEqual({ ...new PeerSettings() }, {
      headerTableSize: 4096,
      initialWindowSize: 65_535,
      maxFrameBytes: 16_384,
      maxHeaderListBytes: Infinity,
      noRfc7540Priorities: undefined,
    });
  });

  test("of the client take effect in their order", () => {
    const settings = new PeerSettings();
    const changes: [string, number][] = [];
    const listener = {
      headerTableSize: (bytes: number) => changes.push(["table", bytes]),
      initialWindowSize: (delta: number) => changes.push(["window", delta]),
    };
    settings.apply([1, 0, 4, 100_000, 5, 20_000, 6, 9_000, 9, 1, 1, 4096, 77, 7], listener);
    settings.apply([4, 100_000, 4, 10, 9, 0], listener);
    assert.deepEqual(changes, [
      ["table", 0],
      ["window", 100_000 - 65_535],
      ["table", 4096],
      ["window", 10 - 100_000],
    ]);
    assert.deepEqual({ ...settings }, {
      headerTableSize: 4096,
      initialWindowSize: 10,
      maxFrameBytes: 20_000,
      maxHeaderListBytes: 9_000,
      noRfc7540Priorities: true, // the first SETTINGS alone say it
    });
  });

  test("of this server leave out what is the default", () => {
    const own = {
      headerTableSize: 4096,
      maxConcurrentStreams: 100,
      initialWindowSize: 1 << 18,
      maxFrameBytes: 16_384,
      maxHeaderListBytes: 20_000,
      enableConnectProtocol: true,
    };
    assert.deepEqual(settingsEntries(own), [3, 100, 4, 1 << 18, 6, 20_000, 8, 1, 9, 1]);
  });
});

describe("Budget", () => {
  test("lets a burst pass, then its rate", () => {
    let now = 5;
    const budget = new Budget({ burst: 3, perSecond: 2 }, { now: () => now });
    const spend = (times: number) => Array.from({ length: times }, () => budget.spend());
    assert.deepEqual(spend(4), [true, true, true, false]);
    now += 499;
    assert.deepEqual(spend(1), [false]);
    now += 1;
    assert.deepEqual(spend(2), [true, false]);
    now += 1_000;
    assert.deepEqual(spend(3), [true, true, false]);
  });

  test("saves no more than a burst", () => {
    let now = 0;
    const budget = new Budget({ burst: 2, perSecond: 100 }, { now: () => now });
    assert.equal(budget.spend(), true);
    now += 3_600_000;
    assert.deepEqual([budget.spend(), budget.spend(), budget.spend()], [true, true, false]);
  });

  test("may be without limit, or nothing", () => {
    const clock = { now: () => 7 };
    const spend = (burst: number, perSecond: number) => {
      const budget = new Budget({ burst, perSecond }, clock);
      return Array.from({ length: 5 }, () => budget.spend());
    };
    assert.deepEqual(spend(1, Infinity), Array(5).fill(true));
    assert.deepEqual(spend(Infinity, 0), Array(5).fill(true));
    assert.deepEqual(spend(Infinity, Infinity), Array(5).fill(true));
    assert.deepEqual(spend(0, 10), Array(5).fill(false));
    assert.deepEqual(spend(0, Infinity), Array(5).fill(false));
    assert.deepEqual(spend(2, 0), [true, true, false, false, false]);
  });

  test("keeps to its rate however often it is asked", () => {
    let now = 0;
    const budget = new Budget({ burst: 10, perSecond: 33 }, { now: () => now });
    let spent = 0;
    for (; now < 60_000; now += 0.7) if (budget.spend()) spent++;
    assert.ok(Math.abs(spent - (10 + 60 * 33)) <= 1, `${spent}`);
  });
});

const say = ({ urgency, incremental }: Priority) => `${urgency}${incremental ? " i" : ""}`;

describe("a Priority field", () => {
  // RFC 9218 section 4, RFC 9651 section 4.2
  const table: [field: string, priority: string][] = [
    ["", "3"],
    ["   ", "3"],
    ["u=0", "0"],
    ["u=7", "7"],
    ["i", "3 i"],
    ["i=?1", "3 i"],
    ["i=?0", "3"],
    ["u=5, i", "5 i"],
    ["u=5,i", "5 i"],
    ["u=5 \t,\t i", "5 i"],
    ["  u=5, i  ", "5 i"],
    ["u=5, i \t", "5 i"],
    ["i, u=1", "1 i"],
    ["u=1, u=2", "2"], // the last one counts
    ["u=1, u=9", "3"],
    ["i, i=?0", "3"],
    ["u=8", "3"],
    ["u=-1", "3"],
    ["u=10", "3"],
    ["u=2.0", "3"],
    ["u=-0", "0"],
    ["u=05", "5"],
    ["u=000000000000005", "5"],
    ["u=0000000000000005", "3"], // 16 digits are none of an Integer
    ['u="2"', "3"],
    ["u", "3"],
    ["u=?1", "3"],
    ["u=a", "3"],
    ["u=(1 2)", "3"],
    ["i=1", "3"],
    ["i=a", "3"],
    ["u=2;x", "2"],
    ["u=2;x=1;y=?0, i;z", "2 i"],
    ["u=2;  x", "2"],
    ["u=2 ;x", "3"],
    ['a=1, b="x\\"y\\\\", *c=tok/en:x, d=:YWI=:, e=?0, f=(), g=( 1 "a";q  b);h, j=1.250, u=4', "4"],
    ['t=@1659578233, s=%"caf%c3%a9", u=4', "4"],
    ["u-x=1, u=4", "4"],
    ["k09=1, u=4", "4"],
    ["b=(1 2), c=(a), u=4", "4"],
    ["i=(1)", "3"],
    ["i=()", "3"],
    ["a=100.050, b=90.0;c=-0.9, u=4", "4"],
    ["u=4, a=@123456789012345", "4"],
    // Malformed anywhere: all of it counts for nothing.
    ["u=1,", "3"],
    ["u=1, ", "3"],
    [",u=1", "3"],
    ["u=1,,i", "3"],
    ["u=1 i", "3"],
    ["u=1;", "3"],
    ["u=", "3"],
    ["=1", "3"],
    ["U=1", "3"],
    ["u=1, I", "3"],
    ["u = 1", "3"],
    ["\tu=1", "3"],
    ["u=1, b=1234567890123456", "3"],
    ["u=1, b=1.2345", "3"],
    ["u=1, b=1234567890123.1", "3"],
    ["u=1, b=@1234567890123450", "3"],
    ["u=1, b=-", "3"],
    ["u=1, b=%", "3"],
    ["u=1, b=1.", "3"],
    ['u=1, b="', "3"],
    ['u=1, b="\\x"', "3"],
    ['u=1, b="\u00e9"', "3"],
    ["u=1, b=:a", "3"],
    ["u=1, b=?2", "3"],
    ["u=1, b=(1", "3"],
    ["u=1, b=(1,2)", "3"],
    ['u=1, b=("a""b")', "3"],
    ["u=1, b=(1 2;)", "3"],
    ['u=1, s=%"%C3"', "3"],
    ["u=1\0", "3"],
  ];
  for (const [field, priority] of table) {
    test(`${JSON.stringify(field)} is ${priority}`, () => {
      assert.equal(say(parsePriority(field)), priority);
    });
  }

  test("that is very long counts for nothing", () => {
    const long = (length: number) => "u=1, a".padEnd(length, "a");
    assert.equal(say(parsePriority(long(1_024))), "1");
    assert.equal(say(parsePriority(long(1_025))), "3");
    assert.equal(say(parsePriority(long(1_025), parsePriority("u=6"))), "6");
  });

  test("of a response changes what it says alone (8)", () => {
    const asked = parsePriority("u=5, i");
    assert.equal(say(parsePriority("u=1", asked)), "1 i");
    assert.equal(say(parsePriority("i=?0", asked)), "5");
    assert.equal(say(parsePriority("u=1,", asked)), "5 i");
    assert.equal(say(parsePriority("u=8", asked)), "5 i");
  });
});

describe("ClientPriorities", () => {
  test("has answers go side by side for a client that says nothing", () => {
    const priorities = new ClientPriorities();
    assert.equal(say(priorities.opened(1, undefined)), "3 i");
    assert.equal(say(priorities.opened(3, "u=1")), "1");
    assert.equal(say(priorities.opened(5, undefined)), "3", "the client knows of priorities");
  });

  test("keeps what comes before its stream, which goes before the field (7.1)", () => {
    const priorities = new ClientPriorities();
    priorities.announce(5, "u=1");
    priorities.announce(3, "u=2");
    priorities.announce(9, "u=4");
    priorities.announce(9, "u=5");
    assert.equal(priorities.early, 3);
    assert.equal(say(priorities.opened(5, "u=7, i")), "1");
    assert.equal(priorities.early, 1, "stream 3 can no longer open");
    assert.deepEqual([priorities.has(3), priorities.has(5), priorities.has(9)], [
      false,
      false,
      true,
    ]);
    assert.equal(say(priorities.opened(9, undefined)), "5");
    assert.equal(say(priorities.update("i")), "3 i");
  });
});

interface TestStream extends Scheduled {
  left: number;
}

function stream(id: number, field: string, left: number): TestStream {
  return { id, priority: parsePriority(field), sentBytes: 0, group: -1, left };
}

/** Writes until all is written, or so many turns; which stream had each turn. */
function run(scheduler: Scheduler<TestStream>, turns = Infinity): number[] {
  const order: number[] = [];
  for (let next = scheduler.next(); next !== undefined && order.length < turns;) {
    const bytes = Math.min(next.left, TURN_BYTES);
    next.left -= bytes;
    order.push(next.id);
    if (next.left === 0) scheduler.remove(next);
    scheduler.wrote(next, bytes);
    next = scheduler.next();
  }
  return order;
}

function schedulerOf(...streams: TestStream[]): Scheduler<TestStream> {
  const scheduler = new Scheduler<TestStream>();
  for (const item of streams) scheduler.add(item);
  return scheduler;
}

const KB = 1024;

describe("Scheduler", () => {
  test("gives nothing when nothing waits", () => {
    assert.equal(new Scheduler().next(), undefined);
    assert.equal(new Scheduler().isEmpty, true);
  });

  test("goes by urgency", () => {
    const scheduler = schedulerOf(
      stream(1, "u=7", 10),
      stream(3, "u=0", 10),
      stream(5, "", 10),
      stream(7, "u=2, i", 10),
    );
    assert.deepEqual(run(scheduler), [3, 7, 5, 1]);
    assert.equal(scheduler.isEmpty, true);
  });

  test("goes by urgency however much was sent", () => {
    for (let urgency = 0; urgency < 7; urgency++) {
      const large = stream(1, `u=${urgency}`, 1000 * KB);
      const scheduler = schedulerOf(large);
      run(scheduler, 14);
      scheduler.add(stream(3, `u=${urgency + 1}`, 10));
      assert.deepEqual(run(scheduler, 1), [1]);
      assert.deepEqual(run(scheduler, 1), [3], "one turn in sixteen");
    }
  });

  test("counts an answer as small up to 64 KB", () => {
    for (const [sentBytes, first] of [[64 * KB - 1, 1], [64 * KB, 3]] as const) {
      const scheduler = schedulerOf({ ...stream(1, "", KB), sentBytes }, stream(3, "", KB));
      assert.equal(scheduler.next()!.id, first);
    }
  });

  test("lets what is not incremental go one after the other, by number", () => {
    const scheduler = schedulerOf(
      stream(5, "", 40 * KB),
      stream(1, "", 40 * KB),
      stream(3, "", 40 * KB),
    );
    assert.deepEqual(run(scheduler), [1, 1, 1, 3, 3, 3, 5, 5, 5]);
  });

  test("lets what is incremental go by turns", () => {
    const scheduler = schedulerOf(
      stream(1, "i", 40 * KB),
      stream(3, "i", 40 * KB),
      stream(5, "i", 20 * KB),
    );
    assert.deepEqual(run(scheduler), [1, 3, 5, 1, 3, 5, 1, 3]);
  });

  test("gives each kind every other turn", () => {
    const scheduler = schedulerOf(
      stream(1, "", 40 * KB),
      stream(3, "i", 30 * KB),
      stream(5, "i", 30 * KB),
    );
    assert.deepEqual(run(scheduler), [1, 3, 1, 5, 1, 3, 5]);
  });

  for (const field of ["", "i"]) {
    test(`lets a small answer pass a large download${field && " of increments"}`, () => {
      const download = stream(1, field, 1000 * KB);
      const scheduler = schedulerOf(download);
      run(scheduler, 20);
      for (let id = 3; id < 99; id += 2) {
        scheduler.add(stream(id, field, 5 * KB));
        const order = run(scheduler, 2);
        assert.ok(order.includes(id), `${order}`); // one turn in sixteen is the download's
      }
    });
  }

  test("leaves one turn in sixteen to what would have to wait", () => {
    const scheduler = schedulerOf(
      stream(1, "u=0, i", 10_000 * KB),
      stream(3, "u=3", 1_000 * KB),
      stream(5, "u=7", 1_000 * KB),
    );
    const order = run(scheduler, 320);
    assert.equal(order.filter((id) => id === 1).length, 300);
    assert.equal(order.filter((id) => id === 3).length, 10);
    assert.equal(order.filter((id) => id === 5).length, 10);
  });

  test("goes by a priority that changes while a stream waits, and when it does not", () => {
    const [first, second, third] = [stream(1, "", KB), stream(3, "", KB), stream(5, "", KB)];
    const scheduler = schedulerOf(first, second);
    scheduler.reprioritize(second, parsePriority("u=1, i"));
    scheduler.reprioritize(third, parsePriority("u=0"));
    assert.equal(scheduler.next(), second);
    scheduler.add(third);
    assert.deepEqual(run(scheduler), [5, 3, 1]);
  });

  test("takes a stream once, and may be asked to remove one that does not wait", () => {
    const [first, second] = [stream(1, "", KB), stream(3, "i", KB)];
    const scheduler = schedulerOf(first, first, second, second);
    scheduler.remove(stream(5, "", 0));
    scheduler.remove(first);
    scheduler.remove(first);
    assert.deepEqual(run(scheduler), [3]);
    assert.equal(scheduler.isEmpty, true);
  });

  test("loses no stream and no byte, whatever comes and goes", () => {
    const random = new Random(9218);
    const fields = ["", "i", "u=0", "u=7", "u=1, i", "u=6, i"];
    const scheduler = new Scheduler<TestStream>();
    const waiting = new Set<TestStream>();
    for (let turn = 0, id = 1; turn < 30_000; turn++) {
      if (waiting.size < 40 && random.oneIn(3)) {
        const item = stream(id, random.pick(fields), 1 + random.below(200 * KB));
        id += 2;
        waiting.add(item);
        scheduler.add(item);
      }
      if (waiting.size > 0 && random.oneIn(20)) { // blocked by its window, and on again
        const item = random.pick([...waiting]);
        scheduler.remove(item);
        if (random.oneIn(2)) scheduler.reprioritize(item, parsePriority(random.pick(fields)));
        scheduler.add(item);
      }
      const next = scheduler.next();
      assert.equal(next === undefined, waiting.size === 0);
      assert.equal(scheduler.isEmpty, waiting.size === 0);
      if (next === undefined) continue;
      assert.ok(waiting.has(next), "a stream that does not wait");
      const bytes = Math.min(next.left, TURN_BYTES);
      next.left -= bytes;
      if (next.left === 0) {
        waiting.delete(next);
        scheduler.remove(next);
      }
      scheduler.wrote(next, bytes);
    }
  });
});

describe("the numbers of streams", () => {
  test("are idle until they or higher ones begin", () => {
    const ids = new StreamIds(100);
    assert.ok(ids.isIdle(1));
    ids.begin(1);
    ids.begin(9);
    assert.ok(!ids.isIdle(1) && !ids.isIdle(9) && ids.isIdle(11));
    assert.deepEqual([1, 3, 7, 9, 11].map((id) => ids.wasSkipped(id)), [
      false,
      true,
      true,
      false,
      false,
    ]);
  });

  test("are known to be reset for as many as can be under way, and no more", () => {
    for (const [maxStreams, known] of [[1, 256], [100, 256], [1_000, 2_000]] as const) {
      const ids = new StreamIds(maxStreams);
      for (let i = 0; i <= known; i++) ids.reset(2 * i + 1);
      assert.ok(!ids.wasReset(1) && ids.wasReset(3) && ids.wasReset(2 * known + 1));
    }
  });
});
