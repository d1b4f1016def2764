/** Access logs: the formats, that no client can forge a line, and what a slow or stuck sink does. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { spawn } from "node:child_process";
import process from "node:process";
import { createEdgeApp } from "../lib/edge/mod.ts";
import { accessLog, type AccessRecord } from "../lib/telemetry/access_log.ts";
import { headers, Http2Client } from "./http2_client.ts";
import { GET, latin1, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { heapMiB, turns, until } from "./support.ts";
import { alice, clientCa, sClient, startServer } from "./tls_support.ts";

assertRuntime();
stopServersAfterAll();

/** A server that answers "hello", and the lines of its log. */
async function logging(options: Parameters<typeof accessLog>[1] = {}) {
  const host = await started(() => new Response("hello"));
  const written: string[] = [];
  const log = accessLog(host.server, {
    ...(options.record === undefined && { sink: (lines) => void written.push(lines) }),
    ...options,
  });
  return { ...host, log, text: () => written.join("") };
}

/** Sends one request, and gives what was logged of it. */
async function logged(bytes: string, options: Parameters<typeof accessLog>[1] = {}) {
  const { port, log, text } = await logging(options);
  const client = await RawClient.connect(port);
  client.send(latin1(bytes));
  await until(() => text() !== "", "a line");
  client.destroy();
  await log.stop();
  return text();
}

const TIME = String.raw`\[\d\d/(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/\d{4}` +
  String.raw`:\d\d:\d\d:\d\d \+0000\]`;
const FIELDS = "User-Agent: me/1.0\r\nReferer: https://a.example/\r\n";

describe("a line", () => {
  const request = `GET /a?b=c HTTP/1.1\r\nHost: a\r\n${FIELDS}\r\n`;
  const formats = {
    common: String.raw`127\.0\.0\.1 - - ${TIME} "GET /a\?b=c HTTP/1\.1" 200 5`,
    combined: String.raw`127\.0\.0\.1 - - ${TIME} "GET /a\?b=c HTTP/1\.1" 200 5 ` +
      String.raw`"https://a\.example/" "me/1\.0"`,
  } as const;
  for (const [format, pattern] of Object.entries(formats)) {
    test(`in the ${format} log format`, async () => {
      const text = await logged(request, { format: format as keyof typeof formats });
      assert.match(text, new RegExp(`^${pattern}\n$`));
    });
  }

  test("as JSON with the names of ECS", async () => {
    const line = JSON.parse(await logged(request, { format: "json" })) as AccessRecord;
    const { "@timestamp": time, "event.duration": duration, ...rest } = line;
    assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000, time);
    assert.ok(Number.isInteger(duration) && duration > 0);
    delete (rest as Record<string, unknown>)["httpsd.session"];
    delete (rest as Record<string, unknown>)["httpsd.first_byte_ms"];
    delete (rest as Record<string, unknown>)["source.port"];
    assert.deepEqual(rest, {
      "event.kind": "event",
      "event.category": ["web"],
      "event.type": ["access"],
      "event.dataset": "httpsd.access",
      "event.outcome": "success",
      "source.ip": "127.0.0.1",
      "http.version": "1.1",
      "http.request.method": "GET",
      "http.request.body.bytes": 0,
      "http.request.referrer": "https://a.example/",
      "http.response.status_code": 200,
      "http.response.body.bytes": 5,
      "url.original": "/a?b=c",
      "url.path": "/a",
      "url.query": "b=c",
      "url.scheme": "http",
      "url.domain": "a",
      "user_agent.original": "me/1.0",
      "httpsd.ended": "whole",
    });
  });

  test("of a request whose head could not be read", async () => {
    const text = await logged("NONSENSE\r\n\r\n");
    assert.match(text, new RegExp(`^127\\.0\\.0\\.1 - - ${TIME} "-" 400 \\d+ "-" "-"\n$`));
  });

  test("has the subject of a verified client certificate, and TLS facts", async () => {
    await using server = await startServer({ clientAuth: { ca: clientCa.cert, mode: "optional" } });
    const written: string[] = [];
    for (const format of ["common", "json"] as const) {
      accessLog(server.server, { format, sink: (lines) => void written.push(lines) });
    }
    await sClient(server.port, { client: alice });
    await until(() => written.length === 2, "both lines");
    const [common, json] = written.toSorted((a, b) => a.startsWith("{") ? 1 : b ? -1 : 0);
    assert.match(common!, /^127\.0\.0\.1 - CN=alice \[/);
    const record = JSON.parse(json!) as AccessRecord;
    assert.deepEqual(
      [record["tls.client.subject"], record["tls.client.server_name"], record["url.scheme"]],
      ["CN=alice", "localhost", "https"],
    );
    assert.match(record["tls.version"]!, /^1\.[23]$/);
  });
});

describe("no client forges a line:", () => {
  const evil = [
    '" 200 0 "-" "forged',
    "\\",
    "\t\x80\xff\xa0\x85",
    "\xe9",
    '{"a":1}',
    "$(id)%0a%22",
  ];
  for (const format of ["common", "combined", "json"] as const) {
    test(`fields and targets, ${format}`, async () => {
      const { port, log, text } = await logging({ format });
      for (const value of evil) {
        const requests = [
          `GET /?${value.replaceAll(" ", "+")} HTTP/1.1\r\nHost: a\r\n\r\n`,
          `GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: ${value}\r\nReferer: ${value}\r\n\r\n`,
        ];
        for (const request of requests) {
          const client = await RawClient.connect(port); // it may be the last one of its connection
          client.send(latin1(request));
          await client.expect("\r\n\r\n");
          client.destroy();
        }
      }
      await until(() => log.written === 2 * evil.length, "lines");
      await log.stop();
      const all = text();
      assert.match(all, /^[\x20-\x7e\n]+$/);
      const lines = all.trimEnd().split("\n");
      assert.equal(lines.length, log.written);
      for (const line of lines) {
        if (format === "json") {
          assert.equal(typeof JSON.parse(line)["http.version"], "string");
        } else {
          const quotes = format === "common" ? 2 : 6;
          assert.equal(line.split('"').length - 1, quotes, line);
        }
      }
    });
  }

  test("what HTTP/2 carries, and other characters of the program's", async () => {
    const { port, log, text } = await logging({ format: "combined" });
    using client = await Http2Client.connect(port);
    await client.ready();
    const id = client.nextStreamId();
    client.send(headers(id, [
      [":method", "GET"],
      [":scheme", "http"],
      [":path", "/"],
      [":authority", "a"],
      ["user-agent", 'a"b\\c\x80'],
    ]));
    await client.answer(id);
    await until(() => log.written === 1, "a line");
    assert.match(text(), /"GET \/ HTTP\/2" 200 5 "-" "a\\x22b\\x5cc\\x80"\n$/);
  });
});

describe("the sink", () => {
  test("gets whole lines, several at once, and never two calls at a time", async () => {
    let calls = 0;
    let running = 0;
    const lines: string[] = [];
    const { port, log } = await logging({
      sink: async (text) => {
        assert.equal(++running, 1);
        calls++;
        lines.push(text);
        await turns(1);
        running--;
      },
    });
    const client = await RawClient.connect(port);
    client.send(GET("/").repeat(500));
    await until(() => log.written === 500, "all lines");
    assert.ok(calls < 400, String(calls));
    assert.ok(lines.every((text) => text.endsWith("\n")));
    assert.equal(lines.join("").split("\n").length, 501);
    assert.equal(log.bufferedBytes, 0);
    client.destroy();
  });

  test("that is stuck holds a bounded part, and the rest is dropped and counted", async () => {
    const { promise: stuck, resolve: goOn } = Promise.withResolvers<void>();
    let taken = 0;
    const { port, log } = await logging({
      maxBufferedBytes: 64 * 1024,
      sink: async (text) => {
        await stuck;
        taken += text.split("\n").length - 1;
      },
    });
    const client = await RawClient.connect(port);
    const path = `/${"x".repeat(1_000)}`;
    const before = heapMiB();
    let answered = 0;
    for (let round = 0; round < 20; round++) {
      client.text = "";
      client.send(GET(path).repeat(100));
      await client.until(() => client.text.split("hello").length > 100);
      answered += 100;
    }
    assert.ok(log.bufferedBytes <= 64 * 1024 && log.bufferedBytes > 60 * 1024);
    assert.ok(log.dropped > 1_800 && log.dropped < 2_000, String(log.dropped));
    assert.ok(heapMiB() - before < 8, "The heap has not grown");
    goOn();
    await log.flush();
    assert.equal(log.written, taken);
    assert.equal(log.written + log.dropped, answered);
    client.send(GET("/later"));
    await until(() => log.written === taken && log.written + log.dropped === answered + 1, "later");
    client.destroy();
  });

  test("has all lines when the server has stopped, and one that is stuck delays that no longer", async () => {
    const lines: string[] = [];
    const slow = await logging({
      sink: async (text) => {
        await turns();
        lines.push(text);
      },
    });
    const client = await RawClient.connect(slow.port);
    client.send(GET("/last"));
    await client.until(() => client.text.includes("hello"));
    await slow.server.stop();
    assert.match(lines.join(""), /GET \/last /);

    const stuck = await logging({ sink: () => new Promise(() => {}) });
    const errors: unknown[] = [];
    stuck.server.addEventListener("error", ({ error }) => void errors.push(error.code));
    const other = await RawClient.connect(stuck.port);
    other.send(GET("/"));
    await other.until(() => other.text.includes("hello"));
    await stuck.server.stop();
    assert.deepEqual(errors, ["HOOK_FAILED"]);
    for (const one of [client, other]) one.destroy();
  });

  test("that fails is reported once until it succeeds, and loses no later line", async () => {
    const failures: unknown[] = [];
    let works = false;
    const { port, log } = await logging({
      sink: () => {
        if (!works) throw new Error("disk full");
      },
      onError: (error) => {
        failures.push(error);
        throw error;
      },
    });
    const report = console.error;
    console.error = () => {}; // what onError throws
    try {
      const client = await RawClient.connect(port);
      for (let i = 1; i <= 3; i++) {
        client.send(GET("/"));
        await until(() => log.failed === i, "the failure");
      }
      works = true;
      client.send(GET("/"));
      await until(() => log.written === 1, "the line");
      works = false;
      client.send(GET("/"));
      await until(() => failures.length === 2, "the second report");
      client.destroy();
    } finally {
      console.error = report;
    }
  });

  test("that is a logger fails for one record, and takes the others", async () => {
    const paths: unknown[] = [];
    const failures: unknown[] = [];
    const { port, log } = await logging({
      record: ({ "url.path": path }) => {
        if (path === "/2") throw new Error("this one");
        paths.push(path);
      },
      onError: (error) => void failures.push(error),
    });
    const client = await RawClient.connect(port);
    client.send(["/1", "/2", "/3", "/4"].map(GET).join(""));
    await until(() => log.written + log.failed === 4, "all of them");
    assert.deepEqual(paths, ["/1", "/3", "/4"]);
    assert.deepEqual([log.written, log.failed, failures.length], [3, 1, 1]);
    client.destroy();
  });

  for (const how of ["throw", "reject"] as const) {
    test(`has the line of a filter that fails, where it and onError ${how}`, async () => {
      const fail = (what: string): never => {
        if (how === "reject") return Promise.reject(new Error(what)) as never;
        throw new Error(what);
      };
      const { port, log, errors } = await logging({
        filter: () => fail("filter"),
        onError: () => fail("onError"),
      });
      const report = console.error;
      const reported: unknown[] = [];
      console.error = (error) => void reported.push(error);
      try {
        const client = await RawClient.connect(port);
        client.send(GET("/"));
        await until(() => log.written === 1 && reported.length === 1, "the line, and the report");
        client.destroy();
      } finally {
        console.error = report;
      }
      assert.match(String(reported), /onError/);
      assert.deepEqual(errors, []);
    });
  }

  test("is asked for nothing that the filter leaves out, nor after stop()", async () => {
    const failures: unknown[] = [];
    const { port, log, text } = await logging({
      filter: ({ path }) => {
        if (path === "/throws") throw new Error("filter");
        return path !== "/livez";
      },
      onError: (error) => void failures.push(error),
    });
    const client = await RawClient.connect(port);
    client.send(GET("/livez") + GET("/throws") + GET("/seen"));
    await until(() => log.written === 2, "two lines");
    assert.ok(!text().includes("/livez"));
    assert.equal(failures.length, 1);
    await log.stop();
    client.send(GET("/late"));
    await client.expect(/(hello[^]*){4}/);
    await turns();
    assert.equal(log.written, 2);
    client.destroy();
  });

  test("is asked for no request that was under way at stop()", async () => {
    const { server } = await started(() => answer.promise);
    const answer = Promise.withResolvers<Response>();
    let lines = "";
    const log = accessLog(server, { sink: (text) => void (lines += text) });
    const asked = server.fetch(new Request("http://a/"));
    await until(() => server.stats().requests.active === 1, "it is there");
    await log.stop();
    answer.resolve(new Response("late"));
    assert.equal(await (await asked).text(), "late");
    await log.flush();
    assert.deepEqual([lines, log.written, server.stats().requests.byClass["2xx"]], ["", 0, 1]);
  });

  test("may be a logger that takes records; and an edge app logs as a server does", async () => {
    const records: AccessRecord[] = [];
    const app = createEdgeApp({}, () => new Response("hello"));
    const log = accessLog(app, { record: (record) => void records.push(record) });
    await app.fetch(new Request("http://a.example/path?q", { method: "POST", body: "x" }));
    await log.flush();
    const [record] = records;
    assert.equal(record?.["url.path"], "/path");
    assert.equal(record?.["source.ip"], undefined);
    assert.equal(record?.["http.response.status_code"], 200);
  });
});

describe("standard output", () => {
  const program = (requests: number) => `
    import { HttpsServer } from ${JSON.stringify(new URL("../mod.ts", import.meta.url))};
    import { accessLog } from ${
    JSON.stringify(new URL("../lib/telemetry/access_log.ts", import.meta.url))
  };
    import { writeSync } from "node:fs";
    const server = new HttpsServer({ transportMode: "insecure", hostname: "127.0.0.1", port: 0 },
      () => new Response("hello"));
    const log = accessLog(server, { maxBufferedBytes: 200_000 });
    await server.start();
    const url = "http://127.0.0.1:" + server.address.port + "/" + "x".repeat(2000);
    for (let i = 0; i < ${requests}; i++) await (await fetch(url)).text();
    writeSync(2, JSON.stringify({ dropped: log.dropped, buffered: log.bufferedBytes }) + "\\n");
    process.stdin.once("data", async () => {
      await log.stop();
      writeSync(2, JSON.stringify({ written: log.written, dropped: log.dropped }) + "\\n");
      process.exit(0);
    });`;

  test("that nobody reads stops no request", async () => {
    const args = runtime === "bun"
      ? ["-e", program(400)]
      : ["eval", "--ext=ts", "--node-modules-dir=manual", program(400)];
    const cwd = fileURLToPath(new URL("..", import.meta.url));
    const child = spawn(process.execPath, args, { cwd, stdio: ["pipe", "pipe", "pipe"] });
    try {
      let said = "";
      child.stderr.setEncoding("utf8").on("data", (text: string) => said += text);
      await until(() => said.includes("\n"), `the server goes on: ${said}`, 20_000);
      const { dropped, buffered } = JSON.parse(said.split("\n")[0]!);
      assert.ok(dropped > 100 && buffered <= 200_000, said);
      let lines = 0;
      child.stdout.setEncoding("latin1").on(
        "data",
        (text: string) => lines += text.split("\n").length - 1,
      );
      child.stdin.write("go on\n");
      await once(child, "close");
      const end = JSON.parse(said.trimEnd().split("\n")[1]!);
      assert.deepEqual([end.written, end.dropped], [400 - dropped, dropped]);
      assert.equal(lines, end.written);
    } finally {
      child.kill("SIGKILL");
    }
  }, 30_000);
});

describe("accessLog() refuses", () => {
  const server = { observe: () => () => {} };
  const wrong: [unknown, unknown, RegExp][] = [
    [undefined, {}, /takes a server or an edge app first, not undefined/],
    [server, { format: "apache" }, /Option format of accessLog\(\) is a string: it must be/],
    [server, { stream: 1 }, /write sink: \(lines\)/],
    [server, { sinks: 1 }, /did you mean sink/],
    [server, { sink: () => {}, record: () => {} }, /goes without sink/],
    [server, { maxBufferedBytes: 0 }, /maxBufferedBytes/],
  ];
  for (const [target, options, message] of wrong) {
    test(String(message), () => {
      assert.throws(() => accessLog(target as never, options as never), {
        code: "INVALID_CONFIG",
        message,
      });
    });
  }
});
