/**
 * What watches a server of httpsd, by name: each observer alone, and more of them together.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { HttpsServer } from "../../mod.ts";
import type { Parameters } from "./work.ts";

/** Begins to watch a server. */
type Watch = (server: HttpsServer, parameters: Parameters) => void | Promise<void>;

const SCRAPED_MS = 1_000;

/** A module of this httpsd, or of the one of another folder. */
const load = async <T>({ root = join(import.meta.dirname!, "../..") }: Parameters, path: string) =>
  await import(join(root, "lib", path)) as T;

const accessLog = async (parameters: Parameters) =>
  (await load<typeof import("../../lib/telemetry/access_log.ts")>(
    parameters,
    "telemetry/access_log.ts",
  )).accessLog;

const watches = {
  /** The event is listened for. */
  event(server) {
    server.addEventListener("http:exchange", () => {});
  },
  /** Metrics, scraped once a second. */
  async metrics(server, parameters) {
    const { metrics } = await load<typeof import("../../lib/telemetry/metrics.ts")>(
      parameters,
      "telemetry/metrics.ts",
    );
    const { text } = metrics(server);
    setInterval(() => text("openmetrics"), SCRAPED_MS);
  },
  /** An access log whose lines are thrown away. */
  async log(server, parameters) {
    (await accessLog(parameters))(server, { sink: () => {} });
  },
  /** The same in JSON. */
  async json(server, parameters) {
    (await accessLog(parameters))(server, { format: "json", sink: () => {} });
  },
  /** An access log in a file. */
  async file(server, parameters) {
    const file = createWriteStream(join(process.env["CERTIFICATES"]!, `log-${process.pid}`));
    (await accessLog(parameters))(server, {
      sink: (lines) =>
        new Promise<void>((taken, failed) =>
          file.write(lines, (error) => error ? failed(error) : taken())
        ),
    });
  },
  /** An inspector that nothing looks at. */
  async inspector(server, parameters) {
    await inspector(server, parameters);
  },
  /** An inspector that is looked at once a second. */
  async looked(server, parameters) {
    const { fetch } = await inspector(server, parameters);
    const look = () => fetch(new Request("http://localhost/?state"));
    look();
    setInterval(look, SCRAPED_MS);
  },
  /** OpenTelemetry's API without an SDK, which drops all of it. */
  async api(server, parameters) {
    await instrument(server, parameters);
  },
  /** Its SDK, which has the spans and metrics sent to a collector that throws them away. */
  async sdk(server, parameters) {
    await startSdk();
    await instrument(server, parameters);
  },
  /** The same for one trace in a hundred. */
  async sampled(server, parameters) {
    await startSdk(0.01);
    await instrument(server, parameters);
  },
} satisfies Record<string, Watch>;

/** The name of an observer. */
export type Observer = keyof typeof watches;

/** Has those watch a server that its parameters name. */
export async function watch(server: HttpsServer, parameters: Parameters): Promise<void> {
  for (const name of parameters.watched ?? []) await watches[name](server, parameters);
}

async function inspector(server: HttpsServer, parameters: Parameters) {
  const { inspector } = await load<typeof import("../../lib/inspector/mod.ts")>(
    parameters,
    "inspector/mod.ts",
  );
  return inspector(server);
}

async function instrument(server: HttpsServer, parameters: Parameters) {
  const { instrument } = await load<typeof import("../../lib/telemetry/otel.ts")>(
    parameters,
    "telemetry/otel.ts",
  );
  instrument(server);
}

/** Registers the SDK as docs/telemetry.md has it. */
async function startSdk(sampled = 1): Promise<void> {
  const url = `http://127.0.0.1:${await startCollector()}/`;
  const { context, metrics, trace } = await import("@opentelemetry/api");
  const { AsyncLocalStorageContextManager } = await import("@opentelemetry/context-async-hooks");
  const { OTLPMetricExporter } = await import("@opentelemetry/exporter-metrics-otlp-http");
  const { OTLPTraceExporter } = await import("@opentelemetry/exporter-trace-otlp-http");
  const { MeterProvider, PeriodicExportingMetricReader } = await import(
    "@opentelemetry/sdk-metrics"
  );
  const {
    BasicTracerProvider,
    BatchSpanProcessor,
    ParentBasedSampler,
    TraceIdRatioBasedSampler,
  } = await import("@opentelemetry/sdk-trace-base");
  context.setGlobalContextManager(new AsyncLocalStorageContextManager());
  trace.setGlobalTracerProvider(
    new BasicTracerProvider({
      sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(sampled) }),
      spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url }))],
    }),
  );
  metrics.setGlobalMeterProvider(
    new MeterProvider({
      readers: [new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter({ url }) })],
    }),
  );
}

/** Starts a collector in a process of its own, which ends with this one; resolves with its port. */
async function startCollector(): Promise<number> {
  const file = fileURLToPath(new URL("../clients/collector.mjs", import.meta.url));
  const args = "Deno" in globalThis ? ["run", "-A", "--no-check", file] : [file];
  const collector = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  return await new Promise((resolve, reject) => {
    collector.once("exit", (code) => reject(new Error(`The collector ended with ${code}`)));
    collector.stdout.once("data", (text) => resolve(Number(text)));
  });
}
