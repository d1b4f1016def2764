/**
 * The gate's third step under TLS: the certificate and policy that answer a ClientHello.
 *
 * @module
 */
import { isThenable } from "../../contain/callbacks.ts";
import type { Endpoints } from "../../endpoints.ts";
import { TlsError } from "../../errors.ts";
import { Refused } from "../../tls/cert_select.ts";
import type { ClientHello } from "../../tls/client_hello.ts";
import type { SecurityContext } from "../../tls/context.ts";
import type { Selector } from "../../tls/selector.ts";
import { TurnedAway } from "./farewell.ts";

/** What was chosen, or why nothing was. */
export type Choice = SecurityContext | TurnedAway;

/** Chooses the context of a handshake; a promise where the program's hook returns one. Never fails. */
export function choose(
  selector: Selector,
  hello: ClientHello,
  endpoints: Endpoints,
): Choice | Promise<Choice> {
  try {
    const answer = selector.select(hello, endpoints);
    return isThenable(answer) ? Promise.resolve(answer).then(settle, fail) : settle(answer);
  } catch (error) {
    return fail(error);
  }
}

function settle(answer: SecurityContext | Refused): Choice {
  if (!(answer instanceof Refused)) return answer;
  const error = new TlsError("TLS_SELECTION_FAILED", `No certificate: ${answer.alert}`);
  return TurnedAway.withAlert(error, answer.alert);
}

function fail(error: unknown): TurnedAway {
  return TurnedAway.withAlert(error as TlsError, "internal_error");
}
