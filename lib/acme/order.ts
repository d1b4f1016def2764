/**
 * An order, from its names to the chain (RFC 8555 section 7.4).
 *
 * @module
 */
import { AcmeError, ConfigError } from "../errors.ts";
import type { Account } from "./account.ts";
import {
  assertOrdered,
  type Chain,
  CHAIN_TYPE,
  chainOf,
  pemOf,
  topIssuer,
  validityOf,
} from "./chain.ts";
import { requestFor } from "./csr.ts";
import type { Deadline } from "./deadline.ts";
import { objectOf, urlIn } from "./directory.ts";
import { linksOf } from "./link.ts";
import { identifierOf, orderedNames } from "./names.ts";
import { pollPause } from "./poll.ts";
import { isProblem, problemOf, wordsOf } from "./problem.ts";
import { prove } from "./proof.ts";
import { certificateId } from "./renewal_info.ts";
import type { Requests } from "./requests.ts";
import { type Answer, badAnswer } from "./transport.ts";
import type { AcmeCertificate, OrderOptions } from "./types.ts";

/** Where an order is made. */
export interface OrderContext {
  /** The CA. */
  readonly requests: Requests;
  /** Who orders. */
  readonly account: Account;
  /** When the order is given up, in ms since 1970. */
  readonly expires: number;
  /** Takes what goes wrong without failing the order. */
  readonly report: (error: AcmeError) => void;
}

/** An order as the CA has it. */
interface Order {
  readonly answer: Answer;
  readonly content: Record<string, unknown>;
}

/** Orders a certificate. */
export async function orderCertificate(
  options: OrderOptions,
  context: OrderContext,
  deadline: Deadline,
): Promise<AcmeCertificate> {
  const names = orderedNames(options.names);
  const { account } = context;
  const { csr, privateKey } = await requestFor(names, options); // a bad key costs no order
  const { answer, replaced } = await placeOrder(names, options, context, deadline);
  const url = urlIn(answer, answer.field("location"), "the order");
  const placed: Order = { answer, content: objectOf(answer) };
  const authorizations = authorizationsOf(placed, names.length);
  await prove(authorizations, names, { ...context, solvers: options.solvers }, deadline);
  const ready = await poll(url, ["pending"], account, deadline);
  const done = await finalize(ready, url, csr, context, deadline);
  const chain = await download(done, options.preferredChain, account, deadline);
  assertOrdered(chain[0], names, privateKey, Date.now());
  return { chain: pemOf(chain), privateKey, names, ...validityOf(chain[0]), replaced };
}

async function placeOrder(
  names: readonly string[],
  { profile, replaces }: OrderOptions,
  { requests, account }: OrderContext,
  deadline: Deadline,
): Promise<{ answer: Answer; replaced: boolean }> {
  const { newOrder: url, profiles, renewalInfo } = await requests.directory(deadline);
  if (profile !== undefined && !Object.hasOwn(profiles, profile)) {
    const known = Object.keys(profiles).join(", ") || "it has none";
    throw new ConfigError(
      "INVALID_CONFIG",
      `Option profile is "${profile}", which the CA does not have: ${known}`,
    );
  }
  const payload = {
    identifiers: names.map(identifierOf),
    ...(profile === undefined ? {} : { profile }),
  };
  const id = replaces === undefined || !renewalInfo ? undefined : certificateId(replaces);
  if (id !== undefined) {
    try {
      const post = { url, payload: { ...payload, replaces: id } };
      return { answer: await account.post(post, deadline), replaced: true };
    } catch (error) {
      // Replaced already, or unknown to this CA or account: a certificate is needed all the same. What
      // else the CA may refuse, it refuses again.
      if (!(error instanceof AcmeError) || error.code !== "ACME_REFUSED") throw error;
    }
  }
  return { answer: await account.post({ url, payload }, deadline), replaced: false };
}

function authorizationsOf({ answer, content }: Order, most: number): URL[] {
  const { authorizations } = content;
  if (!Array.isArray(authorizations) || authorizations.length > most) {
    throw badAnswer(answer.url, "gives no list of authorizations, one for each name");
  }
  return authorizations.map((value) => urlIn(answer, value, "an authorization"));
}

/** Asks for the order until its status is none of `passing`, nor a failure. */
async function poll(
  url: URL,
  passing: readonly string[],
  account: Account,
  deadline: Deadline,
): Promise<Order> {
  for (let tries = 0;; tries++) {
    const answer = await account.post({ url }, deadline);
    const content = objectOf(answer);
    const { status } = content;
    if (status === "invalid") throw invalid(content);
    if (typeof status !== "string" || !STATUSES.includes(status)) {
      throw badAnswer(answer.url, "gives an order without a status that is known");
    }
    if (!passing.includes(status)) return { answer, content };
    await deadline.sleep(pollPause(answer, tries, Date.now()));
  }
}

const STATUSES = ["pending", "ready", "processing", "valid"];

function invalid({ error }: Record<string, unknown>): AcmeError {
  const problem = problemOf(error);
  return new AcmeError("ACME_REFUSED", `The CA does not fill the order: ${wordsOf(problem)}`, {
    problem,
  });
}

/** Has the certificate made; waits until it is. */
async function finalize(
  ready: Order,
  url: URL,
  csr: string,
  { account }: OrderContext,
  deadline: Deadline,
): Promise<Order> {
  if (ready.content["status"] === "ready") {
    const target = urlIn(ready.answer, ready.content["finalize"], "finalize");
    try {
      await account.post({ url: target, payload: { csr } }, deadline);
    } catch (error) {
      // The answer to an earlier attempt may have been lost on its way.
      if (!(error instanceof AcmeError && isProblem(error.problem, "orderNotReady"))) throw error;
    }
  }
  return await poll(url, ["pending", "ready", "processing"], account, deadline);
}

async function download(
  { answer, content }: Order,
  preferred: string | undefined,
  account: Account,
  deadline: Deadline,
): Promise<Chain> {
  const get = (url: URL) => account.post({ url, accept: CHAIN_TYPE }, deadline);
  const first = await get(urlIn(answer, content["certificate"], "the certificate"));
  const chain = chainOf(first);
  if (preferred === undefined || await topIssuer(chain) === preferred) return chain;
  for (const target of linksOf(first.field("link"), "alternate")) {
    const other = chainOf(await get(urlIn(first, target, "an alternate chain")));
    if (await topIssuer(other) === preferred) return other;
  }
  return chain;
}
