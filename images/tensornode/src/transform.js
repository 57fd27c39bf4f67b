/**
 * Stage 2: the extracted file into encoded train, validation and test parts.
 * Owns the split and the encoding (fitted on the train part only); where rows come from and what learns from them are others' matters.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';

import { InputError } from './errors.js';
import { attributeNames, readAttribute, readTarget, schema } from './schema.js';

/** Upper bounds of the parts on a scale from 0 to 1. */
export const SPLIT = { train: 0.7, validation: 0.85, test: 1 };

/**
 * Reads the extracted file and splits it.
 * @returns {Promise<{preprocessing: object, train: Part, validation: Part, test: Part}>} where a Part is
 *   {rows: {values: number[], label: 0|1, number: number}[], features: Float32Array, labels: Float32Array}
 */
export async function transform(file) {
  const parts = split(await readRows(file));
  for (const [name, rows] of Object.entries(parts)) {
    const positives = rows.reduce((sum, { label }) => sum + label, 0);
    if (positives === 0 || positives === rows.length) {
      const { positive, negative } = schema.target;
      throw new InputError(`the ${name} part (${rows.length} rows) has no ${positives === 0 ? positive : negative}; give more data`);
    }
  }
  const preprocessing = fitPreprocessing(parts.train);
  const encoded = Object.entries(parts).map(([name, rows]) => [
    name,
    { rows, features: encode(preprocessing, rows.map(({ values }) => values)), labels: Float32Array.from(rows, ({ label }) => label) },
  ]);
  return { preprocessing, ...Object.fromEntries(encoded) };
}

/** Reads what extract wrote: integers and Yes or No, nothing quoted, so that splitting at commas is all it takes. */
async function readRows(file) {
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n').slice(1);
  return lines.map((line, index) => {
    const cells = line.split(',');
    const where = `${file}, row ${index + 1}`;
    const values = attributeNames.map((name, column) => readAttribute(name, cells[column], where));
    return { values, label: readTarget(cells[attributeNames.length], where), number: index + 1 };
  });
}

/**
 * Splits rows by a hash of their attributes: rows alike are in one part, and a row's part depends on nothing but itself.
 * Each part comes ordered by that hash, so that the same rows make the same model whatever order they arrived in.
 */
export function split(rows) {
  const keyed = rows.map((row) => ({ row, key: createHash('sha256').update(row.values.join(',')).digest('hex') }));
  keyed.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : a.row.label - b.row.label || a.row.number - b.row.number));
  const parts = { train: [], validation: [], test: [] };
  for (const { row, key } of keyed) {
    const place = parseInt(key.slice(0, 8), 16) / 2 ** 32;
    parts[place < SPLIT.train ? 'train' : place < SPLIT.validation ? 'validation' : 'test'].push(row);
  }
  return parts;
}

/** Learns the encoding from the train part: mean and deviation of a number, the known categories of a code. */
export function fitPreprocessing(rows) {
  const encodings = schema.attributes.map(({ name, categorical }, index) => {
    const values = rows.map((row) => row.values[index]);
    if (categorical) return { name, kind: 'one-hot', categories: [...new Set(values)].sort((a, b) => a - b) };
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    return { name, kind: 'standard', mean, deviation: variance > 0 ? Math.sqrt(variance) : 1 };
  });
  return { target: schema.target, encodings };
}

/** How many features an encoding makes of one row. */
export function width({ encodings }) {
  return encodings.reduce((sum, { kind, categories }) => sum + (kind === 'one-hot' ? categories.length : 1), 0);
}

/** Encodes rows of raw values, in the order of `encodings`. A category unknown to the train part is all zeros. */
export function encode(preprocessing, rows) {
  const columns = width(preprocessing);
  const features = new Float32Array(rows.length * columns);
  let offset = 0;
  for (const values of rows) {
    preprocessing.encodings.forEach(({ kind, categories, mean, deviation }, index) => {
      if (kind === 'one-hot') {
        const place = categories.indexOf(values[index]);
        if (place >= 0) features[offset + place] = 1;
        offset += categories.length;
      } else {
        features[offset] = (values[index] - mean) / deviation;
        offset += 1;
      }
    });
  }
  return features;
}
