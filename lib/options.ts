/**
 * How options are checked, in every function that takes some: strictly, at once, and in words that
 * name the function, the option, what was given and what is allowed. A name that is not known gets
 * the one that was meant.
 *
 * The messages of a schema are predicates. What was given is put before "must be …"; anything else,
 * such as "is not known: …", follows the option's name as it is. What is checked by `v.custom` alone
 * spares an edge app the library's other schemas.
 *
 * @module
 */
import * as v from "valibot";
import { ConfigError } from "./errors.ts";

/** What to say about a name that is not known here, as a predicate; `undefined`: nothing special. */
export type Advice = (name: string) => string | undefined;

/** The message of an object's own issues. */
type ObjectMessage = (issue: v.StrictObjectIssue) => string;

/** A schema that takes the named members and no others. */
export type Members<E extends v.ObjectEntries> = v.SchemaWithPipe<
  readonly [
    v.CustomSchema<
      v.InferInput<v.StrictObjectSchema<E, ObjectMessage>>,
      v.ErrorMessage<v.CustomIssue> | undefined
    >,
    v.StrictObjectSchema<E, ObjectMessage>,
  ]
>;

/** What messages about an object's members say. */
export interface MembersWords {
  /** What to say about names of other libraries. */
  readonly advice?: Advice;
  /** What the whole must be. */
  readonly shape?: string;
  /** The members that are groups of options, with the names in them, which are often written outside. */
  readonly groups?: Groups;
  /** Names of members that are taken before the check, which may be meant by others. */
  readonly others?: readonly string[];
}

/** Makes a schema of an object with these members and no others. */
export function members<E extends v.ObjectEntries>(
  entries: E,
  { advice, shape = shapeOf(Object.keys(entries)), groups = {}, others = [] }: MembersWords = {},
): Members<E> {
  const names = () => [ // made where one is wrong: servers start with hundreds of checks
    ...[...Object.keys(entries), ...others].map((name): KnownName => ({ name, written: name })),
    ...Object.entries(groups).flatMap(([group, inside]) =>
      inside.map((name): KnownName => ({ name, written: `${group}: { ${name} }` }))
    ),
  ];
  const message: ObjectMessage = ({ expected, input }) => {
    if (expected === "never") return unknownName(String(input), names(), advice);
    return input === undefined ? "is missing: give it" : `must be ${shape}`;
  };
  return v.pipe(
    v.custom<v.InferInput<v.StrictObjectSchema<E, ObjectMessage>>>(isPlain, `must be ${shape}`),
    v.strictObject(entries, message),
  );
}

/**
 * Checks what a function was given as its options; `callee` is what messages call the function, and
 * empty where the options need no further name.
 *
 * @returns what the schema makes of them: a copy, with the defaults
 * @throws {ConfigError} `INVALID_CONFIG` naming the function, the option, what was given and what is
 * allowed; `NOT_SUPPORTED` where the schema's message begins with "is not supported"
 */
export function checkOptions<S extends v.GenericSchema>(
  callee: string,
  schema: S,
  options: unknown,
): v.InferOutput<S> {
  const result = v.safeParse(schema, options, { abortPipeEarly: true, message: UNNAMED });
  if (result.success) return result.output;
  const { issues } = result;
  const issue = issues.find(({ message }) => message.startsWith("is not known")) ?? issues[0];
  const { message, input } = issue;
  const name = v.getDotPath(issue);
  if (name === null) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `Options${of(callee)} ${message}, not ${shown(input)}`,
    );
  }
  throw optionError(
    callee,
    name,
    message.startsWith("must ") ? `is ${shown(input)}: it ${message}` : message,
    message.startsWith("is not supported") ? "NOT_SUPPORTED" : "INVALID_CONFIG",
  );
}

/** The error of an option that cannot be used; `problem` is a predicate. */
export function optionError(
  callee: string,
  name: string,
  problem: string,
  code: "INVALID_CONFIG" | "NOT_SUPPORTED" = "INVALID_CONFIG",
): ConfigError {
  return new ConfigError(code, `Option ${name}${of(callee)} ${problem}`);
}

function of(callee: string): string {
  return callee === "" ? "" : ` of ${callee}`;
}

/** What a schema without words of its own says; the library's words are not for users. */
const UNNAMED = "must be as the documentation says";

/** Names that are not known here, and what to write in their place; or what makes such a table. */
export type NameTable = Readonly<Record<string, string>> | (() => Readonly<Record<string, string>>);

/** The advice of tables of names; they are looked at where a name is not known. */
export function adviceFrom(...tables: readonly NameTable[]): Advice {
  return (name) => {
    const found = tables.map((table) => typeof table === "function" ? table() : table)
      .findLast((table) => Object.hasOwn(table, name));
    return found && `is not known here: ${found[name]}`;
  };
}

/** Groups of options, with the names in each. */
export type Groups = Readonly<Record<string, readonly string[]>>;

/**
 * The advice inside a group: where a name belongs that is of another group, or goes beside the
 * groups.
 */
export function adviceInGroup(
  groups: Groups,
  isBeside: (name: string) => boolean,
  otherwise: Advice,
): Advice {
  return (name) => {
    const home = Object.keys(groups).find((group) => groups[group]!.includes(name));
    if (home !== undefined) return `is not known here: write ${home}: { ${name} }`;
    return isBeside(name)
      ? "is not known here: write it beside the groups, not inside"
      : otherwise(name);
  };
}

/** A whole number in a range, which may end with `Infinity`. */
export function number(what: string, least: number, most: number): v.GenericSchema<number> {
  const range = most === Infinity ? `${least} or more` : `${least} to ${most}`;
  const message = `must be ${what}, ${range}`;
  return v.custom<number>(
    (value) =>
      (value === Infinity || Number.isInteger(value)) && value as number >= least &&
      value as number <= most,
    message,
  );
}

/** The longest time that timers take, in ms. */
export const LONGEST_MS = 2 ** 31 - 1;

/** A time of a timer, in ms. */
export const milliseconds = (least = 1): v.GenericSchema<number> =>
  number("a time in ms", least, LONGEST_MS);

/** A time in ms that may be endless. */
export const endlessMs: v.GenericSchema<number> = number("a time in ms, or Infinity", 1, Infinity);

/** A size in bytes. */
export const bytes = (least = 1, most = Infinity): v.GenericSchema<number> =>
  number("a size in bytes", least, most);

/** How many of something. */
export const count = (least = 1, most = Infinity): v.GenericSchema<number> =>
  number("a count", least, most);

/** `true` or `false`, and nothing that only looks like it. */
export const yesOrNo: v.GenericSchema<boolean> = v.custom<boolean>(
  (value) => typeof value === "boolean",
  "must be true or false",
);

/** Text that `must` be something more. */
export const string = (must: string): v.GenericSchema<string> =>
  v.custom<string>((value) => typeof value === "string", must);

/** Text. */
export const text: v.GenericSchema<string> = string("must be text");

/** A function. */
export function callback<T>(): v.GenericSchema<T> {
  return v.custom<T>((value) => typeof value === "function", "must be a function");
}

/** A time of a timer, in ms, that may be left out. */
export const duration = (fallback: number, least = 1) => v.optional(milliseconds(least), fallback);

/** A time in ms, or `Infinity`, that may be left out. */
export const endless = (fallback: number) => v.optional(endlessMs, fallback);

/** A size in bytes that may be left out. */
export const size = (fallback: number, least = 1, most = Infinity) =>
  v.optional(bytes(least, most), fallback);

/** How many of something; may be left out. */
export const many = (fallback: number, least = 1, most = Infinity) =>
  v.optional(count(least, most), fallback);

/** A rate in bytes per second, 0 for any; may be left out. */
export const rate = (fallback: number) =>
  v.optional(number("bytes per second", 0, LONGEST_MS), fallback);

/** `true` or `false`, or left out. */
export const flag = (fallback: boolean) => v.optional(yesOrNo, fallback);

/** A function that may be left out. */
export const hook = <T>() => v.optional(callback<T>());

/** Anything that is there at all: what another room checks when it uses it. */
export function given<T>(what: string): v.GenericSchema<T> {
  return v.custom<T>((value) => value !== undefined && value !== null, `must be ${what}`);
}

/** One of some words. */
export function oneOf<const T extends string>(...words: readonly T[]): v.GenericSchema<T> {
  const names = words.map((word) => `"${word}"`);
  const last = names.pop();
  const message = `must be ${names.length > 0 ? `${names.join(", ")} or ` : ""}${last}`;
  return v.custom<T>((value) => words.includes(value as T), message);
}

/** One schema or another, by what is given. */
export function either<A, B>(
  isFirst: (value: unknown) => boolean,
  first: v.GenericSchema<A>,
  second: v.GenericSchema<B>,
): v.GenericSchema<A | B> {
  return v.lazy((value: unknown): v.GenericSchema<A | B> => isFirst(value) ? first : second);
}

/** Whether something is a function's options: no array, promise, map or other thing of the platform. */
export function isPlain(value: unknown): value is object {
  if (typeof value !== "object" || value === null) return false;
  const tag = Object.prototype.toString.call(value);
  return tag === "[object Object]" || tag === "[object Module]";
}

/**
 * A copy without the members that are `undefined`, which count as left out. What an object inherits
 * it has: an option of a class, or of defaults below, that is not copied would be ignored.
 */
export function withoutUndefined<T>(options: T): T {
  if (!isPlain(options)) return options;
  return Object.fromEntries(
    [...namesIn(options)]
      .map((name) => [name, (options as Record<string, unknown>)[name]] as const)
      .filter(([, value]) => value !== undefined),
  ) as T;
}

/** The names of an object's members: its own, those that it inherits, and its class's accessors. */
function namesIn(options: object): Set<string> {
  const names = new Set<string>();
  for (const name in options) names.add(name);
  let above: object | null = Object.getPrototypeOf(options);
  // What has nothing above it is Object.prototype, of this realm or another.
  for (; above !== null; above = Object.getPrototypeOf(above)) {
    if (Object.getPrototypeOf(above) === null) break;
    for (const [name, { get }] of Object.entries(Object.getOwnPropertyDescriptors(above))) {
      if (get !== undefined) names.add(name);
    }
  }
  return names;
}

/** A value as messages may show it: short, and without secrets that may be in a string. */
export function shown(value: unknown): string {
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") return value instanceof Promise ? "a promise" : "an object";
  return `a ${typeof value}`;
}

const MOST_LISTED = 12;

/** A name that may be meant, and how it is written. */
interface KnownName {
  readonly name: string;
  readonly written: string;
}

function unknownName(
  name: string,
  known: readonly KnownName[],
  advice: Advice | undefined,
): string {
  const inside = known.find((candidate) => candidate.name === name);
  if (inside !== undefined) return `is not known here: write ${inside.written}`;
  const advised = advice?.(name);
  if (advised !== undefined) return advised;
  const meant = nearest(name, known.map((candidate) => candidate.name));
  if (meant !== undefined) {
    return `is not known: did you mean ${known.find(({ name }) => name === meant)!.written}?`;
  }
  return known.length > MOST_LISTED
    ? "is not known: leave it out"
    : `is not known: use ${known.map(({ written }) => written).join(", ")}`;
}

/** What an object looks like whose members have these names. */
function shapeOf(names: readonly string[]): string {
  return names.length > 4 ? `{ ${names.slice(0, 3).join(", ")}, … }` : `{ ${names.join(", ")} }`;
}

/**
 * Refuses a listener for an event that is none of the `known`, which would never be called, and one
 * that cannot be called.
 *
 * @throws {ConfigError} `INVALID_CONFIG`
 */
export function assertListener(type: unknown, listener: unknown, known: readonly string[]): void {
  if (typeof type !== "string" || !known.includes(type)) {
    const meant = typeof type === "string" ? nearest(type, known) : undefined;
    throw new ConfigError(
      "INVALID_CONFIG",
      `There is no event ${typeof type === "string" ? JSON.stringify(type) : shown(type)}: ${
        meant === undefined ? `use ${known.join(", ")}` : `did you mean ${meant}?`
      }`,
    );
  }
  const { handleEvent } = Object(listener) as { handleEvent?: unknown };
  if (typeof listener === "function" || typeof handleEvent === "function") return;
  throw new ConfigError(
    "INVALID_CONFIG",
    `The listener for ${type} is ${
      shown(listener)
    }: give a function, or an object with handleEvent`,
  );
}

/** The known name that was most likely meant. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  const wanted = plainName(name);
  let least = Math.max(1, Math.floor(wanted.length / 3)) + 0.5;
  let meant: string | undefined;
  for (const candidate of known) {
    const other = plainName(candidate);
    const longer = Math.abs(wanted.length - other.length); // so many letters to change at the least
    const begins = isBeginning(wanted, other);
    if (!begins && longer >= least) continue;
    const distance = begins ? 0.5 + longer / 100 : distanceOf(wanted, other);
    if (distance >= least) continue;
    least = distance;
    meant = candidate;
  }
  return meant;
}

/** A name without letter case, `_` and `-`, in which languages differ. */
function plainName(name: string): string {
  return name.toLowerCase().replaceAll(/[_-]/g, "");
}

function isBeginning(one: string, other: string): boolean {
  const [short, long] = one.length < other.length ? [one, other] : [other, one];
  return short !== long && short.length >= 4 && long.startsWith(short);
}

/** How many letters to change, add, leave out, or swap with their neighbour, until two are equal. */
function distanceOf(one: string, other: string): number {
  let before: number[] = [];
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      const same = one[i - 1] === other[j - 1];
      let least = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1]) {
        least = Math.min(least, before[j - 2]! + 1);
      }
      next.push(least);
    }
    [before, row] = [row, next];
  }
  return row[other.length]!;
}
