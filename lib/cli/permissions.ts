/**
 * What Deno has to allow for a command line.
 *
 * @module
 */
import { resolve } from "node:path";
import process from "node:process";
import { type CommandLine, parseCommandLine } from "./arguments.ts";
import { defaultDirectory } from "./authority_directory.ts";

/**
 * Returns Deno's options: the files, programs and facts that a command needs, and no others. `deno` is
 * the path of Deno, which `--workers` runs.
 */
export function denoPermissions(args: readonly string[], deno: string): string[] {
  let line: CommandLine;
  try {
    line = parseCommandLine(args);
  } catch {
    return ["--no-prompt"]; // it only says what is wrong
  }
  const { command, operands, values } = line;
  const own = resolve(values.certs ?? defaultDirectory());
  const files = [
    values.cert,
    values.key,
    values["client-ca"],
    values["upstream-ca"],
    values["acme-ca"],
  ]
    .filter((file) => file !== undefined).map((file) => resolve(file));
  const read = [own, ...files];
  const write = [own];
  const run: string[] = [];
  if (command === "serve") read.push(resolve(operands[0] ?? "."));
  if (command === "cert") {
    read.push(resolve(values.out ?? "."));
    write.push(resolve(values.out ?? "."));
  }
  if (command === "trust") return ["--no-prompt", "--allow-all"]; // it changes the system's files
  if (values.workers !== undefined) run.push(deno);
  if (values.open === true) run.push(process.platform === "darwin" ? "open" : "xdg-open");
  const listens = command === "serve" || command === "proxy";
  return [
    "--no-prompt",
    "--allow-env",
    "--allow-sys",
    `--allow-read=${list(read)}`,
    ...(command === "help" || command === "version" ? [] : [`--allow-write=${list(write)}`]),
    ...(listens ? ["--allow-net"] : []),
    ...(run.length > 0 ? [`--allow-run=${run.join(",")}`] : []),
  ];
}

/** Paths as Deno separates them. */
function list(paths: readonly string[]): string {
  return [...new Set(paths)].map((path) => path.replaceAll(",", ",,")).join(",");
}
