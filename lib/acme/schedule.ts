/**
 * When a certificate is renewed, checked, tried again and given up for dead: all by shares of its
 * lifetime, so that one of six days and one of 90 are treated alike. Numbers only.
 *
 * @module
 */
import type { RenewalInfo } from "./types.ts";

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

/** The time in which a certificate is valid, in ms since 1970. */
export interface Validity {
  /** The first moment. */
  readonly notBefore: number;
  /** The last moment. */
  readonly notAfter: number;
}

/** A number from 0 to 1, 1 excluded: `Math.random`, or a test's. */
export type Random = () => number;

/** How long a certificate is valid, in ms; one at least. */
export function lifetimeOf({ notBefore, notAfter }: Validity): number {
  return Math.max(1, notAfter - notBefore);
}

/** The time between two looks at a certificate, in ms: a fiftieth of its lifetime, 1 h at most. */
export function checkEvery(validity: Validity): number {
  return Math.min(HOUR_MS, Math.max(100, lifetimeOf(validity) / 50));
}

/** The time between two questions for the CA's window where the CA has not answered, in ms. */
export function askAgainAfter(validity: Validity): number {
  return Math.min(6 * HOUR_MS, Math.max(SECOND_MS, lifetimeOf(validity) / 10));
}

/**
 * The moment at which to renew, in ms since 1970: a random one in the CA's window (RFC 9773 section
 * 4.2), else when a third of the lifetime is left, a little earlier by chance, so that not all
 * certificates of a day are renewed at once. A window is cut to what a certificate can live with: no
 * sooner than a tenth of its lifetime after its start, or a CA's mistake would order without end, and
 * no later than when a sixth is left.
 */
export function renewalMoment(
  validity: Validity,
  window: Pick<RenewalInfo, "start" | "end"> | undefined,
  random: Random,
): number {
  const { notBefore, notAfter } = validity;
  const lifetime = lifetimeOf(validity);
  const soonest = notBefore + lifetime / 10;
  const latest = notAfter - lifetime / 6;
  if (window !== undefined && window.start < latest) {
    const start = Math.max(window.start, soonest);
    const end = Math.min(window.end, latest);
    return start + Math.max(0, end - start) * random();
  }
  return notAfter - lifetime / 3 - lifetime / 20 * random();
}

/** From when on a certificate that could not be renewed is reported as ending: a sixth is left. */
export function expiringFrom(validity: Validity): number {
  return validity.notAfter - lifetimeOf(validity) / 6;
}

/**
 * The times between attempts: four in the first hour, since Let's Encrypt counts five failures in an
 * hour and a name's owner may try too.
 */
const DELAYS_MS = [2, 10, 30, 60, 3 * 60, 6 * 60, 12 * 60].map((minutes) => minutes * MINUTE_MS);

/** What the delay before another attempt depends on. */
export interface Attempts {
  /** How many have failed in a row, 1 at least. */
  readonly failures: number;
  /** The certificate that is in force; `undefined`: none. */
  readonly validity?: Validity | undefined;
  /** What the CA has asked to wait, in ms. */
  readonly retryAfterMs?: number | undefined;
}

/**
 * How long to wait after a failure, in ms: longer with each, up to half a day, but no longer than a
 * tenth of the lifetime of what is in force; and as long as the CA says, if that is longer.
 */
export function retryDelay(
  { failures, validity, retryAfterMs = 0 }: Attempts,
  random: Random,
): number {
  const step = DELAYS_MS[Math.min(failures, DELAYS_MS.length) - 1]!;
  const share = validity === undefined ? Infinity : lifetimeOf(validity) / 10;
  const delay = Math.max(SECOND_MS / 2, Math.min(step, share));
  return Math.round(Math.max(delay * (0.8 + 0.4 * random()), retryAfterMs));
}
