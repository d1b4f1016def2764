/**
 * Server-sent events: a page that shows the server's clock, and goes on where it was when the
 * connection breaks.
 *
 *     deno run -A examples/sse.ts
 *     bun examples/sse.ts
 *
 * Open the page, or: `curl -Nk https://localhost:8443/ticks -H 'Last-Event-ID: 41'`.
 * examples/run.ts describes `PORT` and `CERTS`.
 */
import { setTimeout as delay } from "node:timers/promises";
import { lastEventId, type ServerSentEvent, serverSentEvents } from "../lib/web/sse.ts";
import { HttpsServer, type HttpsServerOptions } from "../mod.ts";
import { run } from "./run.ts";

const PAGE = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Ticks</title></head>
<body>
<h1 id="state">connecting</h1>
<ol id="ticks" reversed></ol>
<script>
const source = new EventSource("/ticks");
const state = document.getElementById("state");
source.onopen = () => state.textContent = "connected";
source.onerror = () => state.textContent = "coming back";
source.addEventListener("tick", ({ data, lastEventId }) => {
  const item = document.createElement("li");
  item.value = lastEventId;
  item.textContent = data;
  document.getElementById("ticks").prepend(item);
});
</script>
</body>
</html>
`;

/** Makes the server; it ticks every `intervalMs`. */
export function createServer(options: HttpsServerOptions, intervalMs = 1000): HttpsServer {
  return new HttpsServer(options, (request) => {
    switch (new URL(request.url).pathname) {
      case "/":
        return new Response(PAGE, { headers: { "content-type": "text/html; charset=utf-8" } });
      case "/ticks":
        return serverSentEvents(request, ticks(request, intervalMs));
      default:
        return new Response("Not found\n", { status: 404 });
    }
  });
}

/** Counts on from the last tick that the client saw, until the client leaves. */
async function* ticks(request: Request, intervalMs: number): AsyncGenerator<ServerSentEvent> {
  const seen = Number(lastEventId(request) ?? 0);
  for (let id = Number.isSafeInteger(seen) ? seen + 1 : 1;; id++) {
    yield { id: String(id), event: "tick", data: new Date().toISOString(), retry: 1000 };
    await delay(intervalMs);
  }
}

if (import.meta.main) await run((options) => createServer(options));
