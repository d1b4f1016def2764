/** When certificates are renewed, checked and tried again: lib/acme/schedule.ts. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import {
  askAgainAfter,
  checkEvery,
  expiringFrom,
  renewalMoment,
  retryDelay,
} from "../lib/acme/schedule.ts";
import { DAY_MS, HOUR_MS, MINUTE_MS } from "./automatic_support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

/** A certificate that begins at 0. */
const valid = (notAfter: number) => ({ notBefore: 0, notAfter });
const LIFETIMES = [40_000, 6 * DAY_MS, 45 * DAY_MS, 90 * DAY_MS, 365 * DAY_MS];
const CHANCES = [0, 0.25, 0.5, 0.999];

describe("renewalMoment()", () => {
  test("without a window leaves about a third of any lifetime", () => {
    for (const lifetime of LIFETIMES) {
      for (const chance of CHANCES) {
        const left = lifetime - renewalMoment(valid(lifetime), undefined, () => chance);
        assert.ok(left >= lifetime / 3 - 1 && left <= lifetime * 0.39, `${lifetime}, ${chance}`);
      }
    }
  });

  test("with a window lies in it, spread by chance", () => {
    const window = { start: 50 * DAY_MS, end: 52 * DAY_MS };
    const moments = CHANCES.map((chance) =>
      renewalMoment(valid(90 * DAY_MS), window, () => chance)
    );
    assert.deepEqual(moments.slice(0, 3), [50, 50.5, 51].map((days) => days * DAY_MS));
    assert.ok(moments[3]! < window.end);
  });

  test("with a window in the past is now, but not before a tenth has gone", () => {
    const window = { start: -2 * DAY_MS, end: -DAY_MS };
    for (const lifetime of LIFETIMES) {
      assert.equal(renewalMoment(valid(lifetime), window, () => 0.5), lifetime / 10);
    }
  });

  test("with a window around all of a short lifetime stays inside", () => {
    const window = { start: -DAY_MS, end: DAY_MS }; // Pebble's
    for (const chance of CHANCES) {
      const moment = renewalMoment(valid(40_000), window, () => chance);
      assert.ok(moment >= 4_000 && moment <= 34_000, `${moment}`);
    }
  });

  test("with a window behind its end goes by the lifetime", () => {
    const window = { start: 100 * DAY_MS, end: 101 * DAY_MS };
    assert.equal(renewalMoment(valid(90 * DAY_MS), window, () => 0), 60 * DAY_MS);
  });
});

describe("Shares of a lifetime", () => {
  test("decide how often it is looked at, and from when on its end is reported", () => {
    for (const lifetime of LIFETIMES) {
      const every = checkEvery(valid(lifetime));
      assert.ok(every <= lifetime / 50 && every <= HOUR_MS && every >= 100);
      assert.ok(askAgainAfter(valid(lifetime)) <= Math.min(6 * HOUR_MS, lifetime / 10));
      const left = lifetime - expiringFrom(valid(lifetime));
      assert.ok(Math.abs(left - lifetime / 6) < 1);
    }
    assert.equal(checkEvery(valid(40_000)), 800);
    assert.equal(checkEvery(valid(0)), 100);
  });
});

describe("retryDelay()", () => {
  const exactly = () => 0.5;

  test("grows up to half a day, with four attempts in the first hour", () => {
    const delays = Array.from(
      { length: 9 },
      (_, i) => retryDelay({ failures: i + 1 }, exactly) / MINUTE_MS,
    );
    assert.deepEqual(delays, [2, 10, 30, 60, 180, 360, 720, 720, 720]);
  });

  test("spreads by a fifth", () => {
    assert.equal(retryDelay({ failures: 1 }, () => 0), 1.6 * MINUTE_MS);
    assert.ok(retryDelay({ failures: 1 }, () => 0.999) <= 2.4 * MINUTE_MS);
  });

  test("is a tenth of a short lifetime at most, and as long as the CA says", () => {
    const validity = valid(40_000);
    assert.equal(retryDelay({ failures: 5, validity }, exactly), 4_000);
    assert.equal(retryDelay({ failures: 5, validity, retryAfterMs: HOUR_MS }, exactly), HOUR_MS);
    assert.equal(retryDelay({ failures: 5, retryAfterMs: 1 }, exactly), 180 * MINUTE_MS);
  });
});
