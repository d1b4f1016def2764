/**
 * How requests come and answers go on connections.
 *
 * @module
 */
import type { Transport } from "../http/exchange.ts";
import { sendResponse } from "./send_response.ts";
import { requestFor } from "./served_request.ts";

/** The transport of requests that came on connections. */
export const connectionTransport: Transport = { requestFor, sendResponse };
