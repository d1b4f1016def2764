/**
 * The cipher suites that are served by default.
 *
 * @module
 */
import { runtime } from "../runtime/current.ts";

/**
 * The cipher suites of TLS 1.2 that are served by default, in OpenSSL's notation: Mozilla's
 * intermediate list, less the suites that BoringSSL does not have. `undefined` on Deno, whose list
 * is fixed.
 */
export const DEFAULT_CIPHERS: string | undefined = runtime.name === "deno" ? undefined : [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");
