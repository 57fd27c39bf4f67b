/** Extraction from real HTTP servers: what comes out, what is refused, what is tried again. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import dns from 'node:dns';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { gzipSync } from 'node:zlib';

import { InputError, RunError } from '../src/errors.js';
import { extract } from '../src/extract.js';
import { checkAddress, parseUrl, publicUrl } from '../src/net.js';
import { columns } from '../src/schema.js';
import { csv, customers, reply, serve, temporary } from './helpers.js';

const rows = customers(300);
const text = csv(rows);
const retry = { minTimeout: 1 };

/** Extracts and returns what came out; whatever fails must leave no file behind. */
async function run(dataUrl, options = {}) {
  const file = path.join(temporary(), 'data', 'customers.csv');
  try {
    const result = await extract({ dataUrl, salesforce: { hosts: [] } }, file, { retry, ...options });
    return { ...result, text: readFileSync(file, 'utf8'), files: readdirSync(path.dirname(file)) };
  } catch (error) {
    assert.ok(!existsSync(path.dirname(file)) || readdirSync(path.dirname(file)).length === 0, 'something was left behind');
    throw error;
  }
}

/** Serves one answer and extracts it. */
async function answered(body, options) {
  const { url } = await serve((_, response) => reply(response, body, options));
  return run(`${url}/data`);
}

const refused = (promise, pattern) =>
  assert.rejects(promise, (error) => {
    assert.ok(error instanceof InputError, error.stack);
    assert.match(error.message, pattern);
    return true;
  });

test('CSV comes out as it is, with counts and digest', async () => {
  const result = await answered(text);
  assert.equal(result.text, text);
  assert.equal(result.rows, 300);
  assert.equal(result.positives, rows.filter(({ Purchase }) => Purchase === 'Yes').length);
  assert.equal(result.sha256, createHash('sha256').update(text).digest('hex'));
  assert.deepEqual(result.files, ['customers.csv']);
});

test('JSON, columns in any order, quotes, CRLF, a BOM and padding come out the same', async () => {
  assert.equal((await answered(JSON.stringify(rows), { type: 'application/json' })).text, text);
  assert.equal((await answered(csv(rows, [...columns].reverse()))).text, text);
  const quoted = text.split('\n').map((line) => line && line.split(',').map((cell) => `"${cell}"`).join(' , '));
  assert.equal((await answered(`\ufeff${quoted.join('\r\n')}`, { type: 'text/plain' })).text, text);
});

const noted = (note, header = 'Note') => text.split('\n').map((line, index) => line && `${index ? note : header},${line}`).join('\n');

for (const [name, body] of [
  ['doubled quotes in a cell', noted('"answered ""yes, later"" twice"')],
  ['line breaks in a cell', noted('"first line\nsecond, line\r\nthird"')],
  ['line breaks in a name', noted('-', '"a\nname"')],
  ['a name and cells that are empty', noted('', '')],
  ['CR alone at the end of lines', text.replaceAll('\n', '\r')],
  ['LF and CRLF in one file', text.replace('\n', '\r\n').replace(/\n(?=[^\n]*\n$)/, '\r\n')],
  ['blank lines', text.replaceAll('\n', '\n\n \t\n')],
  ['no end of the last line', text.slice(0, -1)],
  ['a byte order mark and blank lines before it all', `\ufeff\n\n${text}`],
  ['blanks of every kind around values', text.replaceAll(',', '\u00a0,\t\u2003\u202f').replaceAll('\n', ' \n')],
  ['blanks inside of quotes', text.replace('MOSTYPE', '" MOSTYPE\u00a0"').replace('\n', '\n" ').replace(/(\n" \d+)/, '$1\t"')],
  ['Id in every other column', noted('MOSTYPE,1', 'Id,_malformed')],
]) {
  test(`CSV with ${name} comes out the same`, async () => assert.equal((await answered(body)).text, text));
}

test('JSON with a byte order mark, and with nested keys that repeat in different objects, comes out the same', async () => {
  const nested = rows.map((row) => ({ ...row, Note: { MOSTYPE: 1, more: [{ MOSTYPE: 2 }, { MOSTYPE: 3 }] } }));
  assert.equal((await answered(`\ufeff${JSON.stringify(nested)}`)).text, text);
});

test('columns that the schema does not have are left out and named', async () => {
  const more = rows.map((row) => ({ ...row, Note: 'x' }));
  for (const body of [csv(more, ['Note', ...columns]), JSON.stringify(more)]) {
    const result = await answered(body);
    assert.equal(result.text, text);
    assert.deepEqual(result.ignored, ['Note']);
  }
});

const broken = (change) => csv(rows.map((row, index) => (index === 6 ? { ...row, ...change } : row)));
const table = [
  ['a page', '<!doctype html><p>Log in</p>', { type: 'text/html' }, /HTML/],
  ['a page said to be CSV', '\n <html>', {}, /HTML/],
  ['an empty answer', '', {}, /is empty/],
  ['blank lines', ' \n\n', {}, /is empty/],
  ['a header alone', csv([]), {}, /has no rows/],
  ['an empty array', '[]', { type: 'application/json' }, /has no rows/],
  ['a JSON object', '{"rows": []}', { type: 'application/json' }, /array of row objects/],
  ['broken JSON', JSON.stringify(rows).slice(0, -20), { type: 'application/json' }, /not well-formed JSON/],
  ['numbers in an array', '[1, 2]', { type: 'application/json' }, /element 1 .* not an object/],
  ['a missing column', csv(rows, columns.filter((name) => name !== 'MGEMLEEF')), {}, /lacks the column MGEMLEEF;/],
  ['a missing column in JSON', JSON.stringify(rows.map(({ MGEMLEEF, ...row }) => ({ ...row, X: MGEMLEEF }))), {}, /lacks the column MGEMLEEF;/],
  ['no known column', 'a,b\n1,2\n', {}, /lacks the columns MOSTYPE, .* and 81 more/],
  ['a column twice', csv(rows, [...columns, 'MGEMLEEF']), {}, /column MGEMLEEF twice/],
  ['another column twice', noted('a,b', 'Note,Note'), {}, /column Note twice/],
  ['a short row', `${text}1,2,3\n`, {}, /not well-formed CSV: Invalid Record Length.* line 302/],
  ['a long row', `${text.trimEnd()},1\n`, {}, /not well-formed CSV: Invalid Record Length.* line 301/],
  ['a quote inside a cell', noted('-').replace('\n-,', '\n3" tube,'), {}, /not well-formed CSV: Invalid Opening Quote.* line 2/],
  ['text after a quoted cell', noted('"a"b'), {}, /not well-formed CSV: Invalid Closing Quote.* line 2/],
  ['a quote that is never closed', noted('"a'), {}, /not well-formed CSV/],
  ['a last cell that is never closed', text.replace(/No\n$|Yes\n$/, '"No\n'), {}, /not well-formed CSV: Quote Not Closed/],
  ['a header of a million columns', `${'a,'.repeat(1e6)}b\n`, {}, /not well-formed CSV: Max Record Size.* line 1/],
  ['a gzip file', gzipSync(text), {}, /is packed by gzip.*unpack it/],
  ['a spreadsheet', Buffer.from('PK\x03\x04\x14\x00\x06\x00'), {}, /spreadsheet; save the table as CSV/],
  ['UTF-16', Buffer.from(`\ufeff${text}`, 'utf16le'), {}, /is UTF-16; save it as UTF-8/],
  ['UTF-16 without a mark', Buffer.from(text, 'utf16le'), {}, /line 1: has the control character U\+0000/],
  ['Latin-1', Buffer.from(noted('-').replace('\n-,', '\ncaf\u00e9,'), 'latin1'), {}, /line 2: is not UTF-8/],
  ['a character that breaks off', Buffer.concat([Buffer.from(text), Buffer.from([0xc3])]), {}, /line 302: is not UTF-8/],
  ['a NUL', noted('-').replace('\n-,', '\n\0,'), {}, /line 2: has the control character U\+0000/],
  ['a JSON key twice', JSON.stringify(rows).replace('},{', ',"MOSTYPE":9},{'), {}, /element 1 .* has the key "MOSTYPE" twice/],
  ['another JSON key twice', JSON.stringify(rows).replace(/\}\]$/, ',"a":1,"a":null}]'), {}, /element 300 .* has the key "a" twice/],
  ['a JSON key twice in a nested object', JSON.stringify(rows).replace(/\}\]$/, ',"a":{"b":1,"b":1}}]'), {}, /element 300 .* has the key "b" twice/],
  ['an inherited JSON value', JSON.stringify(rows).replace(/"MOSTYPE":(\d),([^}]*)\}\]$/, '$2,"__proto__":{"MOSTYPE":$1}}]'), {}, /row 300: MOSTYPE is missing/],
  ['a word for a number', broken({ MAANTHUI: 'many' }), {}, /row 7: MAANTHUI is "many", not an integer/],
  ['a fraction', broken({ MAANTHUI: '1.5' }), {}, /row 7: MAANTHUI is "1.5", not an integer/],
  ['an empty cell', broken({ MAANTHUI: '' }), {}, /row 7: MAANTHUI is "", not an integer/],
  ['another target', broken({ Purchase: 'maybe' }), {}, /row 7: Purchase is "maybe", neither Yes nor No/],
  ['one class', csv(rows.map((row) => ({ ...row, Purchase: 'No' }))), {}, /one class only: no row has Purchase = Yes/],
  ['the other class', csv(rows.map((row) => ({ ...row, Purchase: 'Yes' }))), {}, /one class only: no row has Purchase = No/],
  ['404', 'gone', { status: 404 }, /answers 404/],
  ['403', 'no', { status: 403 }, /answers 403/],
  ['compressed data', 'x', { headers: { 'content-encoding': 'gzip' } }, /encoding gzip/],
  ['a redirect to nowhere', '', { status: 302 }, /redirects to nowhere/],
];
for (const [name, body, options, pattern] of table) {
  test(`refused after one reading: ${name}`, async () => {
    const { url, requests } = await serve((_, response) => reply(response, body, options));
    await refused(run(`${url}/data?sig=hunter2`), pattern);
    await run(`${url}/data?sig=hunter2`).catch(({ message }) => assert.match(message, /^(?!.*hunter2).*\blocalhost:\d+\b/));
    assert.equal(requests.length, 2);
  });
}

test('refused: more bytes, more rows or more time than allowed', async () => {
  const { url } = await serve((_, response) => reply(response, text));
  const limits = { bytes: 2 ** 20, rows: 1000, milliseconds: 60_000 };
  await refused(run(url, { limits: { ...limits, bytes: 1000 } }), /larger than 1000 bytes/);
  await refused(run(url, { limits: { ...limits, rows: 299 } }), /more than 299 rows/);
  const slow = await serve(() => {}); // never answers
  await assert.rejects(run(slow.url, { limits: { ...limits, milliseconds: 200 } }), /took too long/);
});

test('refused: other schemes, credentials in the URL', async () => {
  for (const url of ['ftp://localhost/x', 'file:///etc/passwd', 'salesforce+http://localhost', 'gs://bucket/x', 'data:text/csv,a', 'x']) {
    await refused(run(url), /scheme|not a URL/);
  }
  await refused(run('http://me:hunter2@localhost/x'), /holds credentials/);
  await run('http://me:hunter2@localhost/x').catch((error) => assert.ok(!error.message.includes('hunter2')));
});

test('redirects are followed, but not in circles', async () => {
  const { url, requests } = await serve((request, response) =>
    request.url === '/data' ? reply(response, text) : reply(response, '', { status: 302, headers: { location: request.url === '/to' ? '/data' : '/round' } }),
  );
  assert.equal((await run(`${url}/to`)).text, text);
  await refused(run(`${url}/round`), /redirects more than 5 times/);
  assert.equal(requests.length, 2 + 6);
});

const metadata = ['http://169.254.169.254/latest', 'http://[fe80::1]/', 'http://[fd00:ec2::254]/', 'http://[::ffff:169.254.169.254]/', 'http://[64:ff9b::a9fe:a9fe]/',
  'http://2852039166/', 'http://0xA9.0xFE.0xA9.0xFE/', 'http://0251.0376.0251.0376/', 'http://metadata.google.internal/', 'http://METADATA.google.internal./'];

test('refused: link-local and metadata addresses, however they are written', async () => {
  for (const url of metadata) await refused(run(url), /refusing to connect/);
});

test('refused: redirects to them', async () => {
  for (const location of metadata) {
    const { url } = await serve((_, response) => reply(response, '', { status: 307, headers: { location } }));
    await refused(run(url), /refusing to connect/);
  }
});

test('refused: a name that resolves to them, at the moment of connecting', async (context) => {
  const real = dns.lookup;
  let asked = 0;
  context.mock.method(dns, 'lookup', (host, options, done) => {
    if (host !== 'innocent.example') return real(host, options, done);
    asked += 1;
    const found = [{ address: '93.184.216.34', family: 4 }, { address: '169.254.169.254', family: 4 }];
    return options.all ? done(null, found) : done(null, found[1].address, 4);
  });
  await refused(run('http://innocent.example/data.csv'), /refusing to connect to 169\.254\.169\.254 \(reached as innocent\.example\)/);
  assert.equal(asked, 1); // a definite no: not tried again
});

test('ordinary addresses are not refused', () => {
  for (const address of ['127.0.0.1', '::1', '8.8.8.8', '10.0.0.1', 'fd00::1', '::ffff:8.8.8.8']) checkAddress(address);
  assert.equal(parseUrl('https://example.com./x').hostname, 'example.com.');
});

test('a broken-off download and busy answers are tried again', async () => {
  const notes = [];
  const { url, requests } = await serve((_, response, count) => {
    if (count === 1) return reply(response, 'busy', { status: 503 });
    if (count === 2) return reply(response, 'slow down', { status: 429 });
    if (count === 3) return response.socket.destroy();
    if (count === 4) {
      response.writeHead(200, { 'content-type': 'text/csv', 'content-length': text.length });
      return response.write(text.slice(0, text.length / 2), () => response.socket.destroy());
    }
    return reply(response, text);
  });
  assert.equal((await run(url, { log: (line) => notes.push(line) })).text, text);
  assert.equal(requests.length, 5);
  assert.match(notes.join('\n'), /answers 503 .*; trying again\n.*429.*\n.*ECONNRESET.*\n.*trying again/);
});

test('trouble that does not pass ends as a failure that may be repeated', async () => {
  const { url, requests } = await serve((_, response) => reply(response, 'busy', { status: 500 }));
  await assert.rejects(run(url), (error) => error instanceof RunError && /answers 500 .*, 5 times; .*dispatch again/.test(error.message));
  assert.equal(requests.length, 5);
  await assert.rejects(run('http://localhost:1/'), (error) => error instanceof RunError && /ECONNREFUSED/.test(error.message));
});

test('what is recorded of a URL holds no signature', async () => {
  assert.equal(publicUrl('https://host/x?a=1&X-Goog-Signature=abc&token=t'), 'https://host/x?a=1&X-Goog-Signature=REDACTED&token=REDACTED');
  const rest = 'https://host/x?select=a,b&filter=(b,eq,1)|c&empty&to%6ben';
  assert.equal(publicUrl(`${rest}=hunter2&u=http://b?key=c#access_token=d`), `${rest}=REDACTED&u=http://b?key=REDACTED`);
  const { url } = await serve((_, response) => reply(response, 'x', { status: 404 }));
  await run(`${url}/x?sig=hunter2`).catch((error) => assert.ok(!error.message.includes('hunter2'), error.message));
  assert.match((await answered(text)).uri, /^http:\/\/localhost:\d+\/data$/);
});
