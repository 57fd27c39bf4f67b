/**
 * Stage 1: rows of the training data, from Salesforce or HTTP, into one CSV file with exactly the schema's columns.
 * Owns the kinds of source, the validation of each row, size limits and the file's form; it neither splits nor encodes.
 */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { InputError, oneLine } from './errors.js';
import { connectionError, parseUrl, publicUrl, send, withRetries } from './net.js';
import { attributeNames, checkColumns, columns, readAttribute, readTarget, schema } from './schema.js';

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
      result = await write(customers(dataUrl, salesforce, { log, signal, retry }), partial, uri, limits);
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
  const result = await write(httpRows(body, response.headers['content-type'] ?? '', uri, ignored), partial, uri, limits);
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

async function* httpRows(body, contentType, uri, ignored) {
  // The answer's first character tells more than its declared type: files are often served as text/plain.
  const chunks = body[Symbol.asyncIterator]();
  const head = [];
  let start = '';
  while (!start) {
    const { value, done } = await chunks.next();
    if (done) throw new InputError(`${uri} is empty; correct DATA_URL`);
    head.push(value);
    start = value.toString('latin1').replace(/^\u00ef\u00bb\u00bf/, '').trimStart();
  }
  const whole = Readable.from(
    (async function* () {
      yield* head;
      yield* { [Symbol.asyncIterator]: () => chunks };
    })(),
    { objectMode: false },
  );
  if (/^text\/html\b/i.test(contentType) || start.startsWith('<')) {
    throw new InputError(`${uri} answers with HTML, a page for people; give the address of the CSV or JSON itself`);
  }
  if (start.startsWith('[')) yield* jsonRows(whole, uri, ignored);
  else if (start.startsWith('{')) throw new InputError(`${uri} is a JSON object; JSON data must be an array of row objects`);
  else yield* csvRows(whole, uri, ignored);
}

async function* csvRows(body, uri, ignored) {
  const { parse } = await import('csv-parse');
  const parser = parse({ bom: true, trim: true, skip_empty_lines: true, max_record_size: 2 ** 17 });
  const done = pipeline(body, parser);
  done.catch(() => {}); // it also ends the loop below, which reports it
  let places;
  try {
    for await (const cells of parser) {
      if (places) {
        yield (index) => cells[places[index]];
      } else {
        const twice = cells.find((name, index) => columns.includes(name) && cells.indexOf(name) !== index);
        if (twice) throw new InputError(`${uri} has the column ${twice} twice; correct the data`);
        for (const name of checkColumns(cells, uri)) ignored.add(name);
        places = columns.map((name) => cells.indexOf(name));
      }
    }
    await done;
  } catch (error) {
    if (error?.code?.startsWith?.('CSV_')) throw new InputError(`${uri} is not well-formed CSV: ${error.message}`);
    throw error;
  }
}

async function* jsonRows(body, uri, ignored) {
  const { default: StreamArray } = await import('stream-json/streamers/StreamArray.js');
  const rows = StreamArray.withParser();
  const done = pipeline(body, rows);
  done.catch(() => {});
  let first = true;
  try {
    for await (const { key, value } of rows) {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) {
        throw new InputError(`${uri}: element ${key + 1} of the JSON array is not an object; give row objects`);
      }
      if (first) for (const name of checkColumns(Object.keys(value), uri)) ignored.add(name);
      first = false;
      yield (index) => value[columns[index]];
    }
    await done;
  } catch (error) {
    if (/^Parser /.test(error?.message ?? '')) throw new InputError(`${uri} is not well-formed JSON: ${error.message}`);
    throw error;
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

