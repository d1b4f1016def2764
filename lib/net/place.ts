/**
 * The place that an open socket takes among those that may be open.
 *
 * @module
 */

/** What an open socket counts as. */
export interface Place {
  /** The socket is being closed: a newcomer will soon have its place. May be called again. */
  leave(): void;
  /** The socket is closed; called once. */
  free(): void;
}

/** The place of a socket that is not counted. */
export const UNCOUNTED: Place = { leave() {}, free() {} };
