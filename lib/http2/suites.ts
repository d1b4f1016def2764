/**
 * Which security HTTP/2 asks for: TLS 1.3, or 1.2 with a suite that is not prohibited (RFC 9113
 * section 9.2).
 *
 * @module
 */

/**
 * Appendix A prohibits the suites without ephemeral keys and those without authenticated encryption.
 * These have both, in the spelling of IANA (with `TLS_` in front) or of OpenSSL.
 */
const ADEQUATE = /^(?:TLS_)?(?:ECDHE|DHE)[_-].*(?:GCM|CCM|CHACHA20)/;

/** Whether HTTP/2 may be spoken under what a handshake has agreed on. */
export function isAdequate({ protocol, cipher }: { protocol: string; cipher: string }): boolean {
  return protocol === "TLSv1.3" || ADEQUATE.test(cipher);
}
