/**
 * Starts and stops httpsd without TLS.
 *
 * @module
 */
import { serve } from "../../mod.ts";
import { printPeak } from "./peak.ts";

const server = await serve(
  { transportMode: "insecure", hostname: "127.0.0.1", port: 0 },
  () => new Response("hello world"),
);
await server.stop();
await printPeak();
