/**
 * What tests of the dispatcher and of sessions share: connected clients, and answers as text.
 *
 * @module
 */
import { type Mode, RawClient, type Started } from "./http_support.ts";
import { until } from "./support.ts";

/** All that comes back for bytes on a connection of its own, up to its end. */
export async function textFor(port: number, bytes: string, mode: Mode = "plain"): Promise<string> {
  const client = await RawClient.connect(port, mode);
  client.send(bytes);
  const text = await client.rest();
  client.destroy();
  return text;
}

export const last = (request: string) =>
  request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");

/** One client, and the one session that the server has for it. */
export async function connected({ server, port }: Started, mode: Mode = "plain") {
  const known = new Set(server.sessions);
  const client = await RawClient.connect(port, mode);
  const find = () => [...server.sessions].find((session) => !known.has(session));
  await until(() => find() !== undefined, "the session is open");
  return { client, session: find()! };
}
