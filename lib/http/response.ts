/**
 * Writes one response, whatever carries it: keeps to HTTP's rules and to the length that was
 * promised, and reports its end. Whatever a handler does, its client gets a whole message or a cut
 * one (RFC 9110; the bytes are a `ResponseSink`'s).
 *
 * | state  | what it is                            | goes on to                                      |
 * | ------ | ------------------------------------- | ----------------------------------------------- |
 * | unsent | no head was sent                      | open: start(), send(), startRaw()               |
 * |        |                                       | ending: pass(); ended: switchProtocols()        |
 * | open   | the body is written                   | ending: end(); ended: abort()                   |
 * | ending | all was handed over, some of it waits | ended: wake(), when nothing waits; abort()      |
 * | ended  | over                                  |                                                 |
 * | gone   | the client left before the end        |                                                 |
 *
 * leave() leads from all but "ended" to "gone"; giveUp() cuts the connection, whose end calls
 * leave(). In "gone" nothing is written: write() rejects with `CONNECTION_CLOSED`, and the others do
 * nothing, since an answer without a client is not a mistake.
 *
 * The file is one thing, the class whose methods are the table's transitions; rules without a state
 * are in response_rules.ts.
 *
 * @module
 */
import { asciiOrUtf8 } from "../bytes.ts";
import { ConnectionError, type HttpError, type HttpsdError, StateError } from "../errors.ts";
import type { Chunk } from "../net/chunks.ts";
import { nextTurn } from "../runtime/turn.ts";
import type { HeadEnd, ResponseSink } from "./response_sink.ts";
import {
  badResponse,
  checkedFields,
  declaredLength,
  type FieldList,
  type Fields,
  mayDeclare,
  Role,
  roleOf,
  withDefaults,
} from "./response_rules.ts";
import { isBodiless } from "./status.ts";

/** The status line and fields of a response. */
export interface ResponseHead {
  /** The status code. */
  readonly status: number;
  /** The reason phrase; the standard one when absent. */
  readonly reason?: string | undefined;
  /** The fields, without those that the framing decides. */
  readonly fields?: Fields;
  /** The `Content-Type`, unless there is one among the fields. */
  readonly type?: string | undefined;
}

/** What a response reports as it goes, and asks for. */
export interface ResponseProgress {
  /** The fields that it has beside its own; `undefined` where there are none. */
  readonly defaultFields: FieldList | undefined;
  /** The head is about to be sent: the last time for `closeAfterwards()` to be said in it. */
  starting(): void;
  /** All is written. */
  done(): void;
  /** A write waits for the client to read. */
  blocked(): void;
  /** The head was written, or more of the body. */
  wrote(): void;
  /** The response is about to be cut. */
  cutShort(error: HttpsdError): void;
}

type State = "unsent" | "open" | "ending" | "ended" | "gone";

const NO_FIELDS: Fields = [];

/** After so many writes in a row the event loop has its turn, since each may resolve at once. */
const WRITES_PER_TURN = 128;

/** What `write()` gives where nothing has to be waited for. */
export const WRITTEN: Promise<void> = Promise.resolve();

/** What is in the place of a response that is over and whose writer writes another. */
export let OVER: ResponseWriter;

/** The one response of one exchange; a writer may write those of others when it is over. */
export class ResponseWriter {
  readonly #sink: ResponseSink;
  #method = "";
  #progress!: ResponseProgress;
  #state: State = "unsent";
  /** The status that was sent. */
  #status: number | undefined;
  /** Whether all was handed over with the head. */
  #atOnce = false;
  /** How many bytes of the body were handed over; `undefined` where a platform has them. */
  #bodyBytes: number | undefined = 0;
  /** Whether a head was sent, or raw bytes begun, which is worth knowing of a client that left. */
  #started = false;
  #raw = false;
  /** Whether body bytes are thrown away. */
  #bodiless = false;
  /** How many bytes of the promised length are still to come. */
  #remaining = Infinity;
  #writes = 0;
  /** What waits for the client to read. */
  #draining: PromiseWithResolvers<void> | undefined;
  /** Why the client is gone. */
  #reason: HttpsdError | undefined;
  #loss: ConnectionError | undefined;

  static {
    const nothing = { keepAlive: true, queuedBytes: 0, closeAfterwards() {} };
    OVER = new ResponseWriter(nothing as Partial<ResponseSink> as ResponseSink);
    OVER.#state = "ended";
    OVER.#started = true;
  }

  /** How the head ends that is being made. */
  readonly #end = { length: undefined as number | undefined, hasBody: false, dated: false };

  /** Makes a writer that writes into `sink`. */
  constructor(sink: ResponseSink) {
    this.#sink = sink;
  }

  /** Begins the response to a request with this method. */
  begin(method: string, progress: ResponseProgress): void {
    this.#method = method;
    this.#progress = progress;
  }

  /**
   * Whether all was written with the head, as nearly always: then it has no more to do with the
   * exchange, and can write the response of another.
   */
  get spent(): boolean {
    return this.#state === "ended" && this.#atOnce && this.#writes === 0;
  }

  /** Forgets a response that is {@linkcode ResponseWriter.spent}, so that another can begin. */
  reset(): void {
    this.#progress = undefined!;
    this.#state = "unsent";
    this.#status = undefined;
    this.#atOnce = this.#started = this.#bodiless = false;
    this.#bodyBytes = 0;
    this.#remaining = Infinity;
  }

  /** Whether the head was sent. */
  get started(): boolean {
    return this.#started;
  }

  /** Whether the response is over: all is written, or it was cut. */
  get ended(): boolean {
    return this.#state === "ended";
  }

  /** Whether all was handed over; the end of a long body may still wait for the client to read. */
  get answered(): boolean {
    return this.#state === "ending" || this.#state === "ended";
  }

  /** The status that was sent; `undefined` before, and of raw bytes. */
  get status(): number | undefined {
    return this.#started ? this.#status : undefined;
  }

  /** Whether all was written in the turn in which the head was. */
  get atOnce(): boolean {
    return this.#atOnce;
  }

  /**
   * How many bytes of the body have been written; `undefined` where a platform has the body. To be
   * asked before the end of a response that is cut.
   */
  get writtenBytes(): number | undefined {
    return this.#bodyBytes === undefined ? undefined : this.#bodyBytes - this.#sink.queuedBytes;
  }

  /** Whether the client has left before the end. */
  get gone(): boolean {
    return this.#state === "gone";
  }

  /** Whether `error` is what `write()` rejects with once the client has left. */
  isLoss(error: unknown): boolean {
    return error !== undefined && error === this.#loss;
  }

  /** Whether a body is thrown away: HEAD, 204, 205, 304. */
  get bodiless(): boolean {
    return this.#bodiless;
  }

  /** Whether the handler frames the response itself. */
  get raw(): boolean {
    return this.#raw;
  }

  /** Whether the client has to read before more can be written. */
  get blocked(): boolean {
    return (this.#state === "open" || this.#state === "ending") && this.#sink.blocked;
  }

  /** Whether the connection may serve another request after this response. */
  get keepAlive(): boolean {
    return this.#sink.keepAlive;
  }

  /** Makes this the last response of the connection. */
  closeAfterwards(): void {
    this.#sink.closeAfterwards(false);
  }

  /**
   * Sends an interim response such as 100 or 103; nothing after the head.
   *
   * @throws {StateError} `NOT_SUPPORTED` where there are none
   */
  inform(status: number, fields: Fields = []): void {
    if (this.#state === "unsent") this.#sink.informational(status, fields);
  }

  /**
   * Sends the 101 after which the connection speaks another protocol.
   *
   * @throws {StateError} `ALREADY_SENT`; `NOT_SUPPORTED` where there is no other protocol
   */
  switchProtocols(fields: Fields): void {
    this.#assertUnsent();
    if (this.gone) return;
    this.#status = this.#sink.switchProtocols(fields);
    this.#started = this.#bodiless = true;
    this.#state = "ended";
  }

  #assertUnsent(): void {
    if (this.#state === "unsent" || this.#state === "gone") return;
    throw new StateError("ALREADY_SENT", "The response was sent already: send one per request");
  }

  /**
   * Leaves head, body and framing to the handler: what is written goes out as it is.
   *
   * @throws {StateError} `ALREADY_SENT`; `NOT_SUPPORTED` where no raw bytes can be sent
   */
  startRaw(): void {
    this.#assertUnsent();
    if (this.gone) return;
    this.#sink.raw();
    this.#raw = true;
    this.#opens();
  }

  /** The head is sent now, or raw bytes are. */
  #opens(): void {
    this.#progress.starting();
    this.#started = true;
    this.#state = "open";
  }

  /**
   * Sends a whole response, as fast as the client reads it; `body` must not change afterwards. The
   * memory of one that `isOwn` is freed when it was sent: nothing else may hold it.
   *
   * @throws {StateError} `ALREADY_SENT`
   * @throws {HttpError} `BAD_RESPONSE` when the head is not allowed; nothing is sent then
   */
  send(head: ResponseHead, body: string | Uint8Array, isOwn = false): void {
    const chunk = typeof body === "string" ? asciiOrUtf8(body) : body;
    this.#assertUnsent();
    if (this.gone) return;
    const end = this.#head(head, chunk.length);
    this.#opens();
    this.#remaining = 0;
    if (!this.#bodiless) this.#bodyBytes = chunk.length;
    this.#atOnce = true;
    this.#ends(this.#sink.whole(end, this.#bodiless ? "" : chunk, isOwn));
  }

  /**
   * Sends the head of a response whose body has `length` bytes, `undefined` when that is not known.
   * A `Content-Length` field from the handler counts as known.
   *
   * @throws {StateError} `ALREADY_SENT`
   * @throws {HttpError} `BAD_RESPONSE` when the head is not allowed; nothing is sent then
   */
  start(head: ResponseHead, length: number | undefined): void {
    this.#assertUnsent();
    if (this.gone) return;
    const end = this.#head(head, length);
    this.#opens();
    this.#remaining = end.length ?? Infinity;
    this.#sink.open(end);
    this.#progress.wrote();
  }

  /** Gives the sink a head by the rules; all but its end, so that it can still be taken back. */
  #head(
    { status, reason, fields = NO_FIELDS, type }: ResponseHead,
    length: number | undefined,
  ): HeadEnd {
    if (status < 200) throw badResponse(`Status ${status} is not a final status: use 200 to 999`);
    this.#status = status;
    const bodiless = this.#bodiless = this.#method === "HEAD" || isBodiless(status);
    // No body says nothing of the length where there never is one to see: 304, and HEAD.
    let declared = status === 304 || (bodiless && length === 0) ? undefined : length;
    const end = this.#end;
    end.dated = false;
    end.hasBody = !bodiless;
    let typed = type === undefined;
    let close = false;
    const sink = this.#sink;
    const { defaultFields } = this.#progress;
    sink.begin(status, reason);
    for (const [name, value] of defaultFields ? withDefaults(fields, defaultFields) : fields) {
      switch (roleOf(name)) {
        case Role.Length:
          declared = declaredLength(value, bodiless ? undefined : length);
          break;
        case Role.Connection:
          close ||= /(^|[\s,])close($|[\s,])/i.test(value);
          break;
        case Role.Upgrade:
          if (status === 426) sink.offer(value);
          break;
        case Role.HopByHop:
          break;
        case Role.Date:
          end.dated = true;
          sink.field(name, value);
          break;
        case Role.Type:
          typed = true;
          sink.field(name, value);
          break;
        case Role.Message:
          sink.field(name, value);
      }
    }
    if (!typed) sink.field("Content-Type", type!);
    if (close) sink.closeAfterwards(true);
    if (bodiless && !mayDeclare(status, this.#method)) declared = undefined;
    if (status === 205) declared = 0; // a client would wait for the body that 205 never has
    end.length = declared;
    return end;
  }

  /**
   * Counts a response with `status` as sent by `deliver`, which hands a ready one over as it is. What reads its
   * body, and when, is not seen here, unless it `isOver`.
   *
   * @throws {StateError} `ALREADY_SENT`
   */
  pass(status: number, deliver: () => void, isOver: boolean): void {
    this.#assertUnsent();
    if (this.gone) return;
    this.#status = status;
    this.#bodyBytes = isOver ? 0 : undefined;
    this.#opens();
    deliver();
    this.#state = isOver ? "ended" : "ending";
    this.#progress.done();
  }

  /**
   * Writes body bytes as fast as the client reads them, behind those handed over before. Resolves
   * when the next may follow, and now and then only in the next turn of the event loop; the bytes
   * must not change until then.
   *
   * @throws {ConnectionError} `CONNECTION_CLOSED` when the client has left
   * @throws {StateError} `ALREADY_SENT` after the end of the body
   * @throws {HttpError} `BAD_RESPONSE` when the body is longer than its `Content-Length`; the
   * connection is cut, since there is no other way to show it to the client
   */
  write(bytes: Uint8Array): Promise<void> {
    let written: Promise<void>;
    try {
      written = this.#write(bytes);
    } catch (error) {
      written = Promise.reject(error);
    }
    if (++this.#writes < WRITES_PER_TURN) return written;
    this.#writes = 0;
    return this.#afterTurn(written);
  }

  #write(bytes: Uint8Array): Promise<void> {
    if (this.gone) throw this.#lost();
    if (this.answered) {
      throw new StateError("ALREADY_SENT", "The response is over: write before its end");
    }
    if (this.#state === "unsent") throw new Error("A response begins with its head, not its body");
    if (this.#handOver(bytes)) return WRITTEN;
    this.#draining ??= Promise.withResolvers();
    return this.#draining.promise;
  }

  async #afterTurn(written: Promise<void>): Promise<void> {
    try {
      await written;
    } finally {
      await nextTurn();
    }
    if (this.gone) throw this.#lost();
  }

  #lost(): ConnectionError {
    return this.#loss ??= new ConnectionError(
      "CONNECTION_CLOSED",
      "The client has left: stop writing",
      { cause: this.#reason },
    );
  }

  /** Gives body bytes to the sink; `false`: the next must wait. */
  #handOver(bytes: Chunk): boolean {
    if (bytes.length === 0 || this.#bodiless) return true;
    if (bytes.length > this.#remaining) {
      throw this.#broken(`longer than its Content-Length by ${bytes.length - this.#remaining}`);
    }
    this.#remaining -= bytes.length;
    this.#bodyBytes! += bytes.length;
    const mayGoOn = this.#sink.data(bytes);
    this.#progress.wrote();
    if (!mayGoOn) this.#progress.blocked();
    return mayGoOn;
  }

  /**
   * Ends the body, behind what was handed over.
   *
   * @throws {HttpError} `BAD_RESPONSE` when it is shorter than its `Content-Length`; the connection
   * is cut, so that the client does not take the part for the whole. And for trailer fields that
   * HTTP does not allow
   */
  end(trailers: Fields = []): void {
    if (this.#state !== "open") return;
    const last = checkedFields(trailers);
    const isShort = this.#remaining > 0 && this.#remaining !== Infinity && !this.#bodiless;
    if (isShort) throw this.#broken(`shorter than its Content-Length by ${this.#remaining}`);
    this.#ends(this.#sink.end(last));
  }

  /** All was handed over; the end is near where some of it waits. */
  #ends(isWritten: boolean): void {
    if (this.#state !== "open" && this.#state !== "ending") return; // the client left meanwhile
    if (!isWritten) this.#atOnce = false;
    if (isWritten) {
      this.#state = "ended";
      this.#drained();
      this.#progress.done();
    } else {
      this.#state = "ending";
      this.#progress.blocked();
    }
  }

  /** Goes on writing: the client has read. */
  wake(): void {
    if (this.#state !== "open" && this.#state !== "ending") return;
    const mayGoOn = this.#sink.resume();
    if (this.#state === "ending") this.#ends(mayGoOn);
    else if (!mayGoOn) this.#progress.blocked();
    else this.#drained();
  }

  #drained(): void {
    this.#draining?.resolve();
    this.#draining = undefined;
  }

  /**
   * Cuts a response whose client seems to have left: as `abort()` does, but what the handler still
   * writes gets `CONNECTION_CLOSED`, since the handler is not to blame.
   */
  giveUp(error: HttpsdError): void {
    if (this.#state === "open" || this.#state === "ending") this.#sink.abort(error);
  }

  /** Cuts the response: the client must not take it for whole. */
  abort(error: HttpsdError): void {
    if (this.#state === "ended" || this.#state === "gone") return;
    this.#progress.cutShort(error);
    this.#state = "ended";
    this.#draining?.reject(error);
    this.#draining = undefined;
    this.#sink.abort(error);
  }

  #broken(how: string): HttpError {
    const error = badResponse(`The response body is ${how} bytes: it was cut`);
    this.abort(error);
    return error;
  }

  /** Stops writing: the client has left. */
  leave(reason: HttpsdError): void {
    if (this.#state === "ended" || this.#state === "gone") return;
    this.#state = "gone";
    this.#reason = reason;
    this.#sink.gone(reason);
    this.#draining?.reject(this.#lost());
    this.#draining = undefined;
  }
}
