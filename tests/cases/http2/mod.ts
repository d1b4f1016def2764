/**
 * The rules of HTTP/2 that a client can see kept or broken: RFC 9113 sections 3 to 8, RFC 7541, and
 * what RFC 8441 and RFC 9218 add. A case is what a client sends on a connection of its own, and what
 * may come back.
 *
 * `h2spec` names the case of the suite of that name that asks the same (of RFC 7540), where there is
 * one. The suite is content with more: for a fault of the connection it takes GOAWAY with the code
 * or a connection that closes; for a fault of a stream it takes RST_STREAM or GOAWAY with one of the
 * codes, or a connection that closes. Where this file asks for more, our server is to be exact.
 *
 * @module
 */
import type { ConformanceCase, Scheme } from "./case.ts";
import { connectionCases } from "./connections.ts";
import { extensionCases } from "./extensions.ts";
import { frameCases } from "./frames.ts";
import { hpackCases } from "./hpack.ts";
import { messageCases } from "./messages.ts";

export type { ConformanceCase, Outcome, Scheme } from "./case.ts";

/**
 * The cases for requests of a scheme. The server answers `/` at once, with the word conformance;
 * `/read` when it has the whole body, with that body; `/hold` never; `/fields` with the fields it
 * got, as JSON; and `/big` with 100,000 bytes.
 */
export function conformanceCases(scheme: Scheme): ConformanceCase[] {
  return [
    ...connectionCases(scheme),
    ...frameCases(scheme),
    ...messageCases(scheme),
    ...hpackCases(scheme),
    ...extensionCases(scheme),
  ];
}
