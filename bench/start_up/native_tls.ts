/**
 * Starts and stops the runtime's own server with TLS.
 *
 * @module
 */
import { nativeServer } from "./native_server.ts";
import { certificateFile, printPeak } from "./peak.ts";

const cert = await certificateFile("server.pem");
const key = await certificateFile("server-key.pem");
await nativeServer({ cert, key })();
await printPeak();
