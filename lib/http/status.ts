/**
 * Status codes, their reason phrases (RFC 9110 section 15), and the bodies that errors are
 * answered with (the original's, of `httpd_resp_send_err`).
 *
 * @module
 */
import type { HttpError } from "../errors.ts";

/** Reason phrases by status code. */
export const REASONS: Readonly<Record<number, string>> = {
  100: "Continue",
  101: "Switching Protocols",
  102: "Processing",
  103: "Early Hints",
  200: "OK",
  201: "Created",
  202: "Accepted",
  203: "Non-Authoritative Information",
  204: "No Content",
  205: "Reset Content",
  206: "Partial Content",
  207: "Multi-Status",
  208: "Already Reported",
  226: "IM Used",
  300: "Multiple Choices",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  402: "Payment Required",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  406: "Not Acceptable",
  407: "Proxy Authentication Required",
  408: "Request Timeout",
  409: "Conflict",
  410: "Gone",
  411: "Length Required",
  412: "Precondition Failed",
  413: "Content Too Large",
  414: "URI Too Long",
  415: "Unsupported Media Type",
  416: "Range Not Satisfiable",
  417: "Expectation Failed",
  418: "I'm a teapot",
  421: "Misdirected Request",
  422: "Unprocessable Content",
  423: "Locked",
  424: "Failed Dependency",
  425: "Too Early",
  426: "Upgrade Required",
  428: "Precondition Required",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  451: "Unavailable For Legal Reasons",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
  507: "Insufficient Storage",
  508: "Loop Detected",
  511: "Network Authentication Required",
};

/** The body texts of answers with an error status, as in the original. */
export const ERROR_BODIES: Readonly<Record<number, string>> = {
  400: "Bad request syntax",
  401: "No permission -- see authorization schemes",
  403: "Request forbidden -- authorization will not help",
  404: "Nothing matches the given URI",
  405: "Specified method is invalid for this resource",
  408: "Server closed this connection",
  411: "Client must specify Content-Length",
  413: "Content is too large",
  414: "URI is too long",
  421: "This connection may not be used for this host",
  431: "Header fields are too long",
  500: "Server has encountered an unexpected error",
  501: "Server does not support this method",
  505: "HTTP version not supported by server",
};

/** The body text for a transfer coding that this server does not know. */
const CODING_BODY = "Server does not support this transfer coding";

/** The body of the standard answer to an error. */
export function errorBody({ status, code }: HttpError): string {
  return code === "UNKNOWN_CODING" ? CODING_BODY : ERROR_BODIES[status] ?? "";
}

/** Whether a response never has a body (RFC 9110 sections 15.2, 15.3.5, 15.3.6 and 15.4.5). */
export function isBodiless(status: number): boolean {
  return status === 204 || status === 205 || status === 304 || status < 200;
}
