/**
 * What a cluster's supervisor and its workers say to each other, and what a worker is started with.
 * Both sides check what they read: the program may use the same channel, and a worker may be broken.
 *
 * @module
 */
import * as v from "valibot";

/** The environment variable, or the name in `workerData`, that makes a process or thread a worker. */
export const WORKER_VARIABLE = "HTTPSD_WORKER";

/** Marks our messages among the program's own on the same channel. */
const MARK = "cluster";

const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535));
const smallCount = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(4_095));
const ms = v.pipe(v.number(), v.minValue(0), v.maxValue(2 ** 31 - 1));
const marked = { httpsd: v.literal(MARK) };

const TO_SUPERVISOR = v.variant("type", [
  v.strictObject({ ...marked, type: v.literal("listening"), nth: smallCount, port }),
  v.strictObject({ ...marked, type: v.literal("ready") }),
  v.strictObject({ ...marked, type: v.literal("beat") }),
  v.strictObject({ ...marked, type: v.literal("draining") }),
  v.strictObject({
    ...marked,
    type: v.literal("failed"),
    code: v.optional(v.pipe(v.string(), v.maxLength(100))),
    message: v.pipe(v.string(), v.maxLength(10_000)),
  }),
]);

const TO_WORKER = v.variant("type", [
  v.strictObject({ ...marked, type: v.literal("drain"), drainMs: ms }),
]);

const START = v.strictObject({
  id: v.pipe(v.number(), v.integer(), v.minValue(1)),
  index: smallCount,
  of: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(4_096)),
  ports: v.record(v.pipe(v.string(), v.regex(/^\d{1,4}$/)), port),
  drainMs: ms,
  beatMs: ms,
  nameLogs: v.boolean(),
});

/** What a worker says. */
export type ToSupervisor = Unmarked<v.InferOutput<typeof TO_SUPERVISOR>>;

/** What the supervisor says. */
export type ToWorker = Unmarked<v.InferOutput<typeof TO_WORKER>>;

/** What a worker is started with. */
export interface WorkerStart {
  /** Its number. */
  readonly id: number;
  /** Which of the workers it is, from 0. */
  readonly index: number;
  /** How many workers there are. */
  readonly of: number;
  /** The ports that the system has chosen, by the number of the server. */
  readonly ports: Readonly<Record<string, number>>;
  /** How long requests under way may take when it drains by itself, in ms. */
  readonly drainMs: number;
  /** How often it says that it is alive, in ms; 0: never. */
  readonly beatMs: number;
  /** Whether the lines of its `console` begin with its name. */
  readonly nameLogs: boolean;
}

type Unmarked<T> = T extends unknown ? Omit<T, "httpsd"> : never;

/** Makes a message of ours of what one side says. */
export function marking(message: ToSupervisor | ToWorker): object {
  return { httpsd: MARK, ...message };
}

/** What was read from a worker; `"foreign"`: the program's own; `undefined`: ours, but malformed. */
export function readFromWorker(message: unknown): ToSupervisor | "foreign" | undefined {
  return read(TO_SUPERVISOR, message);
}

/** What was read from the supervisor, in the same way. */
export function readFromSupervisor(message: unknown): ToWorker | "foreign" | undefined {
  return read(TO_WORKER, message);
}

function read<T>(schema: v.GenericSchema<unknown, T>, message: unknown): T | "foreign" | undefined {
  if (typeof message !== "object" || message === null) return "foreign";
  if ((message as { httpsd?: unknown }).httpsd !== MARK) return "foreign";
  const result = v.safeParse(schema, message);
  return result.success ? result.output : undefined;
}

/** Reads what a worker is started with; `undefined` when it is malformed. */
export function readStart(text: string): WorkerStart | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const result = v.safeParse(START, value);
  return result.success ? result.output : undefined;
}
