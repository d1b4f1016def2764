/**
 * The fuzzer: changes known inputs at random but from a seed, feeds them to what meets foreign bytes,
 * and holds it to four promises: nothing is thrown but its own refusals, the cut changes nothing, the
 * work is linear, and what is kept of an endless input is bounded. None may hang: see watchdog.ts.
 *
 * A target that breaks one is reported with an input that was made as small as it could be; that
 * goes to tests/cases/fuzz.json, which every run begins with.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import process from "node:process";
import { expand, type Text } from "../cases_loader.ts";
import { countCpu, heapMiB } from "../support.ts";
import { Random } from "../random.ts";
import { Watchdog } from "./watchdog.ts";

/** Something that takes bytes as they come. */
export interface Reading {
  /** Takes a piece, which belongs to it from now on; false when it wants no more. */
  push(piece: Uint8Array<ArrayBuffer>): boolean;
  /** All that came out so far, in words that do not depend on how the input was cut. */
  said(): string;
}

/** A parser that takes bytes as they come. */
export interface StreamTarget {
  /** What `npm run fuzz` knows it by, and its entry in tests/cases/fuzz.json. */
  readonly name: string;
  /** Inputs to begin with, right and wrong ones. */
  readonly corpus: readonly Uint8Array[];
  /** What is dangerous here, in Latin-1; put in at random places. */
  readonly tokens: readonly string[];
  /** Beginnings of what `said()` gives that a run must meet: proof that the inputs reach far. */
  readonly reaches: readonly RegExp[];
  /** The most bytes that one reader may keep of an endless input. */
  readonly keptBytes: number;
  /** Makes a reader. */
  open(): Reading;
}

/** A function that reads a text, such as the value of a field. */
export interface TextTarget {
  readonly name: string;
  readonly corpus: readonly string[];
  readonly tokens: readonly string[];
  readonly reaches: readonly RegExp[];
  /** Reads the text, one character per byte, and says what it is; throws where that breaks a promise. */
  read(text: string): string | Promise<string>;
}

/** What can be fuzzed. */
export type FuzzTarget = StreamTarget | TextTarget;

/** What a run came to. */
export interface FuzzReport {
  /** How many inputs were tried. */
  readonly inputs: number;
  /** How many different things were said, of up to 10,000. */
  readonly outcomes: number;
}

/** Bytes that matter to most grammars. */
const BYTES = Buffer.from(
  "\0\x01\x02\x03\x05\t\n\v\r\x16 !\"#%&'()*+,-./0129:;<=>?@AFZ[\\]^_az{|}~\x7f\x80\xc0\xe2\xf0\xfe\xff",
  "latin1",
);
const MAX_INPUT_BYTES = 2_048;

/** How long the inputs are by which the work is measured. */
const LONG_BYTES = 64 * 1024;
/**
 * The most CPU time for one of them: a linear reader takes a few ms, even cut into single bytes on a
 * slow machine; a quadratic one takes seconds.
 */
const LONG_MS = 500;
/** Within so many inputs all that a target names must have been reached, however slow the machine. */
const ENOUGH = 30_000;

/** The share of the time that goes to long inputs. */
const WORK_SHARE = 0.3;

/** How many readers are fed an endless input, and how much of it. */
const READERS = 24;
const ENDLESS_BYTES = 192 * 1024;

/** How long an input may take before the process is ended as one that hangs, in ms. */
const HANG_MS = 60_000;

/** What a run is held to. */
export interface FuzzLimits {
  /** The most CPU time that a reader may take for a long input, in ms. */
  readonly longMs?: number;
  /** The most time that any input may take, in ms; then the process is ended. */
  readonly hangMs?: number;
}

/**
 * Fuzzes `target` for `ms` from `seed`. Each input depends on the seed and its place alone, so that a
 * run can be repeated on a machine of another speed.
 *
 * @throws {Error} which names the broken promise, the seed and a small input
 */
export async function fuzz(
  target: FuzzTarget,
  seed: number,
  ms: number,
  { longMs = LONG_MS, hangMs = HANG_MS }: FuzzLimits = {},
): Promise<FuzzReport> {
  const watchdog = new Watchdog(`Target ${target.name} (seed ${seed}) hangs`, hangMs);
  try {
    return await run(target, seed, ms, longMs, watchdog);
  } finally {
    await watchdog.stop();
  }
}

async function run(
  target: FuzzTarget,
  seed: number,
  ms: number,
  longMs: number,
  watchdog: Watchdog,
): Promise<FuzzReport> {
  const known = knownCrashes(target.name);
  const corpus = [...seedsOf(target), ...known.filter(({ length }) => length <= MAX_INPUT_BYTES)];
  const missing = new Set(target.reaches);
  const checkLong = checkWork(longMs);
  const outcomes = new Set<string>();
  let inputs = 0;
  const attempt = async (input: Input, check: Check, random: Random): Promise<void> => {
    inputs++;
    const bytes = bytesOf(input);
    try {
      const said = await check(target, bytes, random);
      for (const pattern of missing) if (pattern.test(said)) missing.delete(pattern);
      if (outcomes.size < 10_000) outcomes.add(said);
    } catch (cause) {
      const small = "unit" in input ? input : await minimize(target, bytes, check);
      throw new Error(
        `Target ${target.name} (seed ${seed}, input ${inputs}): ${(cause as Error).message}\n` +
          `Add to tests/cases/fuzz.json: ${asCase(target.name, small)}`,
        { cause },
      );
    }
  };
  /** What input number `n` of a stream is made with. */
  const begin = (stream: number, n: number): Random => {
    watchdog.begins(stream, n);
    return new Random(seed + Math.imul(4 * n + stream, 0x9e3779b1));
  };
  for (const [n, bytes] of [...corpus, ...known].entries()) {
    await attempt(bytes, bytes.length > MAX_INPUT_BYTES ? checkLong : checkCuts, begin(0, n));
  }
  if ("open" in target) checkKept(target, corpus, begin(1, 0));
  const start = performance.now();
  let working = 0;
  const isShort = (n: number) => missing.size > 0 && n < ENOUGH;
  for (let [n, long] = [0, 0]; performance.now() - start < ms || isShort(n);) {
    for (let i = 0; i < 16; i++, n++) {
      const random = begin(2, n);
      await attempt(mutate(corpus, target.tokens, random), checkCuts, random);
    }
    const now = performance.now();
    if (working > WORK_SHARE * (now - start)) continue;
    const random = begin(3, long++);
    await attempt(stretch(corpus, target.tokens, random), checkLong, random);
    working += performance.now() - now;
  }
  if (missing.size > 0) {
    throw new Error(`Target ${target.name} (seed ${seed}): never reached ${[...missing]}`);
  }
  return { inputs, outcomes: outcomes.size };
}

/** Tries one input; throws when a promise is broken. */
type Check = (target: FuzzTarget, bytes: Uint8Array, random: Random) => string | Promise<string>;

const checkCuts: Check = async (target, bytes, random) => {
  if (!("open" in target)) {
    const text = Buffer.from(bytes).toString("latin1");
    const said = await target.read(text);
    assertSame(await target.read(text), said, "the second time"); // a pattern may keep its place
    return said;
  }
  const whole = feed(target, [bytes]);
  const at = random.below(bytes.length + 1);
  const halves = [bytes.subarray(0, at), bytes.subarray(at)];
  assertSame(feed(target, halves), whole, `cut at ${at}`);
  if (random.oneIn(8)) assertSame(feed(target, pieces(bytes, 1, random)), whole, "byte by byte");
  else if (random.oneIn(4)) {
    assertSame(feed(target, pieces(bytes, 1 + random.below(32), random)), whole, "in pieces");
  }
  return whole;
};

function assertSame(actual: string, expected: string, how: string): void {
  if (actual !== expected) {
    throw new Error(
      `Another result ${how}:\n${JSON.stringify(actual)}\n${JSON.stringify(expected)}`,
    );
  }
}

/** The best of three, so that a machine that does something else for a moment fails nothing. */
const checkWork = (longMs: number): Check => async (target, bytes, random) => {
  const size = random.oneIn(2) ? 1 : 1 + random.below(4_096);
  let least = Infinity;
  let said = "";
  for (let turn = 0; turn < 3 && least > longMs; turn++) {
    // Made before: byte by byte, copies cost more than readers.
    const given = "open" in target ? copies(pieces(bytes, size)) : [];
    const text = "open" in target ? "" : Buffer.from(bytes).toString("latin1");
    const cpuMs = countCpu();
    said = "open" in target ? feedThese(target, given) : await target.read(text);
    least = Math.min(least, cpuMs());
  }
  if (least > longMs) throw new Error(`${bytes.length} bytes took ${Math.round(least)} ms of CPU`);
  return said;
};

/** Feeds copies of the pieces to a new reader, and gives what it said. */
function feed(target: StreamTarget, all: Iterable<Uint8Array>): string {
  return feedThese(target, copies(all));
}

/** Feeds pieces, which the reader may change, to a new reader, and gives what it said. */
function feedThese(target: StreamTarget, all: readonly Uint8Array<ArrayBuffer>[]): string {
  const reading = target.open();
  for (const piece of all) if (!reading.push(piece)) break;
  return reading.said();
}

function copies(all: Iterable<Uint8Array>): Uint8Array<ArrayBuffer>[] {
  return Array.from(all, (piece) => new Uint8Array(piece));
}

/** Pieces of `size` bytes, or of 1 to `size` where chance decides. */
function* pieces(bytes: Uint8Array, size: number, random?: Random): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length;) {
    const length = random === undefined ? size : 1 + random.below(size);
    yield bytes.subarray(at, at + length);
    at += length;
  }
}

/** Feeds endless inputs to many readers that live on, and looks at the memory. */
function checkKept(target: StreamTarget, corpus: readonly Uint8Array[], random: Random): void {
  const input = stretch(corpus, target.tokens, random, ENDLESS_BYTES);
  const bytes = bytesOf(input);
  feed(target, pieces(bytes, 64)); // what is made once is not a reader's
  const before = takenMiB();
  const readings = Array.from({ length: READERS }, () => target.open());
  for (const reading of readings) {
    for (const piece of pieces(bytes, 64)) if (!reading.push(Uint8Array.from(piece))) break;
  }
  const kept = (takenMiB() - before) * 2 ** 20 / readings.length;
  if (kept <= target.keptBytes + SLACK_BYTES) return;
  throw new Error(`A reader keeps ${Math.round(kept)} bytes of ${asCase(target.name, input)}`);
}

/** What the runtime's own book-keeping may add to one of the readers. */
const SLACK_BYTES = 64 * 1024;

function takenMiB(): number {
  return heapMiB() + process.memoryUsage().arrayBuffers / 2 ** 20;
}

function seedsOf(target: FuzzTarget): Uint8Array[] {
  return target.corpus.map((item) => typeof item === "string" ? Buffer.from(item, "latin1") : item);
}

/** The inputs that have broken a target once. */
function knownCrashes(name: string): Uint8Array[] {
  const file = new URL("../cases/fuzz.json", import.meta.url);
  const { cases } = JSON.parse(readFileSync(file, "utf8")) as {
    cases: { target: string; input: Text }[];
  };
  return cases.filter(({ target }) => target === name)
    .map(({ input }) => Buffer.from(expand(input), "latin1"));
}

/** A known input with one to four changes. */
export function mutate(
  corpus: readonly Uint8Array[],
  tokens: readonly string[],
  random: Random,
): Uint8Array {
  let bytes: Uint8Array = Buffer.from(random.pick(corpus));
  for (let changes = 1 + random.below(4); changes > 0; changes--) {
    bytes = change(bytes, corpus, tokens, random);
  }
  return bytes.subarray(0, MAX_INPUT_BYTES);
}

function change(
  bytes: Uint8Array,
  corpus: readonly Uint8Array[],
  tokens: readonly string[],
  random: Random,
): Uint8Array {
  // Half of the time near the beginning, where most is decided.
  const at = random.below((random.oneIn(2) ? Math.min(bytes.length, 48) : bytes.length) + 1);
  const length = 1 + random.below(random.oneIn(4) ? 64 : 8);
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
  const token = () => Buffer.from(random.pick(tokens), "latin1");
  switch (random.below(11)) {
    case 0:
      return Buffer.concat([before, Buffer.of(random.pick(BYTES)), after]);
    case 1:
      return Buffer.concat([before, Buffer.of(random.pick(BYTES)), after.subarray(1)]);
    case 2:
      return Buffer.concat([before, token(), after]);
    case 3:
      return Buffer.concat([before, token(), after.subarray(length)]);
    case 4:
      return Buffer.concat([before, after.subarray(length)]);
    case 5:
      return Buffer.concat([before, after.subarray(0, length), after]);
    case 6: { // a bit, or a number that is one off
      const changed = Buffer.from(bytes);
      if (at < changed.length) {
        changed[at]! += random.pick([1, -1, 1 << random.below(8), random.below(256)]);
      }
      return changed;
    }
    case 7:
      return before;
    case 8: { // another input's end behind this one's beginning
      const other = random.pick(corpus);
      return Buffer.concat([before, other.subarray(random.below(other.length + 1))]);
    }
    case 9: { // a piece of another input in the middle
      const other = random.pick(corpus);
      const from = random.below(other.length + 1);
      return Buffer.concat([before, other.subarray(from, from + length), after]);
    }
    default:
      return Buffer.concat([bytes, random.pick(corpus)]);
  }
}

/** An input in which a small piece is repeated until it is long. */
interface Stretched {
  readonly before: Uint8Array;
  readonly unit: Uint8Array;
  readonly times: number;
  readonly after: Uint8Array;
}

type Input = Uint8Array | Stretched;

function bytesOf(input: Input): Uint8Array {
  if (!("unit" in input)) return input;
  const { before, unit, times, after } = input;
  return Buffer.concat([before, Buffer.alloc(times * unit.length, unit), after]);
}

/** Stretches a known input, or one that has been changed, at a place where something may begin. */
function stretch(
  corpus: readonly Uint8Array[],
  tokens: readonly string[],
  random: Random,
  total = LONG_BYTES,
): Input {
  const base = Buffer.from(random.oneIn(2) ? random.pick(corpus) : mutate(corpus, tokens, random));
  const token = () => Buffer.from(random.pick(tokens), "latin1");
  const mark = token();
  const found = random.oneIn(2) ? base.indexOf(mark) : -1;
  const at = found < 0 ? random.below(base.length + 1) : found + mark.length;
  const unit = random.pick([
    token,
    () => Buffer.of(random.pick(BYTES)),
    () => Buffer.of(random.pick(BYTES)),
    () => base.subarray(at, at + 1 + random.below(24)),
  ])();
  if (unit.length === 0) return base;
  const times = Math.ceil(total / unit.length);
  return { before: base.subarray(0, at), unit, times, after: base.subarray(at) };
}

/** An input as an entry of tests/cases/fuzz.json. */
function asCase(target: string, input: Input): string {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
  if (!("unit" in input)) return JSON.stringify({ target, input: text(input) });
  const { before, unit, times, after } = input;
  const repeat = { repeat: text(unit), times };
  return JSON.stringify({ target, input: [text(before), repeat, text(after)] });
}

/** Leaves out what the failure does not need. */
async function minimize(target: FuzzTarget, bytes: Uint8Array, check: Check): Promise<Uint8Array> {
  const until = performance.now() + 2_000;
  let small: Uint8Array = bytes;
  for (let size = small.length >> 1; size >= 1; size >>= 1) {
    for (let at = 0; at < small.length && performance.now() < until;) {
      const shorter = Buffer.concat([small.subarray(0, at), small.subarray(at + size)]);
      if (await fails(target, shorter, check)) small = shorter;
      else at += size;
    }
  }
  return small;
}

/** Whether an input breaks a promise in one of several cuts. */
async function fails(target: FuzzTarget, bytes: Uint8Array, check: Check): Promise<boolean> {
  try {
    for (let seed = 1; seed <= 12; seed++) await check(target, bytes, new Random(seed));
    return false;
  } catch {
    return true;
  }
}
