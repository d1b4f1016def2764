/**
 * Checks configured protocol names against the versions of HTTP that the server speaks.
 *
 * @module
 */
import { HTTP2, isServed, type ServedVersions } from "../alpn.ts";
import { optionError } from "../options.ts";

/**
 * Throws for the name of a version that is turned off.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming it and the option that turns it off
 */
export function assertServed(
  names: readonly string[] | undefined,
  served: ServedVersions,
): void {
  const name = names?.find((name) => !isServed(name, served));
  if (name === undefined) return;
  const option = name === HTTP2 ? "http2" : "http1";
  throw optionError("", "alpnProtocols", `has ${name}, but ${option} is false: change one of them`);
}
