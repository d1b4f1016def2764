/**
 * Media types by file name, and which of them are worth compressing. They are those of
 * Hono's table, so that a move from its middleware changes none, and some that it lacks.
 *
 * @module
 */

const TYPES: ReadonlyMap<string, string> = new Map([
  ["3g2", "video/3gpp2"],
  ["3gp", "video/3gpp"],
  ["7z", "application/x-7z-compressed"],
  ["aac", "audio/aac"],
  ["apng", "image/apng"],
  ["atom", "application/atom+xml"],
  ["av1", "video/av1"],
  ["avi", "video/x-msvideo"],
  ["avif", "image/avif"],
  ["bin", "application/octet-stream"],
  ["bmp", "image/bmp"],
  ["bz2", "application/x-bzip2"],
  ["cjs", "text/javascript; charset=utf-8"],
  ["css", "text/css; charset=utf-8"],
  ["csv", "text/csv; charset=utf-8"],
  ["eot", "application/vnd.ms-fontobject"],
  ["epub", "application/epub+zip"],
  ["flac", "audio/flac"],
  ["geojson", "application/geo+json"],
  ["gif", "image/gif"],
  ["glb", "model/gltf-binary"],
  ["gltf", "model/gltf+json"],
  ["gz", "application/gzip"],
  ["heic", "image/heic"],
  ["htm", "text/html; charset=utf-8"],
  ["html", "text/html; charset=utf-8"],
  ["ico", "image/x-icon"],
  ["ics", "text/calendar; charset=utf-8"],
  ["jpeg", "image/jpeg"],
  ["jpg", "image/jpeg"],
  ["js", "text/javascript; charset=utf-8"],
  ["json", "application/json"],
  ["jsonld", "application/ld+json"],
  ["jxl", "image/jxl"],
  ["m3u8", "application/vnd.apple.mpegurl"],
  ["m4a", "audio/mp4"],
  ["m4v", "video/mp4"],
  ["map", "application/json"],
  ["md", "text/markdown; charset=utf-8"],
  ["mid", "audio/x-midi"],
  ["midi", "audio/x-midi"],
  ["mjs", "text/javascript; charset=utf-8"],
  ["mov", "video/quicktime"],
  ["mp3", "audio/mpeg"],
  ["mp4", "video/mp4"],
  ["mpeg", "video/mpeg"],
  ["oga", "audio/ogg"],
  ["ogg", "audio/ogg"],
  ["ogv", "video/ogg"],
  ["ogx", "application/ogg"],
  ["opus", "audio/opus"],
  ["otf", "font/otf"],
  ["pdf", "application/pdf"],
  ["png", "image/png"],
  ["rss", "application/rss+xml"],
  ["rtf", "application/rtf"],
  ["svg", "image/svg+xml; charset=utf-8"],
  ["tar", "application/x-tar"],
  ["tif", "image/tiff"],
  ["tiff", "image/tiff"],
  ["ts", "video/mp2t"],
  ["ttc", "font/collection"],
  ["ttf", "font/ttf"],
  ["txt", "text/plain; charset=utf-8"],
  ["vtt", "text/vtt; charset=utf-8"],
  ["wasm", "application/wasm"],
  ["wav", "audio/wav"],
  ["weba", "audio/webm"],
  ["webm", "video/webm"],
  ["webmanifest", "application/manifest+json"],
  ["webp", "image/webp"],
  ["woff", "font/woff"],
  ["woff2", "font/woff2"],
  ["xhtml", "application/xhtml+xml; charset=utf-8"],
  ["xml", "application/xml; charset=utf-8"],
  ["yaml", "application/yaml"],
  ["yml", "application/yaml"],
  ["zip", "application/zip"],
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
