/** The inspector's page in Chromium: on a desk, on a phone, in the dark, under load; by keyboard too. */
import assert from "node:assert/strict";
import { describe } from "bun:test";
import process from "node:process";
import { inspect } from "../lib/inspector/mod.ts";
import { assertFitsScreens, Page, SCREENSHOTS, testWithChromium } from "./chromium.ts";
import { openScene } from "./inspector_support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

/** How long there is load before screenshots are taken. */
const LOAD_MS = Number(process.env["HTTPSD_SCREENSHOT_LOAD_MS"] ?? 40_000);

describe("The inspector's page", () => {
  testWithChromium("shows sessions, failures, charts; is accessible on each screen", async () => {
    await using scene = await openScene();
    const inspector = await inspect(scene.server);
    try {
      await scene.fail();
      await using page = await Page.open(inspector.url);
      await page.showOn({ width: 1280 });
      await page.until(`document.querySelectorAll("#sessions tbody tr").length === 5`);
      await scene.hold();
      let isLoading = true;
      const targets = ["/", "/", "/", "/", "/missing", "/", "/", "/fails"];
      const load = (async () => {
        for (let i = 0; isLoading; i++) {
          await scene.ask(targets[i % targets.length]!);
          await new Promise((resolve) => setTimeout(resolve, i % 40));
        }
      })();
      if (SCREENSHOTS !== undefined) await new Promise((resolve) => setTimeout(resolve, LOAD_MS));
      await page.until(`document.querySelectorAll("#rate rect").length > 0`);
      await page.until(`document.querySelectorAll("#latency path").length === 3`);

      const text = (id: string) =>
        page.evaluate<string>(`document.getElementById("${id}").innerText`);
      const sessions = await text("sessions");
      assert.match(sessions, /closes next[^]*for shop\.example/, sessions);
      assert.match(sessions, /certificate: CN=alice/);
      assert.match(sessions, /GET \/slow \d/);
      const failures = await text("failures");
      assert.match(failures, /TLS_NOT_TLS/);
      assert.match(failures, /TLS_NO_ALPN[^]*shop\.example[^]*offers spdy\/3/, failures);
      assert.match(await text("certificates"), /www\.shop\.example[^]*in \d+ days/);
      assert.match(await text("caps"), /Connections[^]*of 24/);
      assert.match(await text("spoken"), /\d+ connections/);

      await assertFitsScreens(page, "inspector");

      await page.press("Tab", 9);
      assert.equal(await page.evaluate("document.activeElement.className"), "skip");
      await page.press("Tab", 9);
      await page.press(" ", 32);
      assert.equal(await page.evaluate(`document.getElementById("live").innerText`), "paused");
      isLoading = false;
      await load;
      assert.deepEqual(page.complaints, []);
    } finally {
      await inspector.stop();
    }
  });
});
