/**
 * Dates in fields (RFC 9110 section 5.6.7): read in the three forms that recipients must know,
 * written in the one that senders must use.
 *
 * @module
 */

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const TIME = String.raw`(?<hour>[01]\d|2[0-3]):(?<minute>[0-5]\d):(?<second>[0-5]\d|60)`;

/** `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`. */
const FORMS = [
  String.raw`[A-Z][a-z]{2}, (?<day>\d\d) (?<month>[A-Z][a-z]{2}) (?<year>\d{4}) ${TIME} GMT`,
  String.raw`[A-Z][a-z]{5,8}, (?<day>\d\d)-(?<month>[A-Z][a-z]{2})-(?<year>\d\d) ${TIME} GMT`,
  String.raw`[A-Z][a-z]{2} (?<month>[A-Z][a-z]{2}) (?<day>[ \d]\d) ${TIME} (?<year>\d{4})`,
].map((form) => new RegExp(`^${form}$`));

/** The time in ms since the epoch that an HTTP-date means; `undefined` when it is none. */
export function parseHttpDate(text: string): number | undefined {
  for (const form of FORMS) {
    const parts = form.exec(text)?.groups;
    if (parts !== undefined) return timeOf(parts);
  }
  return undefined;
}

function timeOf(parts: Record<string, string>): number | undefined {
  const month = MONTHS.indexOf(parts["month"]!);
  const day = Number(parts["day"]);
  const year = fullYear(parts["year"]!);
  const midnight = Date.UTC(year, month, day);
  if (month < 0 || new Date(midnight).getUTCDate() !== day) return undefined;
  const seconds = (Number(parts["hour"]) * 60 + Number(parts["minute"])) * 60 +
    Number(parts["second"]);
  return midnight + seconds * 1000;
}

/** Two digits that look more than 50 years ahead mean the century before. */
function fullYear(text: string): number {
  const year = Number(text);
  if (text.length > 2) return year;
  const now = new Date().getUTCFullYear();
  const inThisCentury = now - now % 100 + year;
  return inThisCentury > now + 50 ? inThisCentury - 100 : inThisCentury;
}

/** The HTTP-date of a time in ms since the epoch, down to the second. */
export function formatHttpDate(ms: number): string {
  return new Date(ms).toUTCString();
}
