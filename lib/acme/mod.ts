/**
 * Certificates of authorities that speak ACME (RFC 8555), such as Let's Encrypt.
 *
 * @module
 */
export { acmeClient } from "./client.ts";
export {
  AcmeError,
  type AcmeErrorCode,
  type AcmeErrorOptions,
  type AcmeProblem,
  type ErrorCode,
  HttpsdError,
} from "../errors.ts";
export { newAccountKey } from "./jws.ts";
export { certificateId } from "./renewal_info.ts";
export type { KeyAlgorithm } from "../tls/authority_options.ts";
export * from "./types.ts";
