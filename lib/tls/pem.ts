/**
 * Telling PEM from DER.
 *
 * @module
 */

/** The source as text when it is PEM. A trailing NUL, which the original counts in, does no harm. */
export function pemText(source: string | Uint8Array): string | undefined {
  if (typeof source === "string") return source;
  const text = new TextDecoder("latin1").decode(source);
  return text.includes("-----BEGIN ") ? text : undefined;
}
