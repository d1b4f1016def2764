/**
 * What a runtime's own `fetch()` speaks, by itself and where it is asked for HTTP/2: prints the facts
 * of the connection that the server has seen, as JSON. Arguments: the server's origin, the file of
 * its authority, and `http2` to ask for that.
 */
import { readFileSync } from "node:fs";
import process from "node:process";

const [origin, caFile, version] = process.argv.slice(2);
const ca = readFileSync(caFile, "utf8");
const asked = version === "http2";

/** The options that only this runtime has. */
const options = "Deno" in globalThis
  // deno-lint-ignore no-undef
  ? { client: Deno.createHttpClient({ caCerts: [ca], http1: !asked }) }
  : { tls: { ca }, ...(asked ? { protocol: "http2" } : {}) };

const seen = {};
seen.first = await (await fetch(`${origin}/connection`, options)).json();
const answers = await Promise.all(
  Array.from({ length: 30 }, () => fetch(`${origin}/connection`, options)),
);
seen.many = [];
for (const answer of answers) seen.many.push((await answer.json()).session);
const body = new Uint8Array(1_000_000).fill(7);
const echoed = await fetch(`${origin}/echo`, { method: "POST", body, ...options });
const bytes = new Uint8Array(await echoed.arrayBuffer());
seen.echoed = bytes.length === body.length && bytes.every((byte) => byte === 7);
console.log(JSON.stringify(seen));
process.exit(0); // it may keep its connection
