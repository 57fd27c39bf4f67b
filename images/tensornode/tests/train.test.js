/** Whole trainings as processes: the files they leave, their repeatability, and what is left when they fail. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';

import { buildNetwork } from '../src/build.js';
import { bestThreshold, logLoss, rocAuc } from '../src/metrics.js';
import { loadModel } from '../src/model.js';
import { columns } from '../src/schema.js';
import { ready } from '../src/tf.js';
import { PATIENCE, predict, train as learn } from '../src/train.js';
import { transform, width } from '../src/transform.js';
import { csv, customers, environment, reply, runMain, serve, temporary } from './helpers.js';

const text = csv(customers(1500));
const source = await serve((_, response) => reply(response, text));
const url = `${source.url}/customers.csv`;

const tree = (folder) => readdirSync(folder, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? tree(`${folder}/${entry.name}`) : `${folder}/${entry.name}`));
const files = (folder) => Object.fromEntries(tree(folder).map((file) => [path.relative(folder, file), readFileSync(file)]));
const parsed = (folder, name) => JSON.parse(readFileSync(path.join(folder, name), 'utf8'));

async function train(more = {}, options = {}) {
  const env = environment(url, more);
  return { ...(await runMain(['train'], { env, ...options })), folder: env.RUN_DIR, env };
}

function failedForGood({ code, stderr, folder }, pattern) {
  assert.equal(code, 2, stderr);
  assert.match(stderr, /^[^\n]+\n$/);
  assert.match(stderr, pattern);
  assert.deepEqual(tree(folder).map((file) => path.relative(folder, file)), ['failed.json']);
  assert.deepEqual(parsed(folder, 'failed.json'), { message: stderr.trim() });
}

const first = await train({ CODE_COMMIT: 'abc', CODE_DIRTY: 'false', SEED: '7' });

test('a training leaves what the registry stores, and nothing else', () => {
  assert.equal(first.code, 0, first.stderr);
  assert.equal(first.stderr, '');
  assert.deepEqual(Object.keys(files(first.folder)).sort(), ['.tensornode', 'data/customers.csv', 'examples.json', 'metrics.json', 'model/model.json',
    'model/preprocessing.json', 'model/weights.bin', 'predictions.csv', 'training.json']);
  assert.equal(readFileSync(path.join(first.folder, 'data/customers.csv'), 'utf8'), text);
  assert.match(first.stdout, /train: epoch 3\/3 /);
});

test('training.json describes the run and lists every file with size and digest', () => {
  const found = files(first.folder);
  const { parameters, seed, seed_source: seedSource, data, code, tools, files: listed, model_digest: digest, format } = parsed(first.folder, 'training.json');
  assert.equal(format, 'tfjs-layers');
  assert.deepEqual(parameters, { save_path: 'sales', model_version: '1', data_url: url, data_path: 'data/customers.csv', prediction_path: 'predictions.csv',
    batch_size: 256, epochs: 3, learning_rate: 0.004, seed: 7, min_auc: 0.6 });
  assert.deepEqual({ seed, seedSource, code }, { seed: 7, seedSource: 'parameter', code: { commit: 'abc', dirty: false } });
  assert.deepEqual({ uri: data.uri, rows: data.rows, names: data.schema.map(({ name }) => name) }, { uri: url, rows: 1500, names: columns });
  assert.equal(data.sha256, createHash('sha256').update(text).digest('hex'));
  assert.equal(tools.node, process.versions.node);
  assert.equal(tools['@tensorflow/tfjs'], '4.22.0');
  for (const { path: name, size, sha256 } of listed) {
    assert.equal(size, found[name].length);
    assert.equal(sha256, createHash('sha256').update(found[name]).digest('hex'), name);
  }
  assert.deepEqual(listed.map((file) => file.path).sort(), Object.keys(found).filter((name) => !['.tensornode', 'training.json', 'data/customers.csv'].includes(name)).sort());
  const lines = ['model.json', 'preprocessing.json', 'weights.bin'].map((name) => `${createHash('sha256').update(found[`model/${name}`]).digest('hex')}  model/${name}\n`);
  assert.equal(digest, createHash('sha256').update(lines.join('')).digest('hex'));
});

test('metrics are those of the test part, beside the baseline', () => {
  const { test: measured, baseline, training, min_auc: floor } = parsed(first.folder, 'metrics.json');
  const [head, ...lines] = readFileSync(path.join(first.folder, 'predictions.csv'), 'utf8').trim().split('\n').map((line) => line.split(','));
  assert.deepEqual(head, ['row', 'Purchase', 'prediction']);
  const labels = lines.map(([, label]) => (label === 'Yes' ? 1 : 0));
  assert.equal(measured.auc, rocAuc(labels, lines.map(([, , score]) => Number(score))));
  assert.equal(measured.rows, lines.length);
  assert.ok(lines.length > 180 && lines.length < 270, String(lines.length));
  const data = text.split('\n').slice(1);
  for (const [row, label] of lines) assert.ok(data[row - 1].endsWith(`,${label}`), `row ${row}`);
  const { tp, fp, tn, fn } = measured.confusion;
  assert.equal(tp + fp + tn + fn, lines.length);
  assert.equal(measured.calibration.reduce((sum, { rows }) => sum + rows, 0), lines.length);
  assert.equal(baseline.name, 'logistic-regression');
  assert.ok(baseline.auc > 0.7 && baseline.log_loss > 0 && baseline.brier > 0 && baseline.pr_auc > 0);
  assert.ok(training.epochs_run === 3 && training.best_epoch >= 1 && training.validation_auc > 0.5);
  assert.equal(floor, 0.6);
});

test('the same seed makes the same bytes, another seed others', async () => {
  const [again, other] = await Promise.all([
    train({ CODE_COMMIT: 'abc', CODE_DIRTY: 'false', SEED: '7', ALLOC_ID: 'another-allocation' }),
    train({ CODE_COMMIT: 'abc', CODE_DIRTY: 'false', SEED: '8' }),
  ]);
  assert.deepEqual(files(again.folder), files(first.folder));
  assert.notDeepEqual(files(other.folder)['model/weights.bin'], files(first.folder)['model/weights.bin']);
  assert.notEqual(parsed(other.folder, 'training.json').model_digest, parsed(first.folder, 'training.json').model_digest);
  assert.deepEqual(parsed(other.folder, 'metrics.json').baseline, parsed(first.folder, 'metrics.json').baseline);
});

test('without a seed, each allocation has its own; the order of rows does not matter', async () => {
  const [head, ...lines] = text.trim().split('\n');
  const reversed = await serve((_, response) => reply(response, `${[head, ...lines.reverse()].join('\n')}\n`));
  const [one, two, shuffled] = await Promise.all([train({ ALLOC_ID: 'one' }), train({ ALLOC_ID: 'two' }), train({ ALLOC_ID: 'one', DATA_URL: `${reversed.url}/x` })]);
  const [a, b, c] = [one, two, shuffled].map(({ folder }) => parsed(folder, 'training.json'));
  assert.equal(a.seed_source, 'allocation');
  assert.equal(a.parameters.seed, null);
  assert.equal(a.seed, createHash('sha256').update('one').digest().readUInt32BE(0));
  assert.notEqual(a.seed, b.seed);
  assert.notEqual(a.model_digest, b.model_digest);
  assert.equal(a.model_digest, c.model_digest);
});

test('the threshold comes from the validation part', async () => {
  await ready();
  const { validation } = await transform(path.join(first.folder, 'data/customers.csv'));
  const { model } = await loadModel(path.join(first.folder, 'model'));
  const threshold = bestThreshold(validation.labels, await predict(model, validation.features, validation.labels.length));
  assert.equal(parsed(first.folder, 'metrics.json').test.confusion.threshold, threshold);
});

test('learning ends once validation no longer improves, and the best weights stay', async () => {
  await ready();
  const data = await transform(path.join(first.folder, 'data/customers.csv'));
  const model = buildNetwork({ features: width(data.preprocessing), positiveRate: 0.3, seed: 1, learningRate: 0.05 });
  const history = await learn(model, data, { epochs: 100, batchSize: 64, seed: 1 });
  assert.equal(history.epochs_run, history.best_epoch + PATIENCE);
  const scores = await predict(model, data.validation.features, data.validation.labels.length);
  assert.equal(logLoss(data.validation.labels, scores), history.validation_loss);
});

test('below min_auc nothing is stored, and a restart says so without training', async () => {
  const result = await train({ MIN_AUC: '0.999' });
  failedForGood(result, /AUC of 0\.\d{4} on the test part is below min_auc 0.999; nothing is stored/);
  const asked = source.requests.length;
  const again = await runMain(['train'], { env: result.env });
  assert.deepEqual({ code: again.code, stderr: again.stderr, stdout: again.stdout }, { code: 2, stderr: result.stderr, stdout: '' });
  assert.equal(source.requests.length, asked);
});

test('bad input is recorded in the same way', async () => {
  const gone = await serve((_, response) => reply(response, '', { status: 404 }));
  failedForGood(await train({ DATA_URL: gone.url }), /answers 404/);
  failedForGood(await train({ EPOCHS: 'many' }), /EPOCHS is "many"/);
  failedForGood(await train({ DATA_PATH: '../../etc/passwd' }), /DATA_PATH is/);
});

test('a directory of somebody else is left alone', async () => {
  const folder = temporary();
  writeFileSync(path.join(folder, 'thesis.txt'), 'precious');
  const result = await train({ RUN_DIR: folder });
  assert.equal(result.code, 2);
  assert.match(result.stderr, /holds files that no training made/);
  assert.deepEqual(Object.keys(files(folder)), ['thesis.txt']);
});

test('killed and started again, a training starts clean and ends the same', async () => {
  const env = environment(url, { SEED: '7', CODE_COMMIT: 'abc', CODE_DIRTY: 'false' });
  const killed = await runMain(['train'], { env, started: (child) => child.stdout.on('data', (chunk) => String(chunk).includes('epoch 1/') && child.kill('SIGKILL')) });
  assert.equal(killed.signal, 'SIGKILL');
  assert.ok(existsSync(path.join(env.RUN_DIR, 'data/customers.csv')) && !existsSync(path.join(env.RUN_DIR, 'training.json')));
  mkdirSync(path.join(env.RUN_DIR, 'model'), { recursive: true });
  writeFileSync(path.join(env.RUN_DIR, 'model/left-over.bin'), 'half');
  const again = await runMain(['train'], { env });
  assert.equal(again.code, 0, again.stderr);
  assert.deepEqual(files(env.RUN_DIR), files(first.folder));
});

test('asked to stop, a training ends at once with one line and leaves nothing', async () => {
  const stop = (child, signs) => child.stdout.on('data', (chunk) => signs.test(chunk) && child.kill('SIGTERM'));
  // One row a batch: an epoch would last far longer than an engine waits before it kills.
  const learning = await train({ BATCH_SIZE: '1', EPOCHS: '1000' }, { started: (child) => stop(child, /train: seed/) });
  const stalled = await serve(() => {});
  const waiting = await train({ DATA_URL: stalled.url }, {
    started: async (child) => {
      while (stalled.requests.length === 0) await wait(20);
      child.kill('SIGTERM');
    },
  });
  for (const { code, stderr, stdout, folder } of [learning, waiting]) {
    assert.equal(code, 143, stderr);
    assert.equal(stderr, 'stopped by SIGTERM; this run stores nothing\n');
    assert.ok(!existsSync(folder));
    assert.ok(!/epoch 1\//.test(stdout));
  }
});

test('a full disk is told in one line and leaves nothing', async (context) => {
  // A disk of its own, in a mount namespace that ends with the process.
  const mounted = (size, ...command) => ['unshare', '-Urm', 'sh', '-c', `mount -t tmpfs -o size=${size} tmpfs "$0" && shift 0 && "$@"; code=$?; ls -A "$0"; exit $code`, ...command];
  const folder = temporary();
  if ((await runMain([], { command: mounted('64k', folder, 'true') })).code !== 0) return context.skip('this machine lets no user mount a small disk');
  const env = environment(url, { RUN_DIR: path.join(folder, 'run') });
  const result = await runMain(['train'], { env, command: mounted('64k', folder, process.execPath, new URL('../src/main.js', import.meta.url).pathname) });
  assert.equal(result.code, 1, result.stderr);
  assert.match(result.stderr, /^the disk that holds RUN_DIR is full[^\n]+\n$/);
  assert.equal(result.stdout, ''); // ls found nothing
});
