/**
 * Media types by file name, and which of them are worth compressing. The table is Hono's, with what
 * it lacks.
 *
 * @module
 */
import { mimes } from "hono/utils/mime";

const TYPES: ReadonlyMap<string, string> = new Map([
  ...Object.entries(mimes),
  ["7z", "application/x-7z-compressed"],
  ["apng", "image/apng"],
  ["atom", "application/atom+xml"],
  ["bz2", "application/x-bzip2"],
  ["cjs", "text/javascript; charset=utf-8"],
  ["flac", "audio/flac"],
  ["geojson", "application/geo+json"],
  ["heic", "image/heic"],
  ["jxl", "image/jxl"],
  ["m3u8", "application/vnd.apple.mpegurl"],
  ["m4a", "audio/mp4"],
  ["m4v", "video/mp4"],
  ["md", "text/markdown; charset=utf-8"],
  ["mov", "video/quicktime"],
  ["ogg", "audio/ogg"],
  ["rss", "application/rss+xml"],
  ["tar", "application/x-tar"],
  ["ttc", "font/collection"],
  ["vtt", "text/vtt; charset=utf-8"],
  ["wav", "audio/wav"],
  ["yaml", "application/yaml"],
  ["yml", "application/yaml"],
  ["zst", "application/zstd"],
]);

/** The media type of a file by the end of its name; `undefined` when it is not known. */
export function contentTypeOf(name: string): string | undefined {
  return TYPES.get(extensionOf(name));
}

/** What follows the last dot of a name, in lower case. */
export function extensionOf(name: string): string {
  return /\.([^./]+)$/.exec(name)?.[1]?.toLowerCase() ?? "";
}

/**
 * Text in all its forms. An event stream is text too, but must not wait in a compressor.
 * Images, audio, video, archives and WOFF fonts are compressed already.
 */
const COMPRESSIBLE = new RegExp(
  "^(?:text/(?!event-stream)|[^;]+\\+(?:json|xml|text|yaml)$|image/(?:bmp|x-icon)$" +
    "|font/(?:otf|ttf|collection)$|model/gltf-binary$" +
    "|application/(?:json|javascript|xml|yaml|wasm|rtf|x-ndjson|graphql|x-tar" +
    "|vnd\\.apple\\.mpegurl|vnd\\.ms-fontobject)$)",
  "i",
);

/** Whether content of this media type gets much smaller by compression. */
export function isCompressible(contentType: string): boolean {
  return COMPRESSIBLE.test(contentType.split(";", 1)[0]!.trimEnd());
}
