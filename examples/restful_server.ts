/**
 * A JSON interface beside the pages that use it (ESP-IDF's `http_server/restful_server`): routes for
 * the former, a fetch handler for the latter, in one server.
 *
 *     deno run -A examples/restful_server.ts
 *     bun examples/restful_server.ts
 *
 * Then open https://localhost:8443/, or `curl -k https://localhost:8443/api/v1/system/info`. `WWW`
 * chooses the directory of the pages (default: examples/restful_www); examples/run.ts describes
 * `PORT` and `CERTS`.
 */
import { randomInt } from "node:crypto";
import { availableParallelism } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import * as v from "valibot";
import { serveFiles } from "../lib/web/files.ts";
import { type HttpdRequest, HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { run } from "./run.ts";

/** The settings of this example besides the server's options. */
export interface RestfulOptions {
  /** The directory of the pages. Default: restful_www beside this file. */
  readonly www?: string;
  /** Takes the colours that the light is set to. Default: `console.log`. */
  readonly log?: (line: string) => void;
}

const PAGES = fileURLToPath(new URL("restful_www", import.meta.url));

/** Makes the server; what no route is for is looked for among the pages. */
export function createServer(
  options: HttpsServerOptions,
  { www = PAGES, log = console.log }: RestfulOptions = {},
): HttpsServer {
  const limits = { maxBodyBytes: 10_239, ...options.limits };
  return new HttpsServer({ ...options, limits }, serveFiles(www))
    .route({ uri: "/api/v1/system/info", method: "GET", handler: sendInfo })
    .route({
      uri: "/api/v1/temp/raw",
      method: "GET",
      handler: (request) => request.sendJson({ raw: randomInt(20) }),
    })
    .route({
      uri: "/api/v1/light/brightness",
      method: "POST",
      handler: (request) => setBrightness(request, log),
    });
}

function sendInfo(request: HttpdRequest): void {
  const runtime = "Deno" in globalThis ? "Deno" : "Bun";
  request.sendJson({
    chip: process.arch,
    idf_version: `httpsd on ${runtime}`,
    cores: availableParallelism(),
  });
}

const level = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(255));
const BRIGHTNESS = v.strictObject({ red: level, green: level, blue: level });

async function setBrightness(request: HttpdRequest, log: (line: string) => void): Promise<void> {
  // A page of another site can post anything but this type without asking first.
  if (!/^application\/json\b/i.test(request.get("Content-Type") ?? "")) {
    return request.sendError(415, "Send application/json");
  }
  const result = v.safeParse(BRIGHTNESS, parseJson(await new Response(request.body).text()));
  if (!result.success) {
    return request.sendError(400, "Send red, green and blue, each from 0 to 255");
  }
  const { red, green, blue } = result.output;
  log(`Light: red ${red}, green ${green}, blue ${blue}`);
  request.send("Post control value successfully");
}

/** The value of a JSON text; `undefined` when it is none. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

if (import.meta.main) {
  const www = process.env["WWW"] ?? PAGES;
  await run((options) => createServer(options, { www }));
}
