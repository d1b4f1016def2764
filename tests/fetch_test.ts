/** The fetch face: every kind of response, bodies both ways, clients that go, handlers that err. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import process from "node:process";
import type { HttpsdError } from "../lib/errors.ts";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import { urlOf } from "../lib/fetch/request.ts";
import type { Exchange } from "../lib/http/exchange.ts";
import {
  GET,
  type Mode,
  MODES,
  RawClient,
  readResponses,
  sleep,
  started,
  stopServersAfterAll,
  type WireResponse,
} from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { blocks, digestOf, engineOf, openRelay, residentMiB, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const POST = "POST / HTTP/1.1\r\nHost: a\r\n";

/** What a client gets that sends `request` and reads on until the answer is whole or cut. */
async function answer(handler: FetchHandler, request = GET("/")): Promise<WireResponse> {
  const { port, errors } = await started(handler);
  const client = await RawClient.connect(port);
  client.send(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
  const responses = readResponses(await client.rest());
  client.destroy();
  assert.deepEqual(errors, []);
  assert.equal(responses.length, 1);
  return responses[0]!;
}

describe("a body that is read whole", () => {
  const put = (body: string): string =>
    `PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const cases: [how: string, read: (request: Request) => Promise<unknown>, seen: string][] = [
    ["text()", (request) => request.text(), '{"a":"\xc3\xa4"}'],
    ["json()", async (request) => JSON.stringify(await request.json()), '{"a":"\xc3\xa4"}'],
    ["bytes()", async (request) => (await request.bytes()).join(), "239,187,191"],
    ["arrayBuffer()", async (request) => (await request.arrayBuffer()).byteLength, "13"],
    ["blob()", async (request) => (await request.blob()).size, "13"],
    ["clone().text()", (request) => request.clone().text(), '{"a":"\xc3\xa4"}'],
  ];
  for (const [how, read, seen] of cases) {
    test(`${how} gives all of it, without a byte order mark in texts`, async () => {
      const body = '\xef\xbb\xbf{"a":"\xc3\xa4"}';
      const response = await answer(async (request) => {
        const used = request.bodyUsed;
        const value = String(await read(request));
        const shown = how === "bytes()" ? value.slice(0, seen.length) : value;
        return new Response(`${used} ${request.bodyUsed} ${shown}`);
      }, put(body));
      assert.equal(response.body, `false ${!how.startsWith("clone")} ${seen}`);
    });
  }

  test("comes together from pieces", async () => {
    const text = "x".repeat(300_000);
    const response = await answer(
      async (request) => new Response(String((await request.text()) === text)),
      put(text),
    );
    assert.equal(response.body, "true");
  });

  const again: [how: string, use: (request: Request) => unknown][] = [
    ["text()", (request) => request.text()],
    ["json()", (request) => request.json()],
    ["bytes()", (request) => request.bytes()],
    ["arrayBuffer()", (request) => request.arrayBuffer()],
    ["clone()", (request) => request.clone()],
    ["new Request()", (request) => new Request(request)],
    ["body.getReader().read()", async (request) => {
      const { done } = await request.body!.getReader().read();
      if (done) throw new TypeError("Nothing is left"); // as good as a refusal
    }],
  ];
  for (const [how, use] of again) {
    for (const when of ["while it is read", "afterwards"]) {
      test(`is not given again to ${how}, ${when}`, async () => {
        const response = await answer(async (request) => {
          const first = request.text();
          if (when === "afterwards") await first;
          let refusal: unknown;
          try {
            await use(request);
          } catch (error) {
            refusal = error;
          }
          return new Response(`${refusal instanceof TypeError} ${await first}`);
        }, put("abc"));
        assert.equal(response.body, "true abc");
      });
    }
  }

  test("is empty, and can be read again, where there is none", async () => {
    const response = await answer(async (request) => {
      const texts = [await request.text(), await request.text()];
      const { byteLength } = await request.arrayBuffer();
      return new Response(JSON.stringify([texts, byteLength, request.bodyUsed]));
    });
    assert.equal(response.body, '[["",""],0,false]');
  });

  test("that is no JSON is a SyntaxError", async () => {
    const response = await answer(
      (request) =>
        request.json().then(() => new Response("JSON"), (error) => new Response(error.name)),
      put("{"),
    );
    assert.equal(response.body, "SyntaxError");
  });

  test("that is too long is answered with 413", async () => {
    const { port } = await started(
      async (request) => new Response(await request.text()),
      { limits: { maxBodyBytes: 3 } },
    );
    const client = await RawClient.connect(port);
    client.send(
      "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    );
    assert.equal(readResponses(await client.rest())[0]?.status, 413);
    client.destroy();
  });
});

describe("a request", () => {
  test("has the method, URL, fields and body that were sent", async () => {
    let seen: Request | undefined;
    const response = await answer(
      async (request) => {
        seen = request;
        return new Response(await request.text());
      },
      "PUT /a%20b?c=d&e HTTP/1.1\r\nHost: Example.com:81\r\nX-One: 1\r\nX-One: 2\r\n" +
        "Cookie: a=b\r\nContent-Length: 3\r\n\r\nabc",
    );
    assert.equal(response.body, "abc");
    assert.equal(seen?.method, "PUT");
    assert.equal(seen?.url, "http://example.com:81/a%20b?c=d&e");
    assert.equal(seen?.headers.get("x-one"), "1, 2");
    assert.equal(seen?.headers.get("cookie"), "a=b");
  });

  test("has its URL in normal form", async () => {
    const forms: [target: string, url: string][] = [
      ["/a/./b/../c", "/a/c"],
      ["/a/%2e%2E/c", "/c"],
      ["/..", "/"],
      ["/?q='x'", "/?q=%27x%27"],
      ["/'a'?b", "/'a'?b"],
      ["/a/.b?c/../d", "/a/.b?c/../d"],
      ["//x//y", "//x//y"],
      ["/%41%zz?%", "/%41%zz?%"],
    ];
    for (const [target, url] of forms) {
      const { body } = await answer(({ url }) => new Response(url), GET(target));
      assert.equal(body, `http://a${url}`, target);
    }
    const { body } = await answer(
      ({ url }) => new Response(url),
      "OPTIONS * HTTP/1.1\r\nHost: A.example:80\r\n\r\n",
    );
    assert.equal(body, "http://a.example/*");
  });

  for (const face of ["fetch handler", "route"]) {
    test(`has several Cookie fields as one, joined as cookies are: ${face}`, async () => {
      const { port, server } = await started(({ headers }) => Response.json([...headers]));
      server.route({
        uri: "/route",
        method: "GET",
        handler: (request) => request.sendJson([...request.headers]),
      });
      const client = await RawClient.connect(port);
      client.send(
        `GET /${face} HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nX: 1\r\ncookie: b=2; c=3\r\n`
          .replace("fetch handler", "") + "COOKIE: d=4\r\nx: 2\r\nConnection: close\r\n\r\n",
      );
      const [response] = readResponses(await client.rest());
      const headers = Object.fromEntries(JSON.parse(response!.body));
      assert.equal(headers.cookie, "a=1; b=2; c=3; d=4");
      assert.equal(headers.x, "1, 2");
    });
  }

  test("that is aborted has an AbortError for a reason, whose cause tells why", async () => {
    const { promise, resolve } = Promise.withResolvers<Request>();
    const { port } = await started((request) => {
      request.signal.addEventListener("abort", () => resolve(request));
      return new Promise(() => {});
    }, { timeouts: { handlerMs: 20 } });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    const { signal } = await promise;
    assert.ok(signal.reason instanceof DOMException);
    assert.equal(signal.reason.name, "AbortError");
    assert.equal((signal.reason.cause as HttpsdError).code, "HANDLER_TIMEOUT");
    assert.equal(signal.reason.message, (signal.reason.cause as HttpsdError).message);
    assert.throws(() => signal.throwIfAborted(), { name: "AbortError" });
    assert.deepEqual(Object.getOwnPropertyDescriptor(signal.reason, "cause"), {
      value: signal.reason.cause,
      configurable: true,
      enumerable: false,
      writable: true,
    });
    client.destroy();
  });

  test("aborts what follows from its signal, and a signal that is looked at too late", async () => {
    const { promise, resolve } = Promise.withResolvers<unknown[]>();
    const { port } = await started(async (request, { completed }) => {
      const copy = new Request(request);
      const any = AbortSignal.any([request.clone().signal]);
      await completed.catch(() => {});
      resolve([copy.signal.aborted, any.aborted, request.signal.aborted, any.reason.name]);
      return new Response();
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await sleep(20);
    client.socket.resetAndDestroy();
    assert.deepEqual(await promise, [true, true, true, "AbortError"]);
  });

  test("without a Host field is for the address that it came to", async () => {
    const { port } = await started((request) => new Response(request.url));
    const client = await RawClient.connect(port);
    client.send("GET /x HTTP/1.0\r\n\r\n");
    assert.equal(readResponses(await client.rest())[0]?.body, `http://127.0.0.1:${port}/x`);
    client.destroy();
  });

  test("without a Host field is for an IPv6 address in brackets", () => {
    const connection = { localAddress: "::1", localPort: 8443 };
    for (const [tls, scheme] of [[undefined, "http"], [{}, "https"]] as const) {
      const exchange = {
        head: { host: undefined, path: "/x", query: "" },
        session: { tls, connection },
      } as unknown as Exchange;
      assert.equal(urlOf(exchange), `${scheme}://[::1]:8443/x`);
    }
  });

  test("for what is no URL is refused with 400", () => {
    const exchange = {
      head: { host: "a:99999", path: "/x", query: "y" },
      session: { tls: undefined },
    } as unknown as Exchange;
    assert.throws(() => urlOf(exchange), {
      code: "BAD_REQUEST",
      status: 400,
      message: "The target http://a:99999/x?y is no URL",
    });
  });

  test("is for its own host, whatever was asked for before", async () => {
    const { port } = await started((request) => new Response(request.url));
    const client = await RawClient.connect(port);
    const hosts = ["a", "A.example:80", "a", "b:81", "b:81", "a"];
    for (const host of hosts) client.send(GET("/x").replace("Host: a", `Host: ${host}`));
    client.send("GET /x HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n");
    assert.deepEqual(readResponses(await client.rest()).map(({ body }) => body), [
      "http://a/x",
      "http://a.example/x",
      "http://a/x",
      "http://b:81/x",
      "http://b:81/x",
      "http://a/x",
      "http://c/x",
    ]);
  });

  test("TRACE and CONNECT are refused with 501", async () => {
    const { port } = await started(() => new Response("no"));
    for (const line of ["TRACE / ", "CONNECT a:443 "]) {
      const client = await RawClient.connect(port);
      client.send(`${line}HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n`);
      assert.equal(readResponses(await client.rest())[0]?.status, 501);
      client.destroy();
    }
  });
});

describe("a response", () => {
  const encoder = new TextEncoder();
  const kinds: [what: string, make: () => Response, body: string | RegExp, type?: string][] = [
    ["null", () => new Response(null), ""],
    ["an empty string", () => new Response(""), ""],
    [
      "a string",
      () => new Response("grüß"),
      "gr\u00c3\u00bc\u00c3\u009f",
      "text/plain;charset=utf-8",
    ],
    ["bytes", () => new Response(encoder.encode("bytes")), "bytes"],
    ["an ArrayBuffer", () => new Response(encoder.encode("bytes").buffer), "bytes"],
    ["a Blob", () => new Response(new Blob(["blob"], { type: "a/b" })), "blob", "a/b"],
    ["URLSearchParams", () => new Response(new URLSearchParams({ a: "b c" })), "a=b+c"],
    ["FormData", () => new Response(formData()), /name="a"\r\n\r\nb\r\n/],
    ["Response.json()", () => Response.json({ a: 1 }), '{"a":1}', "application/json"],
    ["bytes at once in a stream", () => new Response(streamOf(["ab", "cd"])), "abcd"],
    ["another response's body", () => new Response(new Response("inner").body), "inner"],
  ];
  function formData(): FormData {
    const form = new FormData();
    form.append("a", "b");
    return form;
  }
  for (const [what, make, body, type] of kinds) {
    test(`of ${what}`, async () => {
      const response = await answer(make);
      assert.equal(response.status, 200);
      if (typeof body === "string") assert.equal(response.body, body);
      else assert.match(response.body, body);
      if (type !== undefined) {
        // Bun adds a charset to JSON.
        const shown = response.fields["content-type"]?.replace(/; ?/, ";").toLowerCase();
        if (runtime === "deno") assert.equal(shown, type);
        else assert.ok(shown?.startsWith(type));
      }
      if (!what.includes("stream") && what !== "FormData") {
        assert.equal(response.fields["content-length"], String(response.body.length));
      }
    });
  }

  if (runtime === "bun") {
    test("streams texts and all that holds bytes, as Bun.serve does", async () => {
      const wide = new Uint16Array([0, 0x4241, 0x4443, 0]).subarray(1, 3);
      const chunks = [
        "grüße ",
        encoder.encode("b").buffer,
        wide,
        new DataView(encoder.encode("xyz").buffer, 1),
      ];
      for (const slow of [false, true]) {
        const rest: unknown[] = [...chunks];
        const { body } = await answer(() =>
          new Response(
            new ReadableStream({
              async pull(controller) {
                if (slow) await sleep(1);
                if (rest.length === 0) controller.close();
                else controller.enqueue(rest.shift() as Uint8Array);
              },
            }),
          )
        );
        assert.equal(body, "gr\u00c3\u00bc\u00c3\u009fe bABCDyz");
      }
    });
  }

  test("keeps its status, reason, and every Set-Cookie", async () => {
    const { port } = await started(() => {
      const headers = new Headers({ "X-A": "1" });
      headers.append("Set-Cookie", "a=1");
      headers.append("Set-Cookie", "b=2, c");
      return new Response("x", { status: 299, statusText: "So Be It", headers });
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.expect("\r\n\r\nx");
    assert.match(client.text, /^HTTP\/1\.1 299 So Be It\r\n/);
    assert.equal(readResponses(client.text)[0]?.fields["set-cookie"], "a=1\nb=2, c");
    client.destroy();
  });

  test("of Response.redirect() has its Location", async () => {
    const { status, fields } = await answer(() => Response.redirect("https://a/b", 307));
    assert.deepEqual([status, fields["location"]], [307, "https://a/b"]);
  });

  test("cannot set the fields that frame it", async () => {
    const response = await answer(() =>
      new Response("abc", {
        headers: { "Transfer-Encoding": "gzip", "Keep-Alive": "x", "Upgrade": "x", "TE": "x" },
      })
    );
    assert.equal(response.body, "abc");
    for (const name of ["transfer-encoding", "keep-alive", "upgrade", "te"]) {
      assert.equal(response.fields[name], undefined);
    }
  });

  test("keeps the Date and Content-Length of its own, also for a stream", async () => {
    const date = "Thu, 01 Jan 1970 00:00:00 GMT";
    const response = await answer(() =>
      new Response(streamOf(["ab", "cd"], 1), { headers: { "Date": date, "Content-Length": "4" } })
    );
    assert.equal(response.body, "abcd");
    assert.equal(response.fields["date"], date);
    assert.equal(response.fields["content-length"], "4");
    assert.equal(response.fields["transfer-encoding"], undefined);
  });

  test("leaves its head before the first piece of a slow stream", async () => {
    const { promise: asked, resolve: go } = Promise.withResolvers<void>();
    const { port } = await started(() =>
      new Response(
        new ReadableStream({
          async pull(controller) {
            await asked;
            controller.enqueue(encoder.encode("data: 1\n\n"));
            controller.close();
          },
        }),
      )
    );
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.expect("\r\n\r\n");
    go();
    await client.expect("0\r\n\r\n");
    assert.equal(readResponses(client.text)[0]?.body, "data: 1\n\n");
    client.destroy();
  });
});

/** A stream of text; with `delayMs` each piece takes its time. */
function streamOf(pieces: unknown[], delayMs?: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  const rest = [...pieces];
  return new ReadableStream({
    async pull(controller) {
      if (delayMs !== undefined) await sleep(delayMs);
      const piece = rest.shift();
      if (piece === undefined) controller.close();
      else if (piece instanceof Error) throw piece;
      else {controller.enqueue(
          typeof piece === "string"
            ? new TextEncoder().encode(piece)
            : piece as Uint8Array<ArrayBuffer>,
        );}
    },
  });
}

describe("what a handler does wrong is its own error, and never a broken wire", () => {
  const bad = (response: Response): Response => response;
  const answered500: [what: string, handler: () => unknown, code: string][] = [
    ["undefined", () => undefined, "HANDLER_FAILED"],
    ["a string", () => "text", "HANDLER_FAILED"],
    ["null", () => null, "HANDLER_FAILED"],
    ["a used Response", async () => {
      const response = new Response("x");
      await response.text();
      return response;
    }, "HANDLER_FAILED"],
    ["a locked Response", () => {
      const response = new Response("x");
      response.body!.getReader();
      return response;
    }, "HANDLER_FAILED"],
    ["Response.error()", () => Response.error(), "HANDLER_FAILED"],
    ["a throw", () => {
      throw new Error("mine");
    }, "HANDLER_FAILED"],
    ["a throw of undefined", () => {
      throw undefined;
    }, "HANDLER_FAILED"],
    ["a rejection", () => Promise.reject(new Error("mine")), "HANDLER_FAILED"],
    ["a throw of an HttpError that has no error status", async () => {
      const { HttpError } = await import("../lib/errors.ts");
      throw new HttpError(42, "BAD_REQUEST", "mine");
    }, "BAD_REQUEST"],
    [
      "a Content-Length too small for bytes",
      () => bad(new Response("abcde", { headers: { "Content-Length": "4" } })),
      "BAD_RESPONSE",
    ],
    [
      "a Content-Length too large for bytes",
      () => bad(new Response("abcde", { headers: { "Content-Length": "6" } })),
      "BAD_RESPONSE",
    ],
    [
      "a Content-Length that is none",
      () => bad(new Response("abcde", { headers: { "Content-Length": "0x5" } })),
      "BAD_RESPONSE",
    ],
    [
      "a stream that fails before its first piece",
      () => new Response(streamOf([new Error("mine")])),
      "HANDLER_FAILED",
    ],
    ["a stream whose first piece is no bytes", () => new Response(streamOf([42])), "BAD_RESPONSE"],
  ];
  for (const [what, handler, code] of answered500) {
    test(`${what}: 500, and the connection goes on`, async () => {
      let calls = 0;
      const { port, errors } = await started(
        (() => calls++ === 0 ? handler() : new Response("next")) as FetchHandler,
      );
      const client = await RawClient.connect(port);
      client.send(GET("/") + GET("/"));
      await client.expect("next");
      assert.deepEqual(readResponses(client.text).map(({ status }) => status), [500, 200]);
      assert.doesNotMatch(client.text, /mine/);
      assert.deepEqual(errors.map((error) => error.code), [code]);
      client.destroy();
    });
  }

  const cut: [what: string, handler: () => Response, sent: string, code: string][] = [
    [
      "a stream shorter than its Content-Length",
      () => new Response(streamOf(["ab", "cd"], 1), { headers: { "Content-Length": "5" } }),
      "abcd",
      "BAD_RESPONSE",
    ],
    [
      "a stream longer than its Content-Length",
      () => new Response(streamOf(["ab", "cd"], 1), { headers: { "Content-Length": "3" } }),
      "ab",
      "BAD_RESPONSE",
    ],
    [
      "a stream that fails after its first piece",
      () => new Response(streamOf(["ab", new Error("mine")], 1)),
      "2\r\nab\r\n",
      "HANDLER_FAILED",
    ],
    [
      "a stream that fails after a while",
      () => new Response(streamOf([new Error("mine")], 20)),
      "",
      "HANDLER_FAILED",
    ],
    [
      "a piece that is no bytes",
      () => new Response(streamOf(["ab", 42], 1)),
      "2\r\nab\r\n",
      "BAD_RESPONSE",
    ],
  ];
  for (const mode of MODES) {
    for (const [what, handler, sent, code] of cut) {
      test(`${what}: the connection is cut, ${mode}`, async () => {
        const { port, errors } = await started(handler, {}, mode);
        const client = await RawClient.connect(port, mode);
        client.send(GET("/") + GET("/evil"));
        const text = await client.rest();
        assert.equal(text.slice(text.indexOf("\r\n\r\n") + 4), sent);
        await until(() => errors.length > 0, "the error is told");
        assert.deepEqual(errors.map((error) => error.code), [code]);
        client.destroy();
      });
    }
  }

  test("a stream that never ends for a client that is gone, given too late, is cancelled", async () => {
    const { promise: cancelled, resolve } = Promise.withResolvers<unknown>();
    const { port, server } = await started(async (_, { session }) => {
      await until(() => session.connection.closed, "the client is gone");
      return new Response(
        new ReadableStream({
          pull: (controller) => controller.enqueue(new Uint8Array(10)),
          cancel: resolve,
        }),
      );
    }, { timeouts: { sendMs: 50 } });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await until(() => server.sessions.size > 0, "the session begins");
    client.destroy();
    assert.match((await cancelled as HttpsdError).code, /^CONNECTION_/);
  });
  test("a stream for HTTP/1.0 that fails ends in a reset: the part is not taken for all", async () => {
    const { port } = await started(() =>
      new Response(
        new ReadableStream({
          start: (controller) => controller.enqueue(Buffer.from("part")),
          async pull() {
            await begun.promise;
            throw new Error("The source broke");
          },
        }),
      )
    );
    const begun = Promise.withResolvers<void>();
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.0\r\n\r\n");
    await client.expect("part");
    begun.resolve();
    await until(() => client.closed || client.ended, "the end of the connection");
    assert.equal(client.ended, false);
    assert.equal(client.error?.code, "ECONNRESET");
  });

  test("info.completed resolves when the answer is written, rejects when the client has gone", async () => {
    const completed: Promise<void>[] = [];
    const { port } = await started((request, info) => {
      completed.push(info.completed);
      if (request.url.endsWith("/short")) return new Response("short");
      return new Response(new ReadableStream({ pull: (it) => it.enqueue(new Uint8Array(65_536)) }));
    });
    const client = await RawClient.connect(port);
    client.send(GET("/short"));
    await client.expect("short");
    await completed[0];
    client.send(GET("/endless"));
    await client.expect("chunked");
    client.destroy();
    await assert.rejects(completed[1]!, (error: HttpsdError) => error.name === "ConnectionError");
  });

  for (const mode of MODES) {
    test(`what a stream gave before it failed arrives, without an end, ${mode}`, async () => {
      const pieces = ["one", "two"];
      const { port } = await started(
        () =>
          new Response(
            new ReadableStream({
              pull(controller) {
                const piece = pieces.shift();
                if (piece === undefined) throw new Error("The source broke");
                controller.enqueue(Buffer.from(piece));
              },
            }, { highWaterMark: 0 }),
          ),
        {},
        mode,
      );
      const client = await RawClient.connect(port, mode);
      client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
      assert.match(await client.rest(), /3\r\none\r\n3\r\ntwo\r\n$/);
    });
  }

  test("HEAD without a body says nothing of a length that it does not know", async () => {
    const { port } = await started(() => new Response(null, { headers: { "x-a": "1" } }));
    const client = await RawClient.connect(port);
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert.doesNotMatch(await client.rest(), /content-length/i);
  });
});

describe("a client that goes away", () => {
  /** A client, and how it goes away. */
  type Leaving = (port: number, mode: Mode) => Promise<[client: RawClient, go: () => void]>;

  const goodbyes: Record<string, Leaving> = {
    async "with FIN"(port, mode) {
      const client = await RawClient.connect(port, mode);
      return [client, () => client.end()];
    },
    // A TLS socket cannot reset the one under it, so a relay does.
    async "with a reset"(port, mode) {
      const relay = await openRelay(port);
      const connecting = RawClient.connect(relay.port, mode);
      const { client: ours, server: theirs } = await relay.accept();
      ours.pipe(theirs);
      theirs.pipe(ours);
      const client = await connecting;
      return [client, () => {
        theirs.resetAndDestroy();
        void relay[Symbol.asyncDispose]();
      }];
    },
  };
  for (const mode of MODES) {
    for (const [how, leaving] of Object.entries(goodbyes)) {
      test(`${how} aborts request.signal and cancels the response's body, ${mode}`, async () => {
        const { promise: cancelled, resolve: cancel } = Promise.withResolvers<unknown>();
        const { promise: aborted, resolve: abort } = Promise.withResolvers<unknown>();
        const { port, errors } = await started(
          (request) => {
            request.signal.addEventListener("abort", () => abort(request.signal.reason));
            return new Response(
              new ReadableStream({
                start: (controller) => controller.enqueue(new Uint8Array(10)),
                cancel,
              }),
            );
          },
          { timeouts: { sendMs: 100 } },
          mode,
        );
        const [client, go] = await leaving(port, mode);
        client.send(GET("/"));
        await client.expect("\r\n\r\na\r\n");
        go();
        const { name, cause } = await aborted as DOMException;
        assert.equal(name, "AbortError");
        assert.match((cause as HttpsdError).code, /^CONNECTION_(CLOSED|RESET)$/);
        assert.match((await cancelled as HttpsdError).code, /^CONNECTION_/);
        assert.deepEqual(errors, []);
      });

      test(`${how} in the middle of a body fails its reader, ${mode}`, async () => {
        const { promise: failed, resolve: fail } = Promise.withResolvers<HttpsdError>();
        const { port } = await started(
          async (request) => {
            await request.text().catch(fail);
            return new Response("late");
          },
          {},
          mode,
        );
        const [client, go] = await leaving(port, mode);
        client.send(POST + "Content-Length: 5\r\n\r\nab");
        await sleep(20);
        go();
        // Over TLS a reset may look like an end.
        const codes = how === "with FIN"
          ? /^BODY_INCOMPLETE$/
          : /^(?:BODY_INCOMPLETE|CONNECTION_RESET)$/;
        assert.match((await failed).code, codes);
        client.destroy();
      });

      test(`${how} from a handler that never ends leaves no session behind, ${mode}`, async () => {
        const { port, server } = await started(() => new Promise(() => {}), {
          timeouts: { sendMs: 100, idleMs: 200 },
        }, mode);
        const [client, go] = await leaving(port, mode);
        client.send(GET("/"));
        await until(() => [...server.sessions].some(({ busy }) => busy), "the handler runs");
        go();
        await until(() => server.sessions.size === 0, "the session ends");
        client.destroy();
      });
    }
  }

  test("in the middle of a body with a Content-Length is not the handler's error", async () => {
    const { port, server, errors } = await started(() =>
      new Response(streamOf(Array(1000).fill("ab"), 5), { headers: { "Content-Length": "2000" } })
    );
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.expect("abab");
    client.socket.resetAndDestroy();
    await until(() => server.sessions.size === 0, "the session ends");
    await sleep(20);
    assert.deepEqual(errors, []);
  });

  test("after its answer has not gone away: the signal stays quiet", async () => {
    const signals: AbortSignal[] = [];
    const { port, server } = await started((request) => {
      signals.push(request.signal);
      return new Response("x");
    });
    const client = await RawClient.connect(port);
    client.send(GET("/") + POST + "Content-Length: 5\r\n\r\nab");
    await client.expect(/(x[^]*){2}/);
    client.destroy();
    await until(() => server.sessions.size === 0, "the session ends");
    assert.deepEqual(signals.map(({ aborted }) => aborted), [false, false]);
  });
});

describe("bodies both ways", () => {
  test("a handler may answer while it reads", async () => {
    const { port } = await started((request) => new Response(request.body));
    const client = await RawClient.connect(port);
    client.send(POST + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    await client.expect("\r\n2\r\nab\r\n");
    client.send("3\r\ncde\r\n");
    await client.expect("\r\n3\r\ncde\r\n");
    client.send("0\r\n\r\n" + GET("/next"));
    await client.expect(/0\r\n\r\nHTTP\/1.1 200/);
    client.destroy();
  });

  test("a body that is read after the answer fails with REQUEST_ENDED", async () => {
    const { promise: failed, resolve: fail } = Promise.withResolvers<HttpsdError>();
    const { port } = await started((request) => {
      setTimeout(() => void request.text().catch(fail), 50);
      return new Response("x");
    });
    const client = await RawClient.connect(port);
    client.send(POST + "Content-Length: 5\r\n\r\nab");
    await client.expect("x");
    assert.equal((await failed).code, "REQUEST_ENDED");
    client.destroy();
  });

  const TOTAL = 100 * 1000 * 1000;

  for (const framing of ["Content-Length", "chunked"]) {
    test(`100 MB up and down over TLS are hash-equal, ${framing}`, async () => {
      const expected = digestOf(blocks(TOTAL));
      const { port } = await started(
        async (request) => {
          if (request.method === "GET") return new Response(down(framing), headersOf(framing));
          const hash = createHash("sha256");
          for await (const piece of request.body!) hash.update(piece);
          return new Response(hash.digest("hex"));
        },
        {},
        "tls",
      );
      const client = await RawClient.connect(port, "tls");
      client.send(
        POST + (framing === "chunked" ? "Transfer-Encoding: chunked" : `Content-Length: ${TOTAL}`) +
          "\r\n\r\n",
      );
      for (const block of blocks(TOTAL)) {
        const piece = framing === "chunked"
          ? Buffer.concat([
            Buffer.from(`${block.length.toString(16)}\r\n`),
            block,
            Buffer.from("\r\n"),
          ])
          : block;
        if (!client.socket.write(piece)) await new Promise((go) => client.socket.once("drain", go));
      }
      if (framing === "chunked") client.send("0\r\n\r\n");
      await client.expect(/[0-9a-f]{64}$/);
      assert.equal(client.text.slice(-64), expected, "up");
      client.destroy();
      assert.equal(await downloadDigest(port, framing), expected, "down");
    }, 60_000);
  }

  function headersOf(framing: string): ResponseInit {
    return framing === "chunked" ? {} : { headers: { "Content-Length": String(TOTAL) } };
  }

  function down(framing: string): ReadableStream<Uint8Array<ArrayBuffer>> {
    const source = blocks(TOTAL);
    return new ReadableStream({
      pull(controller) {
        const { value, done } = source.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    }, { highWaterMark: framing === "chunked" ? 0 : 1 });
  }

  /** The hash of a download's body, read without keeping it. */
  async function downloadDigest(port: number, framing: string): Promise<string> {
    const client = await RawClient.connect(port, "tls");
    const hash = createHash("sha256");
    let text = "";
    let state: "head" | "size" | "data" | "end" | "done" = "head";
    let left = 0;
    const take = (bytes: Buffer): void => {
      let at = 0;
      while (at < bytes.length && state !== "done") {
        if (state === "data") {
          const piece = bytes.subarray(at, at + left);
          hash.update(piece);
          at += piece.length;
          left -= piece.length;
          if (left === 0) state = framing === "chunked" ? "end" : "done";
          continue;
        }
        text += String.fromCharCode(bytes[at++]!);
        if (state === "head" && text.endsWith("\r\n\r\n")) {
          state = framing === "chunked" ? "size" : "data";
          left = TOTAL;
          text = "";
        } else if (state === "size" && text.endsWith("\r\n")) {
          left = parseInt(text, 16);
          state = left === 0 ? "done" : "data";
          text = "";
        } else if (state === "end" && text === "\r\n") {
          state = "size";
          text = "";
        }
      }
    };
    client.socket.removeAllListeners("data");
    const { promise, resolve } = Promise.withResolvers<void>();
    client.socket.on("data", (bytes: Buffer) => {
      take(bytes);
      if (state === "done") resolve();
    });
    client.socket.on("close", () => resolve());
    client.send(GET("/"));
    await promise;
    client.destroy();
    return hash.digest("hex");
  }
});

describe("memory that a client can take", () => {
  const MIB = 2 ** 20;
  const TOTAL = 200 * MIB;
  const MOST_MIB = 8;
  const bytes = new Uint8Array(TOTAL).fill(1);

  /** How much the process has grown since it had `before` MiB, once `value` changes no more. */
  async function grownUntilStill(before: number, value: () => number): Promise<number> {
    for (let last = -1; last !== value();) {
      last = value();
      await sleep(300);
    }
    return residentMiB() - before;
  }

  for (const mode of MODES) {
    test(`a handler that does not read takes next to nothing of 200 MiB, ${mode}`, async () => {
      const { port, server } = await started(
        async (request) => {
          if (request.method === "GET") return new Response("x");
          await new Promise(() => {});
          return new Response(await request.text());
        },
        { limits: { maxBodyBytes: Infinity } },
        mode,
      );
      const client = await RawClient.connect(port, mode);
      client.send(GET("/"));
      await client.expect("\r\n\r\nx");
      client.send(POST + `Content-Length: ${TOTAL}\r\n\r\n`);
      const piece = bytes.subarray(0, 64 * 1024);
      let sent = 0;
      const push = (): void => {
        for (let mayGoOn = true; mayGoOn && sent < TOTAL; sent += piece.length) {
          mayGoOn = client.socket.write(piece);
        }
      };
      client.socket.on("drain", push);
      const grown = await grownUntilStill(residentMiB(), () => {
        if (sent === 0) push();
        return sent;
      });
      assert.ok(sent > 0 && sent < TOTAL / 4, `sent ${sent}`);
      const [session] = server.sessions;
      assert.ok(
        engineOf(session!.connection).queuedBytes <= MIB,
        `${engineOf(session!.connection).queuedBytes} queued`,
      );
      assert.ok(grown < MOST_MIB, `grew by ${grown} MiB`);
      client.destroy();
    }, 20_000);

    const answers: [what: string, send: (request: HttpdRequest) => Response | void][] = [
      ["bytes", (request) => request.send(bytes)],
      ["a Response of bytes", () => new Response(bytes)], // which copies them
      ["a Response of a stream", () =>
        new Response(
          new ReadableStream({
            pull: (controller) => controller.enqueue(bytes.slice(0, 256 * 1024)),
          }),
        )],
    ];
    for (const [what, send] of answers) {
      test(`a client that never reads takes next to nothing of ${what}, ${mode}`, async () => {
        const { promise: measured, resolve: measure } = Promise.withResolvers<number>();
        const { port, server } = await started(() => new Response("x".repeat(MIB)), {}, mode);
        server.route({
          uri: "/",
          method: "GET",
          handler(request) {
            const { connection } = request.session;
            const before = residentMiB();
            setTimeout(() => measure(grownUntilStill(before, () => connection.bufferedBytes)), 0);
            return send(request);
          },
        });
        const warm = await RawClient.connect(port, mode);
        warm.send(GET("/warm"));
        await warm.until(() => warm.text.length > MIB);
        warm.destroy();
        const stop = await neverReadingClient(port, mode);
        const grown = await measured;
        const [session] = server.sessions;
        const buffered = session!.connection.bufferedBytes;
        stop();
        assert.ok(buffered > 0 && buffered < MIB, `${buffered} bytes buffered`);
        const copied = what.endsWith("Response of bytes") ? TOTAL / MIB : 0;
        assert.ok(grown < copied + MOST_MIB, `grew by ${grown} MiB`);
      }, 20_000);
    }
  }

  /** Asks for `/` and never reads; over TLS in a process of its own, as Deno's sockets read on. */
  async function neverReadingClient(port: number, mode: Mode): Promise<() => void> {
    if (mode === "plain") {
      const client = await RawClient.connect(port);
      client.socket.pause();
      client.send(GET("/"));
      return () => client.destroy();
    }
    const command = `{ printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'; sleep 15; } |` +
      ` openssl s_client -quiet -connect 127.0.0.1:${port} 2>/dev/null | sleep 15`;
    const child = spawn("sh", ["-c", command], { detached: true, stdio: "ignore" });
    return () => void process.kill(-child.pid!, "SIGKILL");
  }
});
