/**
 * Stage 3: the networks, not yet trained. Owns their shape, initial weights and optimiser; how they learn is train's matter.
 */
import { layers, tf } from './tf.js';

/**
 * The model: one hidden layer, a probability out. The same seed makes the same initial weights.
 * The output starts at the rate of positives, which spares it the first dozen epochs of learning just that.
 */
export function buildNetwork({ features, positiveRate, seed, learningRate }) {
  const model = layers.sequential({ name: 'sales_close_prediction' });
  model.add(
    layers.layers.dense({
      name: 'hidden',
      units: 24,
      activation: 'relu',
      inputShape: [features],
      kernelInitializer: layers.initializers.glorotUniform({ seed }),
      kernelRegularizer: layers.regularizers.l2({ l2: 0.01 }),
    }),
  );
  model.add(
    layers.layers.dense({
      name: 'probability',
      units: 1,
      activation: 'sigmoid',
      kernelInitializer: layers.initializers.glorotUniform({ seed: seed + 1 }),
      biasInitializer: layers.initializers.constant({ value: Math.log(positiveRate / (1 - positiveRate)) }),
    }),
  );
  model.compile({ optimizer: tf.train.adam(learningRate), loss: 'binaryCrossentropy' });
  return model;
}

/** The baseline: logistic regression on the same features. It starts from zeros, so it has no seed. */
export function buildBaseline({ features }) {
  const model = layers.sequential({ name: 'logistic_regression' });
  model.add(
    layers.layers.dense({ name: 'probability', units: 1, activation: 'sigmoid', inputShape: [features], kernelInitializer: 'zeros' }),
  );
  return model;
}
