/**
 * Bun tells of a `Response`'s body through its stream only, which costs more than all else that a
 * small answer needs. So its constructor is replaced by one that makes the same native instances
 * and notes what was given, where that is all there and cannot change any more.
 *
 * @module
 */
import { runtime } from "../runtime/current.ts";

/** On a response: its text, or `true` when its bytes are all there. */
const BODY = Symbol("body remembered by httpsd");

/** Notes it where nobody sees it who prints, copies or compares the response. */
function remember(response: Response, body: string | true): Response {
  return Object.defineProperty(response, BODY, { value: body });
}

let replaced = false;

/**
 * Replaces `globalThis.Response` on Bun, once per process; elsewhere bodies are known as it is, and
 * nothing is replaced.
 */
export function rememberBodies(): void {
  if (runtime.name !== "bun" || replaced) return;
  replaced = true;
  globalThis.Response = rememberingConstructor(globalThis.Response);
}

/** A constructor of native responses, to be told from `Native` by its identity only. */
function rememberingConstructor(Native: typeof Response): typeof Response {
  function construct(...[body, init]: ConstructorParameters<typeof Response>): Response {
    if (new.target === undefined) return (Native as unknown as typeof construct)(body, init);
    // What a subclass makes of its body is its own business: its stream tells.
    if (new.target !== construct) return Reflect.construct(Native, [body, init], new.target);
    const response = new Native(body, init);
    if (typeof body === "string") return remember(response, body);
    return isWhole(body) ? remember(response, true) : response;
  }
  const json: typeof Response.json = (...given) => remember(Native.json(...given), true);
  for (const key of ["name", "length", "prototype"]) {
    Object.defineProperty(construct, key, Object.getOwnPropertyDescriptor(Native, key)!);
  }
  Object.setPrototypeOf(construct, Native); // for the other static methods
  const constructor = construct as unknown as typeof Response;
  constructor.json = json; // which is writable and enumerable in Native too
  constructor.prototype.constructor = constructor; // and so for what fetch() returns
  return constructor;
}

/** Whether the native constructor copies it. Not asked of a `Blob`, which may be a file or a pipe. */
function isWhole(body: unknown): boolean {
  return ArrayBuffer.isView(body) || body instanceof ArrayBuffer ||
    body instanceof URLSearchParams;
}

/**
 * The body of an unused response, where it was remembered: its text, or its bytes by the native
 * reader, which knows what it did to them.
 */
export function rememberedBody(response: Response): string | Promise<Uint8Array> | undefined {
  const body = (response as { readonly [BODY]?: string | true })[BODY];
  return body === true ? response.bytes() : body;
}
