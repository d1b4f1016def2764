/**
 * The `httpsd` command: understands its command line, and does what it asks for.
 *
 * @module
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { HttpsdError } from "../errors.ts";
import { nearest } from "../options.ts";
import { serveFiles } from "../web/files.ts";
import {
  CommandError,
  type CommandLine,
  OPTION_NAMES,
  parseCommandLine,
  usage,
  UsageError,
} from "./arguments.ts";
import { cert } from "./cert.ts";
import { Output, runtimeName } from "./output.ts";
import { serving } from "./serving.ts";
import { trust } from "./trust.ts";
import { VERSION } from "./version.ts";

/**
 * Runs a command line, without the program's name. Resolves with the exit code: 0; 1 when it
 * failed; 2 when the command line is wrong. Errors are one line on standard error.
 */
export async function main(args: readonly string[]): Promise<number> {
  let output = new Output({ json: args.includes("--json") });
  try {
    const line = parseCommandLine(args);
    output = new Output(line.values);
    return await run(line, output);
  } catch (error) {
    if (error instanceof UsageError) {
      output.error(`${error.message}${meant(error.message)} (httpsd --help)`, "USAGE");
      return 2;
    }
    if (!isExpected(error)) throw error;
    output.error(error.message, error instanceof HttpsdError ? error.code : undefined);
    return 1;
  }
}

async function run({ command, operands, values }: CommandLine, output: Output): Promise<number> {
  switch (command) {
    case "help":
      console.log(usage());
      return 0;
    case "version":
      console.log(`httpsd ${VERSION} on ${runtimeName()}`);
      return 0;
    case "cert":
      return await cert(operands, values, output);
    case "trust":
      return await trust(values, output);
    case "serve": {
      const directory = resolve(operands[0] ?? ".");
      assertDirectory(directory);
      const { listing = false, spa = false } = values;
      const handler = serveFiles(directory, {
        listing,
        cacheControl: "no-cache",
        ...(spa && { fallback: "index.html" }),
      });
      return await serving({ handler, what: directory }, values, output);
    }
    case "proxy": {
      const [upstream] = operands;
      const prefix = values["strip-prefix"];
      const ca = values["upstream-ca"];
      const { proxy } = await import("../proxy/mod.ts");
      const handler = proxy(upstream!, {
        host: values["keep-host"] === true ? "client" : "upstream",
        ...(prefix !== undefined && { stripPrefix: prefix }),
        ...(ca !== undefined && { tls: { ca: readText(ca) } }),
      });
      return await serving({ handler, what: `→ ${upstream}` }, values, output);
    }
  }
}

/** What an unknown option may have been meant as. */
function meant(message: string): string {
  const [, name] = /^Unknown option '--?([^']+)'/.exec(message) ?? [];
  const other = name === undefined ? undefined : nearest(name, OPTION_NAMES);
  return other === undefined ? "" : `: did you mean --${other}?`;
}

/** @throws {CommandError} for what is no directory, or cannot be read */
function assertDirectory(directory: string): void {
  try {
    if (statSync(directory).isDirectory()) return void readdirSync(directory);
  } catch (error) {
    throw new CommandError(`${directory} cannot be read: ${reason(error)}`);
  }
  throw new CommandError(`${directory} is a file: name its directory`);
}

/** @throws {CommandError} */
function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new CommandError(`${file} cannot be read: ${reason(error)}`);
  }
}

/** What the system says, without the call that failed. */
function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT") return "it does not exist";
  if (code === "EACCES") return "this user may not";
  return message;
}

/** Whether the user can do something about an error, unlike one of this program's own. */
function isExpected(error: unknown): error is Error {
  return error instanceof HttpsdError || error instanceof CommandError ||
    (error instanceof Error &&
      (error.name === "NotCapable" || "syscall" in error && "code" in error));
}
