/** The httpd API's request: what it shows of the client's bytes, and what it makes of the answer. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { HttpsServerOptions } from "../lib/config.ts";
import { parseCookies } from "../lib/http/cookies.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import {
  answering,
  GET,
  latin1,
  type Mode,
  MODES,
  RawClient,
  readResponses,
  started,
  stopServersAfterAll,
  type WireResponse,
} from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { countCpu, until } from "./support.ts";

assertRuntime();

stopServersAfterAll();

type Handler = (request: HttpdRequest) => Response | void | Promise<Response | void>;

/** The bytes that come back for `request` on a connection of its own, up to its end. */
async function textFor(
  port: number,
  request: string,
  mode: Mode = "plain",
  cut = 0,
): Promise<string> {
  const client = await RawClient.connect(port, mode);
  if (cut === 0) client.send(request);
  else for (let i = 0; i < request.length; i += cut) client.send(request.slice(i, i + cut));
  const text = await client.rest();
  client.destroy();
  return text;
}

/** The responses that come back for a request, interim ones too. */
async function answersTo(
  handler: Handler,
  request: string,
  options: HttpsServerOptions & { mode?: Mode } = {},
): Promise<WireResponse[]> {
  const { mode = "plain", ...rest } = options;
  const { server, port } = await answering(handler, rest, mode);
  const text = await textFor(port, request, mode);
  await server.stop();
  return readResponses(text, [request.split(" ")[0]!]);
}

/** The last response that comes back for a request. */
async function answerTo(...args: Parameters<typeof answersTo>): Promise<WireResponse> {
  return (await answersTo(...args)).at(-1)!;
}

const CLOSING_GET = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/** What one request shows to its handler. */
async function seen<T>(request: string, look: (request: HttpdRequest) => T): Promise<T> {
  let result: { value: T } | undefined;
  const answer = await answerTo(async (httpd) => {
    result = { value: await look(httpd) };
    httpd.header("Connection", "close").send("done");
  }, request);
  assert.equal(answer.body, "done");
  return result!.value;
}

describe("the head", () => {
  const head = "POST http://A:80/%41/../b?c=%20d&c=2#".slice(0, -1) + " HTTP/1.1\r\n" +
    "host:A:80\r\nX-b:   two  words \t\r\nX-A: \x80\xff\r\nx-B:2\r\nX-b:\r\ncontent-LENGTH: 3\r\n\r\n";

  for (const mode of MODES) {
    for (const cut of [0, 1, 7]) {
      test(`is given exactly as received, in pieces of ${cut || "any"} bytes, ${mode}`, async () => {
        const heads: Uint8Array[] = [];
        const { server, port } = await answering(
          (request) => {
            heads.push(request.rawHead.slice());
            request.header("Connection", heads.length === 2 ? "close" : "keep-alive").send();
          },
          {},
          mode,
        );
        await textFor(port, `${head}abc\r\n${GET("/2")}`, mode, cut);
        assert.deepEqual(heads.map((bytes) => [...bytes]), [[...latin1(head)], [
          ...latin1(GET("/2")),
        ]]);
        await server.stop();
      });
    }
  }

  test("its target is taken apart, and never decoded or normalised", async () => {
    const parts = await seen(`${head}abc`, (request) => [
      ...[request.method, request.uri, request.path, request.rawQuery, request.host],
      ...[request.contentLength, request.query.getAll("c")],
    ]);
    assert.deepEqual(parts, [
      ...["POST", "http://A:80/%41/../b?c=%20d&c=2", "/%41/../b", "c=%20d&c=2", "A:80"],
      ...[3, [" d", "2"]],
    ]);
  });

  test("its fields keep order, spelling and number; white space around values goes", async () => {
    const fields = await seen(`${head}abc`, (request) => ({
      raw: request.rawHeaders,
      first: request.get("X-B"),
      all: request.getAll("x-b"),
      joined: request.headers.get("x-b"),
      absent: [request.get("x-c"), request.getAll("x-c"), request.headers.get("x-c")],
    }));
    assert.deepEqual(fields, {
      raw: [
        ["host", "A:80"],
        ["X-b", "two  words"],
        ["X-A", "\x80\xff"],
        ["x-B", "2"],
        ["X-b", ""],
        ["content-LENGTH", "3"],
      ],
      first: "two  words",
      all: ["two  words", "2", ""],
      joined: "two  words, 2, ",
      absent: [undefined, [], null],
    });
  });

  test("names that objects have are names like others (CVE-2026-21710)", async () => {
    const names = ["__proto__", "constructor", "toString"];
    const lines = names.map((name, i) => `${name}: ${i}\r\n`).join("");
    const values = await seen(
      `GET / HTTP/1.1\r\nHost: a\r\n${lines}\r\n`,
      (request) => [...names, "valueOf"].map((name) => request.get(name)),
    );
    assert.deepEqual(values, ["0", "1", "2", undefined]);
  });

  test("is still there after the response, unlike the original's", async () => {
    let after: unknown;
    const { port } = await answering((request) => {
      request.header("Connection", "close").send();
      after = [request.get("host"), request.headers.get("x"), request.uri, request.query.get("q")];
    });
    await textFor(port, "GET /p?q=r HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n");
    assert.deepEqual(after, ["a", "y", "/p?q=r", "r"]);
  });

  test("a body whose length is not declared has none", async () => {
    const lengths = await seen(GET("/"), (request) => request.contentLength);
    assert.equal(lengths, undefined);
    const chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert.equal(await seen(chunked, (request) => request.contentLength), undefined);
  });

  test("gives the session, the server and the route's context", async () => {
    const { server, port } = await started(undefined);
    let given: HttpdRequest | undefined;
    const context = { answer: 42 };
    server.route({
      uri: "/",
      method: "GET",
      context,
      handler: (request) => {
        given = request;
        assert.equal(request.sent, false);
        request.send();
        assert.equal(request.sent, true);
      },
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.expect("200");
    assert.equal(given?.server, server);
    assert.equal(given?.session, [...server.sessions][0]);
    assert.equal(given?.routeContext, context);
    client.destroy();
  });
});

describe("cookies", () => {
  const table: [field: string, cookies: Record<string, string>][] = [
    ["a=1", { a: "1" }],
    ["a=1; b=2", { a: "1", b: "2" }],
    ["a=1;b=2 ;  c=3;", { a: "1", b: "2", c: "3" }],
    ["a=1; A=2", { a: "1", A: "2" }],
    ["a=first; a=second", { a: "first" }],
    ['a="quoted"; b="; c=3', { a: "quoted", b: '"', c: "3" }],
    ["a=x=y; b=%20", { a: "x=y", b: "%20" }],
    ["a; =b; c=", { c: "" }],
    ["", {}],
    [";;; ;", {}],
    ["__proto__=x", { ["__proto__"]: "x" }],
  ];

  for (const [field, cookies] of table) {
    test(`of ${JSON.stringify(field)}`, () => {
      assert.deepEqual([...parseCookies([field])], Object.entries(cookies));
    });
  }

  test("of several fields, and of 16 KiB in linear time", async () => {
    const cookies = await seen(
      "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1; b=2\r\nCookie: c=3\r\n\r\n",
      (request) => [...request.cookies],
    );
    assert.deepEqual(cookies, [["a", "1"], ["b", "2"], ["c", "3"]]);
    const cpuMs = countCpu();
    for (const text of [";", "a=", " ", '"', "a=;"]) parseCookies([text.repeat(16_384)]);
    assert.ok(cpuMs() < 1_000);
  });
});

describe("the body", () => {
  const post = (body: string) =>
    `POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const chunked = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked" +
    "\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\nContent-Length: 9\r\nX-End: z\r\n\r\n";

  for (const mode of MODES) {
    test(`comes in pieces of at most max bytes, ${mode}`, async () => {
      const answer = await answerTo(
        async (request) => {
          const pieces: string[] = [];
          for (let max = 1;; max++) {
            const bytes = await request.recv(max);
            if (bytes === undefined) break;
            assert.ok(bytes.length > 0 && bytes.length <= max);
            pieces.push(String.fromCharCode(...bytes));
          }
          assert.equal(await request.recv(), undefined, "the end stays the end");
          request.sendJson(pieces);
        },
        post("abcdefghij"),
        { mode },
      );
      assert.deepEqual(JSON.parse(answer.body), ["a", "bc", "def", "ghij"]);
      assert.equal(answer.fields["content-type"], "application/json");
    });

    test(`in chunks has trailers, once it was read, without those that frame, ${mode}`, async () => {
      const answer = await answerTo(
        async (request) => {
          assert.deepEqual(request.trailers, []);
          let text = "";
          for await (const bytes of request.body) text += String.fromCharCode(...bytes);
          request.sendJson([text, request.trailers]);
        },
        chunked,
        { mode },
      );
      assert.deepEqual(JSON.parse(answer.body), ["abcde", [["X-Sum", "5"], ["X-End", "z"]]]);
    });
  }

  test("cannot be read any more when the exchange is over", async () => {
    const { promise, resolve } = Promise.withResolvers<HttpdRequest>();
    const { port } = await answering((request) => {
      request.send();
      resolve(request);
    });
    const client = await RawClient.connect(port);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab");
    await client.expect("200");
    await assert.rejects((await promise).recv(), { code: "REQUEST_ENDED" });
    client.destroy();
  });

  test("of a client that is gone throws what came of it, and no end", async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const { port } = await answering(async (request) => {
      await request.recv();
      resolve(await request.recv().catch((error) => error.code));
    });
    const client = await RawClient.connect(port);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab");
    client.end();
    assert.equal(await promise, "BODY_INCOMPLETE");
    client.destroy();
  });
});

describe("send()", () => {
  for (const mode of MODES) {
    test(`sends status, reason, type and fields as they were set, ${mode}`, async () => {
      const { port } = await answering(
        (request) => {
          request.status(299, "Näh").type("text/x").header("X-A", "1").header("x-a", "2");
          request.header("X-Latin", "\xfc\x80");
          request.header("content-type", "text/y").header("Connection", "close").send("bödy");
        },
        {},
        mode,
      );
      const text = await textFor(port, GET("/"), mode);
      assert.ok(text.startsWith("HTTP/1.1 299 N\xe4h\r\nContent-Type: text/y\r\n"), text);
      const [response] = readResponses(text);
      assert.equal(response?.fields["x-a"], "1\n2");
      assert.equal(response?.fields["x-latin"], "\xfc\x80");
      assert.equal(response?.fields["content-length"], "5");
      assert.equal(response?.body, "b\xc3\xb6dy");
    });
  }

  for (const mode of MODES) {
    test(`sends Latin-1 in fields as it is, also before a body of ASCII, ${mode}`, async () => {
      const { port } = await answering(
        (request) => request.header("X-Latin", "\xfc\x80").header("Connection", "close").send("x"),
        {},
        mode,
      );
      const [response] = readResponses(await textFor(port, GET("/"), mode));
      assert.equal(response?.fields["x-latin"], "\xfc\x80");
      assert.equal(response?.body, "x");
    });
  }

  test("sends text/html with 200 by default", async () => {
    const { status, fields, body } = await answerTo((request) => request.send(), CLOSING_GET);
    assert.deepEqual([status, fields["content-type"], body], [200, "text/html", ""]);
  });

  const bad: [what: string, set: (request: HttpdRequest, character: string) => unknown][] = [
    ["a reason", (request, c) => request.status(200, `OK${c}X: y`)],
    ["a type", (request, c) => request.type(`text/html${c}X: y`)],
    ["a field name", (request, c) => request.header(`X${c}`, "y")],
    ["a field value", (request, c) => request.header("X", `y${c}X: y`)],
    ["a content type", (request, c) => request.header("content-type", `y${c}`)],
    ["an interim field", (request, c) => request.inform(103, [["Link", `y${c}`]])],
  ];
  for (const [what, set] of bad) {
    test(`${what} with CR, LF, NUL or more than a byte throws, and nothing of it is sent`, async () => {
      const { fields, body } = await answerTo((request) => {
        for (const character of ["\r\n", "\r", "\n", "\0", "\x7f", "\u0100", "😀"]) {
          assert.throws(() => set(request, character), { code: "BAD_RESPONSE", status: 500 });
        }
        request.send("fine");
      }, CLOSING_GET);
      assert.deepEqual([body, "x" in fields], ["fine", false]);
    });
  }

  test("a status that is none throws BAD_RESPONSE, and becomes a 500", async () => {
    for (const status of [0, 99, 101, 199, 1000, 200.5, NaN, -200]) {
      const { status: sent } = await answerTo((request) => {
        assert.throws(() => request.status(status).send(), { code: "BAD_RESPONSE" }, `${status}`);
        request.status(status).send();
      }, CLOSING_GET);
      assert.equal(sent, 500);
    }
  });

  test("maxResponseFields bounds the fields that are added, the type not counted", async () => {
    const { status, fields } = await answerTo(
      (request) => {
        request.type("a/b").header("X-1", "1").header("X-2", "2").header("Content-Type", "c/d");
        assert.throws(() => request.header("X-3", "3"), { code: "BAD_RESPONSE" });
        request.send();
      },
      CLOSING_GET,
      { limits: { maxResponseFields: 2 } },
    );
    assert.deepEqual([status, fields["x-2"], fields["x-3"]], [200, "2", undefined]);
  });

  test("framing fields are the server's", async () => {
    const answers = await answersTo((request) => {
      request.header("Transfer-Encoding", "chunked").header("Keep-Alive", "9").send("abc");
    }, CLOSING_GET);
    assert.equal(answers.length, 1);
    assert.equal(answers[0]?.body, "abc");
    assert.equal(answers[0]?.fields["keep-alive"], undefined);
  });

  test("a Content-Length that is not the body's becomes a 500", async () => {
    for (const length of ["4", "2", "-1", "3, 3", "x"]) {
      const { status } = await answerTo((request) => {
        request.header("Content-Length", length).send("abc");
      }, CLOSING_GET);
      assert.equal(status, 500, length);
    }
  });
});

describe("sendError()", () => {
  test("sends the standard text of the 13 errors, or another", async () => {
    const bodies: Record<number, string> = {
      500: "Server has encountered an unexpected error",
      501: "Server does not support this method",
      505: "HTTP version not supported by server",
      400: "Bad request syntax",
      401: "No permission -- see authorization schemes",
      403: "Request forbidden -- authorization will not help",
      404: "Nothing matches the given URI",
      405: "Specified method is invalid for this resource",
      408: "Server closed this connection",
      411: "Client must specify Content-Length",
      413: "Content is too large",
      414: "URI is too long",
      431: "Header fields are too long",
    };
    assert.equal(Object.keys(bodies).length, 13);
    for (const [status, body] of Object.entries(bodies)) {
      const answer = await answerTo((request) => request.sendError(Number(status)), CLOSING_GET);
      assert.deepEqual([answer.status, answer.body], [Number(status), body]);
    }
    const own = await answerTo(
      (request) => request.header("Retry-After", "9").sendError(429, "slow"),
      CLOSING_GET,
    );
    assert.deepEqual([own.status, own.body, own.fields["retry-after"]], [429, "slow", "9"]);
  });

  test("after a response throws ALREADY_SENT", async () => {
    const { body } = await answerTo((request) => {
      request.send("first");
      assert.throws(() => request.sendError(500), { code: "ALREADY_SENT" });
    }, CLOSING_GET);
    assert.equal(body, "first");
  });
});

describe("sendChunk() and end()", () => {
  for (const mode of MODES) {
    test(`send chunks, and trailers behind them, ${mode}`, async () => {
      const { port } = await answering(
        async (request) => {
          await request.sendChunk("abc");
          await request.sendChunk(new Uint8Array([100]));
          request.end([["X-Sum", "4"]]);
        },
        {},
        mode,
      );
      const text = await textFor(port, CLOSING_GET, mode);
      assert.ok(text.endsWith("3\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 4\r\n\r\n"), text);
    });
  }

  test("takes trailers that can be read once", async () => {
    const { port } = await answering(async (request) => {
      await request.sendChunk("abc");
      request.end(new Map([["X-Sum", "3"], ["X-End", "z"]]).entries());
    });
    const text = await textFor(port, CLOSING_GET);
    assert.ok(text.endsWith("3\r\nabc\r\n0\r\nX-Sum: 3\r\nX-End: z\r\n\r\n"), text);
  });

  test("a trailer that HTTP does not allow throws, and a good end may follow", async () => {
    const { port } = await answering(async (request) => {
      await request.sendChunk("abc");
      for (const [name, value] of [["X\r\n", "y"], ["X", "y\r\n\r\n"], ["X", "\0"], ["", ""]]) {
        assert.throws(() => request.end([[name!, value!]]), { code: "BAD_RESPONSE" });
      }
      request.end();
    });
    const text = await textFor(port, CLOSING_GET);
    assert.ok(text.endsWith("3\r\nabc\r\n0\r\n\r\n"), text);
  });

  test("an empty piece is not the end", async () => {
    const { body } = await answerTo(async (request) => {
      await request.sendChunk("");
      await request.sendChunk("x");
      request.end();
    }, CLOSING_GET);
    assert.equal(body, "x");
  });
});

describe("inform()", () => {
  test("sends interim responses before the final one", async () => {
    const answers = await answersTo((request) => {
      request.inform(103, [["Link", "</a>; rel=preload"]]);
      request.inform(102, []);
      request.inform(103, new Map([["Link", "</b>"]]).entries()); // can be read once
      request.send("x");
    }, CLOSING_GET);
    assert.deepEqual(answers.map(({ status }) => status), [103, 102, 103, 200]);
    assert.equal(answers[0]?.fields["link"], "</a>; rel=preload");
    assert.equal(answers[2]?.fields["link"], "</b>");
  });

  test("sends none to HTTP/1.0", async () => {
    const answers = await answersTo((request) => {
      request.inform(103, []);
      request.send("x");
    }, "GET / HTTP/1.0\r\n\r\n");
    assert.deepEqual(answers.map(({ status }) => status), [200]);
  });

  test("throws for what is no interim status, and after the response", async () => {
    await answerTo((request) => {
      for (const status of [99, 100, 101, 200, 103.5, NaN]) {
        assert.throws(() => request.inform(status, []), { code: "BAD_RESPONSE" }, `${status}`);
      }
      request.send();
      assert.throws(() => request.inform(103, []), { code: "ALREADY_SENT" });
    }, CLOSING_GET);
  });
});

/** A byte stream of the given texts that writes down why it was cancelled. */
function source(...texts: string[]) {
  const cancelled: unknown[] = [];
  const rest = [...texts];
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      const text = rest.shift();
      if (text === undefined) controller.close();
      else controller.enqueue(latin1(text));
    },
    cancel: (reason) => void cancelled.push(reason ?? "no reason"),
  }, { highWaterMark: 0 });
  return { stream, cancelled };
}

describe("sendStream()", () => {
  for (const mode of MODES) {
    test(`of known length has a Content-Length, of unknown length chunks, ${mode}`, async () => {
      for (const length of [5, undefined]) {
        const { fields, body } = await answerTo(
          (request) => request.sendStream(source("abc", "", "de").stream, length),
          CLOSING_GET,
          { mode },
        );
        assert.equal(body, "abcde");
        assert.equal(fields["content-length"], length && `${length}`);
        assert.equal(fields["transfer-encoding"], length ? undefined : "chunked");
      }
    });

    test(`of another length cuts the connection and throws BAD_RESPONSE, ${mode}`, async () => {
      for (const length of [4, 6]) {
        const { stream, cancelled } = source("abc", "de", "", "");
        const { port, errors } = await answering(
          (request) => request.sendStream(stream, length),
          {},
          mode,
        );
        const text = await textFor(port, GET("/"), mode).catch(() => "");
        const body = text.slice(text.indexOf("\r\n\r\n") + 4);
        assert.ok(body.length < length && "abcde".startsWith(body), body);
        await until(() => errors.length === 1, "the error is reported");
        assert.equal(errors[0]?.code, "BAD_RESPONSE");
        assert.equal(cancelled.length, length === 4 ? 1 : 0);
      }
    });
  }

  test("that fails in the middle cuts the connection", async () => {
    const stream = new ReadableStream<Uint8Array>({
      pull(controller) {
        controller.enqueue(latin1("abc"));
        controller.error(new Error("disk"));
      },
    });
    const { port, errors } = await answering((request) => request.sendStream(stream));
    const text = await textFor(port, GET("/"));
    assert.ok(!text.includes("0\r\n\r\n"), "not the end of the body");
    await until(() => errors.length === 1, "the error is reported");
    assert.equal((errors[0]?.cause as Error).message, "disk");
  });

  test("for HEAD sends the head and cancels the source, even one that fails at that", async () => {
    const { stream, cancelled } = source("abc");
    const head = "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    const { fields, body } = await answerTo((request) => request.sendStream(stream, 3), head);
    assert.deepEqual([fields["content-length"], body, cancelled.length], ["3", "", 1]);
    const failing = new ReadableStream<Uint8Array>({
      cancel: () => Promise.reject(new Error("no")),
    });
    assert.equal((await answerTo((request) => request.sendStream(failing, 3), head)).status, 200);
  });

  test("cancels the source when the client is gone, or the head cannot be sent", async () => {
    const endless = source(...Array(100_000).fill("x".repeat(65_536)));
    const { port } = await answering((request) => request.sendStream(endless.stream));
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.expect("200");
    client.destroy();
    await until(() => endless.cancelled.length === 1, "the source is cancelled");
    const unsent = source("abc");
    const { status } = await answerTo(
      (request) => request.header("Content-Length", "x").sendStream(unsent.stream),
      CLOSING_GET,
    );
    assert.deepEqual([status, unsent.cancelled.length], [500, 1]);
  });

  test("after a response throws ALREADY_SENT", async () => {
    const { body } = await answerTo(async (request) => {
      request.send("first");
      await assert.rejects(request.sendStream(source("x").stream), { code: "ALREADY_SENT" });
    }, CLOSING_GET);
    assert.equal(body, "first");
  });
});

describe("raw bytes", () => {
  for (const mode of MODES) {
    test(`sendRaw() sends them as the response, and the connection goes on, ${mode}`, async () => {
      const { port } = await answering(
        async (request) => {
          await request.sendRaw("HTTP/1.1 200 Raw\r\nContent-");
          await request.sendRaw(latin1("Length: 3\r\n\r\nabc"));
          assert.throws(() => request.send(), { code: "ALREADY_SENT" });
          request.end();
          await assert.rejects(request.sendRaw("more"), { code: "ALREADY_SENT" });
        },
        {},
        mode,
      );
      const raw = "HTTP/1.1 200 Raw\r\nContent-Length: 3\r\n\r\nabc";
      assert.equal(await textFor(port, GET("/") + CLOSING_GET, mode), raw + raw);
    });

    test(`session.send() sends them between responses, as queued work may, ${mode}`, async () => {
      const { server, port } = await answering(
        (request) => {
          request.type("text/plain").send("Hello World!");
          void server.queueWork(() =>
            request.session.send(latin1(
              "HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\nHello Double World!",
            ))
          );
        },
        {},
        mode,
      );
      const client = await RawClient.connect(port, mode);
      client.send(GET("/async_data"));
      await client.expect("Hello Double World!");
      const bodies = readResponses(client.text).map(({ body }) => body);
      assert.deepEqual(bodies, ["Hello World!", "Hello Double World!"]);
      client.destroy();
    });
  }

  test("session.send() in the middle of a response throws ALREADY_SENT", async () => {
    const { body } = await answerTo(async (request) => {
      await request.sendChunk("abc");
      assert.throws(() => request.session.send(latin1("x")), { code: "ALREADY_SENT" });
      request.end();
    }, CLOSING_GET);
    assert.equal(body, "abc");
  });

  test("session.send() keeps a copy, and sends nothing on a session that is over", async () => {
    const { server, port } = await answering((request) => {
      const bytes = latin1("HTTP/1.1 103 Early\r\n\r\n");
      request.session.send(bytes);
      bytes.fill(120);
      request.header("Connection", "close").send("x");
    });
    const client = await RawClient.connect(port);
    await until(() => server.sessions.size === 1, "the session is open");
    const [session] = server.sessions;
    client.send(GET("/"));
    assert.deepEqual(readResponses(await client.rest()).map(({ status }) => status), [103, 200]);
    client.destroy();
    await until(() => server.sessions.size === 0, "the session is over");
    session!.send(latin1("x"));
  });

  test("sendRaw() without end() is cut, as a response that stays in part", async () => {
    const { port, errors } = await answering((request) => request.sendRaw("HTTP/1.1 200"));
    await textFor(port, GET("/"));
    assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_FAILED"]);
  });
});
