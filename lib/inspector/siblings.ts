/**
 * The other workers of a cluster: each has an inspector on the port of its own number, on this
 * machine's loopback, and is asked for its summary while a page looks.
 *
 * @module
 */
import * as v from "valibot";
import { share } from "../share.ts";
import type { Summary } from "./state.ts";

/** How long a worker may take to answer, in ms. */
const ANSWER_MS = 500;

/** How long an answer may be, in characters; a summary has some 200. */
const LONGEST_ANSWER = 10_000;

const finite = v.pipe(v.number(), v.finite());

/** Another process answers, which may be none of ours. */
const SUMMARY = v.strictObject({
  worker: v.strictObject({ index: finite, of: finite }),
  state: v.pipe(v.string(), v.maxLength(20)),
  open: finite,
  active: finite,
  perSecond: finite,
  p95: v.nullable(finite),
  failures: finite,
  lagMs: finite,
});

/** A worker as the page of another shows it; without a summary where it did not answer. */
export interface Sibling {
  readonly index: number;
  readonly url: string;
  readonly summary: Summary | null;
}

/** Asks every other worker; `portOf` gives the port of a worker's inspector. */
export async function askSiblings(portOf: (index: number) => number): Promise<Sibling[]> {
  const { index: own, of } = share() ?? { index: 0, of: 1 };
  const others = Array.from({ length: of }, (_, index) => index).filter((index) => index !== own);
  return await Promise.all(others.map(async (index) => {
    const url = `http://127.0.0.1:${portOf(index)}/`;
    return { index, url, summary: await ask(`${url}?summary`) };
  }));
}

async function ask(url: string): Promise<Summary | null> {
  try {
    const signal = AbortSignal.timeout(ANSWER_MS);
    const response = await fetch(url, { signal, redirect: "error" });
    if (response.ok) return v.parse(SUMMARY, JSON.parse(await textOf(response)));
    await response.body?.cancel();
  } catch {
    // it is starting, ending, or too busy: the page says that it does not answer
  }
  return null;
}

async function textOf({ body }: Response): Promise<string> {
  let text = "";
  for await (const piece of body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += piece;
    if (text.length > LONGEST_ANSWER) throw new RangeError("This is no summary");
  }
  return text;
}
