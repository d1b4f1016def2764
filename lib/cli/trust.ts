/**
 * `httpsd trust`: adds this machine's authority to the stores that its browsers and programs read,
 * takes it out again, and says what it did.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import type { Values } from "./arguments.ts";
import { openAuthority } from "./authority.ts";
import type { Output } from "./output.ts";

/** A place that certificates of authorities are kept in. */
interface Store {
  readonly name: string;
  /** Adds the certificate in a file; says what stood in the way. */
  add(caFile: string): string | undefined;
  /** Takes the certificate out. */
  remove(caFile: string): string | undefined;
}

/** What the authority is called in stores that name their entries. */
const NICKNAME = "httpsd development CA";

/** Adds the authority, or takes it out; the exit code is 1 when no store took it. */
export async function trust(
  { certs, undo = false }: Values,
  output: Output,
): Promise<number> {
  const { caFile } = await openAuthority(certs);
  const results = stores().map((store) => ({
    store: store.name,
    problem: undo ? store.remove(caFile) : store.add(caFile),
  }));
  const done = undo ? "Removed from" : "Added to";
  output.say(
    { authority: caFile, undo, stores: results },
    [
      `Authority: ${caFile}`,
      ...results.map(({ store, problem }) =>
        problem === undefined
          ? `${done} ${store}`
          : `Not ${done.toLowerCase()} ${store}: ${problem}`
      ),
      ...(results.length === 0 ? ["No store was found: import the file into your browser"] : []),
      ...(undo ? [] : ["Whoever has its key can speak for every site to you: keep it here"]),
    ].join("\n"),
  );
  return results.some(({ problem }) => problem === undefined) ? 0 : 1;
}

function stores(): Store[] {
  switch (process.platform) {
    case "darwin":
      return [keychain(), ...nssDatabases()];
    case "win32":
      return [windowsStore()];
    default:
      return [...systemStores(), ...nssDatabases()];
  }
}

/** Where Linux distributions take authorities from, and what has them read again. */
const SYSTEM: readonly { directory: string; command: string; extension: string }[] = [
  {
    directory: "/usr/local/share/ca-certificates",
    command: "update-ca-certificates",
    extension: "crt",
  },
  { directory: "/etc/pki/ca-trust/source/anchors", command: "update-ca-trust", extension: "pem" },
  { directory: "/etc/ca-certificates/trust-source/anchors", command: "trust", extension: "crt" },
];

function systemStores(): Store[] {
  return SYSTEM.filter(({ directory }) => existsSync(directory)).map(
    ({ directory, command, extension }) => {
      const file = join(directory, `httpsd-development-ca.${extension}`);
      const change = (how: () => void) => {
        try {
          how();
        } catch (error) {
          const { code } = error as NodeJS.ErrnoException;
          return code === "EACCES" || code === "EPERM" || (error as Error).name === "NotCapable"
            ? `this user may not write to ${directory}: sudo does`
            : (error as Error).message;
        }
        return run(command, command === "trust" ? ["extract-compat"] : []);
      };
      return {
        name: `the system (${directory})`,
        add: (caFile) => change(() => copyFileSync(caFile, file)),
        remove: () => change(() => rmSync(file, { force: true })),
      };
    },
  );
}

/** The databases of Chromium and Firefox on Linux, and of Firefox on macOS. */
function nssDatabases(): Store[] {
  const home = homedir();
  const profiles = [
    join(home, ".mozilla/firefox"),
    join(home, "snap/firefox/common/.mozilla/firefox"),
    join(home, "Library/Application Support/Firefox/Profiles"),
  ].flatMap((directory) =>
    existsSync(directory) ? readdirSync(directory).map((name) => join(directory, name)) : []
  );
  return [join(home, ".pki/nssdb"), ...profiles]
    .filter((directory) => existsSync(join(directory, "cert9.db")))
    .map((directory) => {
      const database = ["-d", `sql:${directory}`, "-n", NICKNAME];
      return {
        name: `browsers (${directory})`,
        add: (caFile) => run("certutil", ["-A", ...database, "-t", "C,,", "-i", caFile]),
        remove: () => run("certutil", ["-D", ...database]),
      };
    });
}

function keychain(): Store {
  const login = join(homedir(), "Library/Keychains/login.keychain-db");
  return {
    name: "the login keychain",
    add: (caFile) => run("security", ["add-trusted-cert", "-r", "trustRoot", "-k", login, caFile]),
    remove: (caFile) => run("security", ["remove-trusted-cert", caFile]),
  };
}

function windowsStore(): Store {
  return {
    name: "the user's store",
    add: (caFile) => run("certutil", ["-user", "-addstore", "Root", caFile]),
    remove: () => run("certutil", ["-user", "-delstore", "Root", NICKNAME]),
  };
}

/** Runs a program of the system; returns what stood in the way. */
function run(command: string, args: readonly string[]): string | undefined {
  const { status, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (error !== undefined) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    return isMissing ? `${command} is missing: install it` : error.message;
  }
  return status === 0 ? undefined : `${command} says: ${stderr.trim().split("\n")[0]}`;
}
