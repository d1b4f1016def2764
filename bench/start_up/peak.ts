/**
 * How much memory this process has had at most.
 *
 * @module
 */

interface Scope {
  readonly Bun?: { file(path: string): { text(): Promise<string> } };
  readonly Deno?: { readTextFileSync(path: string): string };
}

const { Bun, Deno } = globalThis as unknown as Scope;

async function text(path: string): Promise<string> {
  return Bun === undefined ? Deno!.readTextFileSync(path) : await Bun.file(path).text();
}

/** Prints the line of the kernel's figures that has the peak of the resident memory. */
export async function printPeak(): Promise<void> {
  const status = await text("/proc/self/status");
  console.log(status.split("\n").find((line) => line.startsWith("VmHWM")));
}

/** A file of the benchmark's certificates, without a module of `node:` for it. */
export async function certificateFile(name: string): Promise<string> {
  const folder = (await text("/proc/self/environ")).split("\0")
    .find((line) => line.startsWith("CERTIFICATES="))!.slice("CERTIFICATES=".length);
  return await text(`${folder}/${name}`);
}
