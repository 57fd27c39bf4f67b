/**
 * Measures of a binary classifier's probabilities. Pure functions of labels (0 or 1) and scores, ties included.
 */

/** Groups of equal score, highest first, with how many positives and negatives each holds. */
function groups(labels, scores) {
  const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]);
  const found = [];
  for (const index of order) {
    let group = found.at(-1);
    if (group?.score !== scores[index]) found.push((group = { score: scores[index], positives: 0, negatives: 0 }));
    if (labels[index] === 1) group.positives += 1;
    else group.negatives += 1;
  }
  return found;
}

/** Area under the ROC curve: how likely a positive scores above a negative, a tie counting half. */
export function rocAuc(labels, scores) {
  let above = 0;
  let wins = 0;
  let negatives = 0;
  for (const group of groups(labels, scores)) {
    wins += group.negatives * (above + group.positives / 2);
    above += group.positives;
    negatives += group.negatives;
  }
  return wins / (above * negatives);
}

/** Area under the precision-recall curve as average precision (a step function, not interpolated). */
export function prAuc(labels, scores) {
  let truePositives = 0;
  let selected = 0;
  let sum = 0;
  for (const { positives, negatives } of groups(labels, scores)) {
    truePositives += positives;
    selected += positives + negatives;
    sum += (positives * truePositives) / selected;
  }
  return sum / truePositives;
}

/** Mean negative log-likelihood; probabilities are kept 1e-7 away from 0 and 1. */
export function logLoss(labels, scores) {
  let sum = 0;
  scores.forEach((score, index) => {
    const p = Math.min(Math.max(score, 1e-7), 1 - 1e-7);
    sum -= Math.log(labels[index] === 1 ? p : 1 - p);
  });
  return sum / scores.length;
}

/** Mean squared error of the probabilities. */
export function brier(labels, scores) {
  let sum = 0;
  scores.forEach((score, index) => (sum += (score - labels[index]) ** 2));
  return sum / scores.length;
}

/** Mean prediction beside the observed rate, in bins of about equally many rows (most probabilities are small here). */
export function calibration(labels, scores, bins = 10) {
  const order = Array.from(scores.keys()).sort((a, b) => scores[a] - scores[b] || a - b);
  const found = [];
  for (let bin = 0; bin < bins; bin += 1) {
    const rows = order.slice(Math.round((bin * order.length) / bins), Math.round(((bin + 1) * order.length) / bins));
    if (rows.length === 0) continue;
    const mean = (value) => rows.reduce((sum, index) => sum + value(index), 0) / rows.length;
    found.push({
      from: scores[rows[0]],
      to: scores[rows.at(-1)],
      rows: rows.length,
      predicted: mean((index) => scores[index]),
      observed: mean((index) => labels[index]),
    });
  }
  return found;
}

/** Counts of right and wrong answers where a score of at least `threshold` means yes. */
export function confusion(labels, scores, threshold) {
  const counts = { threshold, tp: 0, fp: 0, tn: 0, fn: 0 };
  scores.forEach((score, index) => {
    const yes = score >= threshold;
    counts[labels[index] === 1 ? (yes ? 'tp' : 'fn') : yes ? 'fp' : 'tn'] += 1;
  });
  return counts;
}

/** The score that, used as threshold, gives the highest F1; of equals, the highest score. */
export function bestThreshold(labels, scores) {
  const all = groups(labels, scores);
  const positives = all.reduce((sum, group) => sum + group.positives, 0);
  let best = { f1: -1, score: 1 };
  let truePositives = 0;
  let selected = 0;
  for (const group of all) {
    truePositives += group.positives;
    selected += group.positives + group.negatives;
    const f1 = (2 * truePositives) / (selected + positives);
    if (f1 > best.f1) best = { f1, score: group.score };
  }
  return best.score;
}
