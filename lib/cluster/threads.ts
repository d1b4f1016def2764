/**
 * Workers that are threads of this process. They take less memory than processes, and fall with the
 * process.
 *
 * @module
 */
import process from "node:process";
import { Worker } from "node:worker_threads";
import type { Launch } from "./launch.ts";
import { runtime } from "../runtime/current.ts";
import { WORKER_VARIABLE } from "./messages.ts";
import { mainScript } from "./processes.ts";

/** `terminate()` of Deno 2.9.6 does not end a thread whose event loop is blocked. */
const RUNS_ON =
  "Deno cannot end a thread whose event loop is blocked. Its port stays open, where clients wait in " +
  'vain, and it may keep a core busy: start the program again, and use mode: "processes"';

/** Makes what starts workers as threads. */
export function threadLauncher(): Launch {
  const script = mainScript();
  return (start, listener) => {
    const worker = new Worker(script, {
      workerData: { [WORKER_VARIABLE]: JSON.stringify(start) },
      argv: process.argv.slice(2),
    });
    let thrown: unknown;
    let over = false;
    worker.on("message", (message: unknown) => listener.message(message));
    worker.on("error", (error: unknown) => void (thrown = error));
    worker.on("exit", (code: number) => {
      over = true;
      const why = thrown === undefined
        ? ""
        : `: ${thrown instanceof Error ? thrown.message : thrown}`;
      listener.ended(`with exit code ${code}${why}`, code === 0);
    });
    return {
      pid: process.pid,
      ...(runtime.name === "deno" && { runsOn: RUNS_ON }),
      send(message) {
        if (!over) worker.postMessage(message);
      },
      kill: () => void worker.terminate(),
    };
  };
}
