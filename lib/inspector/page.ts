/**
 * The page: one document with its own style and script, which may use those and the stream of its own
 * origin, and nothing else from anywhere.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { SCRIPT } from "./script.ts";
import { STYLE } from "./style.ts";

/** What the page may load. */
export const CONTENT_SECURITY_POLICY: string = [
  "default-src 'none'",
  `script-src '${hashOf(SCRIPT)}'`,
  `style-src '${hashOf(STYLE)}'`,
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}

/** A table that the script fills. */
function table(id: string, caption: string, columns: readonly string[]): string {
  const heads = columns.map((name) => `<th scope="col" role="columnheader">${name}</th>`).join("");
  return `<table id="${id}" role="table">
<caption>${caption}</caption>
<thead role="rowgroup"><tr role="row">${heads}</tr></thead>
<tbody role="rowgroup"></tbody>
</table>`;
}

function section(id: string, title: string, content: string, attributes = ""): string {
  return `<section aria-labelledby="${id}-title"${attributes}>
<h2 id="${id}-title">${title}</h2>
${content}
</section>`;
}

function chart(id: string, title: string): string {
  return `<figure>
<figcaption><h3>${title}</h3><p class="legend" id="${id}-legend"></p></figcaption>
<svg id="${id}" role="img" aria-label="${title}: nothing yet"></svg>
</figure>`;
}

const SESSIONS = table(
  "sessions",
  "When room is needed, the session on top is closed first; one inside a request is not.",
  ["Order", "Client", "TLS", "Doing now", "Open for", "Requests"],
);

const FAILURES = table(
  "failures",
  "Connections that failed before their session, the latest first; those that failed alike are one.",
  ["Latest", "Reason", "Client", "Asked for", "Fingerprint", "Times"],
);

const CERTIFICATES = table("certificates", "What is shown to clients, and what is renewed.", [
  "Names",
  "Expires",
  "Next renewal",
  "Last error",
]);

const WORKERS = table("workers", "Each worker has a page of its own.", [
  "Worker",
  "Connections",
  "Requests under way",
  "Requests a second",
  "95 % below",
  "Failures",
  "Late at most",
]);

/** The document. */
export const PAGE: string = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Inspector · httpsd</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<div>
<h1>Inspector</h1>
<p id="where">Waiting for the server …</p>
</div>
<p class="controls"><span id="live" class="live">connecting</span>
<button id="pause" type="button" aria-pressed="false">Pause</button></p>
</header>
<main id="main" tabindex="-1">
<p id="spoken" class="unseen" role="status"></p>
<noscript><p class="note">This page needs JavaScript, its own only.</p></noscript>
${section("now", "Now", `<dl id="tiles" class="tiles"></dl>`)}
${
  section(
    "charts",
    "The last minutes",
    `<div class="charts">
${chart("rate", "Requests a second")}
${chart("latency", "How long they took")}
</div>`,
  )
}
${section("others", "Workers", WORKERS, ` id="others" hidden`)}
${section("open", `Sessions <span id="sessions-count" class="count"></span>`, SESSIONS)}
${section("failed", `Failures <span id="failures-count" class="count"></span>`, FAILURES)}
<div class="halves">
${section("caps", "Caps", `<dl id="caps" class="caps"></dl>`)}
${section("served", "Certificates", CERTIFICATES)}
</div>
</main>
<footer><p>Read-only. Follows requests only while this page is open. Times are local.</p></footer>
<script>${SCRIPT}</script>
</body>
</html>
`;
