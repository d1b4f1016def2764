/** The fetch face: requests, every kind of response, and bodies that are read whole. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { HttpsdError } from "../lib/errors.ts";
import type { FetchHandler } from "../lib/fetch/fetch_handler.ts";
import { urlOf } from "../lib/fetch/request.ts";
import type { Exchange } from "../lib/http/exchange.ts";
import { streamOf } from "./fetch_support.ts";
import {
  GET,
  RawClient,
  readResponses,
  sleep,
  started,
  stopServersAfterAll,
  type WireResponse,
} from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();
stopServersAfterAll();

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

  test("that is aborted has an AbortError for a reason, whose cause says why", async () => {
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
    const { promise: running, resolve: run } = Promise.withResolvers<void>();
    const { port } = await started(async (request, { completed }) => {
      run();
      const copy = new Request(request);
      const any = AbortSignal.any([request.clone().signal]);
      await completed.catch(() => {});
      resolve([copy.signal.aborted, any.aborted, request.signal.aborted, any.reason.name]);
      return new Response();
    });
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await running;
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

  test("for what is not a URL is refused with 400", () => {
    const exchange = {
      head: { host: "a:99999", path: "/x", query: "y" },
      session: { tls: undefined },
    } as unknown as Exchange;
    assert.throws(() => urlOf(exchange), {
      code: "BAD_REQUEST",
      status: 400,
      message: "The target http://a:99999/x?y is not a URL",
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
