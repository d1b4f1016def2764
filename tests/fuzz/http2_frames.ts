/**
 * The frames of HTTP/2 and what RFC 9218 has in them, as targets of the fuzzer.
 *
 * @module
 */
import assert from "node:assert/strict";
import { type FrameLimits, FrameReader, FrameStep } from "../../lib/http2/frame_reader.ts";
import { parsePriority } from "../../lib/http2/priority.ts";
import { inputOf, loadCases, sayStep } from "../http2_cases.ts";
import type { StreamTarget, TextTarget } from "./engine.ts";

const LIMITS: FrameLimits = {
  maxFrameBytes: 600,
  maxBlockBytes: 1_000,
  maxContinuations: 4,
  maxSettings: 8,
};

/** Frames, from the preface on. */
export const frames: StreamTarget = {
  name: "http2-frames",
  corpus: loadCases().read.map(inputOf).filter(({ length }) => length > 24 && length <= 600),
  tokens: [
    ...["\0\0\0\x04\0\0\0\0\0", "\0\0\0\x04\x01\0\0\0\0", "\0\0\x06\x04\0\0\0\0\0\0\x04"],
    ...["\0\0\x01\0\0\0\0\0\x01a", "\0\0\x03\0\x09\0\0\0\x01\x01a\0", "\0\0\0\0\x01\0\0\0\x01"],
    ...["\0\0\x01\x01\x05\0\0\0\x01\x82", "\0\0\x07\x01\x2c\0\0\0\x03\x01\0\0\0\x03\xff\0"],
    ...[
      "\0\0\x01\x01\0\0\0\0\x01\x82",
      "\0\0\x01\x09\0\0\0\0\x01\x82",
      "\0\0\x00\x09\x04\0\0\0\x01",
    ],
    ...["\0\0\x08\x06\0\0\0\0\x0012345678", "\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0"],
    ...["\0\0\x04\x08\0\0\0\0\0\0\0\0\x01", "\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08"],
    ...[
      "\0\0\x05\x02\0\0\0\0\x01\0\0\0\x01\0",
      "\0\0\x05\x10\0\0\0\0\0\0\0\0\x01i",
      "\0\0\x02B\0\0\0",
    ],
  ],
  reaches: [
    ...[/^preface/, /^settings \d/m, /^settings ack/m, /^data .* end/m, /^headers .* end/m],
    ...[/^headers .* fault stream/m, /^priority \d/m, /^priority update/m, /^reset/m, /^ping ack/m],
    ...[/^goaway/m, /^window/m, /^ignored/m, /^fault stream/m, /^fault connection FRAME_SIZE/m],
    ...[/^fault connection PROTOCOL/m, /^fault connection FLOW/m, /^fault connection ENHANCE/m],
  ],
  keptBytes: 4 * 1024,
  open() {
    const reader = new FrameReader(LIMITS);
    let said = "";
    let steps = 0;
    let pushed = 0;
    let given = 0;
    const say = (line: string): void => {
      said += line + "\n";
      if (said.length > 60_000) said = said.slice(-30_000);
    };
    const sayData = (): void => {
      const { data, streamId, flowBytes, endStream } = reader;
      assert.ok(flowBytes >= data.length && flowBytes <= data.length + 256);
      assert.ok(data.length <= LIMITS.maxFrameBytes);
      // Said byte by byte, as pieces depend on how the input is cut.
      if (flowBytes > data.length) say(`padding ${flowBytes - data.length}`);
      if (data.length === 0) say(`data ${streamId} empty`);
      for (const byte of data) say(`data ${streamId} ${byte}`);
      if (endStream) say(`data ${streamId} end`);
    };
    return {
      push(piece) {
        pushed += piece.length;
        reader.push(piece);
        for (let step = reader.next(); step !== FrameStep.Need; step = reader.next()) {
          assert.ok(++steps <= pushed, "more steps than bytes");
          if (step === FrameStep.Data) {
            given += reader.data.length;
            sayData();
            continue;
          }
          if (step === FrameStep.Headers) {
            given += reader.block.length;
            assert.ok(reader.block.length <= LIMITS.maxBlockBytes);
          }
          assert.ok(given <= pushed, "more bytes than came");
          assert.ok(reader.settings.length <= 2 * LIMITS.maxSettings);
          say(sayStep(reader, step));
          if (step !== FrameStep.Fault || reader.fault!.scope === "stream") continue;
          assert.equal(reader.next(), FrameStep.Fault);
          assert.equal(reader.idle, false);
          return false;
        }
        return true;
      },
      said: () => `${said}${reader.idle ? "idle" : reader.inBlock ? "in block" : "in frame"}`,
    };
  },
};

/** Values of the `Priority` field. */
export const priorities: TextTarget = {
  name: "priority",
  corpus: [
    ...["u=1, i", "i=?0;a=b , u=7", "u=-0", 'a="b\\"", c=(1 "d";e  f);g, u=2', "x=:YWI=:, u=1.5"],
    ...['t=@1659578233, s=%"caf%c3%a9", i', "*a-b.c_d=tok/en:*, u=05"],
  ],
  tokens: [",", ";", "=", "(", ")", '"', "\\", ":", "?1", "u=", "i", " ", "\t", "%", "@", "-1.2"],
  reaches: [/^0/, /^7/, /true$/, /^3 false$/],
  read(text) {
    const { urgency, incremental } = parsePriority(text);
    assert.ok(Number.isInteger(urgency) && urgency >= 0 && urgency <= 7);
    // Parameters that are unknown change nothing.
    const more = parsePriority(`${text}, zz=1`, parsePriority("u=6"));
    if (/^[ ]*$/.test(text)) assert.equal(more.urgency, 6);
    return `${urgency} ${incremental}`;
  },
};
