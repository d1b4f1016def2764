/**
 * A peer that must read, and is slow, is no peer that does not read.
 *
 * @module
 */

/** What has a deadline by which its peer has to read. */
export interface Carrier {
  /** The deadline, on the clock. */
  deadline: number;
  /** Until when a peer that must read counts as one that does; `-Infinity` while it need not. */
  readonly readUntil: number;
  /** The time so many ms from now, on the clock. */
  after(ms: number): number;
}

/** Waits longer where the peer reads, slow as it may be; returns whether it does. */
export function sparesReader(carrier: Carrier): boolean {
  const { readUntil } = carrier;
  if (readUntil <= carrier.after(0)) return false;
  carrier.deadline = readUntil;
  return true;
}
