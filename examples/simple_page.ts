/** The page of simple.ts: one visitor's own connection, as self-contained HTML. */
import { createHash } from "node:crypto";
import { type CertificateStats, type ClientHello, type TlsInfo, tlsVersionName } from "../mod.ts";
import { SCRIPT, STYLE } from "./simple_look.ts";
import { GROUPS, SIGNATURES, SUITES } from "./simple_tables.ts";

/** What the page shows. */
export interface View {
  readonly runtime: string;
  /** Where the page is, as the visitor has asked for it. */
  readonly url: string;
  readonly session: {
    readonly id: number;
    readonly requests: number;
    readonly connectedAt: Date;
    readonly address: string;
  };
  readonly tls: TlsInfo | undefined;
  /** The certificate that the visitor was shown. */
  readonly certificate: CertificateStats | undefined;
  /** For the file with a client certificate; `undefined`: there is none to be had. */
  readonly password: string | undefined;
}

/** What to read next: the paths on this server, and the files. */
export const READABLE: ReadonlyMap<string, string> = new Map(
  [
    "docs/tls.md",
    "docs/events.md",
    "docs/inspector.md",
    "docs/certificates.md",
    "examples/README.md",
    "examples/simple.ts",
    "examples/simple_http.ts",
    "examples/mtls.ts",
  ].map((file) => [`/${file}`, file]),
);

/** The page may use its own style and script, and ask this server; nothing else from anywhere. */
export const CONTENT_SECURITY_POLICY: string = [
  "default-src 'none'",
  `script-src '${hashOf(SCRIPT)}'`,
  `style-src '${hashOf(STYLE)}'`,
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join("; ");

function hashOf(text: string): string {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}

/** HTML that is safe already. */
class Html {
  readonly #text: string;
  constructor(text: string) {
    this.#text = text;
  }
  toString(): string {
    return this.#text;
  }
}

type Part = Html | string | number | undefined | readonly Part[];

/** Makes HTML of a template: every text that is put in is escaped, what is HTML already is not. */
function markup(strings: TemplateStringsArray, ...parts: readonly Part[]): Html {
  return new Html(strings.reduce((all, text, i) => all + written(parts[i - 1]) + text));
}

function written(part: Part): string {
  if (part === undefined) return "";
  if (Array.isArray(part)) return part.map(written).join("");
  return part instanceof Html ? String(part) : escapeHtml(String(part));
}

/** Renders the page; every text in it is escaped. */
export function renderPage(view: View): string {
  const { runtime, tls } = view;
  return String(markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Your connection · httpsd</title>
<link rel="icon" href="data:,">
<style>${new Html(STYLE)}</style>
</head>
<body>
<header>
<p class="brand">httpsd <span>on ${runtime}</span></p>
<h1>Your connection</h1>
<p class="lead">What your browser said before it asked for this page, and what the server made of it.
Servers mostly throw it away; this one hands it to its program.</p>
${tls === undefined ? undefined : headline(tls)}
</header>
<main>
${tls?.hello === undefined ? undefined : fingerprint(tls.hello)}
<div class="pair">
<div class="stack">
${tls === undefined ? undefined : agreed(tls)}
${connection(view)}
${served(view)}
</div>
${tls?.hello === undefined ? undefined : offered(tls.hello, tls)}
</div>
<div class="pair">
${comeBack(view)}
<section aria-labelledby="live">
<h2 id="live">Happening on it now</h2>
<p class="about">The server's own events of this one connection, as they are dispatched.</p>
<p><button id="ping" type="button">Send a request</button> <span id="state" class="soft">connecting …</span></p>
<ol id="events" tabindex="0" aria-label="Events, the latest first"></ol>
</section>
</div>
</main>
<footer>
<h2>Next</h2>
<ul>
<li><a href="/examples/simple.ts">This page's server</a> in one file</li>
<li><a href="/examples/simple_http.ts">simple_http.ts</a>, the next example, and <a href="/examples/README.md">all of them</a></li>
<li><a href="/docs/tls.md">What TLS shows</a>, <a href="/docs/events.md">every event</a>, <a href="/docs/certificates.md">certificates for real names</a></li>
<li><a href="/docs/inspector.md">The inspector</a>: the same for all connections of a server</li>
</ul>
</footer>
<script>${new Html(SCRIPT)}</script>
</body>
</html>
`);
}

function section(id: string, title: string, content: Html): Html {
  return markup`<section aria-labelledby="${id}">
<h2 id="${id}">${title}</h2>
${content}
</section>`;
}

function rows(rows: readonly (readonly [label: string, value: Part])[]): Html {
  return markup`<dl>${
    rows.map(([label, value]) => markup`<div><dt>${label}</dt><dd>${value}</dd></div>\n`)
  }</dl>`;
}

/** A moment, which the script turns into the visitor's local time. */
function moment(date: Date): Html {
  return markup`<time datetime="${date.toISOString()}">${date.toISOString()}</time>`;
}

const HTTP: Readonly<Record<string, string>> = { "h2": "HTTP/2", "http/1.1": "HTTP/1.1" };

function headline({ protocol, alpn, resumed, handshakeMs, authorized }: TlsInfo): Html {
  const facts = [
    [protocol.replace("TLSv", "TLS "), "version"],
    [HTTP[alpn ?? ""] ?? "HTTP/1.1", "protocol"],
    [
      handshakeMs === undefined ? "–" : `${handshakeMs.toFixed(1)} ms`,
      resumed ? "resumed handshake" : "full handshake",
    ],
    [
      authorized ? "known" : "anonymous",
      authorized ? "your certificate is verified" : "no client certificate",
    ],
  ] as const;
  return markup`<ul class="facts">${
    facts.map(([value, label]) =>
      markup`<li><strong>${value}</strong> <span>${label}</span></li>\n`
    )
  }</ul>`;
}

const JA4_TRANSPORT: Readonly<Record<string, string>> = { t: "TCP", q: "QUIC" };

/** The fingerprint, taken apart as its authors define it (FoxIO, JA4). */
function fingerprint({ ja4, serverName }: ClientHello): Html {
  const [a = "", b = "", c = ""] = ja4.split("_");
  const [, transport = "", version = "", , suites = "", extensions = "", alpn = ""] =
    /^(.)(..)(.)(..)(..)(..)$/.exec(a) ?? [];
  const inWords = [
    JA4_TRANSPORT[transport] ?? transport,
    `TLS ${version.split("").join(".")}`,
    serverName === undefined ? "no server name" : "a server name",
    `${Number(suites)} cipher suites`,
    `${Number(extensions)} extensions`,
    alpn === "00" ? "no protocol" : `${alpn} first`,
  ].join(", ");
  return section(
    "ja4",
    "Your fingerprint",
    markup`
      <p class="about">JA4, made of your ClientHello alone. It names the program, not you: everyone with
      your browser has it, and a script that calls itself your browser seldom does.</p>
      <p class="ja4"
        aria-label="${ja4}"><span>${a}</span><i>_</i><span>${b}</span><i>_</i><span>${c}</span></p>
      <ol class="legend">
        <li><code>${a}</code> ${inWords}</li>
        <li><code>${b}</code> a hash of the cipher suites, sorted</li>
        <li><code>${c}</code> a hash of the extensions, sorted, and of the signature algorithms</li>
      </ol>
    `,
  );
}

function agreed(tls: TlsInfo): Html {
  const { peerCertificate, authorized, authorizationError } = tls;
  const own = peerCertificate === undefined
    ? "none shown"
    : `${peerCertificate.subject.replaceAll("\n", ", ")}${
      authorized ? "" : ` (not verified: ${authorizationError})`
    }`;
  return section(
    "agreed",
    "What was agreed on",
    rows([
      ["Version", tls.protocol],
      ["Cipher suite", tls.cipher],
      ["Server name (SNI)", tls.sni ?? "none sent"],
      ["Protocol (ALPN)", tls.alpn ?? "none agreed"],
      ["Handshake", tls.resumed ? "resumed an earlier session" : "full"],
      ["Your certificate", own],
    ]),
  );
}

/** How many of a list are shown before the rest is folded. */
const SHOWN = 6;

function offered(hello: ClientHello, { protocol, alpn, cipher }: TlsInfo): Html {
  const named = (names: Readonly<Record<number, string>>, numbers: readonly number[]) =>
    numbers.map((number) => names[number] ?? `0x${number.toString(16).padStart(4, "0")}`);
  const lists: [string, readonly string[], string | undefined][] = [
    ["Versions", hello.versions.map(tlsVersionName), protocol],
    ["Protocols", hello.alpnProtocols, alpn],
    ["Cipher suites", named(SUITES, hello.cipherSuites), cipher],
    ["Groups", named(GROUPS, hello.groups), undefined],
    ["Signatures", named(SIGNATURES, hello.signatureAlgorithms), undefined],
    ["Extensions", hello.extensions.map(String), undefined],
  ];
  return section(
    "offered",
    "What you offered",
    markup`
      <p class="about">Your ClientHello, in your order of preference. What was chosen is marked.</p>
      ${rows(lists.map(([label, values, chosen]) => [label, chips(values, chosen)]))}
    `,
  );
}

function chips(values: readonly string[], chosen: string | undefined): Html {
  if (values.length === 0) return markup`none`;
  const chip = (value: string) =>
    value === chosen
      ? markup`<mark>${value}<span class="unseen"> (chosen)</span></mark> `
      : markup`<span class="chip">${value}</span> `;
  const rest = values.slice(SHOWN);
  if (rest.length === 0) return markup`${values.map(chip)}`;
  return markup`${values.slice(0, SHOWN).map(chip)}<details><summary>${rest.length} more</summary>${
    rest.map(chip)
  }</details>`;
}

function connection({ session }: View): Html {
  return section(
    "connection",
    "Connection",
    rows([
      ["Your address", session.address],
      ["Connection", markup`#${session.id}, since ${moment(session.connectedAt)}`],
      ["Requests on it", String(session.requests)],
    ]),
  );
}

function served({ certificate }: View): Html {
  if (certificate === undefined) return markup``;
  const { names, validTo, fingerprint256 } = certificate;
  return section(
    "served",
    "The certificate you were shown",
    rows([
      ["Names", names.join(", ")],
      ["Expires", moment(validTo)],
      ["SHA-256", fingerprint256.replaceAll(":", "").toLowerCase()],
    ]),
  );
}

function comeBack({ url, tls, password }: View): Html {
  if (tls?.authorized === true) {
    const { subject, issuer, validTo } = tls.peerCertificate!;
    return section(
      "back",
      "Welcome back",
      markup`
        <p
          class="about">You have proved that you hold the key of this certificate. No password was sent.</p>
        ${
        rows([
          ["Subject", subject.replaceAll("\n", ", ")],
          ["Issuer", issuer.replaceAll("\n", ", ")],
          ["Expires", moment(new Date(validTo))],
        ])
      }
      `,
    );
  }
  if (password === undefined) return markup``;
  return section(
    "back",
    "Come back with a certificate",
    markup`
      <p
        class="about">The server's development authority signs one for you, for 30 days. Your browser then
      shows it in the handshake: no password is sent, so none can be stolen.</p>
      <form method="post" action="/client-certificate">
        <p><label for="name">Your name</label> <input id="name" name="name" required maxlength="40" autocomplete="off" value="Visitor"></p>
        <p><label for="password">Password of the file</label> <input id="password" name="password" readonly value="${password}"></p>
        <p><button type="submit" class="main">Get my certificate</button></p>
      </form>
      <ol class="steps">
        <li>Keep the password: the file asks for it, and this page shows another next time.</li>
        <li>Import <code>httpsd-client.p12</code>: in Firefox and Chrome under Settings, Privacy and security,
      Certificates, Your certificates; elsewhere by opening it.</li>
        <li>Restart the browser, since it shows a certificate on new connections only, and come back.</li>
      </ol>
      <details>
        <summary>Or with curl</summary>
        <pre tabindex="0">curl --cacert certs/ca.pem --cert-type P12 \\
  --cert httpsd-client.p12:${password} \\
  ${url}</pre>
      </details>
    `,
  );
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
