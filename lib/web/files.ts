/**
 * A directory as a website: GET and HEAD with conditional requests (RFC 9110 section 13), ranges
 * (section 14), precompressed siblings (section 12.5.3) and content types, and no way out of it.
 *
 * The file is long because the options, their checks and their documentation are here with the
 * handler; disk access, ranges, conditions and listings are in the files beside it.
 *
 * @example
 * ```ts
 * import { serve } from "@httpsd/httpsd";
 * import { serveFiles } from "@httpsd/httpsd/files";
 *
 * await serve({ cert, key }, serveFiles("./public", { cacheControl: "max-age=600" }));
 * ```
 *
 * @module
 */
import { realpath } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { utf8 } from "../bytes.ts";
import * as v from "valibot";
import { ConfigError } from "../errors.ts";
import {
  adviceFrom,
  callback,
  checkOptions,
  either,
  flag,
  isPlain,
  many,
  members,
  oneOf,
  optionError,
  shown,
  text,
} from "../options.ts";
import { urlPath } from "../url_path.ts";
import { type ContentCoding, varyByEncoding } from "./content_coding.ts";
import { contentTypeOf, extensionOf, isCompressible } from "./content_types.ts";
import {
  type Dotfiles,
  isServable,
  locate,
  type Located,
  type OpenFile,
  openLocated,
  parsePath,
  type PathTarget,
} from "./disk.ts";
import { fileBody } from "./file_body.ts";
import { KeyFiles } from "./key_files.ts";
import { listDirectory, LISTING_CONTENT_SECURITY_POLICY } from "./listing.ts";
import { planResponse } from "./representation.ts";
import { findLone, openSibling } from "./siblings.ts";

export type { Dotfiles } from "./disk.ts";

/** The options of {@linkcode serveFiles}. */
export interface ServeFilesOptions {
  /** What URL paths begin with before the root's names, such as `"/static"`. Default: `""`. */
  readonly prefix?: string;
  /** The file that is served for its directory; `undefined`: none does. Default: `"index.html"`. */
  readonly index?: string | undefined;
  /** Whether a directory without an index is listed, rather than answered 404. Default: `false`. */
  readonly listing?: boolean;
  /**
   * The file, by its path below the root, that answers with 200 where nothing is found and the
   * client navigates (its `Accept` names `text/html`): for single-page apps. Default: none.
   */
  readonly fallback?: string;
  /**
   * The names that may be served although they begin with a dot, such as `[".well-known"]`, or
   * `"all"`. Default: `[]`. A link that is named without a dot may lead to any name in the root.
   */
  readonly dotfiles?: Dotfiles;
  /**
   * Whether files that hold a private key are served and listed: those named `.key`, `.p12`,
   * `.pfx`,
   * `.p8`, `.pk8`, `.ppk` or `.jks`, and text or files of no known type with a PEM private key in
   * their first 128 KiB. Default: `false`, they are answered 404.
   */
  readonly keyFiles?: boolean;
  /**
   * The value of `Cache-Control`, or what gives it for the path of a file below the root, such as
   * `/assets/app.js`. Default: none is sent.
   */
  readonly cacheControl?: string | ((path: string) => string | undefined);
  /**
   * Whether `app.js.br`, `app.js.zst` or `app.js.gz` is sent for `app.js` to clients that accept
   * it. A sibling older than its original is not used, nor is one for a request with `Range`, since
   * few clients can put together a part of compressed bytes. Where there is no `app.js` beside them,
   * clients that do not accept one are answered 406 (RFC 9110 section 15.5.7). Default: `true`.
   */
  readonly precompressed?: boolean;
  /**
   * Media types by file extension without dot, in lower case, besides and before the known ones.
   * Default: none. What has no type at all is sent as `application/octet-stream`.
   */
  readonly contentTypes?: Readonly<Record<string, string>>;
  /** The most ranges in one request; more are answered 416. Default: 16. */
  readonly maxRanges?: number;
}

/**
 * Makes a fetch handler that serves the files below `root`, a path or a `file:` URL.
 *
 * It answers GET and HEAD, and everything else with 405. 404 is the answer for files that may not
 * be served, as for those that do not exist: names with `..`, slashes, backslashes or NUL in any
 * encoding, dotfiles, files with a private key, links out of the root, devices, pipes and sockets.
 * 403 is for what the system does not let the server read. A directory's path without its slash is
 * redirected (301).
 *
 * The entity tag is made of size, time of modification and time of the last change of anything
 * about the file, so it differs from machine to machine. It is strong, and `Last-Modified` is sent,
 * once two seconds have passed since: until then the file may change without its times changing.
 *
 * Bodies longer than 64 KiB are streams that read the disk as the client takes them; code that
 * drops such a response must cancel its body, or the file stays open. A file that shrinks while it
 * is sent fails the stream with `BAD_RESPONSE`.
 *
 * The handler rejects with the system's error when the root cannot be read.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function serveFiles(
  root: string | URL,
  options: ServeFilesOptions = {},
): (request: Request) => Promise<Response> {
  const site = resolveOptions(root, options);
  return (request) => answer(site, request);
}

/** The options with their defaults. */
interface Site {
  readonly root: string;
  readonly prefix: string;
  readonly index: string | undefined;
  readonly listing: boolean;
  readonly fallback: PathTarget | undefined;
  readonly dotfiles: Dotfiles;
  /** What knows the files that are not served; `undefined`: they are. */
  readonly keys: KeyFiles | undefined;
  readonly cacheControl: (path: string) => string | undefined;
  readonly precompressed: boolean;
  readonly contentTypes: ReadonlyMap<string, string>;
  readonly maxRanges: number;
}

const CALLEE = "serveFiles()";

const SCHEMA = members({
  prefix: v.optional(
    v.pipe(text, v.regex(/^(?:\/[^/]+)*$/, "must begin with a slash and not end in one")),
    "",
  ),
  index: v.optional(v.pipe(
    v.string("must be a file's name, or undefined for none"),
    v.check((name) => isServable(name, "all"), "must be a file's name, without a path"),
  )),
  listing: flag(false),
  fallback: v.optional(v.pipe(
    text,
    v.check(
      (path) => fallbackTarget(path) !== undefined,
      "must be the path of a file below the root",
    ),
  )),
  dotfiles: v.optional(
    either<"all", string[]>(
      (value) => value === "all",
      oneOf("all"),
      v.array(
        v.pipe(
          v.string("must be names"),
          v.regex(/^\.[^/]+$/, "must be names that begin with a dot"),
        ),
        'must be "all" or an array of names',
      ),
    ),
    [],
  ),
  keyFiles: flag(false),
  cacheControl: v.optional(
    either<string, (path: string) => string | undefined>(
      (value) => typeof value !== "function",
      v.pipe(
        v.string("must be text or a function"),
        v.regex(/^[\t\x20-\x7e]+$/, "must be the value of a field"),
      ),
      callback<(path: string) => string | undefined>(),
    ),
  ),
  precompressed: flag(true),
  contentTypes: v.optional(
    v.pipe(
      v.custom<Readonly<Record<string, string>>>(isPlain, "must be an object of media types"),
      v.check(
        (types) => Object.keys(types).every((extension) => /^[^.A-Z/]+$/.test(extension)),
        "must have extensions in lower case and without dot, such as md",
      ),
      v.check(
        (types) => Object.values(types).every(isMediaType),
        'must have media types, such as "text/markdown"',
      ),
    ),
    {},
  ),
  maxRanges: many(16),
}, {
  advice: adviceFrom({
    root: "give it as first argument, serveFiles(root, options)",
    path: "give it as first argument, serveFiles(root, options)",
    fsRoot: "give it as first argument, serveFiles(root, options)",
    urlRoot: "write prefix",
    maxAge: 'write cacheControl: "max-age=…"',
    maxage: 'write cacheControl: "max-age=…"',
    immutable: 'write cacheControl: "max-age=…, immutable"',
    cacheHeaders: "write cacheControl",
    headers: "set them on the Response that the handler gives",
    setHeaders: "set them on the Response that the handler gives",
    etag: "leave it out: there is always one",
    lastModified: "leave it out: it is always sent",
    redirect: "leave it out: a directory without its slash is always redirected",
    showIndex: "write index",
    showDirListing: "write listing",
    autoindex: "write listing",
    showDotfiles: 'write dotfiles: "all"',
    hidden: 'write dotfiles: "all"',
    spa: 'write fallback: "index.html"',
    single: 'write fallback: "index.html"',
    mimes: "write contentTypes",
    mimeTypes: "write contentTypes",
    gzip: "write precompressed, or use compress()",
    brotli: "write precompressed, or use compress()",
    enableCors: "set the fields on the Response that the handler gives",
  }),
  shape: "an object of ServeFilesOptions",
});

function isMediaType(value: unknown): boolean {
  return typeof value === "string" && /^[\w!#$&^.+-]+\/[\w!#$&^.+-][\t\x20-\x7e]*$/.test(value);
}

function resolveOptions(root: string | URL, options: ServeFilesOptions): Site {
  const directory = rootPath(root);
  const site = checkOptions(CALLEE, SCHEMA, options);
  const { fallback, cacheControl } = site;
  return {
    ...site,
    root: directory,
    prefix: urlPath(site.prefix),
    keys: site.keyFiles ? undefined : new KeyFiles(),
    index: "index" in options ? site.index : "index.html",
    fallback: fallback === undefined ? undefined : fallbackTarget(fallback),
    cacheControl: typeof cacheControl === "function"
      ? (path) => assertValue(cacheControl(path))
      : () => cacheControl,
    contentTypes: new Map(Object.entries(site.contentTypes)),
  };
}

/** Checks the result of the function `cacheControl`: `null` would be sent as text. */
function assertValue(value: unknown): string | undefined {
  if (value === undefined || typeof value === "string") return value;
  throw optionError(CALLEE, "cacheControl", `gave ${shown(value)}: let it give text or undefined`);
}

function rootPath(root: string | URL): string {
  if (typeof root === "string" && root !== "") return root;
  if (root instanceof URL && root.protocol === "file:") return fileURLToPath(root);
  throw new ConfigError(
    "INVALID_CONFIG",
    `The root of ${CALLEE} must be a path or a file: URL, not ${
      root === "" ? "an empty text" : root instanceof URL ? root.protocol : shown(root)
    }: write serveFiles("./public", options)`,
  );
}

function fallbackTarget(path: string): PathTarget | undefined {
  const target = parsePath(`/${path.replace(/^\//, "")}`, "all");
  return target?.directory ? undefined : target;
}

async function answer(site: Site, request: Request): Promise<Response> {
  if (request.method !== "GET" && request.method !== "HEAD") {
    return plainResponse(request, 405, "Method not allowed", { allow: "GET, HEAD" });
  }
  const target = targetOf(site, request);
  if (target === undefined) return notFound(request);
  try {
    const root = await realpath(site.root);
    return await answerTarget(site, request, root, target) ??
      await answerFallback(site, request, root) ?? notFound(request);
  } catch (error) {
    if (!isForbidden(error)) throw error;
    return plainResponse(request, 403, "Forbidden");
  }
}

function targetOf(site: Site, request: Request): PathTarget | undefined {
  const { pathname } = new URL(request.url);
  const rest = pathname.slice(site.prefix.length);
  const isBelow = pathname.startsWith(site.prefix) && (rest === "" || rest.startsWith("/"));
  return isBelow ? parsePath(rest, site.dotfiles) : undefined;
}

async function answerTarget(
  site: Site,
  request: Request,
  root: string,
  { segments, directory }: PathTarget,
): Promise<Response | undefined> {
  const found = await locate(root, segments);
  if (found?.kind === "file") {
    const isFilePath = !directory && segments.length > 0;
    return !isFilePath ? undefined : await answerFile(site, request, root, segments, found);
  }
  if (found === undefined) {
    return directory ? undefined : await answerLone(site, request, root, segments);
  }
  if (!directory) return redirectToDirectory(request);
  return await answerIndex(site, request, root, segments) ??
    await answerListing(site, request, root, segments, found);
}

/** `//host` would lead away, but a path with an empty name is never found. */
function redirectToDirectory(request: Request): Response {
  const { pathname, search } = new URL(request.url);
  return plainResponse(request, 301, "Moved", { location: `${pathname}/${search}` });
}

async function answerIndex(
  site: Site,
  request: Request,
  root: string,
  segments: readonly string[],
): Promise<Response | undefined> {
  if (site.index === undefined) return undefined;
  return await answerFileAt(site, request, root, [...segments, site.index]);
}

async function answerFallback(
  site: Site,
  request: Request,
  root: string,
): Promise<Response | undefined> {
  const isNavigation = /\btext\/html\b/i.test(request.headers.get("accept") ?? "");
  if (site.fallback === undefined || !isNavigation) return undefined;
  return await answerFileAt(site, request, root, site.fallback.segments);
}

async function answerFileAt(
  site: Site,
  request: Request,
  root: string,
  segments: readonly string[],
): Promise<Response | undefined> {
  const found = await locate(root, segments);
  if (found === undefined) return await answerLone(site, request, root, segments);
  return found.kind === "file" ? await answerFile(site, request, root, segments, found) : undefined;
}

async function answerListing(
  site: Site,
  request: Request,
  root: string,
  segments: readonly string[],
  found: Located,
): Promise<Response | undefined> {
  if (!site.listing) return undefined;
  const page = await listDirectory(root, segments, found, site);
  if (page === undefined) return undefined;
  return textResponse(request, 200, page, {
    "content-security-policy": LISTING_CONTENT_SECURITY_POLICY,
    "content-type": "text/html; charset=utf-8",
  });
}

async function answerFile(
  site: Site,
  request: Request,
  root: string,
  segments: readonly string[],
  found: Located,
): Promise<Response | undefined> {
  const name = segments.at(-1)!;
  if (await site.keys?.has(name, found)) return undefined;
  const contentType = typeOf(site, name);
  const isNegotiated = site.precompressed && isCompressible(contentType);
  const sibling = isNegotiated && !request.headers.has("range")
    ? await openSibling(request.headers, root, segments, found)
    : undefined;
  const opened = sibling ?? await openLocated(found);
  if (opened === undefined) return undefined;
  return await answerOpened(site, request, segments, { contentType, ...opened }, isNegotiated);
}

function typeOf(site: Site, name: string): string {
  return site.contentTypes.get(extensionOf(name)) ?? contentTypeOf(name) ??
    "application/octet-stream";
}

/**
 * Answers for a file that is there compressed only, whether there is a client that accepts it or not
 * (RFC 9110 section 12.5.3).
 */
async function answerLone(
  site: Site,
  request: Request,
  root: string,
  segments: readonly string[],
): Promise<Response | undefined> {
  const name = segments.at(-1);
  if (name === undefined || !site.precompressed) return undefined;
  const contentType = typeOf(site, name);
  if (!isCompressible(contentType)) return undefined;
  const { lone, accepted } = await findLone(site.keys, request.headers, root, segments);
  if (lone.length === 0) return undefined;
  for (const { coding, found } of accepted) {
    const opened = await openLocated(found);
    if (opened === undefined) continue;
    return await answerOpened(site, request, segments, { contentType, coding, ...opened }, true);
  }
  return plainResponse(
    request,
    406,
    `There is only a compressed form: send Accept-Encoding: ${lone.join(", ")}`,
    { vary: "Accept-Encoding" },
  );
}

async function answerOpened(
  site: Site,
  request: Request,
  path: readonly string[],
  opened: OpenFile & { contentType: string; coding?: ContentCoding | undefined },
  isNegotiated: boolean,
): Promise<Response> {
  let isBodys = false;
  try {
    const cacheControl = site.cacheControl(`/${path.join("/")}`);
    const representation = { ...opened, coding: opened.coding };
    const { status, headers, segments } = planResponse(request, representation, site.maxRanges);
    if (isNegotiated) varyByEncoding(headers);
    if (cacheControl !== undefined && status < 400) headers.set("cache-control", cacheControl);
    if (request.method === "HEAD" || segments.length === 0) {
      return new Response(null, { status, headers });
    }
    isBodys = true;
    return new Response(await fileBody(opened.handle, segments), { status, headers });
  } finally {
    if (!isBodys) await opened.handle.close();
  }
}

function isForbidden(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "EACCES" || code === "EPERM";
}

function notFound(request: Request): Response {
  return plainResponse(request, 404, "Not found");
}

function plainResponse(
  request: Request,
  status: number,
  text: string,
  fields: Record<string, string> = {},
): Response {
  const contentType = "text/plain; charset=utf-8";
  return textResponse(request, status, `${text}\n`, { "content-type": contentType, ...fields });
}

function textResponse(
  request: Request,
  status: number,
  text: string,
  fields: Record<string, string>,
): Response {
  const body = utf8(text);
  const headers = {
    ...fields,
    "content-length": String(body.length),
    "x-content-type-options": "nosniff",
  };
  return new Response(request.method === "HEAD" ? null : body, { status, headers });
}
