/** Messages sent in fragments, and callbacks whose promises are of a foreign kind. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Opcode } from "../lib/websocket/mod.ts";
import { stopServersAfterAll } from "./http_support.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";
import { FrameClient, withRoute } from "./websocket_support.ts";

assertRuntime();
stopServersAfterAll();

describe("sendFrame()", () => {
  test("inside a message, what would wait for its own end is rejected at once", async () => {
    const codes: string[] = [];
    const host = await withRoute({
      async onMessage(ws) {
        void ws.sendFrame({ opcode: Opcode.Text, payload: "a", final: false });
        const others = [
          () => ws.send("x"),
          () => ws.send(new Blob(["x"])),
          () => ws.sendFrame({ opcode: Opcode.Binary, final: false }),
        ];
        for (const other of others) await other().catch(({ code }) => codes.push(code));
        await ws.sendFrame({ opcode: Opcode.Continuation, payload: "b" });
        await ws.send("after");
      },
    });
    const client = await FrameClient.open(host.port);
    client.send({ op: 1, text: "go" });
    assert.deepEqual([await client.text(), await client.text()], ["1 a", "0 b"]);
    assert.equal(await client.text(), "1 after");
    assert.deepEqual(codes, ["WS_CANNOT_SEND", "WS_CANNOT_SEND", "WS_CANNOT_SEND"]);
    client.socket.destroy();
  });

  test("keeps its order behind a Blob that is still read", async () => {
    const host = await withRoute({
      async onMessage(ws) {
        const sent = [
          ws.send(new Blob(["blob"])),
          ws.sendFrame({ opcode: Opcode.Text, payload: "a", final: false }),
          ws.sendFrame({ opcode: Opcode.Continuation, payload: "b" }),
          ws.send("after"),
        ];
        await Promise.all(sent);
      },
    });
    const client = await FrameClient.open(host.port);
    client.send({ op: 1, text: "go" });
    const texts = [];
    for (let i = 0; i < 4; i++) texts.push(await client.text());
    assert.deepEqual(texts, ["2 blob", "1 a", "0 b", "1 after"]);
    client.socket.destroy();
  });

  test("with each frame as onFrame was given it, any message comes back whole", async () => {
    const random = new Random(7);
    const upTo = (limit: number) => random.below(limit);
    const host = await withRoute({
      maxPieceBytes: 100,
      onFrame: (ws, { opcode, final, payload }) =>
        opcode === Opcode.Close ? undefined : ws.sendFrame({ opcode, final, payload }),
    });
    const client = await FrameClient.open(host.port);
    for (let i = 0; i < 200; i++) {
      const op = 1 + upTo(2);
      const fragments = Array.from({ length: 1 + upTo(4) }, () => "41".repeat(upTo(350)));
      client.send(...fragments.map((hex, at) => ({
        op: at === 0 ? op : 0,
        fin: at === fragments.length - 1,
        hex,
      })));
      let back = "";
      let first = true;
      for (let fin = false; !fin; first = false) {
        const frame = await client.next();
        assert.equal(frame?.op, first ? op : 0);
        back += frame.payload.toString("hex");
        fin = frame.fin;
      }
      assert.equal(back, fragments.join(""));
    }
    assert.deepEqual(host.errors, []);
    client.socket.destroy();
  }, 15_000);
});

test("a callback's promise may be of a foreign kind", async () => {
  const foreign = {
    then(_: unknown, reject: (cause: Error) => void) {
      reject(new Error("foreign"));
    },
  } as unknown as Promise<void>;
  const host = await withRoute({ onMessage: () => foreign, onError: () => foreign });
  const client = await FrameClient.open(host.port);
  client.send({ op: 1, text: "a" });
  assert.equal((await client.close())[0], 1011);
  await until(() => host.errors.length === 2, "both are reported");
  assert.deepEqual(host.errors.map(({ code }) => code), [
    "WS_CALLBACK_FAILED",
    "WS_CALLBACK_FAILED",
  ]);
  client.socket.destroy();
});
