/** How much a process has worked: what all figures of the benchmark are divided by. */
import { readFileSync } from "node:fs";

const TICKS_PER_SECOND = 100; // USER_HZ, fixed on Linux

/** The CPU time that a process has used, in seconds: fields 14 and 15 of its stat. */
export function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
