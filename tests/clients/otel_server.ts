/**
 * A server with OpenTelemetry, for telemetry_otel_test.ts: serves some requests of its own, exports
 * what was recorded to OTEL_EXPORTER_OTLP_ENDPOINT, and ends. With the argument `sdk` it registers an
 * SDK; without one it is Deno that exports (`OTEL_DENO=true`).
 */
import { connect } from "node:tls";
import { once } from "node:events";
import process from "node:process";
import { context, metrics, trace } from "@opentelemetry/api";
import { instrument } from "../../lib/telemetry/otel.ts";
import { matchWildcard } from "../../lib/httpd/matcher.ts";
import { createCertificateAuthority } from "../../lib/tls/dev_certificates.ts";
import { HttpsServer } from "../../mod.ts";
import { upgradeWebSocket } from "../../lib/websocket/mod.ts";

const flush = process.argv.includes("sdk") ? await registerSdk() : async () => {};

async function registerSdk(): Promise<() => Promise<void>> {
  const { AsyncLocalStorageContextManager } = await import("@opentelemetry/context-async-hooks");
  const { OTLPMetricExporter } = await import("@opentelemetry/exporter-metrics-otlp-http");
  const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-http");
  const sdkMetrics = await import("@opentelemetry/sdk-metrics");
  const sdkTrace = await import("@opentelemetry/sdk-trace-base");
  const tracerProvider = new sdkTrace.BasicTracerProvider({
    spanProcessors: [new sdkTrace.BatchSpanProcessor(new OTLPTraceExporter())],
  });
  const exporter = new OTLPMetricExporter();
  const meterProvider = new sdkMetrics.MeterProvider({
    readers: [new sdkMetrics.PeriodicExportingMetricReader({ exporter })],
  });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager());
  trace.setGlobalTracerProvider(tracerProvider);
  metrics.setGlobalMeterProvider(meterProvider);
  return async () => {
    await tracerProvider.forceFlush();
    await meterProvider.forceFlush();
    await tracerProvider.shutdown();
    await meterProvider.shutdown();
  };
}

const ca = await createCertificateAuthority({ name: "Traces CA" });
const { cert, key } = await ca.issue({ names: ["localhost"] });
const server = new HttpsServer(
  {
    cert,
    key,
    hostname: "127.0.0.1",
    port: 0,
    strictSni: true,
    uriMatch: matchWildcard,
  },
  async (request) => {
    if (request.headers.has("upgrade")) {
      return upgradeWebSocket(request).response;
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (request.url.endsWith("/plain")) {
      trace.getTracer("program").startSpan("inside").end(); // a child, over the await
    }
    return new Response("hello");
  },
);
server.route({
  uri: "/items/*",
  method: "GET",
  handler: async (request) => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    await trace.getTracer("program").startActiveSpan("load", async (span) => {
      await null;
      span.end();
    });
    request.send("item");
  },
});
server.route({
  uri: "/broken",
  method: "GET",
  handler: () => {
    throw new Error("broken");
  },
});
server.addEventListener("error", () => {}); // they are meant
instrument(server);
await server.start();

const HANDSHAKE = "Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
  "Sec-WebSocket-Version: 13\r\n";

/** A client's Close frame. */
const CLOSE = Uint8Array.of(0x88, 0x80, 0, 0, 0, 0);

/** Sends requests on one connection, and waits for its end. */
async function send(requests: (string | Uint8Array)[], servername = "localhost"): Promise<void> {
  const { port } = server.address;
  const socket = connect({ port, host: "127.0.0.1", servername, ca: ca.cert });
  socket.on("error", () => {});
  socket.on("data", () => {});
  for (const request of requests) socket.write(request);
  await once(socket, "close").catch(() => {});
}

const trace0 = `traceparent: 00-${"1".repeat(32)}-${"2".repeat(16)}-01\r\n`;
const host = "Host: localhost\r\n";
await send([
  `GET /items/17?secret HTTP/1.1\r\n${host}${trace0}\r\n`,
  `BREW /none HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
]);
await send([`GET /broken HTTP/1.1\r\n${host}Connection: close\r\n\r\n`]);
await send([`GET /plain HTTP/1.1\r\n${host}Connection: close\r\n\r\n`]);
await send([ // pipelined
  `GET /first HTTP/1.1\r\n${host}\r\n`,
  `GET /second HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
]);
await send([`GET /ws HTTP/1.1\r\n${host}Connection: upgrade\r\n${HANDSHAKE}\r\n`, CLOSE]);
await send([], "unknown.example");
await server.stop();
await flush();
