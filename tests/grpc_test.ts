/**
 * gRPC over trailers and streams both ways: examples/grpc.ts with the client that most programs in
 * JavaScript have (`@grpc/grpc-js`, over each runtime's own `node:http2`), and with raw frames.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "bun:test";
import grpc from "@grpc/grpc-js";
import { type Call, createServer, grpc as handlerOf } from "../examples/grpc.ts";
import type { HttpsServer } from "../mod.ts";
import { runExample, stopExamplesAfterAll } from "./examples_support.ts";
import { data, describeFrame, headers, Http2Client, requestFields, Type } from "./http2_client.ts";
import { type Mode, MODES } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { certificates, until } from "./support.ts";

assertRuntime();
stopExamplesAfterAll();

const serialize = (text: string): Buffer => Buffer.from(text);
const deserialize = (bytes: Buffer): string => bytes.toString();

const GREET = "/httpsd.Greeter/Greet";
const CHAT = "/httpsd.Greeter/Chat";

/** The example with a client. */
class Host implements Disposable {
  readonly server: HttpsServer;
  readonly client: grpc.Client;

  private constructor(server: HttpsServer, client: grpc.Client) {
    this.server = server;
    this.client = client;
  }

  static async start(mode: Mode, options: grpc.ClientOptions = {}): Promise<Host> {
    const { server } = await runExample(mode, createServer);
    const { ca } = await certificates();
    const credentials = mode === "tls"
      ? grpc.credentials.createSsl(Buffer.from(ca))
      : grpc.credentials.createInsecure();
    const client = new grpc.Client(`127.0.0.1:${server.address.port}`, credentials, {
      "grpc.ssl_target_name_override": "localhost",
      ...options,
    });
    return new Host(server, client);
  }

  /** Adds a call of the test's own. */
  add(uri: string, call: Call): void {
    this.server.route({ uri, method: "POST", handler: handlerOf(call) });
  }

  unary(path: string, message: string, options: grpc.CallOptions = {}): Promise<string> {
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        path,
        serialize,
        deserialize,
        message,
        options,
        (error, value) => error === null ? resolve(value!) : reject(error),
      );
    });
  }

  stream(path: string, options: grpc.CallOptions = {}): Stream {
    return new Stream(
      this.client.makeBidiStreamRequest(path, serialize, deserialize, options),
    );
  }

  /** How many sessions the server has. */
  get sessions(): number {
    return this.server.sessions.size;
  }

  [Symbol.dispose](): void {
    this.client.close();
  }
}

/** A streaming call and what has come of it. */
class Stream {
  readonly call: grpc.ClientDuplexStream<string, string>;
  readonly got: string[] = [];
  status: grpc.StatusObject | undefined;

  constructor(call: grpc.ClientDuplexStream<string, string>) {
    this.call = call;
    call.on("data", (message: string) => this.got.push(message));
    call.on("error", () => {}); // its status says the same
    call.on("status", (status: grpc.StatusObject) => this.status = status);
  }

  async until(count: number): Promise<void> {
    await until(() => this.got.length >= count, `${count} messages`);
  }

  async ended(): Promise<[code: number, details: string]> {
    await until(() => this.status !== undefined, "the status");
    return [this.status!.code, this.status!.details];
  }
}

/** A call that ends with its client only, and a promise of that. */
function waiting(): { call: Call; begun: () => boolean; aborted: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  let begun = false;
  const call: Call = async function* (_messages, signal) {
    signal.addEventListener("abort", () => resolve());
    begun = true;
    yield "begun";
    await promise;
  };
  return { call, begun: () => begun, aborted: promise };
}

for (const mode of MODES) {
  describe(`gRPC, ${mode}`, () => {
    test("answers one message with one", async () => {
      using host = await Host.start(mode);
      assert.equal(await host.unary(GREET, "Größe"), "Hello Größe");
    });

    test("answers each message of a stream before the next", async () => {
      using host = await Host.start(mode);
      const stream = host.stream(CHAT);
      for (const [i, text] of ["one", "", "three"].entries()) {
        stream.call.write(text);
        await stream.until(i + 1);
      }
      assert.equal(stream.status, undefined);
      stream.call.end();
      assert.deepEqual(await stream.ended(), [grpc.status.OK, ""]);
      assert.deepEqual(stream.got, ["1: one", "2: ", "3: three"]);
    });

    test("ends a call with an error, with and without messages before it", async () => {
      using host = await Host.start(mode);
      await assert.rejects(host.unary(GREET, ""), {
        code: grpc.status.INVALID_ARGUMENT,
        details: "Who are you?",
      });
      await assert.rejects(host.unary("/httpsd.Greeter/None", ""), {
        code: grpc.status.UNIMPLEMENTED,
      });
      const chat = host.stream(GREET);
      chat.call.write("Bob");
      await chat.until(1);
      chat.call.write("");
      assert.deepEqual(await chat.ended(), [grpc.status.INVALID_ARGUMENT, "Who are you?"]);
      assert.deepEqual(chat.got, ["Hello Bob"]);
      assert.equal(await host.unary(GREET, "Eve"), "Hello Eve");
      assert.equal(host.sessions, 1);
    });

    test("aborts the signal when a deadline is over, and when the client cancels", async () => {
      using host = await Host.start(mode);
      const late = waiting();
      host.add("/test/Late", late.call);
      await assert.rejects(host.unary("/test/Late", "x", { deadline: Date.now() + 300 }), {
        code: grpc.status.DEADLINE_EXCEEDED,
      });
      if (late.begun()) await late.aborted; // a busy machine may not have got so far

      const cancelled = waiting();
      host.add("/test/Cancelled", cancelled.call);
      const stream = host.stream("/test/Cancelled");
      await stream.until(1);
      stream.call.cancel();
      await cancelled.aborted;
      assert.equal((await stream.ended())[0], grpc.status.CANCELLED);
      assert.equal(await host.unary(GREET, "Eve"), "Hello Eve");
    });

    test("takes and gives messages of 4 MiB, and refuses longer ones", async () => {
      using host = await Host.start(mode, { "grpc.max_receive_message_length": -1 });
      const long = "x".repeat(4 * 1024 * 1024);
      const stream = host.stream(CHAT);
      for (const count of [1, 2]) {
        stream.call.write(long);
        await until(() => stream.got.length === count, "a long message", 15_000);
        assert.ok(stream.got.pop() === `${count}: ${long}`);
        stream.got.length = count;
      }
      stream.call.end();
      assert.deepEqual(await stream.ended(), [grpc.status.OK, ""]);
      await assert.rejects(host.unary(GREET, long + "x"), {
        code: grpc.status.RESOURCE_EXHAUSTED,
      });
      assert.equal(await host.unary(GREET, "Eve"), "Hello Eve");
    }, 40_000);

    test("answers more calls at once than a connection may have streams", async () => {
      using host = await Host.start(mode);
      const names = Array.from({ length: 250 }, (_, i) => `${i}`);
      const answers = await Promise.all(names.map((name) => host.unary(GREET, name)));
      assert.deepEqual(answers, names.map((name) => `Hello ${name}`));
      assert.equal(host.sessions, 1);
    }, 20_000);

    test("refuses compressed messages", async () => {
      using host = await Host.start(mode, {
        "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip,
      });
      await assert.rejects(host.unary(GREET, "Bob".repeat(100)), {
        code: grpc.status.UNIMPLEMENTED,
      });
    });

    test("lets a call end when the server stops, and takes no other", async () => {
      using host = await Host.start(mode);
      const stream = host.stream(CHAT);
      stream.call.write("before");
      await stream.until(1);
      const stopped = host.server.stop({ drainMs: 4_000 });
      stream.call.write("after");
      await stream.until(2);
      stream.call.end();
      assert.deepEqual(await stream.ended(), [grpc.status.OK, ""]);
      await stopped;
      await assert.rejects(host.unary(GREET, "late"), { code: grpc.status.UNAVAILABLE });
    });

    test("takes messages in any pieces, and says an error without a message in one frame", async () => {
      const { server } = await runExample(mode, createServer);
      using client = await Http2Client.connect(server.address.port, mode);
      const call = (path: string) =>
        requestFields({
          method: "POST",
          path,
          scheme: mode === "tls" ? "https" : "http",
          fields: [["content-type", "application/grpc"], ["te", "trailers"]],
        });
      const id = client.nextStreamId();
      client.send(headers(id, call(CHAT), { endStream: false }));
      const twoMessages = Buffer.from("\0\0\0\0\x03one\0\0\0\0\x03two");
      for (const byte of twoMessages) {
        client.send(data(id, Uint8Array.of(byte), { endStream: false }));
      }
      client.send(data(id, twoMessages));
      const { status, body, trailers } = await client.answer(id);
      assert.equal(status, 200);
      assert.deepEqual(trailers, { "grpc-status": "0" });
      assert.equal(
        body.toString(),
        "\0\0\0\0\x061: one\0\0\0\0\x062: two\0\0\0\0\x063: one\0\0\0\0\x064: two",
      );

      const failing = client.nextStreamId();
      client.send(headers(failing, call(GREET), { endStream: false }));
      client.send(data(failing, "\0\0\0\0\0"));
      const answer = await client.answer(failing);
      assert.equal(answer.fields["grpc-status"], "3");
      assert.deepEqual(
        client.frames.filter(({ streamId, type }) => streamId === failing && type < Type.SETTINGS)
          .map(describeFrame),
        [`HEADERS[${failing}] END :status 200`],
      );
    });
  });
}
