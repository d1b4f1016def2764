/** lib/web/sse.ts: the stream's text, its life and its limits, and a client on a socket. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import {
  type EventSender,
  lastEventId,
  type ServerSentEvent,
  serverSentEvents,
  type ServerSentEventsOptions,
  type ServerSentEventSource,
} from "../lib/web/sse.ts";
import { createServer } from "../examples/sse.ts";
import { RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { turns, until } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const REQUEST = new Request("http://host/");

/** The stream's text, without the comment that it begins with. */
async function textOf(
  source: ServerSentEventSource,
  options?: ServerSentEventsOptions,
): Promise<string> {
  const text = await serverSentEvents(REQUEST, source, options).text();
  assert.ok(text.startsWith(":\n\n"));
  return text.slice(3);
}

async function* events(...list: ServerSentEvent[]): AsyncGenerator<ServerSentEvent> {
  yield* list;
}

/** A response, and the sender that its callback was given; it lasts until `end()`. */
function held(request = REQUEST, options?: ServerSentEventsOptions) {
  const { promise, resolve: end, reject: fail } = Promise.withResolvers<void>();
  let sender!: EventSender;
  const response = serverSentEvents(request, (given) => {
    sender = given;
    return promise;
  }, options);
  return { response, sender, end, fail };
}

describe("serverSentEvents() writes", () => {
  const table: [name: string, event: ServerSentEvent, text: string][] = [
    ["data", { data: "hello" }, "data: hello\n\n"],
    ["empty data", { data: "" }, "data: \n\n"],
    ["lines", { data: "a\nb\r\nc\rd" }, "data: a\ndata: b\ndata: c\ndata: d\n\n"],
    ["data that looks like fields", { data: "x\n\nid: 9" }, "data: x\ndata: \ndata: id: 9\n\n"],
    ["data with a space in front", { data: " x" }, "data:  x\n\n"],
    ["beyond ASCII", { data: "é€😀" }, "data: é€😀\n\n"],
    ["an id alone", { id: "7" }, "id: 7\n\n"],
    ["an id that is taken back", { id: "", data: "x" }, "id: \ndata: x\n\n"],
    [
      "everything",
      { data: "x", event: "tick", id: "a b", retry: 1500 },
      "event: tick\nid: a b\nretry: 1500\ndata: x\n\n",
    ],
  ];
  for (const [name, event, text] of table) {
    test(name, async () => assert.equal(await textOf(events(event)), text));
  }

  test("events in order, from an iterable and from a callback", async () => {
    const three = [{ data: "1" }, { data: "2" }, { data: "3" }];
    const expected = "data: 1\n\ndata: 2\n\ndata: 3\n\n";
    assert.equal(await textOf(events(...three)), expected);
    const callback = async ({ send }: EventSender) => {
      for (const event of three) assert.equal(await send(event), true);
    };
    assert.equal(await textOf(callback), expected);
    assert.equal(await textOf(({ send }) => Promise.all(three.map(send)).then(() => {})), expected);
  });

  test("the fields that event streams need, and the program's over them", () => {
    const { response, end } = held(REQUEST, {
      headers: { "x-own": "1", "cache-control": "private" },
    });
    assert.equal(response.status, 200);
    assert.deepEqual(Object.fromEntries(response.headers), {
      "cache-control": "private",
      "content-type": "text/event-stream",
      "x-accel-buffering": "no",
      "x-content-type-options": "nosniff",
      "x-own": "1",
    });
    const plain = held();
    assert.equal(plain.response.headers.get("cache-control"), "no-store, no-transform");
    const cookies = held(REQUEST, { headers: [["Set-Cookie", "a=b"], ["Set-Cookie", "c=d"]] });
    assert.deepEqual(cookies.response.headers.getSetCookie(), ["a=b", "c=d"]);
    for (const over of [end, plain.end, cookies.end]) over();
  });
});

describe("serverSentEvents() refuses", () => {
  const table: [name: string, event: ServerSentEvent][] = [
    ["LF in an id", { id: "1\ndata: forged" }],
    ["CR in an id", { id: "1\r" }],
    ["NUL in an id", { id: "\0" }],
    ["LF in an event", { event: "a\n\ndata: forged", data: "x" }],
    ["CR in an event", { event: "a\rdata: forged" }],
    ["a fraction to retry after", { retry: 1.5 }],
    ["a negative time to retry after", { retry: -1 }],
    ["text to retry after", { retry: "1\ndata: forged" as unknown as number }],
  ];
  for (const [name, event] of table) {
    test(name, async () => {
      const { sender, end } = held();
      assert.throws(() => sender.send(event), { code: "BAD_RESPONSE", status: 500 });
      end();
      await assert.rejects(textOf(events(event)), { code: "BAD_RESPONSE" });
    });
  }

  test("options that cannot be", () => {
    const code = "INVALID_CONFIG";
    assert.throws(() => serverSentEvents(REQUEST, events(), { keepAliveMs: 0 }), { code });
    assert.throws(() => serverSentEvents(REQUEST, events(), { maxBufferedBytes: NaN }), { code });
  });
});

describe("serverSentEvents() keeps pace", () => {
  test("asks an iterable for the next event when the last is taken", async () => {
    let asked = 0;
    async function* counting() {
      for (;;) yield { data: String(asked++) };
    }
    const reader = serverSentEvents(REQUEST, counting()).body!.getReader();
    await turns(); // time to run ahead, if it would
    assert.ok(asked <= 2, `asked for ${asked} before any was taken`);
    for (let i = 0; i < 10; i++) await reader.read();
    assert.ok(asked <= 12, `asked for ${asked}`);
    await reader.cancel();
  });

  test("send() resolves when the client has taken the event", async () => {
    const { response, sender, end } = held();
    const reader = response.body!.getReader();
    let taken = false;
    void sender.send({ data: "x" }).then((result) => taken = result);
    await reader.read(); // the comment
    await turns();
    assert.equal(taken, false);
    await reader.read();
    await until(() => taken, "The event is taken");
    end();
  });

  test("cuts off a client that falls behind", async () => {
    const { response, sender } = held(REQUEST, { maxBufferedBytes: 1000 });
    const sent: Promise<boolean>[] = [];
    while (!sender.signal.aborted) sent.push(sender.send({ data: "x".repeat(90) }));
    assert.equal(sent.length, 11);
    assert.deepEqual(new Set(await Promise.all(sent)), new Set([false]));
    assert.equal(await sender.send({ data: "x" }), false);
    await assert.rejects(response.text(), { code: "CONNECTION_ABORTED" });
  });

  test("sends comments while nothing else is sent, and none to who does not read", async () => {
    const { response, sender, end } = held(REQUEST, { keepAliveMs: 5 });
    const reader = response.body!.getReader();
    for (let i = 0; i < 3; i++) {
      assert.equal(new TextDecoder().decode((await reader.read()).value), ":\n\n");
    }
    await new Promise((resolve) => setTimeout(resolve, 40));
    void sender.send({ data: "x" });
    end();
    let rest = "";
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      rest += new TextDecoder().decode(next.value);
    }
    assert.match(rest, /^(?::\n\n)?data: x\n\n$/);
  });
});

describe("serverSentEvents() ends", () => {
  test("with its source, and what was sent still arrives", async () => {
    const { response, sender, end } = held();
    void sender.send({ data: "last" });
    end();
    assert.equal(await response.text(), ":\n\ndata: last\n\n");
    assert.ok(sender.signal.aborted);
    assert.equal(await sender.send({ data: "later" }), false);
  });

  test("when the request is aborted", async () => {
    const abort = new AbortController();
    const { response, sender } = held(new Request("http://host/", { signal: abort.signal }));
    const waiting = sender.send({ data: "x" });
    abort.abort();
    assert.equal(await waiting, false);
    assert.ok(sender.signal.aborted);
    assert.equal(await response.text(), ":\n\ndata: x\n\n");
  });

  test("when the body is cancelled", async () => {
    const { response, sender } = held();
    await response.body!.cancel();
    assert.ok(sender.signal.aborted);
    assert.equal(await sender.send({ data: "x" }), false);
  });

  test("and ends an iterable that waits for its next event", async () => {
    for (const way of ["abort", "cancel"] as const) {
      let returned = 0;
      const source: AsyncIterable<ServerSentEvent> = {
        [Symbol.asyncIterator]: () => ({
          next: () => new Promise(() => {}),
          return: () => {
            returned++;
            return Promise.reject(new Error("It breaks while it stops"));
          },
        }),
      };
      const abort = new AbortController();
      const request = new Request("http://host/", { signal: abort.signal });
      const { body } = serverSentEvents(request, source);
      if (way === "abort") abort.abort();
      else await body!.cancel();
      await until(() => returned === 1, "The iterator is ended");
    }
  });

  test("a generator runs its finally", async () => {
    let cleaned = false;
    async function* generator() {
      try {
        for (let i = 0;; i++) yield { data: String(i) };
      } finally {
        cleaned = true;
      }
    }
    const reader = serverSentEvents(REQUEST, generator()).body!.getReader();
    await reader.read();
    await reader.cancel();
    await until(() => cleaned, "The generator is over");
  });

  test("with the source's error", async () => {
    const { response, fail } = held();
    fail(new RangeError("It broke"));
    await assert.rejects(response.text(), RangeError);
    const throwing = () => {
      throw new RangeError("It broke");
    };
    await assert.rejects(serverSentEvents(REQUEST, throwing).text(), RangeError);
  });

  test("before it begins, for a request that is aborted and for HEAD", async () => {
    let ran = false;
    const source = () => {
      ran = true;
      return Promise.resolve();
    };
    const aborted = new Request("http://host/", { signal: AbortSignal.abort() });
    assert.equal(await serverSentEvents(aborted, source).text(), ":\n\n");
    const head = serverSentEvents(new Request("http://host/", { method: "HEAD" }), source);
    assert.equal(head.body, null);
    assert.equal(head.headers.get("content-type"), "text/event-stream");
    assert.equal(ran, false);
  });
});

test("serverSentEvents() leaves no timer and no listener behind, however it ends", async () => {
  const ends: ((stream: ReturnType<typeof held>, abort: AbortController) => unknown)[] = [
    ({ end }) => end(),
    ({ fail }) => fail(new RangeError("It broke")),
    ({ response }) => response.body!.cancel(),
    (_, abort) => abort.abort(),
  ];
  for (const end of ends) {
    const abort = new AbortController();
    const request = new Request("http://host/", { signal: abort.signal });
    const timers = new Set<unknown>();
    const listeners = new Set<unknown>();
    const { setInterval, clearInterval } = globalThis;
    const { signal } = request;
    const spies = {
      addEventListener(type: string, listener: () => void, options: AddEventListenerOptions) {
        listeners.add(listener);
        AbortSignal.prototype.addEventListener.call(signal, type, listener, options);
      },
      removeEventListener(type: string, listener: () => void) {
        listeners.delete(listener);
        AbortSignal.prototype.removeEventListener.call(signal, type, listener);
      },
    };
    Object.assign(signal, spies);
    globalThis.setInterval = ((...args: Parameters<typeof setInterval>) => {
      const timer = setInterval(...args);
      timers.add(timer);
      return timer;
    }) as typeof setInterval;
    globalThis.clearInterval = (timer) => {
      timers.delete(timer);
      clearInterval(timer as number);
    };
    try {
      const stream = held(request);
      assert.deepEqual([timers.size, listeners.size], [1, 1]);
      await end(stream, abort);
      await until(() => stream.sender.signal.aborted, "The stream is over");
      assert.deepEqual([timers.size, listeners.size], [0, 0]);
    } finally {
      Object.assign(globalThis, { setInterval, clearInterval });
    }
  }
});

test("lastEventId() reads UTF-8", () => {
  const asking = (id: string) => new Request("http://host/", { headers: { "last-event-id": id } });
  assert.equal(lastEventId(REQUEST), undefined);
  assert.equal(lastEventId(asking("42")), "42");
  assert.equal(lastEventId(asking("\xc3\xa9")), "é");
  assert.equal(held(asking("7")).sender.lastEventId, "7");
});

describe("serverSentEvents() on sockets", () => {
  test("opens at once, resumes after the last event, and notices that the client is gone", async () => {
    const senders: EventSender[] = [];
    const { port, errors } = await started(
      (request) =>
        serverSentEvents(request, async (sender) => {
          senders.push(sender);
          await new Promise((resolve) => sender.signal.addEventListener("abort", resolve));
        }),
      {},
      "tls",
    );
    const client = await RawClient.connect(port, "tls");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 41\r\n\r\n");
    await client.expect(/^HTTP\/1\.1 200 [^]*content-type: text\/event-stream\r\n[^]*:\n\n/i);
    assert.equal(senders[0]!.lastEventId, "41");
    assert.equal(await senders[0]!.send({ id: "42", data: "answer" }), true);
    await client.expect("id: 42\ndata: answer\n\n");
    client.destroy();
    await until(() => senders[0]!.signal.aborted, "The stream is over");
    assert.deepEqual(errors.filter(({ code }) => code === "HANDLER_FAILED"), []);
  });

  test("a client that does not read is sent no more than the buffers on the way hold", async () => {
    let sender!: EventSender;
    const { port } = await started((request) =>
      serverSentEvents(request, async (given) => {
        sender = given;
        await new Promise((resolve) => given.signal.addEventListener("abort", resolve));
      }, { maxBufferedBytes: 100_000 })
    );
    const client = await RawClient.connect(port);
    client.socket.pause();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await until(() => sender !== undefined, "The stream is open");
    const data = "x".repeat(10_000);
    let sent = 0;
    while (!sender.signal.aborted && sent < 100_000_000) {
      void sender.send({ data });
      sent += data.length;
      if (sent % 50_000 === 0) await new Promise((resolve) => setTimeout(resolve));
    }
    assert.ok(sent < 50_000_000, `${sent} bytes were sent`);
    assert.equal(await sender.send({ data }), false);
    client.destroy();
  }, 20_000);
});

test("examples/sse.ts counts on from the last event", async () => {
  const insecure = { hostname: "127.0.0.1", port: 0, transportMode: "insecure" } as const;
  await using server = createServer(insecure, 5);
  await server.start();
  const url = `http://127.0.0.1:${server.address.port}`;
  assert.match(await (await fetch(url)).text(), /new EventSource\("\/ticks"\)/);
  const abort = new AbortController();
  const headers = { "last-event-id": "41" };
  const { body } = await fetch(`${url}/ticks`, { headers, signal: abort.signal });
  let text = "";
  for await (const chunk of body!) {
    text += new TextDecoder().decode(chunk);
    if (text.includes("id: 43\n")) break;
  }
  abort.abort();
  assert.match(text, /^:\n\nevent: tick\nid: 42\nretry: 1000\ndata: .*\n\nevent: tick\nid: 43\n/);
});
