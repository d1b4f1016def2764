/** The page of simple.ts: one visitor's own connection, as self-contained HTML. */
import { createHash } from "node:crypto";

/** What the page shows, label by label; a group has a heading. */
export interface Section {
  heading: string;
  rows: [label: string, value: string][];
}

const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #fff; --ink: #1b1f24; --soft: #5d6673; --line: #e3e6ea; --good: #0a7a4b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #111418; --card: #1a1e24; --ink: #e8eaed; --soft: #98a2b0; --line: #2a3038;
    --good: #4cc38a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 3rem 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif;
}
main { max-width: 44rem; margin: 0 auto; }
h1 { margin: 0; font-size: 1.75rem; letter-spacing: -0.02em; }
h1::before { content: ""; display: inline-block; width: 0.6rem; height: 0.6rem;
  margin-right: 0.7rem; border-radius: 50%; background: var(--good); vertical-align: 0.12em; }
p { margin: 0.4rem 0 2rem; color: var(--soft); }
section { margin-bottom: 1.25rem; padding: 0.5rem 1.5rem 0.75rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 0.75rem; }
h2 { margin: 0.75rem 0 0.25rem; font-size: 0.8rem; letter-spacing: 0.08em;
  text-transform: uppercase; color: var(--soft); }
dl { margin: 0; }
dl div { display: flex; gap: 1rem; padding: 0.5rem 0; border-top: 1px solid var(--line); }
dl div:first-child { border-top: 0; }
dt { flex: 0 0 11rem; color: var(--soft); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; font-family: ui-monospace, monospace;
  font-size: 0.92rem; }
footer { color: var(--soft); font-size: 0.85rem; }
@media (max-width: 32rem) { dl div { display: block; } }
`;

/** The page may use its own style and its empty icon, and nothing else from anywhere. */
export const CONTENT_SECURITY_POLICY: string = [
  "default-src 'none'",
  `style-src 'sha256-${createHash("sha256").update(STYLE).digest("base64")}'`,
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** Renders the page; every text in it is escaped. */
export function renderPage(title: string, intro: string, sections: Section[]): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>${escapeHtml(title)}</h1>
<p>${escapeHtml(intro)}</p>
${sections.map(renderSection).join("\n")}
<footer>Reload to see the number of requests grow on the same connection.</footer>
</main>
</body>
</html>
`;
}

function renderSection({ heading, rows }: Section): string {
  const items = rows.map(([label, value]) =>
    `<div><dt>${escapeHtml(label)}</dt><dd>${escapeHtml(value)}</dd></div>`
  );
  return `<section>\n<h2>${escapeHtml(heading)}</h2>\n<dl>\n${items.join("\n")}\n</dl>\n</section>`;
}

const ENTITIES: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Makes `text` safe inside elements and quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
}
