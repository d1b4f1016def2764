/** The watching thread of watchdog.ts. */
import { writeSync } from "node:fs";
import process from "node:process";
import { workerData } from "node:worker_threads";
import type { Watched } from "./watchdog.ts";

const { place, limitMs, message } = workerData as Watched;
let seen = -1;
let since = performance.now();

setInterval(() => {
  const count = Atomics.load(place, 0);
  const now = performance.now();
  if (count !== seen) {
    seen = count;
    since = now;
  } else if (now - since > limitMs) {
    writeSync(2, `${message} in input ${place[2]} of stream ${place[1]}\n`);
    process.kill(process.pid, "SIGKILL");
  }
}, Math.min(500, limitMs / 4));
