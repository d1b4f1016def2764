/**
 * The documentation is held to the truth: every ts block of README.md and docs/ is type-checked and
 * run, those of the README's tour are asked whether they do what they say, links lead somewhere,
 * and docs/configuration.md has every option.
 */
import assert from "node:assert/strict";
import { afterAll, beforeAll, describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { request as httpsRequest, type RequestOptions } from "node:https";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import WsClient from "ws";
import type { EdgeApp } from "../lib/edge/mod.ts";
import { ESP_IDF_NAMES } from "../lib/httpd/esp_idf_options.ts";
import { devCertificates, openCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import type { HttpsServer } from "../mod.ts";
import { pages as userPages, readBlocks } from "./docs_blocks.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const TYPE_CHECK_MS = 60_000; // on a busy machine; some seconds on an idle one
const root = fileURLToPath(new URL("..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "httpsd-docs-"));
const base = pathToFileURL(`${folder}/`);

const checkout = process.cwd();

afterAll(() => {
  process.chdir(checkout);
  rmSync(folder, { recursive: true });
});

const pages = ["CONTRIBUTING.md", ...userPages];

/** Where options are documented, and the interfaces of them with what is before their names there. */
const OPTION_TABLES: {
  readonly page: string;
  readonly table: RegExp;
  readonly interfaces: Record<string, string>;
}[] = [
  {
    page: "docs/configuration.md",
    table: /^\| option .*\n((?:\|.*\n)+)/gm,
    interfaces: {
      HttpsServerOptions: "",
      ReloadOptions: "",
      IdentityOptions: "",
      ServerLimits: "limits.",
      ServerTimeouts: "timeouts.",
    },
  },
  {
    page: "docs/websocket.md",
    table: /^\| setting .*\n((?:\|.*\n)+)/gm,
    interfaces: {
      WebSocketSettings: "",
      WebSocketOptions: "",
      WebSocketLimits: "limits.",
      WebSocketTimeouts: "timeouts.",
      WebSocketRouteTimeouts: "timeouts.",
    },
  },
  {
    page: "docs/http2.md",
    table: /^\| limit .*\n((?:\|.*\n)+)/gm,
    interfaces: { Http2Options: "" },
  },
];
const OPTION_SOURCES = [
  "lib/config.ts",
  "lib/limits.ts",
  "lib/tls/options.ts",
  "lib/websocket/options.ts",
  "lib/http2/options.ts",
];

const blocks = readBlocks().filter(({ language }) => language === "ts");

/** The authority that blocks make in certs/, and a client of it. */
const dev = await devCertificates(join(folder, "certs"));
const ca = await openCertificateAuthority({
  cert: dev.ca,
  key: readFileSync(join(folder, "certs/ca.key"), "utf8"),
});
const client = await ca.issue({ usage: "client", subject: "CN=alice" });

beforeAll(() => {
  process.chdir(folder); // blocks write files
  mkdirSync(join(folder, "public"));
  writeFileSync(join(folder, "public/index.html"), "<p>hello</p>\n");
  mkdirSync(join(folder, "types"));
  symlinkSync(join(root, "node_modules"), join(folder, "types/node_modules"));
  writeFileSync(join(folder, "types/tsconfig.json"), JSON.stringify(TYPE_CHECK));
  for (const [index, { code }] of blocks.entries()) {
    writeFileSync(join(folder, `types/${fileName(index)}`), `${code}export {};\n`);
    writeFileSync(join(folder, fileName(index)), moduleOf(code));
  }
});

/** The blocks are held to what the sources are, as if they lay beside them. */
const TYPE_CHECK = {
  extends: join(root, "tsconfig.json"),
  compilerOptions: {
    noUnusedLocals: false, // a server that is not used further is no mistake in a block
    noUnusedParameters: false,
    typeRoots: [join(root, "node_modules/@types")],
    paths: sources(),
  },
  include: ["*.ts"],
};

/** What the blocks of the README's tour must be seen to do. */
const CHECKS: Record<string, (server: HttpsServer) => Promise<void>> = {
  "README.md: Serve": async (server) => {
    assert.equal((await get(server, "/", { rejectUnauthorized: false })).body, "GET by TLSv1.3\n");
  },
  "README.md: Client certificates": async (server) => {
    const { cert, key } = client;
    assert.equal((await get(server, "/", { cert, key })).body, "hello CN=alice\n");
    await assert.rejects(get(server, "/"));
  },
  "README.md: A certificate for each name": async (server) => {
    assert.equal(await commonName(server, "shop.example"), "shop.example");
    assert.equal(await commonName(server, "blog.example"), "blog.example");
    assert.equal(await commonName(server, "localhost"), "localhost");
  },
  "README.md: A certificate for each name 2": async (server) => {
    assert.equal(await commonName(server, "shop.example"), "shop.example");
    await assert.rejects(commonName(server, "else.example"));
  },
  "README.md: Events": async (server) => {
    const lines: unknown[][] = [];
    const { log } = console;
    console.log = (...line) => void lines.push(line);
    try {
      const stopped = once(server, "disconnected");
      await get(server, "/");
      await stopped;
    } finally {
      console.log = log;
    }
    assert.equal(lines[0]?.[1], "127.0.0.1");
    assert.deepEqual(lines.at(-1)?.slice(1), [1, "no error"]);
  },
  "README.md: Routes: the httpd API": async (server) => {
    const posted = await get(server, "/echo", { method: "POST" }, "some bytes");
    assert.deepEqual(posted, { status: 200, body: "some bytes" });
    assert.equal((await get(server, "/api/x?y")).body, '{"path":"/api/x"}');
    assert.equal((await get(server, "/about")).body, "any Response too\n");
    assert.equal((await get(server, "/none")).status, 404);
  },
  "README.md: WebSocket push": async (server) => {
    await assert.rejects(openSocket(server, "https://evil.example"), /403/);
    const [one, other] = [
      await openSocket(server, "https://app.example"),
      await openSocket(server, "https://app.example"),
    ];
    const heard = once(other, "message");
    one.send("hello");
    assert.equal(String((await heard)[0]), "hello");
    one.terminate();
    other.terminate();
  },
  "README.md: Hono, or anything with a fetch": async (server) => {
    assert.equal((await get(server, "/")).body, "hello 127.0.0.1\n");
    assert.equal((await get(server, "/me")).status, 403);
    const { cert, key } = client;
    assert.equal((await get(server, "/me", { cert, key })).body, "CN=alice");
  },
  "README.md: Files": async (server) => {
    const headers = { range: "bytes=0-2" };
    assert.deepEqual(await get(server, "/", { headers }), { status: 206, body: "<p>" });
  },
  "README.md: New certificates without a restart": async (server) => {
    assert.equal(await commonName(server, "localhost"), "shop.example");
  },
  "README.md: Limits": async (server) => {
    assert.equal((await get(server, "/")).body, "hello\n");
    const large = await get(server, "/", { method: "POST" }, "x".repeat(1024 * 1024 + 1));
    assert.equal(large.status, 413);
  },
};

/** What an app for the edge must be seen to answer. */
async function checkApp({ fetch }: EdgeApp): Promise<void> {
  const info = { remoteAddr: { hostname: "192.0.2.1", port: 1 } }; // as Deno passes it
  const response = await fetch(new Request("https://localhost/nowhere"), info);
  assert.equal(response.status, 200);
  assert.match(await response.text(), /192\.0\.2\.1/);
}

describe("The code in the documentation", () => {
  test("has the right types", () => {
    const { status, stdout } = spawnSync(
      "node",
      [join(root, "node_modules/typescript/bin/tsc"), "-p", join(folder, "types")],
      { encoding: "utf8" },
    );
    assert.equal(status, 0, stdout);
  }, TYPE_CHECK_MS);

  for (const [index, { name }] of blocks.entries()) {
    test(`runs: ${name}`, async () => {
      const listeners = process.listeners("SIGTERM");
      const made: { server?: HttpsServer; default?: EdgeApp } = await import(
        new URL(fileName(index), base).href
      );
      const { server } = made;
      try {
        if (server !== undefined) await CHECKS[name]?.(server);
        if (made.default !== undefined) await checkApp(made.default);
      } finally {
        await server?.stop({ drainMs: 0 });
        for (const added of process.listeners("SIGTERM")) {
          if (!listeners.includes(added)) process.off("SIGTERM", added); // it would end the tests
        }
      }
    });
  }

  test("is checked under names that there are", () => {
    const names = new Set(blocks.map(({ name }) => name));
    for (const name of Object.keys(CHECKS)) assert.ok(names.has(name), `There is no ${name}`);
  });
});

describe("The documentation", () => {
  for (const page of pages) {
    test(`${page} links to what there is`, () => {
      const text = readFileSync(join(root, page), "utf8");
      for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)) {
        assert.ok(existsSync(join(root, dirname(page), target!)), `${target} is not there`);
      }
    });
  }

  for (const { page, table, interfaces } of OPTION_TABLES) {
    test(`${page} has every option, with its default`, () => {
      const text = readFileSync(join(root, page), "utf8");
      const documented = new Map<string, string>();
      for (const [, rows] of text.matchAll(table)) {
        for (const [, name, fallback] of rows!.matchAll(/^\| `([\w.]+)` +\| ([^|]*)\|/gm)) {
          documented.set(name!, fallback!.trim());
        }
      }
      for (const { name, fallback } of declaredOptions(interfaces)) {
        assert.ok(documented.has(name), `Option ${name} is missing`);
        if (fallback !== undefined) assert.equal(documented.get(name), fallback, name);
        documented.delete(name);
      }
      assert.deepEqual([...documented.keys()], [], "these are no options");
    });
  }

  test("has every name of the original that the profile takes", () => {
    const page = readFileSync(join(root, "docs/esp-idf.md"), "utf8");
    const [, section = ""] = /^### The original's names$([^]*?)^### /m.exec(page) ?? [];
    const missing = ESP_IDF_NAMES.filter((name) => !section.includes(`\`${name}\``));
    assert.deepEqual(missing, []);
  });
});

/** The members of options' interfaces but for groups and callbacks, and the defaults in their comments. */
function declaredOptions(
  interfaces: Record<string, string>,
): { name: string; fallback: string | undefined }[] {
  const sources = OPTION_SOURCES.map((file) => readFileSync(join(root, file), "utf8"));
  return Object.entries(interfaces).flatMap(([type, prefix]) => {
    const body = sources.map((text) =>
      new RegExp(`interface ${type}\\b[^]*?\\{\\n([^]*?)\\n\\}`).exec(text)?.[1]
    ).find((found) => found !== undefined);
    assert.ok(body !== undefined, type);
    return [...body.matchAll(/\/\*\*([^]*?)\*\/\n {2}readonly (\w+)\??:/g)]
      .filter(([, , name]) => !/^(?:limits|timeouts|on[A-Z]\w+)$/.test(name!))
      .map(([, comment, name]) => {
        const text = comment!.replace(/\s*\n\s*\*/g, "");
        assert.match(text, /Default: |Not supported/, `The comment of ${name}`);
        return { name: prefix + name, fallback: fallbackIn(text) };
      });
  });
}

/** A default that is a plain value; `undefined` when there is none, or it takes words to say. */
function fallbackIn(text: string): string | undefined {
  const [, value] =
    /Default: `?(\d+ [KM]iB|\w[\w,]*\w|\w|"[^"]*")`?(?:, as [^.;]*)?[.;]/.exec(text) ?? [];
  if (value === undefined || /^(?:none|every)$/.test(value)) return undefined;
  return /^\d[\d,]*(?: [KM]iB)?$/.test(value) ? value : `\`${value}\``;
}

/** A block as a module that listens where tests may, and lets go of its server. */
function moduleOf(code: string): string {
  const local = code
    .replaceAll(/ from "([^"./:][^":]*)"/g, (_, name: string) => ` from "${sourceOf(name)}"`)
    .replaceAll(/\bport: \d+/g, 'port: 0, hostname: "127.0.0.1"')
    // No test orders anything of a real authority.
    .replaceAll("automaticCertificates({", '$&directory: "https://127.0.0.1:1/directory",');
  const ending = /^const server\b/m.test(code) ? "export { server };" : "export {};";
  return `${local}${ending}\n`;
}

function fileName(index: number): string {
  const page = blocks[index]!.name.replace(/\W+/g, "_");
  return `${index}_${page}.ts`;
}

/** The package's entries and where they lie. */
function sources(): Record<string, [path: string]> {
  const { name, exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  return Object.fromEntries(
    Object.entries<string>(exports).map((
      [entry, path],
    ) => [name + entry.slice(1), [join(root, path)]]),
  );
}

/** Where a package lies here. */
function sourceOf(name: string): string {
  const own = sources()[name];
  return own === undefined ? import.meta.resolve(name) : pathToFileURL(own[0]).href;
}

function optionsFor(server: HttpsServer, path: string, options: RequestOptions): RequestOptions {
  return {
    host: "127.0.0.1",
    port: server.address.port,
    path,
    agent: false,
    ca: ca.cert,
    servername: "localhost",
    ...options,
  };
}

function get(
  server: HttpsServer,
  path: string,
  options: RequestOptions = {},
  body = "",
): Promise<{ status: number | undefined; body: string }> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(optionsFor(server, path, options), async (response) => {
      const pieces: Buffer[] = [];
      try {
        for await (const piece of response) pieces.push(piece);
        resolve({ status: response.statusCode, body: String(Buffer.concat(pieces)) });
      } catch (error) {
        reject(error);
      }
    });
    request.on("error", reject);
    request.end(body);
  });
}

/** The name in the certificate that a client is shown. */
async function commonName(server: HttpsServer, servername: string): Promise<string> {
  const { port } = server.address;
  const args = ["s_client", "-connect", `127.0.0.1:${port}`, "-servername", servername];
  const child = spawn("openssl", args, {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let output = "";
  for await (const text of child.stdout.setEncoding("utf8")) output += text;
  const name = /subject=CN ?= ?(\S+)/.exec(output)?.[1];
  if (name === undefined) throw new Error("No certificate was shown");
  return name;
}

async function openSocket(server: HttpsServer, origin: string): Promise<WsClient> {
  const socket = new WsClient(`wss://127.0.0.1:${server.address.port}/ws`, {
    ca: ca.cert,
    origin,
  });
  await once(socket, "open");
  return socket;
}
