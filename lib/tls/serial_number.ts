/**
 * The serial number of a certificate in one spelling, so that it can be looked up in a list.
 *
 * @module
 */

/**
 * A serial number as OpenSSL prints it: pairs of upper-case hexadecimal digits, without leading
 * pairs of zeros. (Deno leaves out a single leading zero too, Cloudflare none.)
 */
export function serialNumberOf(hex: string): string {
  const digits = hex.toUpperCase().replace(/^0+(?=.)/, "");
  return digits.length % 2 === 0 ? digits : `0${digits}`;
}
