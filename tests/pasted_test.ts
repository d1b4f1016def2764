/**
 * Every block of README.md and docs/, pasted into a file of a new folder that has the packed package:
 * it runs on this runtime, and on Node.js 24.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { cpSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { ownNetwork } from "./cluster_support.ts";
import { type Block, readBlocks } from "./docs_blocks.ts";
import { node24 } from "./on_demand.ts";
import {
  inRuntime,
  install,
  project,
  removeProjectAfterAll,
  root,
  TIMEOUT_MS,
  write,
} from "./package_support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();
removeProjectAfterAll();

const RUNNER = "pasted.mjs";
/** The blocks choose ports, which are theirs in a network of their own. */
const network = ownNetwork();
/** A block as it is pasted; without a network of our own, on ports that are free. */
function pasted({ code }: Block): string {
  if (typeof network !== "string") return code;
  return code.replaceAll(/\bport: \d+/g, 'port: 0, hostname: "127.0.0.1"')
    .replaceAll("automaticCertificates({", '$&directory: "https://127.0.0.1:1/directory",');
}

/** Whether a block can run: those of brokers and clusters need ports that are theirs. */
function canRun({ language }: Block): boolean {
  return language === "ts" || typeof network !== "string";
}

function prepare(): { name: string; file: string }[] {
  install();
  write("public/index.html", "<p>hello</p>\n");
  cpSync(join(root, "tests/clients", RUNNER), join(project, RUNNER));
  return readBlocks().filter(canRun).map((block, index) => {
    const file = `block${index}.${block.language}`;
    write(file, pasted(block));
    return { name: block.name, file };
  });
}

/** Runs the blocks and gives what failed. */
function runAll(command: readonly string[], blocks: { name: string; file: string }[]): string[] {
  write("blocks.json", JSON.stringify(blocks));
  const whole = [...(typeof network === "string" ? [] : network), ...command, "blocks.json"];
  const { stdout, stderr, status } = spawnSync(whole[0]!, whole.slice(1), {
    cwd: project,
    encoding: "utf8",
    env: { ...process.env, CI: "" },
    timeout: 180_000,
  });
  const results = [...stdout.matchAll(/^RESULT (.*)$/gm)].map(([, line]) =>
    JSON.parse(line!) as { name: string; error?: string }
  );
  assert.equal(results.length, blocks.length, `${status}\n${stdout}\n${stderr}`);
  return results.filter(({ error }) => error !== undefined)
    .map(({ name, error }) => `${name}: ${error}`);
}

describe("Every block of the documentation, pasted into a file beside the packed package,", () => {
  test("runs on this runtime, and those that answer a question do what they say", () => {
    assert.deepEqual(runAll(inRuntime(RUNNER), prepare()), []);
  }, 2 * TIMEOUT_MS); // 20 s where nothing else runs

  test("runs on Node.js 24", () => {
    const node = node24();
    if (node === undefined) return; // it has said why
    const blocks = prepare();
    assert.deepEqual(runAll([node, RUNNER], blocks), []);
  }, 2 * TIMEOUT_MS); // 20 s where nothing else runs
});
