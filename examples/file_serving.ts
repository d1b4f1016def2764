/**
 * A directory that visitors list, fill and empty with a browser (ESP-IDF's
 * `http_server/file_serving`), made for visitors with bad intentions: no name leads out of the
 * directory, an upload is there whole or not at all, and no page of another site can send one.
 *
 *     deno run -A examples/file_serving.ts
 *     bun examples/file_serving.ts
 *
 * Then open https://localhost:8443/, or `curl -k --data-binary @file
 * https://localhost:8443/upload/name`. `FILES` chooses the directory (default: files/ here);
 * examples/run.ts describes `PORT` and `CERTS`.
 */
import { Buffer } from "node:buffer";
import { createHash, randomUUID } from "node:crypto";
import { constants, type Stats } from "node:fs";
import { type FileHandle, link, lstat, mkdir, open, readdir, rm } from "node:fs/promises";
import { extname, join } from "node:path";
import process from "node:process";
import {
  type HttpdRequest,
  HttpsServer,
  type HttpsServerOptions,
  matchWildcard,
  type RouteHandler,
} from "../mod.ts";
import { run } from "./run.ts";
import { escapeHtml } from "./simple_page.ts";

const MAX_FILE_BYTES = 200 * 1024;
const MAX_NAME_BYTES = 200;
const PIECE_BYTES = 8 * 1024;

/** Makes the server of a directory that exists. */
export function createServer(options: HttpsServerOptions, directory: string): HttpsServer {
  const files = new FileServer(directory);
  return new HttpsServer({ uriMatch: matchWildcard, ...options })
    .route({ uri: "/*", method: "GET", handler: (request) => files.get(request) })
    .route({
      uri: "/upload/*",
      method: "POST",
      handler: fromHere((request) => files.upload(request)),
    })
    .route({
      uri: "/delete/*",
      method: "POST",
      handler: fromHere((request) => files.remove(request)),
    });
}

/** Refuses what a browser sends for a page of another site. */
function fromHere(handler: RouteHandler): RouteHandler {
  return (request) => {
    const site = request.get("Sec-Fetch-Site") ?? "none";
    if (site === "same-origin" || site === "none") return handler(request);
    request.sendError(403, "Another site may not do this");
  };
}

class FileServer {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async get(request: HttpdRequest): Promise<void> {
    if (request.path === "/") return await this.#list(request);
    const name = fileName(request.path.slice("/".length));
    const file = name === undefined ? undefined : await this.#open(name);
    if (file !== undefined) {
      try {
        return await sendFile(request, name!, file);
      } finally {
        await file.close();
      }
    }
    if (name === "index.html") return redirect(request, 307, "");
    if (name === "favicon.ico") return request.type("image/x-icon").send(FAVICON);
    request.sendError(404, "File does not exist");
  }

  async #list(request: HttpdRequest): Promise<void> {
    const rows: string[] = [];
    for (const name of (await readdir(this.#directory)).sort()) {
      if (fileName(encodeURIComponent(name)) === undefined) continue;
      const stats = await statsOf(join(this.#directory, name));
      if (stats?.isFile()) rows.push(renderRow(name, stats.size));
    }
    request.type("text/html; charset=utf-8")
      .header("Content-Security-Policy", PAGE_POLICY)
      .send(renderPage(rows));
  }

  /** Opens a regular file: a link is not followed, a pipe not waited for. */
  async #open(name: string): Promise<FileHandle | undefined> {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    let file: FileHandle;
    try {
      file = await open(join(this.#directory, name), flags);
    } catch (error) {
      if (["ENOENT", "ELOOP", "ENXIO"].includes(codeOf(error)!)) return undefined;
      throw error;
    }
    if ((await file.stat()).isFile()) return file;
    await file.close();
    return undefined;
  }

  async upload(request: HttpdRequest): Promise<void> {
    const name = fileName(request.path.slice("/upload/".length));
    if (name === undefined) return request.sendError(400, "Invalid filename");
    const path = join(this.#directory, name);
    if (await statsOf(path) !== undefined) return request.sendError(400, "File already exists");
    if ((request.contentLength ?? 0) > MAX_FILE_BYTES) return refuseLargeFile(request);

    switch (await this.#keep(request, path)) {
      case "kept":
        return redirect(request, 303, "File uploaded successfully");
      case "taken":
        return request.sendError(400, "File already exists");
      case "large":
        return refuseLargeFile(request);
    }
  }

  /** Makes the body a file, in one step when all of it is there. */
  async #keep(request: HttpdRequest, path: string): Promise<"kept" | "taken" | "large"> {
    const part = join(this.#directory, `.upload-${randomUUID()}`);
    try {
      if (!await receiveFile(request, part)) return "large";
      await link(part, path); // fails when the name is taken by now, which a rename would not
      return "kept";
    } catch (error) {
      if (codeOf(error) === "EEXIST") return "taken";
      throw error;
    } finally {
      await rm(part, { force: true });
    }
  }

  async remove(request: HttpdRequest): Promise<void> {
    const name = fileName(request.path.slice("/delete/".length));
    const path = name === undefined ? undefined : join(this.#directory, name);
    if (path === undefined || !(await statsOf(path))?.isFile()) {
      return request.sendError(400, "File does not exist");
    }
    await rm(path, { force: true }); // somebody else may have been faster
    redirect(request, 303, "File deleted successfully");
  }
}

/**
 * The name that a path's last part means; `undefined` when it could lead out of the directory,
 * is hidden, or is none.
 */
function fileName(encoded: string): string | undefined {
  let name: string;
  try {
    name = decodeURIComponent(encoded);
  } catch {
    return undefined; // no UTF-8
  }
  const isPlain = /^[^./\\\p{Cc}][^/\\\p{Cc}]*$/u.test(name);
  return isPlain && Buffer.byteLength(name) <= MAX_NAME_BYTES ? name : undefined;
}

async function statsOf(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

/** Sends a file in pieces, so that its size costs no memory. */
async function sendFile(request: HttpdRequest, name: string, file: FileHandle): Promise<void> {
  const { size } = await file.stat();
  request.type(CONTENT_TYPES[extname(name)] ?? "text/plain")
    .header("Content-Length", String(size))
    // What visitors have uploaded is shown, but runs no script in this site's name.
    .header("Content-Security-Policy", "sandbox")
    .header("X-Content-Type-Options", "nosniff");
  for (let left = size; left > 0;) {
    const piece = Buffer.alloc(Math.min(left, PIECE_BYTES));
    const { bytesRead } = await file.read(piece, 0, piece.length, size - left);
    if (bytesRead === 0) break; // it has shrunk: end() will not pass that off as the whole
    if (request.session.connection.closed) return;
    await request.sendChunk(piece.subarray(0, bytesRead));
    left -= bytesRead;
  }
  request.end();
}

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".ico": "image/x-icon",
  ".jpeg": "image/jpeg",
  ".pdf": "application/pdf",
};

/** Writes the body to a new file; `false` when it is too long. */
async function receiveFile(request: HttpdRequest, path: string): Promise<boolean> {
  const file = await open(path, "wx", 0o600);
  try {
    let size = 0;
    for (let piece = await request.recv(); piece; piece = await request.recv()) {
      size += piece.length;
      if (size > MAX_FILE_BYTES) return false;
      await file.appendFile(piece);
    }
    return true;
  } finally {
    await file.close();
  }
}

/** Closes, so that the rest need not be read. */
function refuseLargeFile(request: HttpdRequest): void {
  request.header("Connection", "close").sendError(400, "File size must be less than 200KB!");
}

function redirect(request: HttpdRequest, status: number, text: string): void {
  request.status(status).header("Location", "/").send(text);
}

function renderRow(name: string, size: number): string {
  const path = escapeHtml(encodeURIComponent(name));
  return `<tr><td><a href="/${path}">${escapeHtml(name)}</a><td>${size}
<td><form method="post" action="/delete/${path}"><button>Delete</button></form>`;
}

const SCRIPT = `
document.querySelector("#upload").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [file] = event.target.file.files;
  const url = "/upload/" + encodeURIComponent(event.target.name.value || file.name);
  const response = await fetch(url, { method: "POST", body: file });
  if (response.ok) location.reload();
  else alert(await response.text());
});
`;

const PAGE_POLICY = [
  "default-src 'none'",
  `script-src 'sha256-${createHash("sha256").update(SCRIPT).digest("base64")}'`,
  "connect-src 'self'",
  "img-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join("; ");

function renderPage(rows: readonly string[]): string {
  return `<!doctype html>
<title>Files</title>
<h1>Files</h1>
<form id="upload">
<input type="file" name="file" required> as <input name="name" placeholder="the same name">
<button>Upload</button> (less than 200 KB)
</form>
<table>
<tr><th>Name<th>Bytes<th>
${rows.join("\n")}
</table>
<script>${SCRIPT}</script>
`;
}

/** One pixel, as an icon with a bitmap in it. */
const FAVICON = Buffer.from(
  "AAABAAEAAQEAAAEAIAAwAAAAFgAAACgAAAABAAAAAgAAAAEAIAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAAABLegr/AAAAAA==",
  "base64",
);

if (import.meta.main) {
  const directory = process.env["FILES"] ?? "files";
  await mkdir(directory, { recursive: true });
  await run((options) => createServer(options, directory));
}
