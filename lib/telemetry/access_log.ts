/**
 * Access logs: a line for each request, in the Common or Combined Log Format or as JSON, or a record
 * for a logger of the program's.
 *
 * @example
 * ```ts
 * import { serve } from "@httpsd/httpsd";
 * import { accessLog } from "@httpsd/httpsd/access-log";
 *
 * const server = await serve({ cert, key, port: 8443 }, () => new Response("hello\n"));
 * const log = accessLog(server, { format: "combined" }); // to standard output
 * console.log(log.dropped);
 * ```
 *
 * @module
 */
import * as v from "valibot";
import { contain, watch } from "../contain/callbacks.ts";
import type { ExchangeReport } from "../http/exchange_report.ts";
import { adviceFrom, checkOptions, hook, members, oneOf, optionError, size } from "../options.ts";
import { writeToStdout } from "../runtime/stdout.ts";
import { type AccessLogFormat, type AccessRecord, accessRecord, writeLine } from "./access_line.ts";
import { BoundedQueue } from "./bounded_queue.ts";
import { LineBuffer } from "./line_buffer.ts";
import { assertObservable, type Observable } from "./observable.ts";

export type { AccessLogFormat, AccessRecord } from "./access_line.ts";
export type { Observable } from "./observable.ts";

/** The options of {@linkcode accessLog}. */
export interface AccessLogOptions {
  /**
   * What a line looks like: `"common"` or `"combined"` (NCSA, Apache), or `"json"` with the names of
   * the Elastic Common Schema. Default: `"combined"`.
   */
  readonly format?: AccessLogFormat;
  /**
   * Takes one or more whole lines, each with its `\n`. A promise that it returns is waited for before
   * the next call. Default: writes them to standard output.
   */
  readonly sink?: (lines: string) => unknown;
  /**
   * Takes a record for each request in place of lines, to pass it to a logger. A promise that it
   * returns is waited for. Default: lines are made.
   */
  readonly record?: (record: AccessRecord) => unknown;
  /**
   * How many bytes of lines may wait for the sink, with what it has not finished; records count as
   * about 1 KiB. What does not fit is dropped, and counted. Default: 1 MiB.
   */
  readonly maxBufferedBytes?: number;
  /** Which requests are logged. What it throws is reported, and the request is logged. Default: all. */
  readonly filter?: (exchange: ExchangeReport) => boolean;
  /**
   * Takes what the sink threw or rejected with, once until it succeeds again, and what the filter
   * threw. Default: `console.error`.
   */
  readonly onError?: (error: unknown) => void;
}

/** An access log at work. */
export interface AccessLog {
  /** How many requests were handed to the sink, which took them. */
  readonly written: number;
  /** How many were dropped, since the sink did not take them in time. */
  readonly dropped: number;
  /** How many the sink failed to take. */
  readonly failed: number;
  /** How many bytes wait for the sink. */
  readonly bufferedBytes: number;
  /** Resolves when the sink has taken all that waits. */
  flush(): Promise<void>;
  /**
   * Logs no further request, also none that is under way, and resolves when the sink has taken all
   * that waits.
   */
  stop(): Promise<void>;
}

const CALLEE = "accessLog()";
const RECORD_BYTES = 1_024;

const SCHEMA = members({
  format: v.optional(oneOf("common", "combined", "json"), "combined"),
  sink: hook<(lines: string) => unknown>(),
  record: hook<(record: AccessRecord) => unknown>(),
  maxBufferedBytes: size(1024 * 1024),
  filter: hook<(exchange: ExchangeReport) => boolean>(),
  onError: hook<(error: unknown) => void>(),
}, {
  advice: adviceFrom({
    stream: "write sink: (lines) => stream.write(lines)",
    write: "write sink",
    logger: "write record: (record) => logger.info(record)",
    log: "write sink, or record",
    skip: "write filter: (exchange) => …",
    immediate: "leave it out: a request is logged when it is over",
  }),
});

/**
 * Logs each request that a server or an edge app answers, when it is over. A slow sink delays no
 * request: what waits for it is bounded, and the rest dropped and counted.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function accessLog(target: Observable, options: AccessLogOptions = {}): AccessLog {
  assertObservable(CALLEE, target);
  const { format, sink, record, maxBufferedBytes: max, filter, onError = console.error } =
    checkOptions(CALLEE, SCHEMA, options);
  if (sink !== undefined && record !== undefined) {
    throw optionError(CALLEE, "record", "goes without sink: give one of them");
  }
  const failed = (error: unknown): void => contain(() => onError(error), console.error);
  const log = record === undefined
    ? lineLog(format, max, sink ?? writeToStdout, failed)
    : recordLog(max, record, failed);
  const { queue } = log;
  const stop = target.observe({
    ended(exchange) {
      if (filter === undefined || passes(filter, exchange)) log.take(exchange);
    },
    settle: () => queue.flushed(),
  });
  return {
    get written() {
      return queue.delivered;
    },
    get dropped() {
      return queue.dropped;
    },
    get failed() {
      return queue.failed;
    },
    get bufferedBytes() {
      return queue.size;
    },
    flush: () => queue.flushed(),
    stop() {
      stop();
      return queue.flushed();
    },
  };

  function passes(filter: (exchange: ExchangeReport) => boolean, exchange: ExchangeReport) {
    try {
      const passes: unknown = filter(exchange);
      watch(passes, failed); // one that is async says nothing in time
      return passes !== false;
    } catch (error) {
      failed(error);
      return true;
    }
  }
}

/** About how much a record takes: what a client may make long is counted as it is. */
function recordBytes(exchange: ExchangeReport): number {
  const { target = "" } = exchange;
  const agent = exchange.get("user-agent") ?? "";
  const referer = exchange.get("referer") ?? "";
  return RECORD_BYTES + 2 * target.length + agent.length + referer.length;
}

/** What takes exchanges, and the queue that they wait in. */
interface Log {
  readonly queue: BoundedQueue;
  take(exchange: ExchangeReport): void;
}

function lineLog(
  format: AccessLogFormat,
  max: number,
  sink: (lines: string) => unknown,
  failed: (cause: unknown) => void,
): Log {
  const lines = new LineBuffer();
  const queue = new BoundedQueue({
    max,
    failed,
    take() {
      const text = lines.take();
      return [() => sink(text)];
    },
  });
  return {
    queue,
    take(exchange) {
      const start = lines.length;
      writeLine(exchange, format, lines);
      if (!queue.takes(lines.length - start)) lines.cut(start);
    },
  };
}

function recordLog(
  max: number,
  record: (record: AccessRecord) => unknown,
  failed: (cause: unknown) => void,
): Log {
  const records: AccessRecord[] = [];
  const queue = new BoundedQueue({
    max,
    failed,
    take: () => records.splice(0).map((one) => () => record(one)),
  });
  return {
    queue,
    take(exchange) {
      if (queue.takes(recordBytes(exchange))) records.push(accessRecord(exchange));
    },
  };
}
