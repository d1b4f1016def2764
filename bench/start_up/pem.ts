/**
 * Starts and stops httpsd with a certificate of PEM.
 *
 * @module
 */
import { serve } from "../../mod.ts";
import { certificateFile, printPeak } from "./peak.ts";

const server = await serve(
  {
    cert: await certificateFile("server.pem"),
    key: await certificateFile("server-key.pem"),
    hostname: "127.0.0.1",
    port: 0,
  },
  () => new Response("hello world"),
);
await server.stop();
await printPeak();
