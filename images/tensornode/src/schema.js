/**
 * The schema of the training data (schema.json, the only place it stands) and how one raw value is read.
 * Owns names, types and the reading of values; where rows come from is extract's matter.
 */
import { readFileSync } from 'node:fs';

import { InputError } from './errors.js';

export const schema = JSON.parse(readFileSync(new URL('./schema.json', import.meta.url), 'utf8'));

/** Names of the attributes, in the order of the data. */
export const attributeNames = schema.attributes.map(({ name }) => name);

/** All columns of the extracted file: the attributes, then the target. */
export const columns = [...attributeNames, schema.target.name];

/** Reads one attribute: an integer, or the text of one. `where` says which row, for people. */
export function readAttribute(name, raw, where) {
  const value = typeof raw === 'string' && /^\s*[+-]?\d+(\.0*)?\s*$/.test(raw) ? Number(raw) : raw;
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
    throw new InputError(`${where}: ${name} is ${shown(raw)}, not an integer; correct the data`);
  }
  return value + 0; // -0 becomes 0
}

/** Reads the target: 1 for the positive class, 0 for the negative. */
export function readTarget(raw, where) {
  const { name, negative, positive } = schema.target;
  const value = typeof raw === 'string' ? raw.trim() : raw;
  if (value === positive) return 1;
  if (value === negative) return 0;
  throw new InputError(`${where}: ${name} is ${shown(raw)}, neither ${positive} nor ${negative}; correct the data`);
}

/** A missing or extra column by name; `given` are the columns of the data. Returns the extra ones. */
export function checkColumns(given, where, expected = columns) {
  const present = new Set(given);
  const missing = expected.filter((name) => !present.has(name));
  if (missing.length > 0) {
    const names = missing.length > 5 ? `${missing.slice(0, 5).join(', ')} and ${missing.length - 5} more` : missing.join(', ');
    throw new InputError(`${where} lacks the column${missing.length > 1 ? 's' : ''} ${names}; it needs all ${expected.length} of the schema`);
  }
  const wanted = new Set(columns);
  return given.filter((name) => !wanted.has(name));
}

function shown(raw) {
  if (raw === undefined) return 'missing';
  const text = JSON.stringify(raw) ?? String(raw);
  return text.length > 40 ? `${text.slice(0, 37)}...` : text;
}
