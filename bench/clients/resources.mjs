/**
 * Runs a program of bench/start_up to its end and prints the CPU time that it took, in µs, and the
 * peak of its resident memory, in KB, which it prints itself: the kernel's figure for an ended child
 * would have the memory of this process in it.
 */
import process from "node:process";

const words = JSON.parse(process.argv[2]);
const { resourceUsage, stdout, stderr, exitCode } = Bun.spawnSync(["taskset", "-c", "0", ...words]);
const peak = /VmHWM:\s+(\d+) kB/.exec(stdout.toString())?.[1];
if (exitCode !== 0 || peak === undefined) {
  console.error(`${words.join(" ")} failed:\n${stdout}${stderr}`);
  process.exit(1);
}
console.log(JSON.stringify({ cpu: Number(resourceUsage.cpuTime.total), peak: Number(peak) }));
