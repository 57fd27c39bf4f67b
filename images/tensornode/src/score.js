/**
 * Predictions of a stored model: rows as JSON Lines in, predictions as JSON Lines out, in order, a batch at a time.
 * Owns the reading of lines and their errors. The rows are raw values; the model's own preprocessing encodes them.
 */
import { once } from 'node:events';

import { InputError } from './errors.js';
import { loadModel } from './model.js';
import { readAttribute } from './schema.js';
import { ready } from './tf.js';
import { predict } from './train.js';
import { encode } from './transform.js';

const LINE_LIMIT = 2 ** 20;
const BATCH = 1024;

/** Reads `input` to its end. What has arrived is answered at once, so a slow writer waits for nothing. */
export async function score(folder, input, output) {
  await ready();
  const { model, preprocessing } = await loadModel(folder);
  const names = preprocessing.encodings.map(({ name }) => name);

  for await (const { rows, failure } of batches(input, names)) {
    if (rows.length > 0) {
      const predictions = await predict(model, encode(preprocessing, rows), rows.length);
      const text = predictions.map((prediction) => `${JSON.stringify({ prediction })}\n`).join('');
      if (!output.write(text)) await once(output, 'drain');
    }
    if (failure) throw failure;
  }
}

/** Rows that have arrived together, at most BATCH; with a bad line, the good rows before it and the failure. */
async function* batches(input, names) {
  let number = 0;
  let rows = [];
  try {
    for await (const line of lines(input)) {
      if (line === null) {
        // the end of what has arrived
        if (rows.length > 0) yield { rows };
        rows = [];
        continue;
      }
      number += 1;
      rows.push(readRow(line, names, `line ${number}`));
      if (rows.length === BATCH) {
        yield { rows };
        rows = [];
      }
    }
    yield { rows };
  } catch (failure) {
    yield { rows, failure };
  }
}

/** Yields each line, and null wherever the input has nothing more for now. */
async function* lines(input) {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let rest = '';
  let number = 0;
  const decode = (chunk, stream) => {
    try {
      return decoder.decode(chunk, { stream });
    } catch {
      throw new InputError(`after line ${number}: the input is not UTF-8; give one JSON object a line`);
    }
  };
  const counted = (line) => {
    number += 1;
    if (line.length > LINE_LIMIT) throw new InputError(`line ${number} is longer than ${LINE_LIMIT} characters; give one row object a line`);
    return line;
  };
  for await (const chunk of input) {
    const found = (rest + decode(chunk, true)).split('\n');
    rest = found.pop();
    for (const line of found) yield counted(line);
    if (rest.length > LINE_LIMIT) counted(rest);
    yield null;
  }
  rest += decode(undefined, false);
  if (rest) yield counted(rest);
}

function readRow(line, names, where) {
  let row;
  try {
    row = JSON.parse(line);
  } catch {
    throw new InputError(`${where} is not JSON; give one row object a line`);
  }
  if (typeof row !== 'object' || row === null || Array.isArray(row)) throw new InputError(`${where} is not a JSON object; give one row object a line`);
  if (countColons(line) !== countKeys(row)) throw new InputError(`${where} has a key twice; give each once`);
  return names.map((name) => readAttribute(name, row[name], where));
}

/** The colons of a JSON text outside of its strings: one for each key. JSON.parse itself keeps the last of two equal keys. */
function countColons(line) {
  let count = 0;
  for (let at = 0; at < line.length; at += 1) {
    if (line[at] === ':') count += 1;
    else if (line[at] === '"') for (at += 1; line[at] !== '"'; at += 1) if (line[at] === '\\') at += 1;
  }
  return count;
}

function countKeys(row) {
  let count = 0;
  const found = [row];
  for (const value of found) {
    for (const name of Object.keys(value)) {
      if (!Array.isArray(value)) count += 1;
      if (typeof value[name] === 'object' && value[name] !== null) found.push(value[name]);
    }
  }
  return count;
}
