/**
 * What a handler's `Response` is made of: its head, and its body where that is all there.
 *
 * @module
 */
import { bunParts } from "../runtime/bun_response.ts";
import { denoParts } from "../runtime/deno_response.ts";
import { onFirstUse } from "../first_use.ts";
import { publicParts, type ResponseParts } from "../runtime/response_parts.ts";
import { asResponse, usedAlready } from "./usable_response.ts";

export type { ResponseParts } from "../runtime/response_parts.ts";

/** The way that suits the runtime, which is found with the first response. */
const takeApart = onFirstUse(() => denoParts() ?? bunParts() ?? publicParts);

/** Finds the way to take responses apart, if that was not done before. */
export function prepareParts(): void {
  takeApart();
}

/**
 * Takes apart what a handler returned; its body counts as used from now on.
 *
 * @throws {HttpError} `HANDLER_FAILED` when it is not a response, was used, or is `Response.error()`
 */
export function partsOf(result: unknown): ResponseParts {
  const parts = takeApart()(asResponse(result));
  if (parts === undefined || (parts.body instanceof ReadableStream && parts.body.locked)) {
    throw usedAlready();
  }
  return parts;
}
