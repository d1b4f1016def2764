/**
 * examples/deploy/: the units as systemd verifies them, and the steps of the Dockerfile, run in a
 * folder instead of an image: what it copies, installs and starts.
 */
import assert from "node:assert/strict";
import { afterAll, describe, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import {
  install,
  manifest,
  modules,
  project,
  removeProjectAfterAll,
  root,
  TIMEOUT_MS,
  wanted,
} from "./package_support.ts";
import { testsWith } from "./programs.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();
removeProjectAfterAll();

const deploy = join(root, "examples/deploy");
const folder = mkdtempSync(join(tmpdir(), "httpsd-deploy-"));
afterAll(() => rmSync(folder, { recursive: true }));

function run(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${error?.message ?? stdout + stderr}`);
  return stdout + stderr;
}

testsWith("systemd-analyze")("systemd takes the units without a complaint", () => {
  const units = join(folder, "units");
  mkdirSync(units);
  for (const name of ["httpsd.service", "httpsd.socket"]) {
    // The runtime is where the machine has it; the rest is as it is shipped.
    const text = readFileSync(join(deploy, name), "utf8").replaceAll(
      "/usr/local/bin/bun",
      "/bin/sh",
    );
    writeFileSync(join(units, name), text);
  }
  const files = ["./httpsd.service", "./httpsd.socket"];
  assert.equal(run("systemd-analyze", ["verify", "--man=no", ...files], units), "");
  return Promise.resolve();
}, 20_000);

/** A step of a Dockerfile: its instruction, and the rest of the line. */
type Step = readonly [instruction: string, rest: string];

/** The steps of each stage, by its name. */
function stages(): Map<string, Step[]> {
  const found = new Map<string, Step[]>();
  let steps: Step[] = [];
  for (const line of readFileSync(join(deploy, "Dockerfile"), "utf8").split("\n")) {
    if (line.startsWith("#") || line.trim() === "") continue;
    const [, instruction = "", rest = ""] = /^([A-Z]+) (.*)$/.exec(line) ?? [];
    assert.notEqual(instruction, "", line);
    const name = /^\S+ AS (\w+)$/.exec(rest)?.[1];
    if (instruction === "FROM") found.set(name!, steps = []);
    else steps.push([instruction, rest]);
  }
  return found;
}

/** What a stage has left behind: where it is, its environment and what it starts. */
interface Image {
  readonly files: string;
  readonly env: Record<string, string>;
  readonly command: readonly string[];
}

/** Runs the steps of a stage, with a folder for the root of the image. */
function build(name: string, context: string): Image {
  const files = join(folder, name);
  mkdirSync(files);
  const env: Record<string, string> = {};
  let command: string[] = [];
  let workDirectory = files;
  const inside = (path: string) =>
    path.startsWith("/") ? join(files, path) : join(workDirectory, path);
  for (const [instruction, rest] of stages().get(name)!) {
    switch (instruction) {
      case "WORKDIR":
        mkdirSync(workDirectory = inside(rest), { recursive: true });
        break;
      case "COPY":
        copy(rest, context, inside);
        break;
      case "RUN": // no such user is here, and no such root
        run("sh", [
          "-ec",
          rest.replace(/-o \w+ (\/\S+)/, (_, path) => `-o ${process.getuid!()} ${inside(path)}`),
        ], workDirectory);
        break;
      case "ENV":
        env[rest.split("=")[0]!] = inside(rest.split("=")[1]!);
        break;
      case "CMD":
        command = JSON.parse(rest).map((word: string) => word.replace(/(?<==)\/\S*$/, inside));
        break;
      default:
        assert.ok(["USER", "VOLUME", "EXPOSE"].includes(instruction), instruction);
    }
  }
  return { files: workDirectory, env, command };
}

function copy(rest: string, context: string, inside: (path: string) => string): void {
  const [, stage, from = ""] = /^--from=(\w+) (\S+) /.exec(rest) ?? [];
  const to = rest.split(" ").at(-1)!;
  if (stage !== undefined) {
    cpSync(join(folder, stage, from), inside(to), { recursive: true, verbatimSymlinks: true });
    return;
  }
  const ignored = readFileSync(join(deploy, ".dockerignore"), "utf8").split("\n");
  for (const name of readdirSync(context).filter((file) => !ignored.includes(file))) {
    const wantedHere = rest.split(" ").slice(0, -1).some((pattern) =>
      pattern === "." ||
      new RegExp(`^${pattern.replaceAll(".", "\\.").replaceAll("*", ".*")}$`).test(name)
    );
    if (wantedHere) cpSync(join(context, name), join(inside(to), name), { recursive: true });
  }
}

describe("The Dockerfile", () => {
  test(`makes and starts an image on ${runtime}, which SIGTERM ends in good order`, async () => {
    install();
    const context = join(folder, "context");
    mkdirSync(context);
    const tarball = readdirSync(project).find((name) => name.endsWith(".tgz"))!;
    cpSync(join(project, tarball), join(context, tarball));
    cpSync(join(deploy, "app.ts"), join(context, "app.ts"));
    const dependencies: Record<string, string> = { [manifest.name]: `file:${tarball}` };
    for (const name of Object.keys(wanted)) dependencies[name] = `file:${join(modules, name)}`;
    writeFileSync(join(context, "package.json"), JSON.stringify({ type: "module", dependencies }));

    build("packages", context);
    const { files, env, command } = build(runtime, context);
    const bin = join(folder, "bin");
    mkdirSync(bin);
    symlinkSync(process.execPath, join(bin, runtime));
    const child: ChildProcess = spawn(command[0]!, command.slice(1), {
      cwd: files,
      env: { ...process.env, ...env, PORT: "0", PATH: bin },
      stdio: ["ignore", "pipe", "inherit"],
    });
    const closed = once(child, "close");
    try {
      const [line] = await Promise.race([
        once(createInterface(child.stdout!), "line"),
        closed.then(([code]) => assert.fail(`The app ended with code ${code}`)),
      ]) as [string];
      const [, port] = /^Listening on (\d+)$/.exec(line)!;
      const ca = join(env["DATA"]!, "certs/ca.pem");
      const url = `https://localhost:${port}/`;
      assert.match(
        run("curl", ["-sS", "--cacert", ca, url], folder),
        /^Hello (127\.0\.0\.1|::1)\n$/,
      );
      process.kill(child.pid!, "SIGTERM");
      assert.deepEqual(await closed, [0, null]);
    } finally {
      child.kill("SIGKILL");
    }
  }, 2 * TIMEOUT_MS);
});
