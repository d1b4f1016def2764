/**
 * A page in a headless Chromium, driven over its DevTools protocol. Each has a home of its own, in
 * whose NSS database are the authorities that it trusts.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { Buffer } from "node:buffer";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { testsWith } from "./programs.ts";
import { runtime } from "./runtime.ts";

const withChromium = testsWith("chromium");

/** Registers a test that needs Chromium. */
export function testWithChromium(name: string, body: () => Promise<void>): void {
  withChromium(name, body, 60_000); // the first start reads Chromium from the disk
}

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--remote-debugging-port=0",
];

/** How long the page may take for one thing; less than a test may take, so that the failure says which. */
const PATIENCE_MS = 40_000;

interface Reply {
  id: number;
  result: unknown;
  error?: { message: string };
}

interface Notice {
  id?: undefined;
  method: string;
  params: unknown;
}

/** Where screenshots go, for those who want to see them. */
export const SCREENSHOTS: string | undefined = process.env["HTTPSD_SCREENSHOTS"];

/** Takes a screenshot, and writes it where somebody wants to see it. */
async function keepScreenshot(page: Page, name: string): Promise<void> {
  const image = await page.screenshot();
  if (image.length < 10_000) throw new Error(`The screenshot ${name} is empty`);
  if (SCREENSHOTS === undefined) return;
  await mkdir(SCREENSHOTS, { recursive: true });
  await writeFile(join(SCREENSHOTS, `${name}-${runtime}.png`), image);
}

/** What a page is looked at on. */
export interface Screen {
  readonly width: number;
  readonly height?: number;
  readonly dark?: boolean;
}

/** A page in a Chromium that ends with it. */
export class Page implements AsyncDisposable {
  /** Uncaught exceptions and what the console was given: nothing, if all is well. */
  readonly complaints: string[] = [];
  readonly #socket: WebSocket;
  readonly #calls = new Map<number, PromiseWithResolvers<unknown>>();
  #lastCall = 0;
  #resources: AsyncDisposableStack | undefined;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#received(JSON.parse(data));
    socket.onclose = () => {
      for (const { reject } of this.#calls.values()) reject(new Error("Chromium is gone"));
    };
  }

  /**
   * Opens a URL in a Chromium that trusts the authority `ca`, a PEM text, besides its own, and waits
   * until it is loaded; rejects with Chromium's name for what keeps it from that.
   */
  static async open(url: string, ca?: string): Promise<Page> {
    await using resources = new AsyncDisposableStack();
    const home = await mkdtemp(join(tmpdir(), "httpsd-chromium-"));
    resources.defer(() => rm(home, { recursive: true }));
    if (ca !== undefined) await trust(home, ca);
    const browser = await start(home);
    const gone = once(browser, "close"); // with its last process: all hold its standard error
    resources.defer(async () => {
      browser.kill("SIGKILL");
      await gone;
    });
    const page = new Page(await connect(browser));
    await page.#call("Runtime.enable");
    await page.#call("Log.enable");
    await page.#load(url);
    page.#resources = resources.move();
    return page;
  }

  /** Evaluates JavaScript in the page, and awaits the promise that may be the result. */
  async evaluate<T = unknown>(expression: string): Promise<T> {
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.#call("Runtime.evaluate", options) as {
      result: { value: T };
      exceptionDetails?: { text: string; exception?: { description?: string } };
    };
    if (exceptionDetails === undefined) return result.value;
    throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  }

  /** Calls a function of the page with values that JSON can carry, and awaits its result. */
  call<T>(name: string, ...values: unknown[]): Promise<T> {
    return this.evaluate<T>(`${name}(...${JSON.stringify(values)})`);
  }

  /** Waits until an expression is true. */
  async until(expression: string): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (await this.evaluate(expression) !== true) {
      if (performance.now() > deadline) {
        const text = await this.evaluate("document.body.innerText");
        throw new Error(`Never true: ${expression}\n${text}\n${this.complaints}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Goes to another URL, and waits until it is loaded. */
  async goto(url: string): Promise<void> {
    await this.#load(url);
  }

  /** Shows the page as on a screen of this width, and in light or dark. */
  async showOn({ width, height = 900, dark = false }: Screen): Promise<void> {
    const mobile = width < 600;
    await this.#call("Emulation.setDeviceMetricsOverride", {
      width,
      height,
      deviceScaleFactor: 1,
      mobile,
    });
    const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
    await this.#call("Emulation.setEmulatedMedia", { features });
  }

  /** The whole page as PNG. */
  async screenshot(): Promise<Uint8Array> {
    const options = { format: "png", captureBeyondViewport: true };
    const { data } = await this.#call("Page.captureScreenshot", options) as { data: string };
    return Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  }

  /** Presses a key and lets it go, as by the keyboard. */
  async press(key: string, code: number): Promise<void> {
    for (const type of ["rawKeyDown", "keyUp"]) {
      const options = { type, key, code: key, windowsVirtualKeyCode: code };
      await this.#call("Input.dispatchKeyEvent", options);
    }
  }

  /** What axe-core, an automated check of accessibility, finds serious or critical. */
  async accessibilityFaults(): Promise<string[]> {
    const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
    await this.evaluate(readFileSync(axe, "utf8") + ";0");
    return await this.evaluate(`axe.run().then(({ violations }) =>
      violations.filter(({ impact }) => impact === "serious" || impact === "critical")
        .flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
          [id, target.join(" "), failureSummary].join(": "))))`);
  }

  /** Ends Chromium and leaves nothing of it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources?.disposeAsync();
  }

  async #load(url: string): Promise<void> {
    const { errorText } = await this.#call("Page.navigate", { url }) as { errorText?: string };
    if (errorText !== undefined) throw new Error(`Chromium cannot open ${url}: ${errorText}`);
    await this.until(`location.href !== "about:blank" && document.readyState === "complete"`);
  }

  async #call(method: string, params: object = {}): Promise<unknown> {
    const id = ++this.#lastCall;
    const call = Promise.withResolvers<unknown>();
    this.#calls.set(id, call);
    const late = new Error(`No answer in ${PATIENCE_MS} ms: ${method} ${JSON.stringify(params)}`);
    const timer = setTimeout(() => call.reject(late), PATIENCE_MS);
    this.#socket.send(JSON.stringify({ id, method, params }));
    try {
      return await call.promise;
    } finally {
      clearTimeout(timer);
      this.#calls.delete(id);
    }
  }

  #received(message: Reply | Notice): void {
    if (message.id === undefined) {
      if (!/^(Runtime\.exceptionThrown|Log\.entryAdded)$/.test(message.method)) return;
      this.complaints.push(JSON.stringify(message.params));
    } else if (message.error === undefined) {
      this.#calls.get(message.id)?.resolve(message.result);
    } else {
      this.#calls.get(message.id)?.reject(new Error(message.error.message));
    }
  }
}

/** Has the Chromium of a home directory trust an authority. */
async function trust(home: string, ca: string): Promise<void> {
  const caFile = join(home, "ca.pem");
  await writeFile(caFile, ca);
  const database = join(home, ".pki", "nssdb");
  await mkdir(database, { recursive: true });
  const certutil = (...args: string[]) =>
    execFileSync("certutil", ["-d", `sql:${database}`, ...args]);
  certutil("-N", "--empty-password");
  certutil("-A", "-t", "C,,", "-n", "httpsd", "-i", caFile);
}

async function start(home: string): Promise<ChildProcess> {
  const browser = spawn("chromium", [...FLAGS, `--user-data-dir=${home}/profile`, "about:blank"], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, HOME: home },
  });
  await once(browser, "spawn");
  return browser;
}

/** Connects to the page that a browser begins with. */
async function connect(browser: ChildProcess): Promise<WebSocket> {
  const port = await debuggingPort(browser);
  const targets = await (await fetch(`http://127.0.0.1:${port}/json`)).json();
  const target = targets.find(({ type }: { type: string }) => type === "page");
  const socket = new WebSocket(target.webSocketDebuggerUrl);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  return socket;
}

/** The port of the DevTools protocol, which Chromium chooses and prints. */
function debuggingPort(browser: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = "";
    browser.stderr!.on("data", (bytes: Buffer) => {
      output += bytes.toString();
      const found = /ws:\/\/127\.0\.0\.1:(\d+)/.exec(output);
      if (found?.[1] !== undefined) resolve(found[1]);
    });
    browser.stderr!.once("end", () => reject(new Error(`Chromium ended: ${output}`)));
  });
}

/** What pages are looked at on: a desktop and a phone, light and dark. */
const SCREENS = [
  ["desktop", 1280, false],
  ["desktop-dark", 1280, true],
  ["phone", 390, false],
  ["phone-dark", 390, true],
] as const;

/**
 * Shows a page on each screen, where it has to fit and to be accessible, and keeps a screenshot of
 * each, whose name begins with `what`.
 */
export async function assertFitsScreens(page: Page, what: string): Promise<void> {
  for (const [name, width, dark] of SCREENS) {
    await page.showOn({ width, dark });
    const wide = await page.evaluate<number>("document.documentElement.scrollWidth");
    assert.ok(wide <= width, `${name} is ${wide} wide`);
    // Both widths, and both sets of colours.
    if (width < 600 === dark) assert.deepEqual(await page.accessibilityFaults(), [], name);
    await page.evaluate("new Promise((resolve) => requestAnimationFrame(resolve))");
    await keepScreenshot(page, `${what}-${name}`);
  }
}
