/**
 * Runs blocks of the documentation one after the other, each a file beside this one, as pasted; those
 * of docs/how-do-i.md are asked whether they do what they say. Deno, Bun and Node.js run it, in a
 * network of its own where that is possible: the blocks choose their ports. Its argument is a list
 * of `{ name, file }`; it writes a line of JSON for each.
 */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import {
  createCertificateAuthority,
  openCertificateAuthority,
} from "@httpsd/httpsd/dev-certificates";
import { HttpsServer } from "@httpsd/httpsd";

const PATIENCE_MS = 15_000;
const running = promisify(execFile);

/** The servers that the block at hand has started. */
const servers = [];
const { start } = HttpsServer.prototype;
HttpsServer.prototype.start = function (...args) {
  servers.push(this);
  return start.apply(this, args);
};

/** What curl writes for a path of a server, the first if none is named. */
async function curl(path, ...args) {
  const index = typeof args[0] === "number" ? args.shift() : 0;
  const { port } = servers[index].address;
  const url = `${index === 0 ? "https" : "http"}://localhost:${port}${path}`;
  const { stdout } = await running("curl", [
    "-sS",
    "--max-time",
    "10",
    "--cacert",
    "certs/ca.pem",
    ...args,
    url,
  ]);
  return stdout;
}

/** The status alone. */
const statusOf = async (path, ...args) =>
  Number(await curl(path, ...args, "-o", "/dev/null", "-w", "%{http_code}"));

/** Runs what curl is to fail at. */
async function fails(what) {
  try {
    await what;
  } catch {
    return;
  }
  throw new Error("It succeeded, and should not");
}

function equal(actual, expected) {
  if (actual !== expected) {
    throw new Error(`${JSON.stringify(actual)}, not ${JSON.stringify(expected)}`);
  }
}

function matches(actual, pattern) {
  if (!pattern.test(actual)) throw new Error(`${JSON.stringify(actual)} is not as ${pattern}`);
}

/** A certificate for a client, of the authority in certs/. */
async function alice() {
  const ca = await openCertificateAuthority({
    cert: readFileSync("certs/ca.pem", "utf8"),
    key: readFileSync("certs/ca.key", "utf8"),
  });
  const { cert, key } = await ca.issue({ usage: "client", subject: "CN=alice" });
  writeFileSync("alice.pem", cert);
  writeFileSync("alice.key", key);
  return ["--cert", "alice.pem", "--key", "alice.key"];
}

const hello = async () => equal(await curl("/"), "hello\n");

/** The opening handshake of a WebSocket; its status. curl waits for frames, so it is cut. */
async function opens(path, ...fields) {
  const key = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
  key.push("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", ...fields);
  const args = key.flatMap((field) => ["-H", field]);
  try {
    return await statusOf(path, "--http1.1", "--max-time", "1", ...args);
  } catch (error) {
    return Number(error.stdout); // 101, and then the time was over
  }
}

/** What each answer on docs/how-do-i.md must be seen to do. */
const CHECKS = {
  "get a certificate from Let’s Encrypt?": async () => {
    const args = ["-o", "/dev/null", "-w", "%{redirect_url}"];
    matches(await curl("/a?b", 1, ...args), /^https:\/\/localhost(:\d+)?\/a\?b$/);
  },
  "make a browser trust my development server?": hello,
  "ask clients for certificates (mTLS)?": async () => {
    await fails(curl("/"));
    equal(await curl("/", ...await alice()), "hello CN=alice\n");
  },
  "serve several hosts, each with its certificate?": async () => {
    const { port } = servers[0].address;
    const shop = await running("curl", [
      "-skv",
      "--resolve",
      `shop.example:${port}:127.0.0.1`,
      `https://shop.example:${port}/`,
    ]);
    equal(shop.stdout, "this is shop.example\n");
    matches(shop.stderr, /subject: CN=shop\.example/);
    equal(await curl("/"), "this is localhost\n");
  },
  "change the certificate without a restart?": hello,
  "see why handshakes fail?": async () => {
    const seen = once(servers[0], "error");
    await fails(curl("/", "--cacert", "/dev/null"));
    const [{ error }] = await seen;
    matches(error.code, /^TLS_/);
  },
  "redirect from http to https?": async () => {
    await hello();
    const args = ["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"];
    matches(await curl("/a", 1, ...args), /^308 https:\/\/localhost:8443\/a$/);
  },
  "use HTTP/2?": async () => equal(await curl("/", "--http2"), "h2\n"),
  "serve HTTP/1.1 only?": async () => equal(await curl("/", "--http2"), "http/1.1\n"),
  "stop without losing requests?": hello,
  "run it under Docker?": hello,
  "run it under systemd?": hello,
  "run it on Fly?": async () => equal(await curl("/"), "hello 127.0.0.1\n"),
  "run it behind a load balancer?": async () => equal(await curl("/"), "hello 127.0.0.1\n"),
  "listen on a UNIX socket?": async () => {
    const { stdout } = await running("curl", [
      "-sS",
      "--unix-socket",
      "app.sock",
      "http://localhost/",
    ]);
    equal(stdout, "hello\n");
  },
  "write an access log?": hello,
  "show metrics to Prometheus?": async () => {
    await hello();
    matches(await curl("/metrics", 1), /^http_server_request_duration_seconds_count.* 1$/m);
  },
  "get traces with OpenTelemetry?": hello,
  "answer health checks?": async () => {
    equal(await statusOf("/livez", 1), 200);
    equal(await statusOf("/readyz", 1), 200);
  },
  "allow requests from other origins (CORS)?": async () => {
    const head = await curl("/", "-i", "-H", "Origin: https://app.example");
    matches(head.toLowerCase(), /^access-control-allow-origin: https:\/\/app\.example\r$/m);
  },
  "limit requests per client?": async () => {
    for (const status of [200, 200, 200, 429]) equal(await statusOf("/"), status);
  },
  "limit connections, sizes and slow clients?": async () => {
    equal(await curl("/", "-d", "12345"), "5 bytes\n");
    writeFileSync("large", new Uint8Array(1024 * 1024 + 1));
    equal(await statusOf("/", "--data-binary", "@large"), 413);
  },
  "read and set cookies?": async () => {
    equal(await curl("/", "-c", "jar"), "visit 1\n");
    equal(await curl("/", "-b", "jar"), "visit 2\n");
  },
  "take uploads?": async () => {
    writeFileSync("upload", new Uint8Array(3_000_000));
    const name = (await curl("/", "-T", "upload")).trim();
    equal(readFileSync(name).length, 3_000_000);
  },
  "serve static files, or a single-page app?": async () => {
    matches(await curl("/"), /<p>hello/);
    matches(
      await curl("/some/where", "-H", "Accept: text/html", "-H", "Sec-Fetch-Mode: navigate"),
      /<p>hello/,
    );
  },
  "compress answers?": async () => {
    matches(
      await curl("/", "-I", "-X", "GET", "--compressed", "--http1.1"),
      /content-encoding: (gzip|zstd)/i,
    );
  },
  "use Hono?": async () => {
    equal(await statusOf("/me"), 403);
    equal(await curl("/me", ...await alice()), "CN=alice");
  },
  "pass requests on to another server?": async () => equal(await statusOf("/"), 502),
  "send events to a page (SSE)?": async () => {
    try {
      await curl("/", "-N", "--max-time", "1");
    } catch (error) {
      matches(error.stdout, /^id: 1$/m);
      return;
    }
    throw new Error("The stream ended");
  },
  "let only some open a WebSocket?": async () => {
    equal(await opens("/ws"), 403);
    equal(await opens("/ws", "Origin: https://app.example"), 401);
    equal(await opens("/ws", "Origin: https://app.example", "Cookie: session=secret"), 101);
  },
  "have WebSocket rooms?": async () => {
    equal(await opens("/chat"), 400);
    equal(await opens("/chat?room=1"), 101);
  },
  "answer errors in my own words?": async () => equal(await curl("/x"), "Nothing at /x\n"),
  "test handlers without a socket?": async () => {},
};

/** A block of cluster(): a process of its own, which is asked, and told to end. */
async function runCluster(file) {
  const args = "Deno" in globalThis ? ["run", "-A", file] : [file];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "inherit", "inherit"] });
  const closed = once(child, "close");
  try {
    const port = /port: (\d+)/.exec(readFileSync(file, "utf8"))[1];
    const retry = [
      "--retry",
      "60",
      "--retry-connrefused",
      "--retry-delay",
      "1",
      "--max-time",
      "60",
    ];
    const url = `https://localhost:${port}/`;
    matches(
      (await running("curl", ["-sS", ...retry, "--cacert", "certs/ca.pem", url])).stdout,
      /^hello/,
    );
    process.kill(child.pid, "SIGTERM");
    const [code] = await closed;
    equal(code, 0);
  } finally {
    if (child.exitCode === null) child.kill("SIGKILL");
  }
}

/** What blocks need besides, by the package that they import; ended with this process. */
const BROKERS = {
  '"redis"': ["redis-server", ["--port", "6379", "--save", ""], 6379],
  '"@nats-io/transport-node"': ["nats-server", ["-a", "127.0.0.1"], 4222],
};
const brokers = [];

async function startBrokers(code) {
  for (const [name, [program, args, port]] of Object.entries(BROKERS)) {
    if (!code.includes(`from ${name}`) || brokers.some(({ spawnfile }) => spawnfile === program)) {
      continue;
    }
    const child = spawn(program, args, { stdio: "ignore" });
    child.on("error", (error) => console.error(`${error.message}: install ${program}`));
    brokers.push(child);
    while (!await answers(port)) await delay(20);
  }
}

async function answers(port) {
  const socket = connect(port, "127.0.0.1");
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function run(name, file) {
  servers.length = 0;
  const code = readFileSync(file, "utf8");
  if (file.endsWith(".js")) await startBrokers(code);
  if (code.includes("cluster(")) return await runCluster(file);
  const listeners = process.listeners("SIGTERM");
  try {
    const made = await import(`./${file}`);
    const question = /^docs\/how-do-i\.md: (.*)/.exec(name)?.[1];
    if (question !== undefined && made.default === undefined) {
      if (CHECKS[question] === undefined) throw new Error(`Nothing asks "${question}"`);
      await CHECKS[question]();
    }
    if (made.default !== undefined) {
      const response = await made.default.fetch(new Request("https://localhost/nowhere"));
      equal(response.status, 200);
    }
  } finally {
    for (const added of process.listeners("SIGTERM")) {
      if (!listeners.includes(added)) process.off("SIGTERM", added);
    }
    await Promise.all(servers.map((server) => server.stop({ drainMs: 0 })));
  }
}

if (!existsSync("public")) throw new Error("There has to be a directory public");
await createCertificateAuthority(); // what is loaded later is loaded now, in nobody's time
for (const { name, file } of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  let error;
  try {
    await Promise.race([
      run(name, file),
      delay(file.endsWith(".js") ? 4 * PATIENCE_MS : PATIENCE_MS, undefined, { ref: false }).then(
        () => {
          throw new Error("It took too long");
        },
      ),
    ]);
  } catch (thrown) {
    error = `${thrown?.stack ?? thrown}`;
  }
  console.log(`\nRESULT ${JSON.stringify({ name, error })}`);
}
for (const broker of brokers) broker.kill("SIGKILL");
process.exit(0); // whatever a block has left behind
