/** The measures, against values worked out by hand. */
import assert from 'node:assert/strict';
import test from 'node:test';

import { bestThreshold, brier, calibration, confusion, logLoss, prAuc, rocAuc } from '../src/metrics.js';

const labels = [1, 0, 1, 0, 0];
const scores = [0.9, 0.8, 0.6, 0.6, 0.1];
const near = (actual, expected) => assert.ok(Math.abs(actual - expected) < 1e-12, `${actual} is not ${expected}`);

test('ROC AUC counts pairs, a tie as half', () => {
  // 0.9 beats three negatives; 0.6 loses to 0.8, ties with 0.6, beats 0.1: (3 + 0 + 0.5 + 1) of 6
  near(rocAuc(labels, scores), 4.5 / 6);
  near(rocAuc([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5]), 0.5);
  near(rocAuc([1, 1, 0], [0.1, 0.2, 0.3]), 0);
});

test('PR AUC is average precision, ties taken together', () => {
  // recall 1/2 at precision 1/1; then both rows of 0.6 together: recall 2/2 at precision 2/4
  near(prAuc(labels, scores), 0.5 * 1 + 0.5 * 0.5);
});

test('log loss and Brier score', () => {
  near(logLoss([1, 0], [0.8, 0.4]), -(Math.log(0.8) + Math.log(0.6)) / 2);
  near(logLoss([1], [0]), -Math.log(1e-7));
  near(brier([1, 0], [0.8, 0.4]), (0.04 + 0.16) / 2);
});

test('calibration bins hold all rows once, in order', () => {
  const bins = calibration([0, 1, 0, 1, 1], [0.1, 0.9, 0.2, 0.4, 0.3], 2);
  assert.deepEqual(bins.map(({ from, to, rows }) => ({ from, to, rows })), [
    { from: 0.1, to: 0.3, rows: 3 },
    { from: 0.4, to: 0.9, rows: 2 },
  ]);
  near(bins[0].predicted, 0.2);
  near(bins[0].observed, 1 / 3);
  near(bins[1].observed, 1);
});

test('confusion takes a score equal to the threshold as yes', () => {
  assert.deepEqual(confusion(labels, scores, 0.6), { threshold: 0.6, tp: 2, fp: 2, tn: 1, fn: 0 });
});

test('the best threshold has the highest F1', () => {
  // F1 at 0.9: 2/3; at 0.8: 2/4; at 0.6: 4/6, equal to the first, so the higher score stands
  assert.equal(bestThreshold(labels, scores), 0.9);
  assert.equal(bestThreshold([0, 1, 1], [0.9, 0.8, 0.7]), 0.7);
});
