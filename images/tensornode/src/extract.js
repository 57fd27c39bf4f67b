/**
 * Stage 1: rows of the training data, from Salesforce or HTTP, into one CSV file with exactly the schema's columns.
 * Owns the kinds of source, the validation of each row, size limits and the written file's form; it neither splits nor encodes.
 */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';

import { InputError, oneLine } from './errors.js';
import { connectionError, parseUrl, publicUrl, send, withRetries } from './net.js';
import { fileRows } from './rows.js';
import { attributeNames, columns, readAttribute, readTarget, schema } from './schema.js';

/** What one training may read; a run holds all rows in memory later. */
export const LIMITS = { bytes: 256 * 2 ** 20, rows: 200_000, milliseconds: 15 * 60_000 };

/**
 * Reads the data and writes it to `file`, whole or not at all.
 * @param {{dataUrl: string, salesforce: object}} source as of config.readSource
 * @returns {Promise<{uri: string, rows: number, positives: number, sha256: string, ignored: string[]}>}
 */
export async function extract({ dataUrl, salesforce }, file, { log = () => {}, limits = LIMITS, retry = {} } = {}) {
  const fromSalesforce = /^salesforce\+https:/i.test(dataUrl);
  const uri = fromSalesforce ? dataUrl : publicUrl(parseUrl(dataUrl).href);
  await mkdir(path.dirname(file), { recursive: true });
  const partial = `${file}.part`;
  const signal = AbortSignal.timeout(limits.milliseconds);
  try {
    let result;
    if (fromSalesforce) {
      // jsforce takes a tenth of a second to load, so only who asks for Salesforce waits for it.
      const { customers } = await import('./salesforce.js');
      result = await withRetries(() => write(customers(dataUrl, salesforce, { log, signal, retry }), partial, uri, limits), { log, ...retry });
    } else {
      // A download broken off half-way starts over: rows already written are from the same file.
      result = await withRetries(() => download(dataUrl, partial, uri, limits, signal), { log, ...retry });
    }
    await rename(partial, file);
    return { uri, ...result };
  } finally {
    await rm(partial, { force: true });
  }
}

async function download(dataUrl, partial, uri, limits, signal) {
  const response = await send(dataUrl, { signal, headers: { accept: 'text/csv, application/json' } });
  if (response.statusCode !== 200) {
    response.destroy();
    throw new InputError(`${uri} answers ${response.statusCode} ${oneLine(response.statusMessage ?? '', 80)}; correct DATA_URL`);
  }
  const ignored = new Set();
  const body = metered(response, uri, limits.bytes);
  const result = await write(fileRows(body, response.headers['content-type'] ?? '', uri, ignored), partial, uri, limits);
  return { ...result, ignored: [...ignored] };
}

/** The body's bytes up to the limit; a broken connection becomes one of our errors. */
async function* metered(response, uri, limit) {
  let bytes = 0;
  try {
    for await (const chunk of response) {
      bytes += chunk.length;
      if (bytes > limit) throw new InputError(`${uri} is larger than ${limit} bytes, the most one training reads; give it less data`);
      yield chunk;
    }
  } catch (error) {
    throw connectionError(error, new URL(uri).host);
  }
}

/** Validates rows (functions from a column's index to its raw value) and writes them as CSV. */
async function write(rows, partial, uri, limits) {
  const hash = createHash('sha256');
  const counts = [0, 0];
  async function* lines() {
    let text = `${columns.join(',')}\n`;
    let number = 0;
    for await (const cell of rows) {
      number += 1;
      if (number > limits.rows) throw new InputError(`${uri} has more than ${limits.rows} rows, the most one training holds; give it less data`);
      const where = `${uri}, row ${number}`;
      const values = attributeNames.map((name, index) => readAttribute(name, cell(index), where));
      const positive = readTarget(cell(attributeNames.length), where);
      counts[positive] += 1;
      text += `${values.join(',')},${positive ? schema.target.positive : schema.target.negative}\n`;
      if (text.length > 2 ** 16) {
        hash.update(text);
        yield text;
        text = '';
      }
    }
    if (number === 0) throw new InputError(`${uri} has no rows; correct DATA_URL`);
    const missing = counts.indexOf(0);
    if (missing >= 0) {
      const { name, negative, positive } = schema.target;
      throw new InputError(`${uri} holds one class only: no row has ${name} = ${missing ? positive : negative}; a classifier needs both`);
    }
    hash.update(text);
    yield text;
  }
  await pipeline(lines, createWriteStream(partial));
  return { rows: counts[0] + counts[1], positives: counts[1], sha256: hash.digest('hex'), ignored: [] };
}

