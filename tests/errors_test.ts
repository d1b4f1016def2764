import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { ConfigError, HttpError, HttpsdError } from "../lib/errors.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

describe("errors", () => {
  test("every class has its name and code and is an HttpsdError", () => {
    const error = new ConfigError("INVALID_CONFIG", "Option port is 70000: use 0 to 65535");
    assert.ok(error instanceof HttpsdError && error instanceof Error);
    assert.equal(error.name, "ConfigError");
    assert.equal(error.code, "INVALID_CONFIG");
  });

  test("an HttpError keeps its status and its cause", () => {
    const cause = new Error("inner");
    const error = new HttpError(400, "BAD_REQUEST", "Bad request syntax", { cause });
    assert.equal(error.status, 400);
    assert.equal(error.code, "BAD_REQUEST");
    assert.equal(error.cause, cause);
  });
});
