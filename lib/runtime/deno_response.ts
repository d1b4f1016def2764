/**
 * What a `Response` is made of on Deno: kept under symbols, which are undocumented. Making and
 * draining a stream costs more than all else that a small answer needs, and the iterator of
 * `Headers` costs as much as parsing a request. A trial with the first response compares what lies
 * there with the public properties; where it fails, those are used.
 *
 * @module
 */
import { runtime } from "./current.ts";
import { onFirstUse } from "../first_use.ts";
import { declareInternal } from "./internals.ts";
import { decodedFields, publicParts, type ResponseParts } from "./response_parts.ts";

/** The inner response, as far as it is used here. */
interface InnerResponse {
  readonly status: number;
  readonly statusMessage: string;
  readonly headerList: readonly [name: string, value: string][];
  readonly body?: { readonly streamOrStatic?: HeldBody | ReadableStream } | null;
  /** Whether `fetch()` has decoded the body, so that Content-Encoding is true no more. */
  readonly bodyDecoded?: boolean;
}

/** A body that is all there. */
interface HeldBody {
  readonly body: string | Uint8Array;
  consumed: boolean;
}

const TEXT: readonly [name: string, value: string][] = [
  ["Content-Type", "text/plain;charset=UTF-8"],
];

/** Takes a response apart; `undefined` when it was used. */
type TakeApart = (response: Response) => ResponseParts | undefined;

/** What takes responses apart by their symbols; `undefined` where one is missing. */
function innerParts(): TakeApart | undefined {
  const symbols = Object.getOwnPropertySymbols(new Response("probe"));
  const find = (name: string) => symbols.find(({ description }) => description === name)!;
  /** Where the inner response lies. */
  const INNER = find("response");
  /** Where the text of a response lies until anything else of it is touched. */
  const LAZY_BODY = find("lazy static body");
  /** The only field of a response until its fields are touched, a Content-Type; `null`: none waits. */
  const LAZY_TYPE = find("lazy static content type");
  /** Whether such a text was sent; anything that touches the body then finds it used. */
  const LAZY_CONSUMED = find("serve fast consumed");
  if ([INNER, LAZY_BODY, LAZY_TYPE, LAZY_CONSUMED].includes(undefined!)) return undefined;
  return (response) => {
    const slots = response as unknown as Record<symbol, unknown>;
    const inner = slots[INNER] as InnerResponse;
    const { status, statusMessage, headerList } = inner;
    const reason = statusMessage || undefined;
    const text = slots[LAZY_BODY];
    const type = slots[LAZY_TYPE];
    if (typeof text === "string") {
      if (slots[LAZY_CONSUMED] !== false) return undefined;
      slots[LAZY_CONSUMED] = true;
      return { status, reason, fields: typeof type === "string" ? typed(type) : TEXT, body: text };
    }
    const body = bodyOf(inner);
    if (body === undefined) return undefined;
    // A stream shows itself only whether somebody is reading it, not that somebody has read of it.
    if (body instanceof ReadableStream && response.bodyUsed) return undefined;
    // Once the fields were touched, the list has the type, and nothing waits.
    const waits = typeof type === "string" && headerList.length === 0;
    const fields = inner.bodyDecoded ? decodedFields(headerList) : headerList;
    return { status, reason, fields: waits ? typed(type) : fields, body };
  };
}

function typed(type: string): [name: string, value: string][] {
  return [["Content-Type", type]];
}

/** The body, which counts as used from now on; `undefined` when it did before. */
function bodyOf({ body }: InnerResponse): ResponseParts["body"] | undefined {
  if (body === null || body === undefined) return null;
  const held = body.streamOrStatic!;
  if (held instanceof ReadableStream) return held;
  if (held.consumed) return undefined;
  held.consumed = true;
  return held.body;
}

/** Whether the inside of responses is what is expected here; throws, too, where it is not. */
function isRight(takeApart: TakeApart): boolean {
  const bodies: [make: () => BodyInit | null, sent: string | Uint8Array | null][] = [
    [() => "text", "text"],
    [() => Uint8Array.of(1), Uint8Array.of(1)],
    [() => null, null],
  ];
  const type = { "content-type": "a/b" };
  const inits: (ResponseInit | undefined)[] = [
    undefined,
    {},
    { headers: type },
    { status: 201, statusText: "Made", headers: type },
    { headers: new Headers([["X-C", "d"], ["Set-Cookie", "e=f"], ["Set-Cookie", "g=h"]]) },
  ];
  const touches: ((response: Response) => unknown)[] = [
    () => {},
    (response) => response.headers.set("x-i", "j"),
    (response) => response.headers.delete("content-type"),
    (response) => response.bodyUsed,
    (response) => response.clone(),
  ];
  for (const touch of touches) {
    for (const init of inits) {
      for (const [make, sent] of bodies) {
        isAsExpected(takeApart, () => new Response(make(), init), touch, sent);
      }
    }
    isAsExpected(takeApart, () => Response.json("b", { headers: type }), touch, '"b"');
    isAsExpected(takeApart, () => Response.json("b"), touch, '"b"');
  }
  return takeApart(new Response(new ReadableStream()))!.body instanceof ReadableStream;
}

/** Compares the inside of a response with the public properties of another that is the same. */
function isAsExpected(
  takeApart: TakeApart,
  make: () => Response,
  touch: (response: Response) => unknown,
  body: string | Uint8Array | null,
): void {
  const [response, other] = [make(), make()];
  touch(response);
  touch(other);
  const inner = takeApart(response)!;
  const isUsed = response.bodyUsed && takeApart(response) === undefined;
  if (
    String(inner.body) !== String(body) || facts(inner) !== facts(publicParts(other)!) ||
    isUsed !== (body !== null)
  ) throw new TypeError("The inside of a Response is not what it was");
}

function facts({ status, reason, fields }: ResponseParts): string {
  const lines = [...fields].map(([name, value]) => `${name.toLowerCase()}: ${value}`);
  return JSON.stringify([status, reason, lines.toSorted()]);
}

/** Gives what takes a response apart; `undefined` where that has to be done in the public way. */
export const denoParts: () => TakeApart | undefined = onFirstUse(() => {
  try {
    const takeApart = runtime.name === "deno" ? innerParts() : undefined;
    return takeApart !== undefined && isRight(takeApart) ? takeApart : undefined;
  } catch {
    return undefined; // what it threw does not matter: the public way works everywhere
  }
});

declareInternal("denoResponse", () => {
  if (runtime.name !== "deno") return "not needed";
  return denoParts() === undefined ? "fallback" : "in force";
});
