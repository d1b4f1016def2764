/**
 * Who may read an inspector: pages of its own origin and programs, under a host name that it knows.
 * Other sites must not, neither by requests of their own nor by a name of theirs that leads to this
 * machine (DNS rebinding).
 *
 * @module
 */

/** The names of this machine to itself. */
export const LOOPBACK_HOSTS: readonly string[] = ["127.0.0.1", "localhost", "[::1]"];

/** Fields of every answer: no other site may frame, embed, or guess the type of what is here. */
const GUARDED = {
  "cache-control": "no-store",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

/** Returns the fields of an answer. */
export function guarded(fields: Readonly<Record<string, string>>): Record<string, string> {
  return { ...GUARDED, ...fields };
}

/**
 * Returns the answer to a request that is refused. `hosts` are the names that may be asked for,
 * without ports. A link of another site may lead to the page, which holds no data.
 */
export function refusal(
  request: Request,
  hosts: readonly string[],
  isPage: boolean,
): Response | undefined {
  const { method, url, headers } = request;
  if (method !== "GET" && method !== "HEAD") {
    return refused(405, "The inspector is read-only", { allow: "GET, HEAD" });
  }
  const { host, hostname } = new URL(url);
  const asked = headers.get("host");
  if (!hosts.includes(hostname) || asked !== null && !hosts.includes(nameOf(asked))) {
    return refused(421, "This host name is not known: add it to the option hosts");
  }
  const origin = headers.get("origin");
  if (origin !== null && hostOf(origin) !== host) return refused(403, "Other sites may not read");
  const site = headers.get("sec-fetch-site") ?? "none"; // programs send none
  const isLink = isPage && headers.get("sec-fetch-mode") === "navigate" &&
    headers.get("sec-fetch-dest") === "document";
  if (site === "same-origin" || site === "none" || isLink) return undefined;
  return refused(403, "Other sites may not read");
}

/** The name in a Host field, in lower case and without the port. */
function nameOf(host: string): string {
  return host.toLowerCase().replace(/:\d*$/, "");
}

function hostOf(origin: string): string | undefined {
  return URL.parse(origin)?.host; // "null" is none
}

function refused(status: number, why: string, fields: Record<string, string> = {}): Response {
  const headers = guarded({ "content-type": "text/plain; charset=utf-8", ...fields });
  return new Response(`${why}\n`, { status, headers });
}
