/**
 * The library that reads and makes certificates: those of clients, and those for development. It takes
 * longer to load than all the rest of a server, so it is loaded where that may happen only.
 *
 * @module
 */
import type * as Library from "@peculiar/x509";

/** What `@peculiar/x509` exports. */
export type X509Library = typeof Library;

let loading: Promise<X509Library> | undefined;
let loaded: X509Library | undefined;

/** Loads the library, once. */
export function loadX509(): Promise<X509Library> {
  return loading ??= load();
}

async function load(): Promise<X509Library> {
  await import("reflect-metadata"); // the library's decorators use it as they are read
  return loaded = await import("@peculiar/x509");
}

/**
 * The library, where it has been loaded before: wherever clients are asked for certificates.
 *
 * @throws {TypeError} when it has not been loaded, which is a mistake of ours
 */
export function x509Library(): X509Library {
  if (loaded !== undefined) return loaded;
  throw new TypeError("The X.509 library is not loaded: await loadX509() before");
}
