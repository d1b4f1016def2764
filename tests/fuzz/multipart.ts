/**
 * Forms with files, as a target of the fuzzer.
 *
 * @module
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { HttpError } from "../../lib/errors.ts";
import { MultipartParser, type PartEvent } from "../../lib/multipart/parser.ts";
import type { StreamTarget } from "./engine.ts";

const LIMITS = { maxParts: 5, maxPartBytes: 300, maxHeaderBytes: 200 };

const part = (fields: string, value: string) => `--b\r\n${fields}\r\n\r\n${value}\r\n`;
const named = (rest: string, value: string) =>
  part(`Content-Disposition: form-data; ${rest}`, value);

/** A form, of the first boundary on. */
export const multipartForms: StreamTarget = {
  name: "multipart",
  corpus: [
    named('name="a"', "1") + named('name="f"; filename="x.txt"', "content") + "--b--\r\n",
    part("content-disposition: form-data; name=a\r\nContent-Type: a/b\r\nX: y", "") + "--b--",
    named('name="a%22"; filename="..\\..\\x"', "\r\n--\r\n-b\r\n--c\r\n") + "--b--epilogue",
    named("name=a", "x".repeat(400)) + "--b--",
    named("name=a", "x").repeat(6),
  ].map((text) => Buffer.from(text, "latin1")),
  tokens: [
    ...["\r\n--b\r\n", "\r\n--b--", "--b", "\r\n", "\r\n\r\n", "--", "\r", "\n"],
    ...["Content-Disposition: form-data; name=a", '"', '\\"', ";", '; filename="', "\xff", "\0"],
  ],
  reaches: [
    /^$/,
    /^part/,
    /^part.*end$/s,
    /^400 BAD_REQUEST/,
    /^part.*413 BODY_TOO_LARGE/s,
    /^431/,
  ],
  keptBytes: 4 * 1024,
  open() {
    const parser = new MultipartParser("b", LIMITS);
    let said = "";
    let content = "";
    return {
      push(piece) {
        try {
          parser.push(piece);
          let event: PartEvent | undefined;
          while ((event = parser.next()) !== undefined) {
            if (event.type === "part") {
              const { name, filename, type, fields } = event.head;
              assert.ok(!/[/\\]/.test(filename ?? ""), "a directory in a file's name");
              said += `part ${JSON.stringify([name, filename, type, ...fields])}`;
              content = "";
            } else if (event.type === "data") {
              assert.ok(event.bytes.length > 0, "no data");
              content += Buffer.from(event.bytes).toString("latin1");
              assert.ok(content.length <= LIMITS.maxPartBytes, "too much data");
            } else if (event.type === "part end") {
              said += ` ${JSON.stringify(content)} `;
            } else {
              said += "end";
            }
          }
          assert.ok(parser.keptBytes <= LIMITS.maxHeaderBytes + 8, "too much is kept");
          return true;
        } catch (error) {
          if (!(error instanceof HttpError)) throw error;
          said += `${error.status} ${error.code} ${error.message}`;
          return false;
        }
      },
      said: () => said,
    };
  },
};
