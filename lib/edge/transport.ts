/**
 * How requests come and answers go where there are no sockets: the platform's own `Request` goes
 * to the handler, and the handler's own `Response` to the platform.
 *
 * @module
 */
import type { Transport } from "../http/dispatcher.ts";
import { asResponse, usedAlready } from "../fetch/usable_response.ts";

/** What was given to the platform, which uses it later or not at all. */
const passed = new WeakSet<Response>();

/** Whether a body goes to the platform for the second time. It is not looked at the first time. */
function isPassedAgain(response: Response): boolean {
  if (passed.has(response)) return response.body !== null;
  passed.add(response);
  return false;
}

/** The transport of requests without sockets; it is for exchanges without sockets only. */
export const fetchTransport: Transport = {
  requestFor: (exchange) => exchange.platform!.request,
  sendResponse(exchange, result) {
    const response = asResponse(result);
    if (response.bodyUsed || isPassedAgain(response)) throw usedAlready();
    exchange.platform!.pass(response);
  },
};
