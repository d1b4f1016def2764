/**
 * Reading the `Cookie` field (RFC 6265 section 4.2).
 *
 * @module
 */

/**
 * The cookies of `Cookie` field values, by their case-sensitive names; the first of a name counts,
 * as browsers send the most specific one first. Values are as sent, without enclosing quotes;
 * parts without `=` are left out.
 */
export function parseCookies(fields: readonly string[]): Map<string, string> {
  const cookies = new Map<string, string>();
  for (const part of fields.flatMap((field) => field.split(";"))) {
    const equals = part.indexOf("=");
    if (equals < 0) continue;
    const name = part.slice(0, equals).trim();
    if (name !== "" && !cookies.has(name)) {
      cookies.set(name, unquoted(part.slice(equals + 1).trim()));
    }
  }
  return cookies;
}

function unquoted(value: string): string {
  return value.length >= 2 && value.startsWith('"') && value.endsWith('"')
    ? value.slice(1, -1)
    : value;
}
