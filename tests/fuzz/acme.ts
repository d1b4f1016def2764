/**
 * What a certificate authority answers, as targets of the fuzzer.
 *
 * @module
 */
import assert from "node:assert/strict";
import { chainOf, pemOf } from "../../lib/acme/chain.ts";
import { directoryOf } from "../../lib/acme/directory.ts";
import { linksOf } from "../../lib/acme/link.ts";
import { problemOf, retryAfter, wordsOf } from "../../lib/acme/problem.ts";
import { renewalInfoOf } from "../../lib/acme/renewal_info.ts";
import type { Answer } from "../../lib/acme/transport.ts";
import { AcmeError } from "../../lib/errors.ts";
import type { TextTarget } from "./engine.ts";

const NOW = Date.UTC(2026, 0, 1);
const WEEK_MS = 604_800_000;

function answer(body: string, mediaType: string, fields: Record<string, string> = {}): Answer {
  const url = new URL("https://ca.example/a/b");
  return { url, status: 200, mediaType, body, field: (name) => fields[name] };
}

/** What a reader says, or its own refusal. */
function said(read: () => unknown): string {
  try {
    return JSON.stringify(read());
  } catch (error) {
    if (error instanceof AcmeError && error.code === "ACME_BAD_ANSWER") return error.message;
    throw error;
  }
}

/** A line of JSON without what terminals would obey. */
function assertClean(text: string): void {
  for (const character of text) {
    const code = character.codePointAt(0)!;
    assert.ok(code >= 0x20 && !(code >= 0x7f && code < 0xa0), `character ${code} in a message`);
  }
}

const problems: TextTarget = {
  name: "acme-problem",
  corpus: [
    '{"type":"urn:ietf:params:acme:error:badNonce","detail":"JWS has a bad nonce","status":400}',
    '{"type":"about:blank","subproblems":[{"type":"a","identifier":{"type":"dns","value":"b"}}]}',
    '{"detail":"\\u001b[2J\\r\\n\\u202e","status":"x","subproblems":[null,[],{"identifier":null}]}',
    "[]",
    "null",
  ],
  tokens: ['"type":', '"detail":', '"subproblems":[', '"identifier":', "null", "{", "}", "\\u001b"],
  reaches: [/^no reason/, /badNonce/, /^about:blank/],
  read(text) {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return "no JSON";
    }
    const problem = problemOf(value);
    const words = wordsOf(problem);
    assertClean(words);
    assert.ok(words.length < 5_000, "a long message");
    return words;
  },
};

const links: TextTarget = {
  name: "acme-link",
  corpus: [
    '<https://ca.example/a>;rel="alternate", </b>; rel=alternate; title="a, b"',
    '<https://ca.example/directory>;rel="index", <c>;title="x\\"y";rel="up alternate"',
    "<<>>;rel=alternate,,",
    '<a>;rel="alternate',
  ],
  tokens: ["<", ">", ";", ",", "=", '"', "\\", "rel=", "alternate", '<a>;rel="alternate"'],
  reaches: [/^\["https/, /^\[\]/, /^\["a"/],
  read(text) {
    const targets = linksOf(text, "alternate");
    assert.ok(targets.length <= 10);
    for (const target of targets) assert.ok(!/[<>]/.test(target) && text.includes(`<${target}>`));
    return JSON.stringify(targets);
  },
};

const waits: TextTarget = {
  name: "acme-retry-after",
  corpus: [
    "120",
    "0",
    "-1",
    "1e9",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Sun, 06 Nov 1994 08:49:37 GMT",
  ],
  tokens: ["9999999999", "0", "GMT", "Dec", ":"],
  reaches: [/^undefined$/, /^0$/, /^604800000$/, /^120000$/],
  read(text) {
    const ms = retryAfter(text, NOW);
    assert.ok(ms === undefined || ms >= 0 && ms <= WEEK_MS);
    return String(ms);
  },
};

const windows: TextTarget = {
  name: "acme-renewal-info",
  corpus: [
    '{"suggestedWindow":{"start":"2026-01-03T04:00:00Z","end":"2026-01-03T05:00:00+01:30"}}',
    '{"suggestedWindow":{"start":"2025-01-02T04:00:00.5Z","end":"2025-01-03T04:00:00Z"},' +
    '"explanationURL":"https://ca.example/why"}',
    '{"suggestedWindow":null}',
    "[]",
  ],
  tokens: [
    "2026-01-03T04:00:00Z",
    '"start":',
    '"end":',
    "null",
    "javascript:",
    '"explanationURL":',
  ],
  reaches: [/^\{"start":/, /no window of time/, /explanationUrl/, /no JSON object/],
  read(text) {
    return said(() => {
      const info = renewalInfoOf(answer(text, "application/json"), NOW);
      assert.ok(info.start < info.end && info.retryAfterMs >= 60_000);
      assert.match(info.explanationUrl ?? "https:", /^https?:/);
      return info;
    });
  },
};

const at = (name: string): string => `"${name}":"https://ca.example/${name}"`;
const RESOURCES = ["newNonce", "newAccount", "newOrder", "revokeCert", "keyChange"].map(at).join();

const directories: TextTarget = {
  name: "acme-directory",
  corpus: [
    `{${RESOURCES},${at("renewalInfo")}}`,
    `{${RESOURCES},"meta":{"termsOfService":"https://a/","profiles":{"a":"b","__proto__":1}}}`,
    `{${RESOURCES.replace("ca.example", "evil.example")}}`,
    `{${RESOURCES},"meta":{"externalAccountRequired":true,"website":7,"profiles":[]}}`,
  ],
  tokens: ["https://", "evil.example", "//", "@", "__proto__", "null", '"meta":{', "\\u0000"],
  reaches: [/^\{"newNonce"/, /of another host/, /gives no URL/, /cannot be read/],
  read(text) {
    return said(() => {
      const found = directoryOf(answer(text, "application/json"));
      const { newNonce, newAccount, newOrder, revokeCert, keyChange, renewal } = found;
      for (const url of [newNonce, newAccount, newOrder, revokeCert, keyChange, renewal]) {
        assert.equal(url?.origin ?? "https://ca.example", "https://ca.example");
      }
      assert.equal(Object.getPrototypeOf(found.profiles), Object.prototype);
      return found;
    });
  },
};

/** Makes the target of chains, which begins with real certificates. */
export function chainTarget(cert: string, other: string): TextTarget {
  return {
    name: "acme-chain",
    corpus: [
      cert,
      cert + other,
      `subject=a\r\n${cert.replaceAll("\n", "\r\n")}`,
      "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
    tokens: ["-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", "PRIVATE KEY", "\n"],
    reaches: [/^"-----BEGIN/, /cannot be read/, /certificates alone/],
    read(text) {
      return said(() => {
        const pem = pemOf(chainOf(answer(text, "application/pem-certificate-chain")));
        assert.match(
          pem,
          /^(?:-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n){1,10}$/,
        );
        return pem;
      });
    },
  };
}

/** All targets but that of chains. */
export const acmeTargets: readonly TextTarget[] = [problems, links, waits, windows, directories];
