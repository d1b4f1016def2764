/**
 * Counts the ticks of a timer of 1 ms that come late in this process, from one SIGHUP to the next,
 * which prints them. What the thread waited for its core, since other processes had it, does not
 * count.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import process from "node:process";

const INTERVAL_MS = 1;
const LATE_MS = 5;

/** How long this thread has been ready to run without a core, in ms. */
function waitedMs(): number {
  return Number(readFileSync("/proc/thread-self/schedstat", "latin1").split(" ")[1]) / 1e6;
}

/** Begins to listen to SIGHUP. */
export function countLateTicks(): void {
  let timer: ReturnType<typeof setInterval> | undefined;
  let counted = { late: 0, worst: 0 };
  let [lastMs, lastWaitedMs] = [0, 0];
  function tick() {
    const waited = waitedMs();
    const lateMs = performance.now() - lastMs - INTERVAL_MS - (waited - lastWaitedMs);
    if (lateMs > LATE_MS) counted.late++;
    counted.worst = Math.max(counted.worst, lateMs);
    [lastMs, lastWaitedMs] = [performance.now(), waited];
  }
  process.on("SIGHUP", () => {
    if (timer === undefined) {
      counted = { late: 0, worst: 0 };
      [lastMs, lastWaitedMs] = [performance.now(), waitedMs()];
      timer = setInterval(tick, INTERVAL_MS);
    } else {
      clearInterval(timer);
      timer = undefined;
      console.log(`TICKS ${JSON.stringify(counted)}`);
    }
  });
}
