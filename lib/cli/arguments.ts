/**
 * The command line of `httpsd`: its commands, options and their meaning, and the text of `--help`.
 *
 * @module
 */
import { parseArgs } from "node:util";

/** A command line that cannot be understood: one line for the user, exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A failure that the user can do something about: one line, exit code 1. */
export class CommandError extends Error {
  override readonly name = "CommandError";
}

/** How an option is written and what it does. */
interface Option {
  /** What stands behind its name in `--help`; left out for one that takes no value. */
  readonly value?: string;
  readonly short?: string;
  /** Whether it may be given several times. */
  readonly multiple?: boolean;
  /** The commands that take it; left out: all. */
  readonly of?: readonly Command[];
  readonly about: string;
}

/** What `httpsd` can be asked to do. */
export type Command = "serve" | "proxy" | "cert" | "trust";

const SERVERS: readonly Command[] = ["serve", "proxy"];
const OWN_CERTIFICATES: readonly Command[] = ["serve", "proxy", "cert", "trust"];

const OPTIONS = {
  port: { value: "N", short: "p", of: SERVERS, about: "port; default 8443, or a free one" },
  host: { value: "ADDRESS", of: SERVERS, about: "address to listen on; default 127.0.0.1" },
  cert: { value: "FILE", of: SERVERS, about: "certificate chain, PEM; read again when it changes" },
  key: { value: "FILE", of: SERVERS, about: "its private key, PEM" },
  certs: {
    value: "DIR",
    of: OWN_CERTIFICATES,
    about: "where the development authority is kept",
  },
  acme: {
    value: "NAME",
    multiple: true,
    of: SERVERS,
    about: "certificate for NAME from Let's Encrypt; again for more names",
  },
  email: { value: "ADDRESS", of: SERVERS, about: "whom the authority of --acme may write to" },
  "acme-directory": { value: "URL", of: SERVERS, about: "another authority than Let's Encrypt" },
  "acme-ca": { value: "FILE", of: SERVERS, about: "what has signed its certificate, PEM" },
  "http-port": {
    value: "N",
    of: SERVERS,
    about: "with --acme: the port that answers its questions; default 80",
  },
  "client-ca": {
    value: "FILE",
    of: SERVERS,
    about: "only clients with a certificate of this authority, PEM",
  },
  cors: { of: SERVERS, about: "let pages of every origin read the answers" },
  spa: { of: ["serve"], about: "answer navigation to unknown paths with index.html" },
  listing: { of: ["serve"], about: "list directories without an index.html" },
  compress: { of: SERVERS, about: "compress text for clients that accept it" },
  "strip-prefix": { value: "PATH", of: ["proxy"], about: "what paths begin with only here" },
  "upstream-ca": { value: "FILE", of: ["proxy"], about: "what has signed the upstream's, PEM" },
  "keep-host": { of: ["proxy"], about: "pass on the Host that the client asked for" },
  log: { value: "FORMAT", of: SERVERS, about: "a line for each request: common, combined, json" },
  inspect: { of: SERVERS, about: "a live page of what the server does, for this machine only" },
  workers: { value: "N", of: SERVERS, about: "processes that share the port, or auto" },
  open: { of: SERVERS, about: "open the page in a browser" },
  undo: { of: ["trust"], about: "take the authority out again" },
  out: { value: "DIR", of: ["cert"], about: "where the files are written; default: here" },
  client: { of: ["cert"], about: "a certificate for a client, and a .p12 for browsers" },
  json: { about: "write JSON lines instead of text" },
  quiet: { short: "q", about: "write nothing but errors" },
  help: { short: "h", about: "show this" },
  version: { short: "v", about: "show the version" },
} as const satisfies Record<string, Option>;

/** The names of all options, without their dashes. */
export const OPTION_NAMES: readonly string[] = Object.keys(OPTIONS);

type OptionName = keyof typeof OPTIONS;

/** The options by name: text, texts for one that may be given several times, or `true`. */
export type Values = {
  readonly [N in OptionName]?: (typeof OPTIONS)[N] extends { multiple: true } ? readonly string[]
    : (typeof OPTIONS)[N] extends { value: string } ? string
    : boolean;
};

/** What a command line asks for. */
export interface CommandLine {
  readonly command: Command | "help" | "version";
  /** What the command is about: a directory, a URL, names. */
  readonly operands: readonly string[];
  readonly values: Values;
}

const COMMANDS: readonly Command[] = ["serve", "proxy", "cert", "trust"];

/** How many operands a command takes. */
const OPERANDS: Record<Command, { least: number; most: number; what: string }> = {
  serve: { least: 0, most: 1, what: "one directory" },
  proxy: { least: 1, most: 1, what: "the URL of one server" },
  cert: { least: 1, most: Infinity, what: "names, such as localhost" },
  trust: { least: 0, most: 0, what: "no arguments" },
};

/**
 * Reads a command line without the program's name; `httpsd DIR` is `httpsd serve DIR`.
 *
 * @throws {UsageError}
 */
export function parseCommandLine(args: readonly string[]): CommandLine {
  const { positionals, values } = parse(args);
  if (values.version) return { command: "version", operands: [], values };
  const [first] = positionals;
  const isCommand = COMMANDS.includes(first as Command);
  if (values.help || first === "help") return { command: "help", operands: [], values };
  const command = isCommand ? first as Command : "serve";
  const operands = isCommand ? positionals.slice(1) : positionals;
  for (const name of Object.keys(values) as OptionName[]) {
    const { of } = OPTIONS[name] as Option;
    if (of !== undefined && !of.includes(command)) {
      throw new UsageError(`--${name} is not for httpsd ${command}`);
    }
  }
  const { least, most, what } = OPERANDS[command];
  if (operands.length < least || operands.length > most) {
    throw new UsageError(`httpsd ${command} takes ${what}`);
  }
  return { command, operands, values };
}

function parse(args: readonly string[]): { positionals: string[]; values: Values } {
  const options = Object.fromEntries(
    Object.entries(OPTIONS as Record<string, Option>).map(([name, { value, short, multiple }]) => [
      name,
      {
        type: value === undefined ? "boolean" as const : "string" as const,
        ...(short !== undefined && { short }),
        ...(multiple === true && { multiple }),
      },
    ]),
  );
  try {
    const { positionals, values } = parseArgs({
      args: [...args],
      options,
      allowPositionals: true,
      strict: true,
    });
    return { positionals, values: values as Values };
  } catch (error) {
    throw new UsageError((error as Error).message.split(/[.\n]/, 1)[0]!);
  }
}

const USAGE = `httpsd: HTTPS for a directory or a server, in one command

  httpsd [serve] [DIR]     serve the files of DIR (default: this directory)
  httpsd proxy URL         put HTTPS before the server at URL
  httpsd cert NAME...      make a certificate that this machine's authority signs
  httpsd trust             have this machine's browsers trust that authority

`;

/** The text of `--help`. */
export function usage(): string {
  const lines = Object.entries(OPTIONS as Record<string, Option>).map(
    ([name, { value, short, of, about }]) => {
      const written = `${short === undefined ? "   " : `-${short},`} --${name}${
        value === undefined ? "" : ` ${value}`
      }`;
      const only = of?.length === 1 ? ` (${of[0]})` : "";
      return `  ${written.padEnd(27)} ${about}${only}`;
    },
  );
  return `${USAGE}${lines.join("\n")}\n`;
}

/**
 * A port.
 *
 * @throws {UsageError}
 */
export function portOf(text: string, option = "port"): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(text) && port <= 65_535) return port;
  throw new UsageError(`--${option} is a number from 0 to 65535, not ${JSON.stringify(text)}`);
}

/**
 * How many workers there are to be.
 *
 * @throws {UsageError}
 */
export function workersOf(text: string): number | "auto" {
  if (text === "auto") return text;
  if (/^[1-9]\d{0,2}$/.test(text)) return Number(text);
  throw new UsageError(`--workers is a number from 1 to 999 or auto, not ${JSON.stringify(text)}`);
}
