/**
 * Stage 5: how good the model is, told from the test part alone, beside a logistic regression of the same run.
 * Owns what metrics.json says of quality. The threshold is chosen on the validation part, so that the test part decides nothing.
 */
import { buildBaseline } from './build.js';
import { bestThreshold, brier, calibration, confusion, logLoss, prAuc, rocAuc } from './metrics.js';
import { predict, trainBaseline } from './train.js';

/** @returns {Promise<{test: object, baseline: object, scores: number[]}>} scores are the model's on the test part, in its order */
export async function test(model, data) {
  const { features, labels } = data.test;
  const scores = await predict(model, features, labels.length);
  const threshold = bestThreshold(data.validation.labels, await predict(model, data.validation.features, data.validation.labels.length));

  const baseline = buildBaseline({ features: features.length / labels.length });
  await trainBaseline(baseline, data);
  const baselineScores = await predict(baseline, features, labels.length);

  return {
    scores,
    test: {
      rows: labels.length,
      positives: labels.reduce((sum, label) => sum + label, 0),
      ...quality(labels, scores),
      calibration: calibration(labels, scores),
      confusion: confusion(labels, scores, threshold),
    },
    baseline: { name: 'logistic-regression', ...quality(labels, baselineScores) },
  };
}

function quality(labels, scores) {
  return { auc: rocAuc(labels, scores), pr_auc: prAuc(labels, scores), log_loss: logLoss(labels, scores), brier: brier(labels, scores) };
}
