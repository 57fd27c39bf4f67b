/** Every variable of the environment that a training checks, with a bad value and its message. */
import assert from 'node:assert/strict';
import test from 'node:test';

import { readConfig, readRunDir } from '../src/config.js';
import { InputError } from '../src/errors.js';

const good = {
  DATA_URL: 'https://localhost/data.csv',
  DATA_PATH: 'data/customers.csv',
  PREDICTION_PATH: 'predictions.csv',
  SAVE_PATH: 'sales',
  MODEL_VERSION: '1.2',
  ALLOC_ID: '6ba7b810',
};

const bad = [
  ...['../../etc/passwd', '/etc/passwd', 'a/../b', '$(reboot)', 'a\nb', 'a\n', '', 'a//b', './a', 'a b', 'model/x', 'training.json', 'manifest.json', 'verifications/x.json', 'failed.json', 'training.json.part', 'a..csv', `${'a/'.repeat(32)}b`].flatMap(
    (value) => [{ DATA_PATH: value }, { PREDICTION_PATH: value }],
  ),
  { DATA_PATH: 'predictions.csv' },
  { DATA_PATH: 'predictions.csv/x' },
  ...['../../etc/passwd', '1..50', '$(reboot)', '1\n', '', 'v 1', '-1', 'x'.repeat(40)].map((MODEL_VERSION) => ({ MODEL_VERSION })),
  ...['../sales', 'a..b', '$(reboot)', 'a\n', '', 'a/b'].map((SAVE_PATH) => ({ SAVE_PATH })),
  ...['0', '-1', '1.5', 'many', '1e3', '70000', ' 5'].map((BATCH_SIZE) => ({ BATCH_SIZE })),
  ...['0', '1001', '0x10', '5\n'].map((EPOCHS) => ({ EPOCHS })),
  ...['0', '-0.1', '1.5', 'NaN', 'Infinity'].map((LEARNING_RATE) => ({ LEARNING_RATE })),
  ...['-1', '4294967296', 'abc', '1.0'].map((SEED) => ({ SEED })),
  ...['1.1', '-0.5', 'high'].map((MIN_AUC) => ({ MIN_AUC })),
  ...['', 'https://local host/', 'https://localhost/\n'].map((DATA_URL) => ({ DATA_URL })),
];

for (const change of bad) {
  test(`refused: ${JSON.stringify(change)}`, () => {
    const [name] = Object.keys(change);
    assert.throws(
      () => readConfig({ ...good, ...change }),
      (error) => error instanceof InputError && error.message.includes(name) && !error.message.includes('\n'),
    );
  });
}

test('a run directory is absolute, plain and not the root', () => {
  for (const value of ['', 'run', './run', '/', '//', '/a/../b', '/a\nb']) assert.throws(() => readRunDir({ RUN_DIR: value }), InputError);
  assert.equal(readRunDir({ RUN_DIR: '/models/sales_v1_x/' }), '/models/sales_v1_x');
});

test('empty optional values mean the defaults', () => {
  const { batchSize, epochs, learningRate, minAuc } = readConfig({ ...good, BATCH_SIZE: '', EPOCHS: '', LEARNING_RATE: '', MIN_AUC: '', SEED: '' });
  assert.deepEqual({ batchSize, epochs, learningRate, minAuc }, { batchSize: 256, epochs: 30, learningRate: 0.004, minAuc: 0.6 });
});

test('a seed is taken as given, or else derived from the allocation', () => {
  assert.deepEqual(pick(readConfig({ ...good, SEED: '0' })), { seed: 0, seedSource: 'parameter' });
  // printf 6ba7b810 | sha256sum | cut -c1-8
  assert.deepEqual(pick(readConfig(good)), { seed: 0xedf428df, seedSource: 'allocation' });
  assert.notEqual(readConfig({ ...good, ALLOC_ID: 'other' }).seed, readConfig(good).seed);
  assert.throws(() => readConfig({ ...good, ALLOC_ID: '' }), /neither SEED nor ALLOC_ID/);
});
const pick = ({ seed, seedSource }) => ({ seed, seedSource });
