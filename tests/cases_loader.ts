/**
 * Loads the HTTP/1.1 wire cases of tests/cases/http1_*.json, so that the parser and the servers on
 * real sockets are held to the same; tests/cases/README.md describes the format.
 *
 * @module
 */
import { readdirSync, readFileSync } from "node:fs";
import { Buffer } from "node:buffer";

/** Text as the files hold it: one string, or parts of which some repeat. */
export type Text = string | (string | { repeat: string; times: number })[];

/** What a case expects of one request; what is left out may be anything, save body and trailers. */
export interface ExpectedRequest {
  method: string;
  target: string;
  minorVersion?: number;
  form?: string;
  path?: string;
  query?: string;
  host?: string | null;
  contentLength?: number | null;
  chunked?: boolean;
  keepAlive?: boolean;
  expectContinue?: boolean;
  upgrade?: boolean;
  /** All fields in order, names as sent. */
  fields?: [name: string, value: string][];
  body: string;
  trailers: [name: string, value: string][];
}

/** Bytes that a client sends on one connection, and what the server shall make of them. */
export interface HttpCase {
  /** The file's name without `.json`. */
  file: string;
  name: string;
  input: Uint8Array;
  /** Caps other than the defaults: members of `ParserLimits`. */
  limits: Record<string, number>;
  /** The requests that are complete before the error or the end of the input. */
  requests: ExpectedRequest[];
  error: { status: number; code: string } | undefined;
  /** Whether the input ends in the middle of a message. */
  incomplete: boolean;
}

interface RawRequest extends Omit<ExpectedRequest, "target" | "body" | "trailers"> {
  target: Text;
  body?: Text;
  trailers?: [name: string, value: Text][];
}

interface RawCase {
  name: string;
  input: Text;
  limits?: Record<string, number>;
  requests?: RawRequest[];
  error?: { status: number; code: string };
  incomplete?: boolean;
}

const directory = new URL("./cases/", import.meta.url);

/** Loads all cases of the files whose names start with `prefix`, in the order of the names. */
export function loadCases(prefix = "http1_"): HttpCase[] {
  return readdirSync(directory)
    .filter((name) => name.startsWith(prefix) && name.endsWith(".json"))
    .sort()
    .flatMap((name) => {
      const text = readFileSync(new URL(name, directory), "utf8");
      const { cases } = JSON.parse(text) as { cases: RawCase[] };
      return cases.map((raw) => readCase(name.replace(/\.json$/, ""), raw));
    });
}

function readCase(file: string, raw: RawCase): HttpCase {
  return {
    file,
    name: raw.name,
    input: Uint8Array.from(Buffer.from(expand(raw.input), "latin1")),
    limits: raw.limits ?? {},
    requests: (raw.requests ?? []).map((request) => ({
      ...request,
      target: expand(request.target),
      body: expand(request.body ?? ""),
      trailers: (request.trailers ?? []).map(([name, value]) => [name, expand(value)]),
    })),
    error: raw.error,
    incomplete: raw.incomplete ?? false,
  };
}

/** The text written out. */
export function expand(text: Text): string {
  if (typeof text === "string") return text;
  return text.map((part) => typeof part === "string" ? part : part.repeat.repeat(part.times))
    .join("");
}
