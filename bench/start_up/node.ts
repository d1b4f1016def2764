/**
 * Starts and stops a server of `node:net`, with `node:tls` loaded: what every server on those
 * modules pays.
 *
 * @module
 */
import { once } from "node:events";
import { createServer } from "node:net";
import { createSecureContext } from "node:tls";
import { printPeak } from "./peak.ts";

if (createSecureContext === undefined) throw new Error("There is no TLS");
const server = createServer(() => {}).listen(0, "127.0.0.1");
await once(server, "listening");
server.close();
await once(server, "close");
await printPeak();
