/**
 * The head of a platform's `Request`, in the form that handlers of the httpd API ask for.
 *
 * @module
 */
import type { RequestHead } from "../http/request_head.ts";

/** The head of a request that no parser of ours has read. */
export class FetchHead implements RequestHead {
  /** The request itself. */
  readonly request: Request;
  /** The path and query of its URL. */
  readonly target: string;
  /** The path of its URL. */
  readonly path: string;
  /** The query of its URL, without `?`. */
  readonly query: string;
  /** The host and port of its URL, without the scheme's own port. */
  readonly host: string;
  /** What the platform speaks with the client does not show; HTTP/1.1 can do what this API can. */
  readonly version = "1.1";
  /** The platform asks for the body. */
  readonly expectContinue = false;
  /** The platform keeps the bytes of the head to itself. */
  readonly raw = undefined;
  #fields: [name: string, value: string][] | undefined;

  /** Wraps a request. */
  constructor(request: Request) {
    const { host, pathname, search } = new URL(request.url);
    this.request = request;
    this.target = pathname + search;
    this.path = pathname;
    this.query = search.slice(1);
    this.host = host;
  }

  /** The method. */
  get method(): string {
    return this.request.method;
  }

  /** The declared length of the body in bytes. */
  get contentLength(): number | undefined {
    const value = this.get("content-length");
    return value !== undefined && /^\d{1,15}$/.test(value) ? Number(value) : undefined;
  }

  /** Whether there is a body that is not empty, or whose length is not declared. */
  get hasBody(): boolean {
    const { contentLength } = this;
    return contentLength === undefined ? this.request.body !== null : contentLength > 0;
  }

  /** How many fields there are. */
  get fieldCount(): number {
    return this.#list.length;
  }

  /** The name of a field in lower case, in the order of `Headers`. */
  fieldName(index: number): string {
    return this.#field(index)[0];
  }

  /** The value of a field, joined with others of its name as `Headers` does. */
  fieldValue(index: number): string {
    return this.#field(index)[1];
  }

  /** The value of a field. */
  get(lowerName: string): string | undefined {
    return this.#list.find(([name]) => name === lowerName)?.[1];
  }

  /** The values of a field, which `Headers` has joined. */
  getAll(lowerName: string): string[] {
    return this.#list.filter(([name]) => name === lowerName).map(([, value]) => value);
  }

  get #list(): [name: string, value: string][] {
    return this.#fields ??= [...this.request.headers];
  }

  #field(index: number): [name: string, value: string] {
    const field = this.#list[index];
    if (field === undefined) throw new RangeError(`Field ${index} of ${this.fieldCount}`);
    return field;
  }
}
