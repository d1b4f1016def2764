/**
 * When a CA wants certificates to be renewed (RFC 9773).
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { X509Certificate } from "node:crypto";
import { ConfigError } from "../errors.ts";
import { isPlain } from "../options.ts";
import { elementsOf, fieldsOf, firstElement, TAG } from "../tls/der.ts";
import { objectOf } from "./directory.ts";
import { isPage, retryAfter } from "./problem.ts";
import { type Answer, badAnswer } from "./transport.ts";
import type { RenewalInfo } from "./types.ts";

const AUTHORITY_KEY_ID = "2.5.29.35";
const KEY_ID_TAG = 0x80;

/**
 * What a CA knows a certificate by: its authority's key identifier and its serial number (RFC 9773
 * section 4.1); `undefined` when the certificate has no key identifier. Of a chain, that of the first.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when the PEM cannot be read
 */
export function certificateId(pem: string): string | undefined {
  const der = derOfFirst(pem, "certificate");
  const extension = fieldsOf(der).extensions.get(AUTHORITY_KEY_ID);
  if (extension === undefined) return undefined;
  const keyId = elementsOf(firstElement(extension).content).find(({ tag }) => tag === KEY_ID_TAG);
  if (keyId === undefined) return undefined;
  const [first, second] = elementsOf(elementsOf(firstElement(der).content)[0]!.content);
  const serial = first!.tag === TAG.version ? second! : first!;
  return `${base64url(keyId.content)}.${base64url(serial.content)}`;
}

/**
 * The DER of the first certificate in PEM; `option` is what messages call it.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE`
 */
export function derOfFirst(pem: string, option: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(new X509Certificate(pem).raw);
  } catch (cause) {
    throw new ConfigError(
      "INVALID_CERTIFICATE",
      `Option ${option} is not PEM of a certificate: give the chain as it was issued`,
      { cause },
    );
  }
}

/** The URL of a certificate's renewal information. */
export function renewalUrl(base: URL, id: string): URL {
  const url = new URL(base);
  url.pathname = `${base.pathname.replace(/\/$/, "")}/${id}`;
  return url;
}

const MINUTE_MS = 60_000;
const LEAST_RETRY_MS = MINUTE_MS;
const MOST_RETRY_MS = 24 * 60 * MINUTE_MS;
const DEFAULT_RETRY_MS = 6 * 60 * MINUTE_MS;

/**
 * Reads renewal information.
 *
 * @throws {AcmeError} `ACME_BAD_ANSWER`
 */
export function renewalInfoOf(answer: Answer, now: number): RenewalInfo {
  const { suggestedWindow, explanationURL } = objectOf(answer);
  const window = isPlain(suggestedWindow) ? suggestedWindow as Record<string, unknown> : {};
  const start = timeOf(window["start"]);
  const end = timeOf(window["end"]);
  if (start === undefined || end === undefined || !(start < end)) {
    throw badAnswer(answer.url, "gives no window of time");
  }
  const asked = retryAfter(answer.field("retry-after"), now) ?? DEFAULT_RETRY_MS;
  return {
    start,
    end,
    ...(isPage(explanationURL) ? { explanationUrl: new URL(explanationURL).href } : {}),
    retryAfterMs: Math.min(Math.max(asked, LEAST_RETRY_MS), MOST_RETRY_MS),
  };
}

/** A time as RFC 3339 writes it. */
const TIME = /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/;

function timeOf(value: unknown): number | undefined {
  if (typeof value !== "string" || !TIME.test(value)) return undefined;
  const ms = Date.parse(value.toUpperCase());
  return Number.isNaN(ms) ? undefined : ms;
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}
