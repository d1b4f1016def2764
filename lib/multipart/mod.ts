/**
 * Forms with files, part by part as they come: uploads larger than memory (RFC 7578).
 *
 * @example
 * ```ts
 * import { serve } from "@httpsd/httpsd";
 * import { multipart } from "@httpsd/httpsd/multipart";
 *
 * await serve({ cert, key }, async (request) => {
 *   let bytes = 0;
 *   for await (const part of multipart(request, { maxPartBytes: 1e9 })) {
 *     for await (const piece of part.body) bytes += piece.length;
 *   }
 *   return new Response(`${bytes} bytes\n`);
 * });
 * ```
 *
 * @module
 */
import { GrowingBytes } from "../bytes.ts";
import { ConfigError, HttpError, StateError } from "../errors.ts";
import { adviceFrom, checkOptions, many, members, shown, size } from "../options.ts";
import { MultipartParser, type PartEvent, type PartHead } from "./parser.ts";

/** The options of {@linkcode multipart}. Sizes are in bytes. */
export interface MultipartOptions {
  /** The most parts; more are answered 413. Default: 1,000. */
  readonly maxParts?: number;
  /** The longest part; a longer one is answered 413. Default: `Infinity`, `limits.maxBodyBytes` holds. */
  readonly maxPartBytes?: number;
  /** The most that `bytes()` and `text()` of a part take into memory; 413 beyond. Default: 1 MiB. */
  readonly maxFieldBytes?: number;
  /** The longest head of a part; a longer one is answered 431. Default: 8 KiB. */
  readonly maxHeaderBytes?: number;
}

/** A request, as its fields and body: a `Request`, or that of a route. */
export interface MultipartSource {
  /** The fields, of which `Content-Type` is looked at. */
  readonly headers: Headers;
  /** The body, which nothing else may read. */
  readonly body: ReadableStream<Uint8Array> | null;
}

/** One part of a form. Its content can be read until the next part is asked for, and once. */
export interface Part {
  /** The name of the form's field. */
  readonly name: string;
  /**
   * The file's name as the client has it, without directories; empty where none was chosen, and
   * `undefined` for a field that is no file. Do not write to a path of it.
   */
  readonly filename: string | undefined;
  /** The `Content-Type` as sent, `text/plain` where there is none. */
  readonly type: string;
  /** All fields, by names in lower case. */
  readonly fields: ReadonlyMap<string, string>;
  /** The content as it comes: the client waits while it is not read. */
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>;
  /**
   * All of the content.
   *
   * @throws {HttpError} 413 `BODY_TOO_LARGE` beyond `maxFieldBytes`, and as the loop
   */
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
  /** All of the content as UTF-8; throws as {@linkcode Part.bytes}. */
  text(): Promise<string>;
}

const CALLEE = "multipart()";

const SCHEMA = members({
  maxParts: many(1_000),
  maxPartBytes: size(Infinity),
  maxFieldBytes: size(1024 * 1024),
  maxHeaderBytes: size(8 * 1024, 64, 1024 * 1024),
}, {
  advice: adviceFrom({
    // busboy, multer, formidable, multipart-parser
    limits: "write them beside the other options",
    fileSize: "write maxPartBytes",
    maxFileSize: "write maxPartBytes",
    fieldSize: "write maxFieldBytes",
    parts: "write maxParts",
    files: "write maxParts",
    maxFiles: "write maxParts",
    maxHeaderSize: "write maxHeaderBytes",
    headers: "give the request as first argument, multipart(request, options)",
  }),
  shape: "an object of MultipartOptions",
});

/**
 * The parts of a request's form, one after the other, while its body is read. The client is held back
 * as long as a part is not read; what is not read of a part is thrown away when the next one is asked
 * for. A loop that ends early cancels the body.
 *
 * @throws {ConfigError} `INVALID_CONFIG`, at once, for what is no request or option
 * @throws {HttpError} in the loop: 400 `BAD_REQUEST` for what is not a well-formed form, 400
 * `BODY_INCOMPLETE` without its end, 413 `BODY_TOO_LARGE` and 431 `HEADERS_TOO_LARGE` beyond the
 * limits
 * @throws {StateError} `BODY_USED`, in the loop, when something else reads the body, or has
 */
export function multipart(
  source: MultipartSource,
  options: MultipartOptions = {},
): AsyncGenerator<Part, void, void> {
  const limits = checkOptions(CALLEE, SCHEMA, options);
  if (!(Object(source).headers instanceof Headers)) {
    throw new ConfigError(
      "INVALID_CONFIG",
      `${CALLEE} takes a request, not ${shown(source)}: write multipart(request, options)`,
    );
  }
  return parts(source, limits);
}

type Limits = Required<MultipartOptions>;

async function* parts(source: MultipartSource, limits: Limits): AsyncGenerator<Part, void, void> {
  const boundary = boundaryOf(source.headers.get("content-type"));
  const form = new Form(source.body, new MultipartParser(boundary, limits));
  try {
    for (let head = await form.nextPart(); head !== undefined; head = await form.nextPart()) {
      yield new FormPart(head, form, limits.maxFieldBytes);
    }
  } finally {
    form.cancel();
  }
}

/** RFC 2046 section 5.1.1: 1 to 70 of these, not a space at the end; a token has no quotes. */
const BOUNDARY =
  /^multipart\/form-data[ \t]*;[ \t]*boundary=(?:([\w!#$%&'*+.^`|~-]{1,70})|"([\w'()+,./:=? -]{0,69}[\w'()+,./:=?-])")[ \t]*$/i;
const OTHER_PARAMETER = /;[ \t]*charset=(?:"?utf-8"?)[ \t]*(?=;|$)/i;

function boundaryOf(type: string | null): string {
  const [, token, quoted] = BOUNDARY.exec((type ?? "").replace(OTHER_PARAMETER, "")) ?? [];
  const boundary = token ?? quoted;
  if (boundary !== undefined) return boundary;
  throw new HttpError(
    400,
    "BAD_REQUEST",
    "The body is not multipart/form-data with a boundary: send that",
  );
}

/** Reads a body for its parts; calls that overlap wait for each other. */
class Form {
  readonly #parser: MultipartParser;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  /** The part that is read. */
  #part: PartHead | undefined;
  #isPartOver = true;
  #isDone = false;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(body: ReadableStream<Uint8Array> | null, parser: MultipartParser) {
    this.#parser = parser;
    try {
      this.#reader = (body ?? new Blob([]).stream()).getReader();
    } catch (cause) {
      const message = "Something else reads the body: read it by multipart() alone";
      throw new StateError("BODY_USED", message, { cause });
    }
  }

  /** The next part; what is left of the one before is thrown away. */
  nextPart(): Promise<PartHead | undefined> {
    this.#part = undefined; // at once: what reads on gets no more of it
    return this.#after(async () => {
      while (true) {
        const event = await this.#event();
        if (event.type === "part") {
          this.#isPartOver = false;
          return this.#part = event.head;
        }
        if (event.type !== "end") continue;
        await this.#skipEpilogue();
        return undefined;
      }
    });
  }

  /** The next bytes of a part; `undefined` at its end. */
  data(part: PartHead): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return this.#after(async () => {
      if (this.#part !== part) {
        throw new StateError("BODY_USED", "The part is over: read it before the next one");
      }
      if (this.#isPartOver) return undefined;
      const event = await this.#event();
      if (event.type === "data") return event.bytes;
      this.#isPartOver = true;
      return undefined;
    });
  }

  /** Reads no more. */
  cancel(): void {
    this.#part = undefined;
    if (this.#isDone) return;
    this.#isDone = true;
    this.#reader.cancel().catch(() => {}); // what failed was thrown by a read
  }

  #after<T>(read: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(read);
    this.#turn = turn.catch(() => {}); // whoever has called gets it
    return turn;
  }

  async #event(): Promise<PartEvent> {
    let event: PartEvent | undefined;
    while ((event = this.#parser.next()) === undefined) {
      if (!await this.#read()) this.#parser.end(); // throws: it is not over
    }
    return event;
  }

  /** Reads on, so that the connection can be used again; returns `false` at the end. */
  async #read(): Promise<boolean> {
    const { done, value } = await this.#reader.read();
    if (done) this.#isDone = true;
    else this.#parser.push(value);
    return !done;
  }

  async #skipEpilogue(): Promise<void> {
    do this.#parser.next(); while (await this.#read());
  }
}

class FormPart implements Part {
  readonly name: string;
  readonly filename: string | undefined;
  readonly type: string;
  readonly fields: ReadonlyMap<string, string>;
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>;
  readonly #maxFieldBytes: number;

  constructor(head: PartHead, form: Form, maxFieldBytes: number) {
    this.name = head.name;
    this.filename = head.filename;
    this.type = head.type;
    this.fields = head.fields;
    this.#maxFieldBytes = maxFieldBytes;
    this.body = new ReadableStream({
      pull: async (controller) => {
        const bytes = await form.data(head);
        if (bytes === undefined) controller.close();
        else controller.enqueue(bytes);
      },
    }, { highWaterMark: 0 });
  }

  async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    const max = this.#maxFieldBytes;
    const content = new GrowingBytes(); // a client may send single bytes
    for await (const piece of this.body) {
      if (content.length + piece.length > max) {
        throw new HttpError(
          413,
          "BODY_TOO_LARGE",
          `Field ${this.name} is longer than ${max} bytes: raise maxFieldBytes, or read its body`,
        );
      }
      content.add(piece, max);
    }
    return content.bytes.slice();
  }

  async text(): Promise<string> {
    return new TextDecoder().decode(await this.bytes());
  }
}
