/**
 * One request to a CA and its answer, read whole: on a connection of its own, within a time and a
 * number of bytes, without redirects. It is `node:https` on both runtimes, since Bun's `fetch()` reads
 * an endless body to its end, and each has another way to name the authorities.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { request as httpsRequest, type RequestOptions } from "node:https";
import type { IncomingMessage } from "node:http";
import { AcmeError } from "../errors.ts";
import { within } from "./deadline.ts";

/** The longest answer that is read, in bytes: a chain has some thousand. */
const MAX_BODY_BYTES = 256 * 1024;

/** The most bytes of fields; what they hold is URLs and nonces. */
const MAX_HEAD_BYTES = 16 * 1024;

/** What a CA is asked. */
export interface Question {
  /** The method. */
  readonly method: "GET" | "HEAD" | "POST";
  /** Where. */
  readonly url: URL;
  /** The media type that the answer is to have. */
  readonly accept: string;
  /** The body of a POST: a JWS. */
  readonly body?: string;
}

/** What a CA answers. */
export interface Answer {
  /** What was asked. */
  readonly url: URL;
  /** The status code. */
  readonly status: number;
  /** The media type, in lower case and without parameters; empty where there is none. */
  readonly mediaType: string;
  /** The body as text. */
  readonly body: string;
  /** A field's value; several of one name are joined by commas. */
  field(name: string): string | undefined;
}

/** How a CA is asked. */
export interface Line {
  /** PEM of the authorities that its certificate is verified by; `undefined`: the runtime's. */
  readonly ca: string | undefined;
  /** How long one request may take, in ms. */
  readonly requestMs: number;
}

/**
 * Asks once.
 *
 * @throws {AcmeError} `ACME_UNREACHABLE`, `ACME_TIMEOUT`, or `ACME_BAD_ANSWER` for a redirect, a body
 * that is too long, or what is not HTTP; else the reason of `signal`
 */
export async function ask(question: Question, line: Line, signal: AbortSignal): Promise<Answer> {
  const { method, url } = question;
  const what = `${method} ${shownUrl(url)}`;
  return await within(line.requestMs, what, signal, async (deadline) => {
    const answer = await exchange(question, line, deadline.signal);
    if (answer.status >= 300 && answer.status < 400) {
      throw badAnswer(url, `redirects with status ${answer.status}, which is not followed`);
    }
    return answer;
  });
}

function exchange(question: Question, line: Line, signal: AbortSignal): Promise<Answer> {
  const { method, url, body } = question;
  return new Promise((resolve, reject) => {
    const request = httpsRequest(url, requestOptions(question, line));
    const stop = () => {
      reject(signal.reason);
      request.destroy();
    };
    signal.addEventListener("abort", stop, { once: true });
    request.on("error", (cause) => reject(failure(url, cause)));
    let isAnswered = false;
    request.on("close", () => {
      signal.removeEventListener("abort", stop);
      if (!isAnswered) reject(unreachable(url, "the connection was closed without an answer"));
    });
    request.on("response", (response) => {
      isAnswered = true;
      readBody(response, method === "HEAD").then((body) => {
        resolve(answerOf(url, response, body));
      }, (cause) => {
        reject(cause === TOO_LONG ? tooLong(url) : failure(url, cause));
        request.destroy();
      });
    });
    request.end(body);
  });
}

function requestOptions({ method, accept, body }: Question, { ca }: Line): RequestOptions {
  return {
    method,
    agent: false, // a connection that was kept may be closed by the CA just when it is used
    maxHeaderSize: MAX_HEAD_BYTES,
    ...(ca === undefined ? {} : { ca }),
    headers: {
      accept,
      "accept-language": "en",
      "user-agent": "httpsd-acme",
      ...(body === undefined ? {} : {
        "content-type": "application/jose+json",
        "content-length": Buffer.byteLength(body),
      }),
    },
  };
}

const TOO_LONG = Symbol("too long");

function readBody(response: IncomingMessage, isHead: boolean): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    response.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES) reject(TOO_LONG);
      else chunks.push(chunk);
    });
    const cut = () => reject(new Error("the connection was cut before the answer was over"));
    response.on("error", reject);
    response.on("end", () => response.complete || isHead ? resolve(Buffer.concat(chunks)) : cut());
    response.on("close", cut);
  });
}

function answerOf(url: URL, response: IncomingMessage, body: Buffer): Answer {
  const field = (name: string): string | undefined => {
    const value = response.headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  };
  return {
    url,
    status: response.statusCode ?? 0,
    mediaType: (field("content-type") ?? "").split(";")[0]!.trim().toLowerCase(),
    body: body.toString("utf8"),
    field,
  };
}

function failure(url: URL, cause: unknown): AcmeError {
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code?.startsWith("HPE_")) return badAnswer(url, "answers something that is not HTTP", cause);
  return unreachable(url, code ?? message, cause);
}

function unreachable(url: URL, why: string, cause?: unknown): AcmeError {
  return new AcmeError(
    "ACME_UNREACHABLE",
    `The CA cannot be reached at ${url.host}: ${why}`,
    { cause },
  );
}

function tooLong(url: URL): AcmeError {
  return badAnswer(url, `answers more than ${MAX_BODY_BYTES} bytes`);
}

/** The error of an answer that is not one of ACME; `what` is a predicate. */
export function badAnswer(url: URL, what: string, cause?: unknown): AcmeError {
  return new AcmeError("ACME_BAD_ANSWER", `The CA's ${shownUrl(url)} ${what}`, { cause });
}

const MAX_SHOWN = 200;

/** A URL for messages: without its query, and short. */
export function shownUrl({ origin, pathname }: URL): string {
  const text = origin + pathname;
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}
