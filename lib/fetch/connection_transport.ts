/**
 * How requests come and answers go on connections.
 *
 * @module
 */
import { clearTimeout, setTimeout } from "node:timers";
import { NO_BYTES } from "../bytes.ts";
import type { Transport } from "../http/exchange.ts";
import { latin1 } from "../runtime/latin1.ts";
import { prepareParts } from "./response_parts.ts";
import { sendResponse } from "./send_response.ts";
import { prepareRequests, requestFor } from "./served_request.ts";

/** The transport of requests that came on connections. */
export const connectionTransport: Transport = { requestFor, sendResponse };

/**
 * Makes the trials of what requests and responses are made of in the next turn, when the server
 * listens already and most probably before its first client comes; what is returned prevents it.
 */
export function prepareSoon(): () => void {
  const timer = setTimeout(() => {
    latin1(NO_BYTES, 0, 0);
    prepareRequests();
    prepareParts();
  }, 0).unref();
  return () => clearTimeout(timer);
}
