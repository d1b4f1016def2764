/**
 * What a `Response` is made of, taken apart by its public properties.
 *
 * @module
 */

import { runtime } from "./current.ts";

/** The codings that `fetch()` decodes by itself, on each runtime and elsewhere. */
const DECODED = runtime.name === "bun" ? /^(?:(?:x-)?gzip|deflate|br|zstd)$/i : /^(?:gzip|br)$/i;

/** A response, taken apart: its body counts as used, or is a stream that is not read yet. */
export interface ResponseParts {
  /** The status code. */
  readonly status: number;
  /** The reason phrase; `undefined` for the standard one. */
  readonly reason: string | undefined;
  /** The fields. */
  readonly fields: Iterable<readonly [name: string, value: string]>;
  /** The type of the body, where the fields have none and something else shows it. */
  readonly type?: string | undefined;
  /** The body: all of it, or its stream where the runtime shows no more; `null` when there is none. */
  readonly body:
    | string
    | Uint8Array
    | Promise<string | Uint8Array>
    | ReadableStream<Uint8Array>
    | null;
  /** Whether the body is bytes in memory that nothing else holds, so that it may be freed. */
  readonly isOwn?: boolean | undefined;
}

/** Takes a response apart in a way that works on every platform; `undefined` when it was used. */
export function publicParts(response: Response): ResponseParts | undefined {
  if (response.bodyUsed) return undefined;
  const { status, statusText, body } = response;
  return { status, reason: statusText || undefined, fields: trueFields(response), body };
}

/** The fields of a response, where `fetch()` gave it without what is true of its body no more. */
export function trueFields({ url, headers }: Response): ResponseParts["fields"] {
  const coding = url === "" ? null : headers.get("content-encoding");
  return coding !== null && DECODED.test(coding.trim()) ? decodedFields(headers) : headers;
}

/**
 * A response whose fields can be changed, with the body of one for which that is not so, such as one that
 * `fetch()` gave on Deno.
 */
export function changeable(response: Response): Response {
  const { status, statusText, body } = response;
  const headers = [...trueFields(response)].map(([name, value]): [string, string] => [name, value]);
  return new Response(body, { status, statusText, headers });
}

/** The fields of a body that `fetch()` has decoded: without its coding, and its length before. */
export function decodedFields(fields: ResponseParts["fields"]): [name: string, value: string][] {
  const kept: [string, string][] = [];
  for (const [name, value] of fields) {
    if (!/^content-(?:encoding|length)$/i.test(name)) kept.push([name, value]);
  }
  return kept;
}
