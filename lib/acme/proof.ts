/**
 * Proves the control of names: chooses a challenge of each authorization, has it answered, and waits
 * until the CA has seen it (RFC 8555 sections 7.5 and 8).
 *
 * @module
 */
import { createHash } from "node:crypto";
import { AcmeError, type AcmeProblem } from "../errors.ts";
import { isPlain } from "../options.ts";
import type { Account } from "./account.ts";
import { challengeCertificate } from "./csr.ts";
import { type Deadline, within } from "./deadline.ts";
import { objectOf, urlIn } from "./directory.ts";
import { isAddress, reverseName } from "./names.ts";
import { pollPause } from "./poll.ts";
import { problemOf, wordsOf } from "./problem.ts";
import { type Answer, badAnswer } from "./transport.ts";
import type {
  AcmeIdentifier,
  Challenge,
  ChallengeBase,
  ChallengeSolver,
  ChallengeType,
} from "./types.ts";

/** What is needed to prove names. */
export interface ProofContext {
  /** Who proves. */
  readonly account: Account;
  /** What can answer challenges. */
  readonly solvers: readonly ChallengeSolver[];
  /** When the order is given up, in ms since 1970. */
  readonly expires: number;
  /** Takes what goes wrong without failing the order. */
  readonly report: (error: AcmeError) => void;
}

/** A solver whose type nobody has to know. */
interface AnySolver {
  readonly type: ChallengeType;
  solves?(identifier: AcmeIdentifier, wildcard: boolean): boolean;
  set(challenge: Challenge, signal: AbortSignal): Promise<void> | void;
  remove(challenge: Challenge, signal: AbortSignal): Promise<void> | void;
  settled?(challenge: Challenge, signal: AbortSignal): Promise<void> | void;
}

/** What is to be done for one name. */
interface Task {
  readonly authorization: URL;
  readonly url: URL;
  readonly isWaiting: boolean;
  readonly solver: AnySolver;
  readonly challenge: Challenge;
}

/** How many requests are under way at once. */
const AT_ONCE = 5;

/** How long a solver may take to take its answer away, in ms. */
const REMOVE_MS = 10_000;

/** A token is part of a path and of file names; 128 bits at the least (RFC 8555 section 8.1). */
const TOKEN = /^[A-Za-z0-9_-]{22,256}$/;

/** Proves the control of `names`, as the authorizations at `urls` ask for it. */
export async function prove(
  urls: readonly URL[],
  names: readonly string[],
  context: ProofContext,
  deadline: Deadline,
): Promise<void> {
  const found = await eachOf(urls, AT_ONCE, (url) => taskOf(url, names, context, deadline));
  const tasks = found.filter((task) => task !== undefined);
  const begun: Task[] = [];
  try {
    for (const task of tasks) { // one by one: many DNS providers refuse changes at the same time
      begun.push(task);
      await solve(task, "set", deadline);
    }
    await eachOf(tasks, tasks.length, (task) => solve(task, "settled", deadline));
    await eachOf(tasks, AT_ONCE, (task) => finish(task, context, deadline));
  } finally {
    await eachOf(begun, begun.length, (task) => remove(task, context));
  }
}

/** The task of an authorization; `undefined` when it is valid already. */
async function taskOf(
  authorization: URL,
  names: readonly string[],
  { account, solvers, expires }: ProofContext,
  deadline: Deadline,
): Promise<Task | undefined> {
  const answer = await account.post({ url: authorization }, deadline);
  const content = objectOf(answer);
  const { identifier, wildcard } = identifierIn(answer, content, names);
  if (content["status"] === "valid") return undefined;
  if (content["status"] !== "pending") throw failed(answer, identifier);
  const offered = challengesIn(content);
  const solver = (solvers as readonly AnySolver[]).find((candidate) =>
    isSolver(candidate, identifier, wildcard) && offered.has(candidate.type)
  );
  if (solver === undefined) throw unsolved(identifier, wildcard, offered);
  const { url, token, status } = offered.get(solver.type)!;
  if (typeof token !== "string" || !TOKEN.test(token)) {
    throw badAnswer(answer.url, "gives a challenge without a token that can be used");
  }
  const { thumbprint } = await account.signer();
  const base = { identifier, token, keyAuthorization: `${token}.${thumbprint}`, expires };
  return {
    authorization,
    url: urlIn(answer, url, "a challenge"),
    isWaiting: status !== "processing",
    solver,
    challenge: await challengeOf(solver.type, base),
  };
}

/** The name that an authorization is for: one of those that were ordered. */
function identifierIn(
  answer: Answer,
  { identifier, wildcard }: Record<string, unknown>,
  names: readonly string[],
): { identifier: AcmeIdentifier; wildcard: boolean } {
  const { value } = isPlain(identifier) ? identifier as { value?: unknown } : {};
  const name = wildcard === true ? `*.${value}` : value;
  if (typeof value !== "string" || !names.includes(name as string)) {
    throw badAnswer(answer.url, "is for a name that was not ordered");
  }
  return {
    identifier: { type: isAddress(value) ? "ip" : "dns", value },
    wildcard: wildcard === true,
  };
}

function challengesIn({ challenges }: Record<string, unknown>): Map<string, Offer> {
  const offers = new Map<string, Offer>();
  for (const challenge of Array.isArray(challenges) ? challenges.slice(0, 20) : []) {
    if (!isPlain(challenge)) continue;
    const { type, status } = challenge as Offer;
    const isOpen = status === "pending" || status === "processing";
    if (typeof type === "string" && isOpen && !offers.has(type)) offers.set(type, challenge);
  }
  return offers;
}

/** A challenge, as the CA writes it. */
interface Offer {
  readonly type?: unknown;
  readonly url?: unknown;
  readonly token?: unknown;
  readonly status?: unknown;
  readonly error?: unknown;
}

function isSolver(solver: AnySolver, identifier: AcmeIdentifier, wildcard: boolean): boolean {
  const isDefined = solver.type === "dns-01" ? identifier.type === "dns" : !wildcard;
  if (!isDefined || solver.solves === undefined) return isDefined;
  try {
    return solver.solves(identifier, wildcard) === true;
  } catch (cause) {
    throw solverFailed(solver.type, "solves", identifier, cause);
  }
}

function unsolved(
  { value }: AcmeIdentifier,
  wildcard: boolean,
  offered: ReadonlyMap<string, unknown>,
): AcmeError {
  const known = ["http-01", "tls-alpn-01", "dns-01"].filter((type) => offered.has(type));
  return new AcmeError(
    "ACME_NO_SOLVER",
    `No solver proves ${wildcard ? "*." : ""}${value}: give one of type ${known.join(" or ")}`,
  );
}

async function challengeOf(type: ChallengeType, base: ChallengeBase): Promise<Challenge> {
  const { identifier: { type: kind, value }, token, keyAuthorization } = base;
  if (type === "http-01") return { ...base, type, path: `/.well-known/acme-challenge/${token}` };
  if (type === "tls-alpn-01") {
    const serverName = kind === "ip" ? reverseName(value) : value;
    return { ...base, type, serverName, ...await challengeCertificate(value, keyAuthorization) };
  }
  const recordValue = createHash("sha256").update(keyAuthorization).digest("base64url");
  return { ...base, type, recordName: `_acme-challenge.${value}`, recordValue };
}

/** Calls the solver of a task. */
async function solve(
  { solver, challenge }: Task,
  step: "set" | "settled" | "remove",
  deadline: Deadline,
): Promise<void> {
  if (solver[step] === undefined) return;
  deadline.signal.throwIfAborted();
  const work = (async () => await solver[step]!(challenge, deadline.signal))();
  await deadline.race(work.catch((cause) => {
    deadline.signal.throwIfAborted(); // it gave up because it had to
    throw solverFailed(solver.type, step, challenge.identifier, cause);
  }));
}

function solverFailed(
  type: ChallengeType,
  step: string,
  { value }: AcmeIdentifier,
  cause: unknown,
): AcmeError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new AcmeError(
    "ACME_SOLVER_FAILED",
    `The ${type} solver's ${step}() failed for ${value}: ${why}`,
    { cause },
  );
}

/** Takes an answer away, also when the order is over: in a time of its own. */
async function remove(task: Task, { report }: ProofContext): Promise<void> {
  const { solver: { type }, challenge: { identifier } } = task;
  const fail = (cause: unknown) => report(solverFailed(type, "remove", identifier, cause));
  try {
    await within(REMOVE_MS, "It", undefined, (deadline) => solve(task, "remove", deadline), fail);
  } catch (error) {
    if (error instanceof AcmeError && error.code === "ACME_SOLVER_FAILED") report(error);
    else fail(error);
  }
}

/** Tells the CA that it can look, and waits until it has. */
async function finish(
  { authorization, url, isWaiting, challenge }: Task,
  { account }: ProofContext,
  deadline: Deadline,
): Promise<void> {
  if (isWaiting) await account.post({ url, payload: {} }, deadline);
  for (let tries = 0;; tries++) {
    const answer = await account.post({ url: authorization }, deadline);
    const { status } = objectOf(answer);
    if (status === "valid") return;
    if (status !== "pending") throw failed(answer, challenge.identifier);
    await deadline.sleep(pollPause(answer, tries, Date.now()));
  }
}

/** The error of an authorization that will never be valid. */
function failed(answer: Answer, { value }: AcmeIdentifier): AcmeError {
  const { status, challenges } = objectOf(answer);
  const problem = (Array.isArray(challenges) ? challenges.slice(0, 20) : [])
    .map((challenge: Offer | null): AcmeProblem | undefined => problemOf(challenge?.error))
    .find((found) => found !== undefined);
  const why = problem === undefined ? `the authorization is ${status}` : wordsOf(problem);
  return new AcmeError("ACME_CHALLENGE_FAILED", `The CA could not verify ${value}: ${why}`, {
    problem,
  });
}

/** Calls `work` for each item, some at once; rejects with the first failure, and begins no more. */
async function eachOf<T, R>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  let isFailed = false;
  const worker = async () => {
    while (next < items.length && !isFailed) {
      const index = next++;
      try {
        results[index] = await work(items[index]!);
      } catch (error) {
        isFailed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return results;
}
