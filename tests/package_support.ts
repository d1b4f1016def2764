/**
 * The npm package as its users get it: built, packed, installed into an empty project. Needs no
 * network: its dependencies are links to those of the checkout.
 *
 * @module
 */
import assert from "node:assert/strict";
import { afterAll } from "bun:test";
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { runtime } from "./runtime.ts";

/** What tests read of package.json. */
export interface Manifest {
  name: string;
  version: string;
  license: string;
  exports: Record<string, string>;
  dependencies: Record<string, string>;
  peerDependencies: Record<string, string>;
}

/** How long npm and tsc may take on a busy machine. */
export const TIMEOUT_MS = 120_000;
/** The checkout. */
export const root = fileURLToPath(new URL("..", import.meta.url));
/** Its packages. */
export const modules = join(root, "node_modules");
/** Its package.json. */
export const manifest: Manifest = readJson("package.json");
/** What a program that uses the package installs besides. */
export const wanted = { ...manifest.dependencies, ...manifest.peerDependencies };

/** The project that it is installed into. */
export const project = mkdtempSync(join(tmpdir(), "httpsd-package-"));
let isInstalled = false;

/** Removes the project at the end of the file; to be called once, at its top. */
export function removeProjectAfterAll(): void {
  afterAll(() => {
    rmSync(project, { recursive: true, force: true });
    isInstalled = false; // on Bun other files go on with this module
  });
}

/** What blocks of the documentation use besides. */
const SHOWN = [
  "@logtape/logtape",
  "@nats-io/transport-node",
  "@opentelemetry/context-async-hooks",
  "@opentelemetry/exporter-metrics-otlp-http",
  "@opentelemetry/exporter-trace-otlp-http",
  "@opentelemetry/sdk-metrics",
  "@opentelemetry/sdk-trace-base",
  "pino",
  "prom-client",
  "redis",
];

/** Builds and packs the package and installs it into the project, once; the folder stays. */
export function install(): void {
  if (isInstalled) return;
  mkdirSync(project, { recursive: true });
  const built = join(project, "built");
  run("node", [join(root, "scripts/build.mjs"), built]);
  run("npm", ["pack", "--silent", built]);
  const tarball = `${manifest.name.replace(/^@/, "").replace("/", "-")}-${manifest.version}.tgz`;
  const dependencies = { [manifest.name]: `file:${tarball}` };
  for (const name of [...Object.keys(wanted), "@types/node", "@types/bun"]) {
    dependencies[name] = `file:${join(modules, name)}`;
  }
  write("package.json", JSON.stringify({ private: true, type: "module", dependencies }));
  run("npm", [
    "install",
    "--offline",
    "--ignore-scripts",
    "--no-package-lock",
    "--no-audit",
    "--no-fund",
  ]);
  for (const name of SHOWN) {
    const link = join(project, "node_modules", name);
    mkdirSync(dirname(link), { recursive: true });
    if (!existsSync(link)) symlinkSync(join(modules, name), link);
  }
  isInstalled = true;
}

/** Where a program lies. */
export function which(program: string): string {
  return realpathSync(run("sh", ["-c", `command -v ${program}`]).trim());
}

/** The command that runs a file on this runtime. */
export function inRuntime(file: string): [command: string, ...args: string[]] {
  return runtime === "deno"
    ? [process.execPath, "run", "-A", "--quiet", file]
    : [process.execPath, file];
}

/** Runs a program in the project and gives what it wrote; fails when it failed. */
export function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: project,
    encoding: "utf8",
  });
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${error ?? ""}\n${stdout}\n${stderr}`);
  return stdout;
}

/** Writes a file of the project. */
export function write(name: string, content: string): void {
  const path = join(project, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, content);
}

/** The files below a folder, with slashes. */
export function list(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(folder.length + 1));
}

/** A JSON file of the checkout. */
export function readJson<T>(name: string): T {
  return JSON.parse(readFileSync(join(root, name), "utf8"));
}
