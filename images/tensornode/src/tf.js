/**
 * TensorFlow.js on its WASM backend, loaded once.
 * @tensorflow/tfjs is a bundle of tfjs-core, tfjs-layers and parts that are not used here (WebGL, converter, tf.data); these are
 * loaded one by one, and by require: import would first analyse a megabyte of CommonJS, a third of a second at every start.
 */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

export const tf = require('@tensorflow/tfjs-core');
export const layers = require('@tensorflow/tfjs-layers');
require('@tensorflow/tfjs-backend-wasm');

/** Versions for the record of a training. The parts of @tensorflow/tfjs all carry its version. */
export const versions = {
  node: process.versions.node,
  '@tensorflow/tfjs': tf.version_core,
  ...Object.fromEntries(
    ['@tensorflow/tfjs-core', '@tensorflow/tfjs-layers', '@tensorflow/tfjs-backend-wasm', 'jsforce'].map((name) => [name, require(`${name}/package.json`).version]),
  ),
};

/** Resolves once the backend can compute. In Node it runs on one thread, so sums have one order. */
export async function ready() {
  if (!(await tf.setBackend('wasm'))) throw new Error('the WASM backend of TensorFlow.js does not start');
  await tf.ready();
}
