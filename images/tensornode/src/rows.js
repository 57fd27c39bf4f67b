/**
 * The rows of a CSV or JSON file, from its bytes: the one reading of CSV that docs/adr/0017 decides, in this lane.
 * Owns which forms of a file are read, and that every other is refused by its name; values and columns' meaning are others' matters.
 */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import { InputError } from './errors.js';
import { checkColumns, columns } from './schema.js';

const RECORD_BYTES = 2 ** 17;

/** What a file begins with that is no text of ours, and what to do about it. */
const FORMS = [
  [/^\x1f\x8b/, 'is packed by gzip, and only plain files are read; unpack it'],
  [/^PK\x03\x04/, 'is a zip archive or a spreadsheet; save the table as CSV'],
  [/^(\xff\xfe|\xfe\xff)/, 'is UTF-16; save it as UTF-8'],
];

/** Yields one row after another, as functions from a column's index to its raw value. `ignored` gets the names of other columns. */
export async function* fileRows(body, contentType, uri, ignored) {
  const chunks = text(body, uri);
  let head = '';
  // The first character tells more than the declared type: files are often served as text/plain. The first line's end tells which ends the lines have.
  for (let more = true; more && !(head.trimStart() && /[\r\n]./s.test(head.trimStart())) && head.length <= RECORD_BYTES; ) {
    const { value, done } = await chunks.next();
    more = !done;
    head += value ?? '';
  }
  const start = head.trimStart();
  if (!start) throw new InputError(`${uri} is empty; correct DATA_URL`);
  if (/^text\/html\b/i.test(contentType) || start.startsWith('<')) {
    throw new InputError(`${uri} answers with HTML, a page for people; give the address of the CSV or JSON itself`);
  }
  if (start.startsWith('{')) throw new InputError(`${uri} is a JSON object; JSON data must be an array of row objects`);
  const whole = Readable.from(joined(head, chunks));
  if (start.startsWith('[')) yield* jsonRows(whole, uri, ignored);
  else yield* csvRows(whole, uri, ignored, /^[^\r\n]*\r(?!\n)/.test(start) ? '\r' : ['\r\n', '\n']);
}

async function* joined(head, rest) {
  yield head;
  yield* rest;
}

/** The body as text: UTF-8, with or without a byte order mark, without characters that no text has. */
async function* text(body, uri) {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let line = 1;
  const refuse = (before, problem) => {
    throw new InputError(`${uri}, line ${line + before.split('\n').length - 1}: ${problem}`);
  };
  const decoded = (chunk, stream) => {
    let part;
    try {
      part = decoder.decode(chunk, { stream });
    } catch {
      const [before] = new TextDecoder('utf-8').decode(chunk).split('\ufffd');
      refuse(before, 'is not UTF-8; save the file as UTF-8');
    }
    // eslint-disable-next-line no-control-regex
    const control = /[\0-\x08\x0e-\x1f\x7f]/.exec(part);
    if (control) {
      const code = control[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, '0');
      refuse(part.slice(0, control.index), `has the control character U+${code}, which no CSV or JSON holds; correct the data`);
    }
    line += part.split('\n').length - 1;
    return part;
  };
  let head = Buffer.alloc(0);
  let known = false;
  for await (const chunk of body) {
    head = known ? chunk : Buffer.concat([head, chunk]);
    if (!known && head.length < 4) continue;
    if (!known) checkForm(head, uri);
    known = true;
    yield decoded(head, true);
  }
  if (!known) checkForm(head, uri);
  yield decoded(known ? undefined : head, false);
}

function checkForm(head, uri) {
  const start = head.subarray(0, 4).toString('latin1');
  const form = FORMS.find(([pattern]) => pattern.test(start));
  if (form) throw new InputError(`${uri} ${form[1]}`);
}

async function* csvRows(body, uri, ignored, lineEnds) {
  const { CsvError, parse } = await import('csv-parse');
  const parser = parse({ trim: true, skip_empty_lines: true, max_record_size: RECORD_BYTES, record_delimiter: lineEnds });
  const done = pipeline(body, parser);
  done.catch(() => {}); // it also ends the loop below, which reports it
  let places;
  try {
    for await (const cells of parser) {
      if (places) {
        yield (index) => cells[places[index]];
      } else {
        const names = cells.map((name) => name.trim()); // the parser leaves blanks inside of quotes
        const twice = names.find((name, index) => name && names.indexOf(name) !== index);
        if (twice) throw new InputError(`${uri} has the column ${twice} twice; correct the data`);
        for (const name of checkColumns(names, uri)) if (name) ignored.add(name);
        places = columns.map((name) => names.indexOf(name));
      }
    }
    await done;
  } catch (error) {
    if (error instanceof CsvError) throw new InputError(`${uri} is not well-formed CSV: ${error.message}; correct the data`);
    throw error;
  }
}

async function* jsonRows(body, uri, ignored) {
  const { default: StreamArray } = await import('stream-json/streamers/StreamArray.js');
  let begun = 0;
  let twice;
  const rows = StreamArray.withParser({
    includeUndecided: true,
    // Called after each token; a key that the object has already would take the earlier one's place.
    objectFilter: ({ depth, current, key }) => {
      if (depth === 1) begun += current.length;
      else if (key !== null && Object.hasOwn(current, key)) twice ??= { name: key, row: begun + 1 };
    },
  });
  const done = pipeline(body, rows);
  done.catch(() => {});
  try {
    for await (const { key, value } of rows) {
      const where = `${uri}: element ${key + 1} of the JSON array`;
      if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new InputError(`${where} is not an object; give row objects`);
      if (twice && twice.row <= key + 1) throw new InputError(`${where} has the key ${JSON.stringify(twice.name)} twice; correct the data`);
      if (key === 0) for (const name of checkColumns(Object.keys(value), uri)) ignored.add(name);
      yield (index) => (Object.hasOwn(value, columns[index]) ? value[columns[index]] : undefined);
    }
    await done;
  } catch (error) {
    if (/^Parser /.test(error?.message ?? '')) throw new InputError(`${uri} is not well-formed JSON: ${error.message}; correct the data`);
    throw error;
  }
}
