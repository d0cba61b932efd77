// What can be written at a place: keys and values by the JSON Schema, and what blocks take.

import { placeOf } from "./place.js";

/** A source of completions for CodeMirror; `data` has the schema, and the names of specs and blocks. */
export function completionsOf(data) {
  return (context) => {
    const place = placeOf(context.state.doc.toString(), context.pos);
    if (place === null || (!context.explicit && place.word === "")) return null;
    const options = optionsAt(place, data);
    return options.length ? { from: place.from, options, validFor: /^[\w.-]*$/ } : null;
  };
}

export function optionsAt(place, data) {
  const given = new Map(place.entries.map((each) => [each.key, each.value]));
  if (place.kind === "key") {
    const at = narrowed(subschemas(data.schema, place.path), given, data.schema);
    const values = valuesOf(at, data.schema); // an item of a list may be a word, too
    const keys = new Map(at.flatMap((each) => Object.entries(each.properties ?? {})));
    for (const [name, told] of argumentsOf(given, place.path, data)) keys.set(name, told);
    const options = [...keys].filter(([name]) => !given.has(name)).map(([name, told]) => ({
      label: name,
      apply: `${name}: `,
      type: "property",
      info: resolved(told, data.schema).description ?? told.description,
    }));
    return [...options, ...(place.path.at(-1) === null && options.length === 0 ? values : [])];
  }
  const key = place.path.at(-1);
  const above = narrowed(subschemas(data.schema, place.path.slice(0, -1)), given, data.schema);
  const at = key === null ? subschemas(data.schema, place.path) : below(above, key, data.schema);
  const options = valuesOf(at, data.schema);
  if (key === "extends") options.push(...named(data.starts.filter((each) => each.family), "class"));
  const told = data.blocks[given.get("block")]?.args[key];
  if (told?.slot) options.push({ label: "none", type: "enum", info: "nothing" });
  if (key === "block" || told?.slot) options.push(...named(Object.values(data.blocks), "function"));
  return options;
}

function named(records, type) {
  return records.map((each) => ({ label: each.name, type, info: each.description }));
}

/** The arguments of the block that is named beside, or of that whose defaults these are. */
function argumentsOf(given, path, data) {
  const name = path[0] === "defaults" && path.length === 2 ? path[1] : given.get("block");
  return Object.entries(data.blocks[name]?.args ?? {});
}

/** The schemas of what stands at a path: as many as there are ways to write it. */
function subschemas(schema, path) {
  return path.reduce((found, key) => below(found, key, schema), expanded(schema, schema));
}

function below(schemas, key, root) {
  return schemas.flatMap((each) => {
    if (key === null) return each.items ? expanded(each.items, root) : [];
    const own = each.properties?.[key];
    if (own !== undefined) return expanded(own, root);
    const other = each.additionalProperties;
    return typeof other === "object" ? expanded(other, root) : [];
  });
}

/** A schema as its alternatives. */
function expanded(schema, root) {
  const whole = resolved(schema, root);
  const parts = ["anyOf", "oneOf", "allOf"].flatMap((key) => whole[key] ?? []);
  return [whole, ...parts.flatMap((each) => expanded(each, root))];
}

function resolved(schema, root) {
  if (!schema?.$ref) return schema ?? {};
  const found = schema.$ref.split("/").slice(1).reduce((at, key) => at[key], root);
  return { ...resolved(found, root), ...(schema.description && { description: schema.description }) };
}

/** Those alternatives that have every key which is there already; all where none has. */
function narrowed(schemas, given, root) {
  const has = (each, key) => key in (each.properties ?? {}) || each.additionalProperties !== false;
  const fits = schemas.filter(
    (each) => each.properties && [...given.keys()].every((key) => has(each, key)),
  );
  // One that asks for a key, such as `conv`, tells what the others are.
  const asked = fits.filter((each) => (each.required ?? []).some((key) => given.has(key)));
  return asked.length ? asked : fits.length ? fits : schemas;
}

function valuesOf(schemas) {
  const words = new Set();
  for (const each of schemas) {
    for (const value of each.enum ?? ("const" in each ? [each.const] : [])) words.add(String(value));
    if (each.type === "boolean") words.add("true").add("false");
  }
  return [...words].map((label) => ({ label, type: "enum" }));
}
