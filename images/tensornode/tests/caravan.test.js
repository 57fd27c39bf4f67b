/** The real data, where set-up has put it: the model must be worth its baseline. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';

import { environment, reply, runMain, serve } from './helpers.js';

const file = new URL('../../../.cache/data/Caravan.csv', import.meta.url);

test('the CoIL customers: as good as known, and better than the baseline', { skip: !existsSync(file) && 'no .cache/data/Caravan.csv: run make setup' }, async () => {
  const { url } = await serve((_, response) => reply(response, readFileSync(file)));
  const env = environment(url, { EPOCHS: '', SEED: '1' });
  const { code, stderr } = await runMain(['train'], { env });
  assert.equal(code, 0, stderr);
  const { test: measured, baseline, training } = JSON.parse(readFileSync(path.join(env.RUN_DIR, 'metrics.json'), 'utf8'));
  assert.ok(measured.auc > 0.72, `AUC ${measured.auc}`);
  assert.ok(measured.auc > baseline.auc && baseline.auc > 0.68, `baseline ${baseline.auc}`);
  assert.ok(measured.log_loss < baseline.log_loss);
  assert.ok(training.epochs_run < 30, 'early stopping did not stop it');
  const { data } = JSON.parse(readFileSync(path.join(env.RUN_DIR, 'training.json'), 'utf8'));
  assert.equal(data.rows, 5822);
});
