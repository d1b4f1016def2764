/**
 * Signed requests to one CA: nonces, and what is tried again (RFC 8555 sections 6.2 to 6.6).
 *
 * @module
 */
import { AcmeError } from "../errors.ts";
import type { Deadline } from "./deadline.ts";
import { type Directory, directoryOf } from "./directory.ts";
import { type KeyName, sign, type Signer } from "./jws.ts";
import { isProblem, refusalOf } from "./problem.ts";
import { type Answer, ask, badAnswer, type Line, type Question } from "./transport.ts";

/** How often a request is signed again because of its nonce: half of all may be rejected. */
const MAX_NONCES = 16;

/** How many nonces are kept for later. */
const MAX_KEPT = 8;
const NONCE = /^[A-Za-z0-9_-]{1,1024}$/;

/** How often a question is asked that changes nothing, where the CA does not answer or is busy. */
const MAX_TRIES = 3;

/** The longest time that is waited for a CA that is busy, in ms. */
const MAX_BUSY_MS = 60_000;

/** The directory is asked for again after this, in ms. */
const DIRECTORY_MS = 3_600_000;

/** What is posted. */
export interface Post {
  /** Where. */
  readonly url: URL;
  /** What: an object, as JSON; without it, it is a POST-as-GET, which changes nothing. */
  readonly payload?: object;
  /** The media type of the answer. Default: `application/json`. */
  readonly accept?: string;
}

/** Asks one CA. */
export class Requests {
  readonly #directoryUrl: URL;
  readonly #line: () => Promise<Line>;
  readonly #nonces: string[] = [];
  #directory: { readonly content: Directory; readonly until: number } | undefined;

  /** `line` is called for each request. */
  constructor(directoryUrl: URL, line: () => Promise<Line>) {
    this.#directoryUrl = directoryUrl;
    this.#line = line;
  }

  /** The CA's directory; it is asked for when it is old. */
  async directory(deadline: Deadline): Promise<Directory> {
    if (this.#directory !== undefined && Date.now() < this.#directory.until) {
      return this.#directory.content;
    }
    const content = directoryOf(await this.get(this.#directoryUrl, deadline));
    this.#directory = { content, until: Date.now() + DIRECTORY_MS };
    return content;
  }

  /**
   * The URL of a resource that not every CA has.
   *
   * @throws {AcmeError} `ACME_BAD_ANSWER` when this one does not have it
   */
  async resource(name: "keyChange" | "revokeCert", deadline: Deadline): Promise<URL> {
    const url = (await this.directory(deadline))[name];
    if (url === undefined) throw badAnswer(this.#directoryUrl, `has no ${name}`);
    return url;
  }

  /** Gets what needs no signature. */
  async get(url: URL, deadline: Deadline): Promise<Answer> {
    return this.#accepted(await this.#ask({ method: "GET", url, accept: JSON_TYPE }, deadline));
  }

  /**
   * Posts with a signature, again with another nonce when the CA rejects it, and again after a while
   * when the CA is busy and the request changes nothing.
   */
  async post(post: Post, signer: Signer, name: KeyName, deadline: Deadline): Promise<Answer> {
    for (let tries = 1;; tries++) {
      try {
        return await this.#postOnce(post, signer, name, deadline);
      } catch (error) {
        const pause = post.payload === undefined ? pauseAfter(error, tries) : undefined;
        if (pause === undefined) throw error;
        await deadline.sleep(pause);
      }
    }
  }

  async #postOnce(post: Post, signer: Signer, name: KeyName, deadline: Deadline): Promise<Answer> {
    const { url, payload, accept = JSON_TYPE } = post;
    const text = payload === undefined ? "" : JSON.stringify(payload);
    for (let tries = 1;; tries++) {
      const nonce = this.#nonces.pop() ?? await this.#newNonce(deadline);
      const body = await sign(text, signer, name, url, nonce);
      try {
        return this.#accepted(await this.#ask({ method: "POST", url, accept, body }, deadline));
      } catch (error) {
        const isOld = error instanceof AcmeError && isProblem(error.problem, "badNonce");
        if (!isOld || tries >= MAX_NONCES) throw error;
      }
    }
  }

  async #newNonce(deadline: Deadline): Promise<string> {
    const { newNonce: url } = await this.directory(deadline);
    this.#accepted(await this.#ask({ method: "HEAD", url, accept: "*/*" }, deadline));
    const nonce = this.#nonces.pop();
    if (nonce === undefined) throw badAnswer(url, "gives no nonce that can be used");
    return nonce;
  }

  async #ask(question: Question, deadline: Deadline): Promise<Answer> {
    const answer = await ask(question, await this.#line(), deadline.signal);
    const nonce = answer.field("replay-nonce");
    if (nonce !== undefined && NONCE.test(nonce)) {
      this.#nonces.push(nonce);
      if (this.#nonces.length > MAX_KEPT) this.#nonces.shift();
    }
    return answer;
  }

  #accepted(answer: Answer): Answer {
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw refusalOf(answer, Date.now());
  }
}

const JSON_TYPE = "application/json";

/** How long to wait before the same is asked again, in ms; `undefined`: it is not worth it. */
function pauseAfter(error: unknown, tries: number): number | undefined {
  if (!(error instanceof AcmeError) || tries >= MAX_TRIES) return undefined;
  const { code, problem, retryAfterMs = 1_000 * tries } = error;
  const isPassing = code === "ACME_UNREACHABLE" || code === "ACME_RATE_LIMITED" ||
    (problem?.status ?? 0) >= 500;
  return isPassing && retryAfterMs <= MAX_BUSY_MS ? retryAfterMs : undefined;
}
