/** The split and the encoding. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';

import { InputError } from '../src/errors.js';
import { attributeNames, schema } from '../src/schema.js';
import { encode, fitPreprocessing, split, transform, width } from '../src/transform.js';
import { csv, customers, temporary } from './helpers.js';

const asRows = (objects) =>
  objects.map((object, index) => ({
    values: attributeNames.map((name) => object[name]),
    label: object[schema.target.name] === 'Yes' ? 1 : 0,
    number: index + 1,
  }));
const content = ({ values }) => values.join();

test('the parts are about 70, 15 and 15 of a hundred', () => {
  const { train, validation, test: held } = split(asRows(customers(4000)));
  assert.ok(Math.abs(train.length / 4000 - 0.7) < 0.03, String(train.length));
  assert.ok(Math.abs(validation.length / 4000 - 0.15) < 0.02, String(validation.length));
  assert.equal(train.length + validation.length + held.length, 4000);
});

test('rows with the same attributes stay in one part, whatever their target', () => {
  const rows = customers(200);
  const twins = rows.map((row) => ({ ...row, Purchase: row.Purchase === 'Yes' ? 'No' : 'Yes' }));
  const parts = Object.values(split(asRows([...rows, ...twins, ...rows]))).map((part) => new Set(part.map(content)));
  assert.equal(parts.reduce((sum, part) => sum + part.size, 0), 200);
});

test('a row keeps its part and place when order and other rows change', () => {
  const rows = asRows(customers(300));
  const whole = split(rows);
  const reversed = split([...rows].reverse());
  for (const name of ['train', 'validation', 'test']) assert.deepEqual(reversed[name].map(content), whole[name].map(content));
  const fewer = split(rows.slice(0, 100));
  for (const name of ['train', 'validation', 'test']) {
    const before = new Set(whole[name].map(content));
    assert.ok(fewer[name].every((row) => before.has(content(row))));
  }
});

test('the split is the one of the stored versions', () => {
  // Changing it would move rows between train and test of models that are compared with each other.
  const sizes = Object.values(split(asRows(customers(1000)))).map((part) => part.length);
  assert.deepEqual(sizes, [709, 145, 146]);
});

test('the encoding is fitted on the train part alone', async () => {
  const file = path.join(temporary(), 'data.csv');
  const rows = customers(600);
  writeFileSync(file, csv(rows));
  const data = await transform(file);
  assert.deepEqual(data.preprocessing, fitPreprocessing(data.train.rows));

  const numeric = data.preprocessing.encodings.findIndex(({ kind }) => kind === 'standard');
  const values = data.train.rows.map((row) => row.values[numeric]);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  assert.ok(Math.abs(data.preprocessing.encodings[numeric].mean - mean) < 1e-12);
  const all = rows.map((row) => row[attributeNames[numeric]]);
  assert.notEqual(data.preprocessing.encodings[numeric].mean, all.reduce((sum, value) => sum + value, 0) / all.length);
});

test('numbers are standardised, codes become one column a category, unknown codes zeros', () => {
  const rows = asRows(customers(50));
  rows.forEach((row, index) => {
    row.values[0] = index % 2 ? 7 : 3; // MOSTYPE, a code
    row.values[1] = index % 2 ? 10 : 20;
    row.values[2] = 5; // the same in every row
  });
  const preprocessing = fitPreprocessing(rows);
  assert.deepEqual(preprocessing.encodings[0], { name: 'MOSTYPE', kind: 'one-hot', categories: [3, 7] });
  const unknown = [...rows[0].values];
  unknown[0] = 99;
  const [first, second, third] = [0, 1, 2].map((row) =>
    encode(preprocessing, [rows[0].values, rows[1].values, unknown]).slice(row * width(preprocessing), (row + 1) * width(preprocessing)),
  );
  assert.deepEqual([...first.slice(0, 4)], [1, 0, 1, 0]);
  assert.deepEqual([...second.slice(0, 4)], [0, 1, -1, 0]);
  assert.deepEqual([...third.slice(0, 4)], [0, 0, 1, 0]);
});

test('a part without both classes is refused', async () => {
  const file = path.join(temporary(), 'data.csv');
  const rows = customers(40).map((row, index) => ({ ...row, Purchase: index === 0 ? 'Yes' : 'No' }));
  writeFileSync(file, csv(rows));
  await assert.rejects(transform(file), (error) => error instanceof InputError && /the \w+ part \(\d+ rows\) has no Yes/.test(error.message));
});
