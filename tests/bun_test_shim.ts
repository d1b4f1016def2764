/**
 * Just enough of `bun:test` for `deno test`: deno.json maps the one to the other, so that every
 * test file runs unchanged under both. Assertions come from `node:assert/strict`.
 *
 * @module
 */

type Body = () => void | Promise<void>;

let defaultTimeoutMs = 5_000; // as bun test has it

const path: string[] = [];

/** Names a group of tests; hooks belong to the file, not to the group. */
export function describe(name: string, body: () => void): void {
  path.push(name);
  try {
    body();
  } finally {
    path.pop();
  }
}

/** Sets what tests may take that are registered from now on. */
export function setDefaultTimeout(ms: number): void {
  defaultTimeoutMs = ms;
}

/** Registers a test that fails when it takes longer than `timeoutMs`. */
export function test(name: string, body: Body, timeoutMs: number = defaultTimeoutMs): void {
  Deno.test({
    name: [...path, name].join(" > "),
    fn: () => withTimeout(body, timeoutMs),
    // The server under test owns sockets and timers across tests; leaks are tested on purpose.
    sanitizeOps: false,
    sanitizeResources: false,
    sanitizeExit: false,
  });
}
/** Runs once before the tests of the file, however long it takes: `_timeoutMs` is for Bun. */
export function beforeAll(body: Body, _timeoutMs?: number): void {
  Deno.test.beforeAll(body);
}

/** Runs once after the tests of the file. */
export function afterAll(body: Body): void {
  Deno.test.afterAll(body);
}

/** Runs before each test of the file. */
export function beforeEach(body: Body): void {
  Deno.test.beforeEach(body);
}

/** Runs after each test of the file. */
export function afterEach(body: Body): void {
  Deno.test.afterEach(body);
}

async function withTimeout(body: Body, timeoutMs: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Test took longer than ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    await Promise.race([body(), timeout]);
  } finally {
    clearTimeout(timer);
  }
}
