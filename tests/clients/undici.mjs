/**
 * The package undici on Node, with `allowH2`: prints what it has seen as JSON. Arguments: the
 * server's origin, and the file of its authority.
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { Agent, fetch, request } from "undici";

const [origin, caFile] = process.argv.slice(2);
const dispatcher = new Agent({
  allowH2: true,
  connections: 1,
  pipelining: 100,
  connect: { ca: readFileSync(caFile) },
});
const get = (path, options) => fetch(origin + path, { dispatcher, ...options });

const seen = {};
seen.first = await (await get("/connection")).json();
seen.many = [];
for (const answer of await Promise.all(Array.from({ length: 30 }, () => get("/connection")))) {
  seen.many.push((await answer.json()).session);
}
const body = new Uint8Array(1_000_000).fill(7);
const echoed = await get("/echo", { method: "POST", body });
seen.echoed = Buffer.compare(await echoed.bytes(), body) === 0;
const leaving = new AbortController();
await get("/wait", { signal: leaving.signal });
leaving.abort();
const posted = await request(`${origin}/echo`, { method: "POST", body: "text", dispatcher });
seen.posted = [posted.statusCode, await posted.body.text()];
await dispatcher.close();
console.log(JSON.stringify(seen));
