/**
 * The npm package as its users get it: built, packed, installed into an empty project, run on this
 * runtime, type-checked. Needs no network: its dependencies are links to those of the checkout.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import {
  inRuntime,
  install,
  list,
  type Manifest,
  manifest,
  modules,
  project,
  readJson,
  removeProjectAfterAll,
  root,
  run,
  TIMEOUT_MS,
  wanted,
  which,
  write,
} from "./package_support.ts";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import { node24 } from "./on_demand.ts";
import { freePorts } from "./ports.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();
removeProjectAfterAll();

const denoConfig: Omit<Manifest, "dependencies"> & { imports: Record<string, string> } = readJson(
  "deno.json",
);

/** What programs are compiled with. Hono's own types need those of the DOM, or Bun's. */
const LIBRARIES = [
  {
    name: "Node's types and no DOM",
    lib: ["esnext"],
    types: ["node"],
    leftOut: /[Hh]ono|app\.fetch/,
  },
  {
    name: "Bun's types and no DOM",
    lib: ["esnext"],
    types: ["bun"],
    leftOut: /[Hh]ono|app\.fetch/,
  },
  { name: "Node's types and the DOM", lib: ["esnext", "dom"], types: ["node"], leftOut: /^$/ },
];

describe("package.json", () => {
  test("says the same as deno.json", () => {
    for (const key of ["name", "version", "license", "exports"] as const) {
      assert.deepEqual(manifest[key], denoConfig[key], key);
    }
    for (const [name, range] of Object.entries(wanted)) {
      assert.equal(denoConfig.imports[name], `npm:${name}@${range}`);
    }
  });
});

describe("the npm package", () => {
  test("has JavaScript and declarations for each source, and no other code", () => {
    install();
    const sources = [
      ...list(join(root, "lib")).filter((file) => file.endsWith(".ts")).map((file) =>
        `lib/${file}`
      ),
      "mod.ts",
    ];
    const expected = ["package.json"].concat(
      ...sources.map((file) => [file.replace(/ts$/, "js"), file.replace(/ts$/, "d.ts")]),
    );
    const packed = list(join(project, "node_modules", manifest.name))
      .filter((file) => !/^(?:docs|examples|certs)\/|^[A-Z]+(?:\.md)?$/.test(file));
    assert.deepEqual(packed.sort(), expected.sort());
  }, TIMEOUT_MS);

  test("has no link that leads nowhere, and no keys", () => {
    install();
    const folder = join(project, "node_modules", manifest.name);
    const files = list(folder);
    const dead: string[] = [];
    for (const page of files.filter((file) => file.endsWith(".md"))) {
      const text = readFileSync(join(folder, page), "utf8");
      for (const [, target] of text.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)) {
        if (!existsSync(join(folder, dirname(page), target!))) dead.push(`${page}: ${target}`);
      }
    }
    assert.deepEqual(dead, []);
    assert.ok(files.includes("docs/README.md") && files.includes("SECURITY.md"));
    assert.deepEqual(files.filter((file) => /\.(?:pem|key)$/.test(file)), []);
  }, TIMEOUT_MS);

  test("exports the same values as the sources", async () => {
    install();
    const names: Record<string, string[]> = {};
    for (const [entry, source] of Object.entries(manifest.exports)) {
      names[entry] = Object.keys(await import(join(root, source))).sort();
    }
    write(
      "names.js",
      `const names = {};
      for (const entry of ${JSON.stringify(Object.keys(names))}) {
        names[entry] = Object.keys(await import(entry.replace(".", "${manifest.name}"))).sort();
      }
      console.log(JSON.stringify(names));`,
    );
    const [command, ...args] = inRuntime("names.js");
    assert.deepEqual(JSON.parse(run(command, args)), names);
  }, TIMEOUT_MS);

  test("serves https", async () => {
    install();
    const ca = await createCertificateAuthority({ name: "Package CA" });
    const { cert, key } = await ca.issue({ names: ["localhost"] });
    write("ca.pem", ca.cert);
    write(
      "hello.js",
      `import { serve } from "${manifest.name}";
      const server = await serve(
        { cert: ${JSON.stringify(cert)}, key: ${
        JSON.stringify(key)
      }, hostname: "127.0.0.1", port: 0 },
        (request, { session }) => new Response("hello " + session.tls.sni),
      );
      console.log(server.address.port);`,
    );
    const [command, ...args] = inRuntime("hello.js");
    const server = spawn(command, args, { cwd: project, stdio: ["ignore", "pipe", "inherit"] });
    const closed = once(server, "close");
    try {
      const [port] = await Promise.race([
        once(createInterface(server.stdout), "line"),
        closed.then(([code]) => assert.fail(`The server exited with code ${code}`)),
      ]) as [string];
      const curl = ["-sS", "--fail", "--cacert", "ca.pem", "--resolve"];
      curl.push(`localhost:${port}:127.0.0.1`, `https://localhost:${port}/`);
      assert.equal(run("curl", curl), "hello localhost");
    } finally {
      server.kill("SIGKILL");
      await closed;
    }
  }, TIMEOUT_MS);

  test("is used from the folder that it was built into", () => {
    install();
    const program = `import { capabilities, loadIdentity } from "${manifest.name}";
      import { devCertificates } from "${manifest.name}/dev-certificates";
      const { cert, key } = await devCertificates("certs");
      const { names } = await loadIdentity({ cert, key });
      console.log(capabilities.runtime, names.join());`;
    const folder = join(project, "linked");
    write("linked/app.js", program);
    if (runtime === "deno") {
      // As docs/install.md has it; what the package depends on comes from the registry.
      const config = {
        imports: { [manifest.name]: `npm:${manifest.name}@^${manifest.version}` },
        links: ["../built"],
        nodeModulesDir: "auto",
      };
      write("linked/deno.json", JSON.stringify(config));
    } else {
      const dependencies = { [manifest.name]: "file:../built" };
      write("linked/package.json", JSON.stringify({ type: "module", dependencies }));
      mkdirSync(join(folder, "node_modules", dirname(manifest.name)), { recursive: true });
      symlinkSync("../../../built", join(folder, "node_modules", manifest.name)); // as npm does it
    }
    const node = runtime === "bun" ? node24() : undefined;
    for (const [command, ...args] of [inRuntime("app.js"), ...node ? [[node, "app.js"]] : []]) {
      const { status, stdout, stderr } = spawnSync(command!, args, {
        cwd: folder,
        encoding: "utf8",
        timeout: TIMEOUT_MS,
      });
      assert.equal(status, 0, stderr);
      assert.match(stdout, /^(?:deno|bun|node) localhost/i);
    }
  }, TIMEOUT_MS);

  for (const workers of [undefined, "2"]) {
    const withWorkers = workers === undefined ? "" : ", with workers too";
    const name = "has a command that Node.js starts on this runtime, with no more than it needs";
    test(`${name}${withWorkers}`, async () => {
      install();
      const bin = join(project, "bin");
      mkdirSync(bin, { recursive: true });
      const programs = { [runtime]: process.execPath, node: which("node"), env: which("env") };
      for (const [name, path] of Object.entries(programs)) {
        if (!existsSync(join(bin, name))) symlinkSync(path, join(bin, name));
      }
      write("site/index.html", "served by npx");
      const command = join(project, "node_modules/.bin/httpsd");
      const certs = join(project, "own-certs");
      const [port] = workers === undefined ? [0] : await freePorts(1);
      const where = ["site", "--port", String(port), "--json", "--certs", certs];
      const child = spawn(command, workers ? [...where, "--workers", workers] : where, {
        cwd: project,
        env: { ...process.env, PATH: bin },
        stdio: ["ignore", "pipe", "inherit"],
      });
      const closed = once(child, "close");
      try {
        const [line] = await Promise.race([
          once(createInterface(child.stdout), "line"),
          closed.then(([code]) => assert.fail(`The command ended with code ${code}`)),
        ]) as [string];
        const { url, caFile, ...at } = JSON.parse(line);
        const curl = ["-sS", "--fail", "--cacert", caFile, "--resolve"];
        assert.equal(
          run("curl", [...curl, `localhost:${at.port}:127.0.0.1`, url]),
          "served by npx",
        );
        process.kill(child.pid!, "SIGTERM");
        assert.deepEqual(await closed, [0, null]);
      } finally {
        child.kill("SIGKILL");
      }
    }, TIMEOUT_MS);
  }

  test("has a command that says what is missing where nothing can run it", () => {
    install();
    const bin = join(project, "old");
    mkdirSync(bin);
    symlinkSync(which("node"), join(bin, "node"));
    symlinkSync(which("env"), join(bin, "env"));
    const command = join(project, "node_modules/.bin/httpsd");
    const { status, stderr, stdout } = spawnSync(command, ["--version"], {
      env: { PATH: bin },
      encoding: "utf8",
    });
    const node = Number(run("node", ["-p", "process.versions.node"]).split(".", 1)[0]);
    if (node >= 24) assert.match(stdout, /^httpsd [\d.]+ on Node\.js /);
    else assert.match(stderr, /^httpsd: Deno, Bun or Node\.js 24 is needed, and this is Node\.js /);
    assert.equal(status, node >= 24 ? 0 : 1);
  }, TIMEOUT_MS);

  for (const { name, lib, types, leftOut } of LIBRARIES) {
    test(`has types that pass under strict nodenext with ${name}, without what is internal`, () => {
      install();
      const code = CONSUMER.split("\n").filter((line) => !leftOut.test(line)).join("\n");
      write("consumer/consumer.ts", code);
      const compilerOptions = {
        module: "nodenext",
        moduleResolution: "nodenext",
        lib,
        types,
        strict: true,
        exactOptionalPropertyTypes: true,
        noUncheckedIndexedAccess: true,
        skipLibCheck: false,
        noEmit: true,
      };
      write("consumer/tsconfig.json", JSON.stringify({ compilerOptions }));
      run("node", [join(modules, "typescript/bin/tsc"), "-p", "consumer"]);
    }, TIMEOUT_MS);
  }

  test("has types that pass on Deno", () => {
    if (runtime !== "deno") return;
    install();
    rmSync(join(project, "consumer"), { recursive: true, force: true }); // its lib is not Deno's
    write("consumer/consumer.ts", CONSUMER);
    run(process.execPath, ["check", "consumer/consumer.ts"]);
  }, TIMEOUT_MS);
});

/** Uses types from every entry; each expected error fails the check when it is not one. */
const CONSUMER = `
import { type HttpsdError, HttpsServer, loadIdentity, serve, type Session } from "${manifest.name}";
import { compress } from "${manifest.name}/compress";
import { devCertificates } from "${manifest.name}/dev-certificates";
import { serveFiles } from "${manifest.name}/files";
import { accessLog } from "${manifest.name}/access-log";
import { health } from "${manifest.name}/health";
import { hsts, type HttpsdEnv } from "${manifest.name}/hono";
import { inspect } from "${manifest.name}/inspector";
import { metrics } from "${manifest.name}/metrics";
import { instrument } from "${manifest.name}/otel";
import { serverSentEvents } from "${manifest.name}/sse";
import { upgradeWebSocket } from "${manifest.name}/websocket";
import { Hono } from "hono";

const files: (request: Request) => Promise<Response> = serveFiles("public");
const { cert, key } = await devCertificates("certs");
const server: HttpsServer = await serve({ cert, key }, async (request, { session }) => {
  const subject: string | undefined = session.tls?.peerCertificate?.subject;
  if (request.headers.has("upgrade")) return upgradeWebSocket(request).response;
  if (request.headers.has("range")) return await files(request);
  if (request.method === "POST") return serverSentEvents(request, async ({ send }) => void await send({ data: "" }));
  return await compress(new Response(subject), request);
});
server.addEventListener("error", ({ error, sni }) => {
  const { code }: HttpsdError = error;
  console.log(code, sni?.length);
});
server.route({ uri: "/", method: "GET", handler: (req) => req.send(req.get("host") ?? "") });
server.route({ uri: "/ws", websocket: { onMessage: (ws, message) => ws.send(message) } });
const app = new Hono<HttpsdEnv>().use(hsts()).get("/", (c) => c.text(c.env.session.remoteAddress));
const identity = await loadIdentity({ cert, key });
await serve({ certSelect: ({ serverName }) => serverName === "a.example" ? identity : null }, app.fetch);

const log = accessLog(server, { format: "json", sink: (lines) => console.log(lines) });
const stop: () => void = instrument(server);
const shown: string = metrics(server).text("openmetrics") + log.dropped;
const ready: Promise<Response> = health(server).ready();
server.addEventListener("http:exchange", ({ exchange }) => console.log(exchange.route?.length));

// @ts-expect-error: no such option
new HttpsServer({ prot: 1 });
// @ts-expect-error: a room's own
(session: Session) => session.connection.attach;
`;
