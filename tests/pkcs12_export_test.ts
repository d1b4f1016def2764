/** `exportPkcs12()`: what OpenSSL, NSS (Chromium, Firefox) and this server read of it. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportPkcs12 } from "../lib/tls/dev_certificates.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import { testsWith } from "./programs.ts";
import { assertRuntime } from "./runtime.ts";
import { alice, clientCa, file, localhost, openssl } from "./tls_support.ts";

assertRuntime();

const PASSPHRASE = "pässwörd 7";
const made = () => exportPkcs12({ ...alice, passphrase: PASSPHRASE, name: "Alicë" });

function written(bytes: Uint8Array): string {
  const path = file("");
  writeFileSync(path, bytes);
  return path;
}

describe("exportPkcs12()", () => {
  test("writes what OpenSSL reads, with modern encryption, under its passphrase alone", async () => {
    const path = written(await made());
    const args = ["pkcs12", "-in", path, "-nodes", "-info", "-passin"];
    const { stdout, stderr } = spawnSync("openssl", [...args, `pass:${PASSPHRASE}`], {
      encoding: "utf8",
    });
    assert.match(stderr, /MAC: sha256/);
    assert.equal(stderr.match(/PBES2, PBKDF2, AES-256-CBC, .*hmacWithSHA256/g)?.length, 2);
    assert.match(stdout, /subject=CN ?= ?alice/);
    assert.match(stdout, /BEGIN PRIVATE KEY/);
    assert.equal(stdout.match(/localKeyID/g)?.length, 2, "the two belong together");
    assert.notEqual(spawnSync("openssl", [...args, "pass:other"]).status, 0);
  });

  testsWith("chromium")("writes what NSS imports, under the name", async () => {
    const folder = mkdtempSync(join(tmpdir(), "httpsd-nss-"));
    try {
      const database = `sql:${folder}`;
      execFileSync("certutil", ["-d", database, "-N", "--empty-password"]);
      const from = ["-i", written(await made()), "-W", PASSPHRASE];
      execFileSync("pk12util", ["-d", database, ...from], { stdio: "ignore" });
      const keys = execFileSync("certutil", ["-d", database, "-K"], { encoding: "utf8" });
      assert.match(keys, /Alic/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }, 60_000);

  test("writes what this server reads, with intermediates", async () => {
    const sub = await clientCa.issueAuthority({ name: "Below" });
    const { cert, key } = await sub.issue({ names: ["a.example"] });
    const bytes = await exportPkcs12({ cert, key, passphrase: "x" });
    const identity = await loadIdentity({ pfx: bytes, passphrase: "x" });
    assert.deepEqual(identity.names, ["a.example"]);
    const shown = openssl(["pkcs12", "-in", written(bytes), "-nokeys", "-passin", "pass:x"]);
    assert.equal(shown.match(/BEGIN CERTIFICATE/g)?.length, 2);
  });

  test("refuses what does not fit together, and names what is not known", async () => {
    const { cert } = localhost;
    const code = { code: "INVALID_CERTIFICATE" };
    await assert.rejects(exportPkcs12({ cert, key: alice.key, passphrase: "x" }), code);
    await assert.rejects(exportPkcs12({ cert: "none", key: alice.key, passphrase: "x" }), code);
    await assert.rejects(exportPkcs12({ ...alice, key: "none", passphrase: "x" }), code);
    await assert.rejects(exportPkcs12({ ...alice, passphrase: "" }), /passphrase/);
    await assert.rejects(exportPkcs12({ ...alice, password: "x" } as never), /passphrase/);
    await assert.rejects(
      exportPkcs12({ ...alice, passphrase: "x", name: "n".repeat(65) }),
      /64 characters/,
    );
  });
});
