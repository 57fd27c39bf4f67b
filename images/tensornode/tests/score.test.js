/** Scoring of a stored model, as a process between pipes. */
import assert from 'node:assert/strict';
import { cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';

import { csv, customers, environment, reply, runMain, serve, temporary } from './helpers.js';

const rows = customers(1500);
const { url } = await serve((_, response) => reply(response, csv(rows)));
const env = environment(url);
const trained = await runMain(['train'], { env });
assert.equal(trained.code, 0, trained.stderr);
const model = path.join(env.RUN_DIR, 'model');
const { examples, columns, target } = JSON.parse(readFileSync(path.join(env.RUN_DIR, 'examples.json'), 'utf8'));

const lines = (objects) => objects.map((object) => `${JSON.stringify(object)}\n`).join('');
const predictions = (text) => text.trim().split('\n').filter(Boolean).map((line) => JSON.parse(line).prediction);
const score = (input, folder = model, options = {}) => runMain(['score', folder], { input, ...options });

test('the examples are 200 rows of the test part, and replay within 1e-6', async () => {
  assert.equal(examples.length, 200);
  assert.equal(target, 'Purchase');
  assert.deepEqual(Object.keys(examples[0].input), columns);
  const { code, stdout, stderr } = await score(lines(examples.map(({ input }) => input)));
  assert.equal(code, 0, stderr);
  const found = predictions(stdout);
  assert.equal(found.length, 200);
  examples.forEach(({ prediction }, index) => assert.ok(Math.abs(found[index] - prediction) <= 1e-6, `${index}: ${found[index]} is not ${prediction}`));
});

test('text for numbers, other keys, other orders and single rows make no difference', async () => {
  const [{ input, prediction }] = examples;
  const asText = Object.fromEntries(Object.entries(input).reverse().map(([name, value]) => [name, String(value)]));
  const { stdout } = await score(lines([{ ...asText, Purchase: 'Yes', Note: 'x: "y":', More: [{ a: 1 }, { a: { MOSTYPE: ':' } }] }]));
  assert.ok(Math.abs(predictions(stdout)[0] - prediction) <= 1e-6);
});

test('many rows keep their order', async () => {
  const many = Array.from({ length: 5000 }, (_, index) => examples[(index * 7) % 200]);
  const { stdout, code } = await score(lines(many.map(({ input }) => input)));
  assert.equal(code, 0);
  const found = predictions(stdout);
  assert.equal(found.length, 5000);
  found.forEach((value, index) => assert.ok(Math.abs(value - many[index].prediction) <= 1e-6));
});

test('a row is answered before the next one comes', async () => {
  const { stdout, code } = await score(null, model, {
    started(child) {
      child.stdin.write(lines([examples[0].input]));
      child.stdout.once('data', () => child.stdin.end(JSON.stringify(examples[1].input))); // the last line has no newline
    },
  });
  assert.equal(code, 0);
  assert.equal(predictions(stdout).length, 2);
});

test('nothing in, nothing out', async () => {
  const { code, stdout, stderr } = await score('');
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '', stderr: '' });
});

const { MGEMLEEF, ...without } = examples[0].input;
for (const [name, line, pattern] of [
  ['no JSON', 'MOSTYPE=3', /^line 3 is not JSON/],
  ['an empty line', '', /^line 3 is not JSON/],
  ['no object', '[1]', /^line 3 is not a JSON object/],
  ['a missing attribute', JSON.stringify(without), /^line 3: MGEMLEEF is missing/],
  ['a word', JSON.stringify({ ...without, MGEMLEEF: 'old' }), /^line 3: MGEMLEEF is "old", not an integer/],
  ['null', JSON.stringify({ ...without, MGEMLEEF: null }), /^line 3: MGEMLEEF is null/],
  ['a key twice', JSON.stringify(examples[0].input).replace('{', '{"MOSTYPE":1,'), /^line 3 has a key twice/],
  ['a nested key twice', JSON.stringify({ ...examples[0].input, Note: 'N' }).replace('"N"', '[{"a:\\"":1,"a:\\"":{}}]'), /^line 3 has a key twice/],
  ['bytes that are no text', Buffer.from([0xff, 0xfe]), /not UTF-8/],
  ['an endless line', `{"a":"${'x'.repeat(2 ** 20)}`, /longer than 1048576/],
]) {
  test(`refused with its number: ${name}`, async () => {
    const good = lines([examples[0].input, examples[1].input]);
    const { code, stdout, stderr } = await score(Buffer.concat([Buffer.from(good), Buffer.from(line), Buffer.from(`\n${good}`)]));
    assert.equal(code, 2, stderr);
    assert.match(stderr, /^[^\n]+\n$/);
    assert.match(stderr, pattern);
    assert.ok(predictions(stdout).length <= 2);
    if (/^line 3/.test(stderr)) assert.equal(predictions(stdout).length, 2);
  });
}

test('a model that is not whole is refused', async () => {
  const damage = {
    'model.json': [(file) => rmSync(file), (file) => writeFileSync(file, '{'), (file) => writeFileSync(file, '{}')],
    'weights.bin': [(file) => rmSync(file), (file) => truncateSync(file, 100)],
    'preprocessing.json': [(file) => rmSync(file), (file) => writeFileSync(file, '{"encodings": [{"name": "MOSTYPE", "kind": "standard", "mean": 0, "deviation": 1}]}')],
  };
  for (const [name, ways] of Object.entries(damage)) {
    for (const spoil of ways) {
      const folder = path.join(temporary(), 'model');
      cpSync(model, folder, { recursive: true });
      spoil(path.join(folder, name));
      const { code, stderr } = await score(lines([examples[0].input]), folder);
      assert.equal(code, 2, stderr);
      assert.match(stderr, /^\S+ does not hold a model: [^\n]+\n$/);
    }
  }
});

test('a reader that goes away ends it with one line', async () => {
  const { code, stderr } = await score(lines(Array.from({ length: 3000 }, () => examples[0].input)), model, { started: (child) => child.stdout.destroy() });
  assert.equal(code, 1);
  assert.equal(stderr, 'nobody reads the output any more; stopped\n');
});
