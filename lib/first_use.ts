/**
 * What is made when it is first used: trials take as long as the rest of a start, and many programs
 * that load a server never serve, or not in the way that the trial is for.
 *
 * @module
 */

/** Returns what gives the value, which `make` makes the first time. */
export function onFirstUse<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}
