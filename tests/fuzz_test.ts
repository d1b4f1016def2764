/**
 * Fuzzes everything that meets foreign bytes for a moment each, from the same seed every time, so
 * that a change is blamed for what it did alone; `npm run fuzz` goes on from others.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import process from "node:process";
import { fuzz, type Reading } from "./fuzz/engine.ts";
import { targets } from "./fuzz/targets.ts";
import { assertRuntime } from "./runtime.ts";
import { startScript } from "./support.ts";

assertRuntime();

const SEED = Number(process.env["HTTPSD_SEED"] ?? 20261127);
const MS = Number(process.env["HTTPSD_FUZZ_MS"] ?? 550);

describe(`fuzz (seed ${SEED})`, () => {
  for (const target of targets) {
    test(target.name, async () => {
      const { inputs, outcomes } = await fuzz(target, SEED, MS);
      if (process.env["HTTPSD_FUZZ_MS"]) console.log(target.name, { inputs, outcomes });
    }, 60_000 + MS * 2);
  }
});

describe("the fuzzer finds", () => {
  const corpus = ["key=value; other=1"];
  const text = { name: "planted", corpus, tokens: [";", "=", "%"], reaches: [] };
  const bytes = { ...text, corpus: corpus.map((item) => new TextEncoder().encode(item)) };

  test("what throws, with a small input", async () => {
    const read = (input: string) => {
      if (/%.*=.*;/.test(input)) throw new TypeError("planted");
      return input;
    };
    await assert.rejects(fuzz({ ...text, read }, 1, 2_000), /planted[^]*"input":"%=;"/);
  }, 10_000);

  test("a pattern that keeps its place", async () => {
    const pattern = /value/g;
    const read = (input: string) => `${pattern.test(input)}`;
    await assert.rejects(fuzz({ ...text, read }, 1, 2_000), /the second time/);
  }, 10_000);

  test("work that is not linear", async () => {
    const read = (input: string) => {
      let sum = 0;
      for (let i = 0; i < input.length; i++) {
        for (let j = 0; j < i; j += 32) sum = sum * 31 + input.charCodeAt(j) | 0;
      }
      if (sum === 1) throw new Error("never, but the loop is not left out");
      return input;
    };
    await assert.rejects(fuzz({ ...text, read }, 1, 10_000, { longMs: 20 }), /ms of CPU/);
  }, 30_000);

  test("a result that depends on the cut", async () => {
    const open = (): Reading => {
      let said = "";
      return { push: (piece) => !!(said += piece.includes(37) ? "%" : "."), said: () => said };
    };
    await assert.rejects(fuzz({ ...bytes, keptBytes: 1e6, open }, 1, 2_000), /Another result/);
  }, 10_000);

  test("a reader that keeps all", async () => {
    const open = (): Reading => {
      const kept: Uint8Array[] = [];
      return { push: (piece) => kept.push(piece) > 0, said: () => `${kept.length > 0}` };
    };
    await assert.rejects(fuzz({ ...bytes, keptBytes: 10_000, open }, 1, 2_000), /A reader keeps/);
  }, 10_000);

  test("what never comes back", async () => {
    const engine = new URL("./fuzz/engine.ts", import.meta.url);
    const child = startScript(`
      const { fuzz } = await import(${JSON.stringify(engine)});
      const read = (input) => {
        while (input.includes("%"));
        return input;
      };
      const target = { name: "planted", corpus: ["a"], tokens: ["%"], reaches: [], read };
      await fuzz(target, 1, 60_000, { hangMs: 500 });
    `);
    assert.match(await child.done, /Target planted \(seed 1\) hangs in input \d+ of stream [23]/);
  }, 30_000);
});
