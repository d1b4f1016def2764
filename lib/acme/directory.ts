/**
 * The directory of a CA (RFC 8555 section 7.1.1), and what its URLs may be: https, and of the host that
 * the directory has. A CA has no reason to send its client elsewhere, least of all to a neighbour.
 *
 * @module
 */
import { isPlain } from "../options.ts";
import { cleaned } from "./problem.ts";
import { type Answer, badAnswer } from "./transport.ts";
import type { AcmeDirectory } from "./types.ts";

/** The resources of a CA. */
export interface Directory extends AcmeDirectory {
  /** Where nonces are. */
  readonly newNonce: URL;
  /** Where accounts are made and found. */
  readonly newAccount: URL;
  /** Where orders are made. */
  readonly newOrder: URL;
  /** Where certificates are revoked. */
  readonly revokeCert: URL | undefined;
  /** Where an account gets another key. */
  readonly keyChange: URL | undefined;
  /** Where renewal information is (RFC 9773). */
  readonly renewal: URL | undefined;
}

const MAX_PROFILES = 100;
const MAX_TEXT = 1_000;

/**
 * Reads a directory.
 *
 * @throws {AcmeError} `ACME_BAD_ANSWER`
 */
export function directoryOf(answer: Answer): Directory {
  const content = objectOf(answer);
  const meta = isPlain(content["meta"]) ? content["meta"] as Record<string, unknown> : {};
  const url = (name: string) => urlIn(answer, content[name], name);
  const perhaps = (name: string) => content[name] === undefined ? undefined : url(name);
  const renewal = perhaps("renewalInfo");
  const terms = cleaned(meta["termsOfService"], MAX_TEXT);
  const website = cleaned(meta["website"], MAX_TEXT);
  return {
    newNonce: url("newNonce"),
    newAccount: url("newAccount"),
    newOrder: url("newOrder"),
    revokeCert: perhaps("revokeCert"),
    keyChange: perhaps("keyChange"),
    renewal,
    renewalInfo: renewal !== undefined,
    externalAccountRequired: meta["externalAccountRequired"] === true,
    profiles: profilesOf(meta["profiles"]),
    ...(terms === undefined ? {} : { termsOfService: terms }),
    ...(website === undefined ? {} : { website }),
  };
}

function profilesOf(value: unknown): Record<string, string> {
  if (!isPlain(value)) return {};
  const named = Object.entries(value).slice(0, MAX_PROFILES)
    .filter(([name]) => name.length <= MAX_TEXT)
    .map(([name, text]) => [name, cleaned(text, MAX_TEXT) ?? ""] as const);
  return Object.fromEntries(named);
}

/**
 * The JSON object of an answer.
 *
 * @throws {AcmeError} `ACME_BAD_ANSWER` when it is none
 */
export function objectOf(answer: Answer): Record<string, unknown> {
  if (answer.mediaType !== "application/json") {
    throw badAnswer(answer.url, "does not answer with application/json");
  }
  let content: unknown;
  try {
    content = JSON.parse(answer.body);
  } catch (cause) {
    throw badAnswer(answer.url, "answers with JSON that cannot be read", cause);
  }
  if (!isPlain(content)) throw badAnswer(answer.url, "answers with no JSON object");
  return content as Record<string, unknown>;
}

/** The longest URL that is followed. */
const MAX_URL = 2_048;

/**
 * A URL that an answer gives; `name` is what messages call it.
 *
 * @throws {AcmeError} `ACME_BAD_ANSWER` when it is none, or of another host
 */
export function urlIn(answer: Answer, value: unknown, name: string): URL {
  const isText = typeof value === "string" && value.length <= MAX_URL;
  const url = isText && URL.canParse(value, answer.url) ? new URL(value, answer.url) : undefined;
  if (url === undefined) throw badAnswer(answer.url, `gives no URL as ${name}`);
  if (url.origin !== answer.url.origin || url.username !== "" || url.password !== "") {
    throw badAnswer(answer.url, `gives a URL of another host as ${name}: it is not followed`);
  }
  return url;
}
