/**
 * The bounds that the protocol sets to what each side announces (RFC 9113 sections 4.2 and 6.9.1). In
 * a file of their own, since the options of every server need them, and HTTP/2 is loaded later.
 *
 * @module
 */

/** The largest window, in bytes. */
export const MAX_WINDOW = 2 ** 31 - 1;
/** The longest payload that every endpoint has to take, in bytes. */
export const MIN_MAX_FRAME_BYTES = 2 ** 14;
/** The longest payload that there is, in bytes. */
export const MAX_MAX_FRAME_BYTES = 2 ** 24 - 1;
