/**
 * Where this machine's own certificate authority is kept.
 *
 * @module
 */
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";

/** The directory that the authority is kept in, unless `--certs` names another. */
export function defaultDirectory(): string {
  const { XDG_DATA_HOME, LOCALAPPDATA } = process.env;
  if (process.platform === "darwin") return join(homedir(), "Library/Application Support/httpsd");
  if (process.platform === "win32" && LOCALAPPDATA) return join(LOCALAPPDATA, "httpsd");
  return join(XDG_DATA_HOME || join(homedir(), ".local/share"), "httpsd");
}
