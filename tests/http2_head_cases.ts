/**
 * The cases of tests/cases/hpack.json and http2_heads.json, for the tests and for the fuzzer.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import type { RequestLimits } from "../lib/http2/request_reader.ts";
import { expand, type Text } from "./cases_loader.ts";
import type { Field } from "./http2_hpack.ts";

/** Names and values; a value may be long. */
export type Pairs = [name: string, value: Text][];

/** What a case expects that is refused. */
export interface Expected {
  fault?: string;
  error?: { status: number; code: string };
}

/** The fields of a request. */
export interface HeadCase extends Expected {
  name: string;
  pseudo?: Record<string, Text | null>;
  fields?: Pairs;
  list?: Pairs;
  endStream?: boolean;
  limits?: Record<string, unknown>;
  head?: Record<string, unknown> & { fields?: [string, string][] };
}

/** The trailer fields of a request. */
export interface TrailerCase extends Expected {
  name: string;
  fields: Pairs;
  trailers?: [string, string][];
}

/** The blocks of one connection. */
export interface Block {
  hex: string;
  fields: [name: string, value: string][];
  /** What the dynamic table holds behind it, the newest first. */
  table: [name: string, value: string][];
  /** The size of the table. */
  bytes: number;
}

/** Blocks that can be decoded, and those that cannot. */
export interface HpackCases {
  integers: { name: string; value: number; prefix: number; hex: string }[];
  series: { name: string; tableBytes?: number; blocks: Block[] }[];
  errors: { name: string; blocks: string[]; message: string }[];
}

/** Loads tests/cases/hpack.json. */
export function loadHpackCases(): HpackCases {
  return load("hpack") as HpackCases;
}

/** Loads tests/cases/http2_heads.json. */
export function loadHeadCases(): { heads: HeadCase[]; trailers: TrailerCase[] } {
  return load("http2_heads") as { heads: HeadCase[]; trailers: TrailerCase[] };
}

function load(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`./cases/${name}.json`, import.meta.url), "utf8"));
}

/** The limits of a case that names no others. */
export const LIMITS: RequestLimits = {
  maxTableBytes: 4_096,
  maxListBytes: 16_384,
  maxFields: 100,
  maxUriBytes: 8_192,
  maxBodyBytes: 1_000_000,
  maxTrailerBytes: 8_192,
  connectProtocol: true,
};

/** The pseudo-fields of a GET. */
export const PSEUDO = {
  ":method": "GET",
  ":scheme": "https",
  ":authority": "a.example",
  ":path": "/",
};

/** The list of a case: the pseudo-fields of a GET, changed, and the fields behind them. */
export function listOf({ pseudo = {}, fields = [], list }: HeadCase): Field[] {
  const all = list ?? [...Object.entries({ ...PSEUDO, ...pseudo }), ...fields];
  return all.flatMap(([name, value]) => value === null ? [] : [[name, expand(value)] as const]);
}

/** The limits of a case. */
export function limitsOf({ limits = {} }: HeadCase): RequestLimits {
  const given = Object.entries(limits).map(([name, value]) => [name, value ?? Infinity]);
  return { ...LIMITS, ...Object.fromEntries(given) };
}
