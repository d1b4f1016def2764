/**
 * The runtime's own server, started.
 *
 * @module
 */

/** A certificate with its key, as PEM; none for plain HTTP. */
interface Pem {
  readonly cert?: string;
  readonly key?: string;
}

interface Scope {
  readonly Bun?: { serve(options: object): { stop(): Promise<void> } };
  readonly Deno?: {
    serve(options: object, handler: () => Response): { shutdown(): Promise<void> };
  };
}

const { Bun, Deno } = globalThis as unknown as Scope;

/** Starts it; what is returned stops it. */
export function nativeServer(pem: Pem): () => Promise<void> {
  const options = { hostname: "127.0.0.1", port: 0 };
  const answer = () => new Response("hello world");
  if (Bun !== undefined) {
    const server = Bun.serve({ ...options, ...pem.cert && { tls: pem }, fetch: answer });
    return () => server.stop();
  }
  const server = Deno!.serve({ ...options, ...pem, onListen() {} }, answer);
  return () => server.shutdown();
}
