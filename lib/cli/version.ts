/**
 * The version of the package.
 *
 * @module
 */

/** What package.json and deno.json say; a test holds them together. */
export const VERSION = "0.1.0";
