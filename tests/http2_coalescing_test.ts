/**
 * One connection for several names, as browsers use it (RFC 9113 section 9.1.1), and 421 where it may
 * not be used for one of them.
 */
import assert from "node:assert/strict";
import { describe } from "bun:test";
import type { HttpsServerOptions } from "../lib/config.ts";
import { Page, testWithChromium } from "./chromium.ts";
import { started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { clientCa, pairFor, serverCa } from "./tls_support.ts";

assertRuntime();
stopServersAfterAll();

/** A request as the server has seen it: its host, or the code of the error that it was answered. */
interface Seen {
  host: string;
  session: number;
  sni: string | undefined;
}

/** Opens a page of a.site.localhost that fetches from b.site.localhost; returns what the server has seen. */
async function visit(options: HttpsServerOptions): Promise<{ seen: Seen[]; refused: Seen[] }> {
  const seen: Seen[] = [];
  const refused: Seen[] = [];
  const { server, port } = await started(
    (request, { session }) => {
      const { hostname, pathname } = new URL(request.url);
      if (pathname === "/favicon.ico") return new Response(null, { status: 404 });
      seen.push({ host: hostname, session: session.id, sni: session.tls?.sni });
      return new Response("page", { headers: { "Content-Type": "text/html" } });
    },
    { ...await pairFor("a.site.localhost", "b.site.localhost"), http1: false, ...options },
    "tls",
  );
  server.addEventListener("http:error", ({ error, session }) => {
    refused.push({ host: error.code, session: session!.id, sni: session!.tls?.sni });
  });
  await using page = await Page.open(`https://a.site.localhost:${port}/`, serverCa.cert);
  // Requests without credentials have connections of their own.
  const how = JSON.stringify({ mode: "no-cors", credentials: "include" });
  await page.evaluate(`fetch("https://b.site.localhost:${port}/x", ${how})`);
  return { seen, refused };
}

describe("Chromium, over HTTP/2", () => {
  testWithChromium("asks for two names of a certificate on one connection", async () => {
    const { seen, refused } = await visit({});
    const [first, second] = seen;
    assert.deepEqual(seen.map(({ host, sni }) => [host, sni]), [
      ["a.site.localhost", "a.site.localhost"],
      ["b.site.localhost", "a.site.localhost"],
    ]);
    assert.equal(second!.session, first!.session);
    assert.deepEqual(refused, []);
  });

  testWithChromium("takes another connection where it is answered 421", async () => {
    const { seen, refused } = await visit({
      identities: [{
        ...await pairFor("b.site.localhost"),
        clientAuth: { ca: clientCa.cert, mode: "optional" },
      }],
    });
    const [first, second] = seen;
    assert.deepEqual(seen.map(({ host, sni }) => [host, sni]), [
      ["a.site.localhost", "a.site.localhost"],
      ["b.site.localhost", "b.site.localhost"],
    ]);
    assert.notEqual(second!.session, first!.session);
    const { session } = first!;
    assert.deepEqual(refused, [{ host: "MISDIRECTED_REQUEST", session, sni: "a.site.localhost" }]);
  });
});
