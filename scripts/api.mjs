/**
 * The public API as text: each exported name of each entry with its signature, without comments, in
 * alphabetical order. docs/api.txt is this text, so that no name changes unseen.
 *
 * It is read from `deno doc --json`; members marked `@internal` are left out.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { root, runtimeBinary } from "./runtimes.mjs";

/** The API as it is now. Throws when Deno cannot read it. */
export function describeApi() {
  const { name, exports } = JSON.parse(readFileSync(join(root, "deno.json"), "utf8"));
  const { stdout, stderr, status } = spawnSync(
    runtimeBinary("deno"),
    ["doc", "--quiet", "--json", ...Object.values(exports)],
    { cwd: root, encoding: "utf8", maxBuffer: 2 ** 28 },
  );
  if (status !== 0) throw new Error(`Cannot read the API: ${stderr}`);
  const { nodes } = JSON.parse(stdout);
  const entries = Object.entries(exports).map(([entry, source]) => {
    const { symbols } = nodes[pathToFileURL(join(root, source)).href];
    return `# ${join(name, entry)}\n\n${describeSymbols(symbols).join("\n")}\n`;
  });
  return entries.join("\n");
}

function describeSymbols(symbols) {
  return symbols
    .flatMap(({ name, declarations }) =>
      declarations.filter(isPublic).map((declaration) => describe(name, declaration))
    )
    .sort(byText);
}

/** Not by locale, which differs between machines. */
function byText(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

function isPublic({ jsDoc, accessibility, name = "" }) {
  return accessibility !== "private" && !name.startsWith("#") &&
    !jsDoc?.tags?.some(({ kind }) => kind === "internal");
}

function describe(name, { kind, def }) {
  switch (kind) {
    case "function":
      return `function ${name}${signature(def)}`;
    case "variable":
      return `${def.kind} ${name}: ${type(def.tsType)}`;
    case "typeAlias":
      return `type ${name}${typeParams(def.typeParams)} =${alias(def.tsType)}`;
    case "interface":
      return `interface ${name}${typeParams(def.typeParams)}${list(" extends ", def.extends)}` +
        block(members(def));
    case "class": {
      const parent = def.extends ? ` extends ${def.extends}${typeArgs(def.superTypeParams)}` : "";
      return `${def.isAbstract ? "abstract " : ""}class ${name}${typeParams(def.typeParams)}` +
        `${parent}${list(" implements ", def.implements)}${block(members(def))}`;
    }
    case "reference": // deno doc tells a symbol once, and from where others export it as well
      return `export ${name} from ${relative(root, fileURLToPath(def.target.filename))}`;
    default:
      throw new Error(`Cannot describe ${name}: teach scripts/api.mjs the kind "${kind}"`);
  }
}

/** A long union has a line for each member, so that a new one is a new line. */
function alias(tsType) {
  const line = ` ${type(tsType)}`;
  if (tsType.kind !== "union" || line.length < 80) return line;
  return tsType.value.map((member) => `\n  | ${type(member)}`).join("");
}

/** The lines of a class, an interface or an object type. */
function members(def) {
  const { constructors = [], properties = [], methods = [] } = def;
  const { callSignatures = [], indexSignatures = [] } = def;
  return [
    ...constructors.filter(isPublic).map((member) => `constructor${signature(member)}`),
    ...callSignatures.map((member) => signature({ ...member, returnType: member.tsType })),
    ...indexSignatures.map(({ params, tsType, readonly }) =>
      `${readonly ? "readonly " : ""}[${params.map(param).join(", ")}]: ${type(tsType)}`
    ),
    ...properties.filter(isPublic).map(property),
    ...methods.filter(isPublic).map(method),
  ].sort(byText);
}

function property(member) {
  const { name, optional, readonly, tsType } = member;
  const key = /^(?:[\w$]+|\[.*)$/.test(name) ? name : JSON.stringify(name);
  return `${modifiers(member)}${readonly ? "readonly " : ""}${key}${optional ? "?" : ""}: ` +
    type(tsType);
}

function method(member) {
  const { name, kind, optional } = member;
  const def = member.functionDef ?? member; // of classes, of interfaces
  const accessor = kind === "getter" ? "get " : kind === "setter" ? "set " : "";
  return `${modifiers(member)}${accessor}${name}${optional ? "?" : ""}${signature(def)}`;
}

function modifiers({ accessibility, isStatic, isAbstract }) {
  return [accessibility === "protected" && accessibility, isStatic && "static"]
    .concat(isAbstract && "abstract")
    .filter(Boolean).map((modifier) => `${modifier} `).join("");
}

function signature({ typeParams: generics, params, returnType }, arrow = ": ") {
  return `${typeParams(generics)}(${params.map(param).join(", ")})` +
    (returnType ? `${arrow}${type(returnType)}` : "");
}

function param({ kind, name, optional, tsType, left, right, arg, props }) {
  switch (kind) {
    case "assign": // a default value makes it optional
      return param({ ...left, optional: right !== undefined });
    case "rest":
      return `...${param({ ...arg, tsType: tsType ?? arg.tsType })}`;
    case "object":
      return `{ ${props.map(({ key }) => key).join(", ")} }${optional ? "?" : ""}: ${type(tsType)}`;
    case "identifier":
      return `${name}${optional ? "?" : ""}: ${type(tsType)}`;
    default:
      throw new Error(`Cannot describe a parameter: teach scripts/api.mjs the kind "${kind}"`);
  }
}

function typeParams(generics = []) {
  return list(
    "<",
    generics.map(({ name, constraint, default: fallback }) =>
      name + (constraint ? ` extends ${type(constraint)}` : "") +
      (fallback ? ` = ${type(fallback)}` : "")
    ),
    ">",
  );
}

function typeArgs(types = []) {
  return list("<", types, ">");
}

function list(before, items = [], after = "") {
  const texts = items.map((item) => typeof item === "string" ? item : type(item));
  return texts.length === 0 ? "" : before + texts.join(", ") + after;
}

function block(lines) {
  if (lines.length === 0) return " {}";
  return ` {\n${lines.map((line) => line.replace(/^/gm, "  ")).join("\n")}\n}`;
}

function type(tsType) {
  if (tsType === undefined) return "(inferred)";
  const { kind, value, repr } = tsType;
  switch (kind) {
    case "keyword":
    case "this":
      return repr;
    case "literal":
      return value.kind === "string" ? JSON.stringify(value.string) : repr;
    case "typeRef":
      return value.typeName + typeArgs(value.typeParams);
    case "typeQuery":
      return `typeof ${value}`;
    case "union":
      return value.map(type).join(" | ");
    case "intersection":
      return value.map(type).join(" & ");
    case "array":
      return `${type(value)}[]`;
    case "tuple":
      return `[${value.map(type).join(", ")}]`;
    case "parenthesized":
      return `(${type(value)})`;
    case "typeOperator":
      return `${value.operator} ${type(value.tsType)}`;
    case "indexedAccess":
      return `${type(value.objType)}[${type(value.indexType)}]`;
    case "fnOrConstructor":
      return signature({ ...value, returnType: value.tsType }, " => ");
    case "typeLiteral":
      return members(value).length === 0 ? "{}" : `{ ${members(value).join("; ")} }`;
    default:
      throw new Error(`Cannot describe a type: teach scripts/api.mjs the kind "${kind}"`);
  }
}
