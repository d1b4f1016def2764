/**
 * What a command writes: text for people, or JSON lines for programs.
 *
 * @module
 */
import process from "node:process";

/** Where a command writes, and how. */
export class Output {
  readonly #json: boolean;
  readonly #quiet: boolean;

  /** Takes the options of the command line. */
  constructor({ json = false, quiet = false }: { json?: boolean; quiet?: boolean }) {
    this.#json = json;
    this.#quiet = quiet;
  }

  /** Writes what has come of a command: its facts as one JSON line, or its text. */
  say(facts: Readonly<Record<string, unknown>>, text: string): void {
    if (this.#quiet) return;
    console.log(this.#json ? JSON.stringify(facts) : text);
  }

  /** Writes one line of what went wrong, to standard error. */
  error(message: string, code?: string): void {
    const line = message.split("\n").map((part) => part.trim()).join(" ");
    console.error(this.#json ? JSON.stringify({ error: line, code }) : `httpsd: ${line}`);
  }
}

/** The name and version of this runtime. */
export function runtimeName(): string {
  const versions: Readonly<Record<string, string | undefined>> = process.versions;
  if ("deno" in versions) return `Deno ${versions["deno"]}`;
  if ("bun" in versions) return `Bun ${versions["bun"]}`;
  return `Node.js ${versions["node"]}`;
}
