/**
 * Stage 4: learning. Owns the batches, their seeded order, early stopping and the return to the best weights.
 */
import { setImmediate as turn } from 'node:timers/promises';

import { Matrix, solve } from 'ml-matrix';
import seedrandom from 'seedrandom';

import { logLoss, rocAuc } from './metrics.js';
import { tf } from './tf.js';

/** Epochs without a better validation loss after which learning ends. */
export const PATIENCE = 5;
const RIDGE = 1;
const NEWTON_STEPS = 25;

/**
 * Trains in place and leaves the weights of the epoch with the lowest validation loss.
 * @returns {Promise<{epochs_run: number, best_epoch: number, validation_loss: number, validation_auc: number}>}
 */
export async function train(model, data, { epochs, batchSize, seed, log = () => {} }) {
  const rows = data.train.labels.length;
  const inputs = tf.tensor2d(data.train.features, [rows, data.train.features.length / rows]);
  const labels = tf.tensor2d(data.train.labels, [rows, 1]);
  const order = Int32Array.from({ length: rows }, (_, index) => index);
  const random = seedrandom.alea(String(seed));
  let best;
  let epoch = 0;
  while (epoch < epochs && epoch - (best?.epoch ?? 0) < PATIENCE) {
    epoch += 1;
    shuffle(order, random);
    let sum = 0;
    for (let start = 0; start < rows; start += batchSize) {
      const batch = order.subarray(start, start + batchSize);
      sum += (await step(model, inputs, labels, batch)) * batch.length;
      await turn(); // the backend computes without ever yielding: so a signal is heard between batches
    }
    const scores = await predict(model, data.validation.features, data.validation.labels.length);
    const loss = logLoss(data.validation.labels, scores);
    const auc = rocAuc(data.validation.labels, scores);
    if (!best || loss < best.loss) {
      best?.weights.forEach((tensor) => tensor.dispose());
      best = { epoch, loss, auc, weights: model.getWeights().map((tensor) => tensor.clone()) };
    }
    log(`epoch ${epoch}/${epochs} loss ${(sum / rows).toFixed(5)} validation loss ${loss.toFixed(5)} auc ${auc.toFixed(4)}`);
  }
  model.setWeights(best.weights);
  tf.dispose([inputs, labels, best.weights]);
  return { epochs_run: epoch, best_epoch: best.epoch, validation_loss: best.loss, validation_auc: best.auc };
}

/**
 * Fits the baseline to convergence: ridge-penalised logistic regression by Newton's method, no batches, no seed.
 * The products of matrices are TensorFlow's, the small system of equations is ml-matrix's.
 */
export async function trainBaseline(model, data) {
  const rows = data.train.labels.length;
  const width = data.train.features.length / rows + 1;
  const inputs = tf.tidy(() => tf.concat([tf.tensor2d(data.train.features, [rows, width - 1]), tf.ones([rows, 1])], 1));
  const transposed = tf.transpose(inputs); // once: matMul with transposeA takes a slow path on this backend
  const labels = tf.tensor2d(data.train.labels, [rows, 1]);
  const penalty = Array.from({ length: width }, (_, index) => (index < width - 1 ? RIDGE : 0)); // the intercept is free
  const weights = new Float32Array(width);
  for (let count = 0; count < NEWTON_STEPS; count += 1) {
    const [gradient, hessian] = tf.tidy(() => {
      const scores = tf.sigmoid(tf.matMul(inputs, tf.tensor2d(weights, [width, 1])));
      const spread = tf.mul(scores, tf.sub(1, scores));
      return [tf.matMul(transposed, tf.sub(scores, labels)), tf.matMul(transposed, tf.mul(inputs, spread))];
    });
    const slope = Array.from(gradient.dataSync(), (value, index) => value + penalty[index] * weights[index]);
    const curvature = Matrix.from1DArray(width, width, hessian.dataSync());
    for (let index = 0; index < width; index += 1) curvature.set(index, index, curvature.get(index, index) + penalty[index]);
    tf.dispose([gradient, hessian]);
    const change = solve(curvature, Matrix.columnVector(slope)).to1DArray();
    change.forEach((value, index) => (weights[index] -= value));
    if (Math.max(...change.map(Math.abs)) < 1e-4) break;
  }
  tf.tidy(() => model.setWeights([tf.tensor2d(weights.subarray(0, -1), [width - 1, 1]), tf.tensor1d(weights.subarray(-1))]));
  tf.dispose([inputs, transposed, labels]);
}

/** Probabilities for encoded rows, as plain numbers. */
export async function predict(model, features, rows) {
  const scores = tf.tidy(() => model.predict(tf.tensor2d(features, [rows, features.length / rows]), { batchSize: Math.min(rows, 4096) }));
  const values = Array.from(await scores.data());
  scores.dispose();
  return values;
}

async function step(model, inputs, labels, batch) {
  const indices = tf.tensor1d(batch, 'int32');
  const [x, y] = [tf.gather(inputs, indices), tf.gather(labels, indices)];
  const loss = await model.trainOnBatch(x, y);
  tf.dispose([indices, x, y]);
  return loss;
}

/** Fisher-Yates, by the given source of numbers from 0 to 1. */
function shuffle(order, random) {
  for (let last = order.length - 1; last > 0; last -= 1) {
    const pick = Math.floor(random() * (last + 1));
    [order[last], order[pick]] = [order[pick], order[last]];
  }
}
