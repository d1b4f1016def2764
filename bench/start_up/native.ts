/**
 * Starts and stops the runtime's own server without TLS.
 *
 * @module
 */
import { nativeServer } from "./native_server.ts";
import { printPeak } from "./peak.ts";

await nativeServer({})();
await printPeak();
