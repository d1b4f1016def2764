/** A cluster of two workers with an inspector each, from the port of the first argument on. */
import process from "node:process";
import { cluster } from "../../lib/cluster/mod.ts";
import { inspect } from "../../lib/inspector/mod.ts";
import { serve } from "../../mod.ts";

await cluster({ workers: 2, log: false }, async () => {
  const server = await serve({
    transportMode: "insecure",
    hostname: "127.0.0.1",
    port: 0,
  }, () => new Response("hello\n"));
  await inspect(server, { port: Number(process.argv[2]) });
  const refused = await inspect(server).catch(({ message }: Error) => message);
  console.log(`REFUSED ${refused}`);
});
console.log("READY");
