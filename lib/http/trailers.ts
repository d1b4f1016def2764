/**
 * Which fields a trailer section may carry (RFC 9110 section 6.5.1), in all versions of HTTP.
 *
 * @module
 */

/**
 * Fields that a trailer may not carry, because they frame, route, authenticate or modify the
 * request, and so must be known before the body (RFC 9110 section 6.5.1).
 */
const NO_TRAILER = new Set(
  ("transfer-encoding host connection keep-alive proxy-connection te trailer upgrade expect " +
    "max-forwards forwarded via authorization proxy-authorization www-authenticate " +
    "proxy-authenticate cookie set-cookie cache-control pragma range date age expires location " +
    "retry-after vary warning").split(" "),
);

/** The families of such fields. */
const NO_TRAILER_PREFIX = /^(?:content-|if-|x-forwarded-)/;

/** Whether a trailer may carry the field `name`, in any letter case (RFC 9110 section 6.5.1). */
export function allowedInTrailer(name: string): boolean {
  const lower = name.toLowerCase();
  return !NO_TRAILER.has(lower) && !NO_TRAILER_PREFIX.test(lower);
}
