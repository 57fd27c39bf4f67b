/**
 * What a training is asked to do: environment variables read into one typed, checked, frozen object.
 * Owns patterns, ranges and defaults of the image; the pipeline's own (tighter) ones stand in jobs/<name>/parameters.yaml.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';

import { InputError, keepSecret } from './errors.js';

/** Files and folders of a run's directory that DATA_PATH and PREDICTION_PATH must not touch. */
export const RESERVED = ['model', 'examples.json', 'metrics.json', 'training.json', 'training.json.part', 'failed.json', 'manifest.json', 'verifications'];

/** The run's own directory: absolute and plain. Read before all else, since failures are recorded in it. */
export function readRunDir(env) {
  const value = env.RUN_DIR ?? '';
  if (!path.isAbsolute(value) || /[\p{Cc}]/u.test(value) || value.split('/').includes('..') || path.normalize(value) === '/') {
    throw new InputError(`RUN_DIR is ${JSON.stringify(value)}; set it to the absolute path of a directory of this run alone`);
  }
  return path.normalize(value).replace(/\/$/, '');
}

/** Everything else of the environment, checked. Throws InputError with the variable's name. */
export function readConfig(env) {
  const source = readSource(env);
  const dataPath = readRelative(env, 'DATA_PATH');
  const predictionPath = readRelative(env, 'PREDICTION_PATH');
  if (`${dataPath}/`.startsWith(`${predictionPath}/`) || `${predictionPath}/`.startsWith(`${dataPath}/`)) {
    throw new InputError(`DATA_PATH and PREDICTION_PATH (${dataPath}, ${predictionPath}) are in each other's way; give two different files`);
  }
  const given = readNumber(env, 'SEED', { integer: true, minimum: 0, maximum: 2 ** 32 - 1, fallback: null });
  const allocId = env.ALLOC_ID ?? '';
  if (given === null && !allocId) {
    throw new InputError('neither SEED nor ALLOC_ID is set; give a SEED, so that the training can be repeated');
  }
  return Object.freeze({
    ...source,
    dataPath,
    predictionPath,
    savePath: readName(env, 'SAVE_PATH', /^(?!.*\.\.)[0-9A-Za-z][0-9A-Za-z._-]{0,127}$/),
    modelVersion: readName(env, 'MODEL_VERSION', /^(?!.*\.\.)[0-9A-Za-z][0-9A-Za-z.-]{0,31}$/),
    batchSize: readNumber(env, 'BATCH_SIZE', { integer: true, minimum: 1, maximum: 65536, fallback: 256 }),
    epochs: readNumber(env, 'EPOCHS', { integer: true, minimum: 1, maximum: 1000, fallback: 30 }),
    learningRate: readNumber(env, 'LEARNING_RATE', { above: 0, maximum: 1, fallback: 0.004 }),
    minAuc: readNumber(env, 'MIN_AUC', { minimum: 0, maximum: 1, fallback: 0.6 }),
    seedParameter: given,
    seed: given ?? createHash('sha256').update(allocId).digest().readUInt32BE(0),
    seedSource: given === null ? 'allocation' : 'parameter',
    code: { commit: env.CODE_COMMIT || null, dirty: env.CODE_DIRTY ? env.CODE_DIRTY === 'true' : null },
  });
}

/** The part of the configuration that says where data comes from. */
export function readSource(env) {
  const dataUrl = env.DATA_URL ?? '';
  if (!dataUrl || /[\p{Cc}\s]/u.test(dataUrl)) {
    throw new InputError(`DATA_URL is ${JSON.stringify(dataUrl)}; set it to salesforce+https://HOST, https://... or http://...`);
  }
  keepSecret(env.SALESFORCE_CLIENT_SECRET);
  return {
    dataUrl,
    salesforce: {
      hosts: (env.SALESFORCE_HOSTS ?? '').split(',').map((host) => host.trim()).filter(Boolean),
      clientId: env.SALESFORCE_CLIENT_ID ?? '',
      clientSecret: env.SALESFORCE_CLIENT_SECRET ?? '',
    },
  };
}

/** A path relative to the run's directory: plain names only, as the registry stores them; none of the run's other files. */
export function readRelative(env, name) {
  const value = env[name] ?? '';
  const plain = /^(?!.*\.\.)[0-9A-Za-z_][0-9A-Za-z._-]*(\/[0-9A-Za-z_][0-9A-Za-z._-]*){0,31}$/;
  if (value.length > 200 || !plain.test(value)) {
    throw new InputError(`${name} is ${JSON.stringify(value)}; give a path inside the run's directory, of letters, digits, ".", "_", "-" and "/"`);
  }
  if (RESERVED.includes(value.split('/')[0])) {
    throw new InputError(`${name} is ${JSON.stringify(value)}, where the training writes a file of its own; choose another name`);
  }
  return value;
}

function readName(env, name, pattern) {
  const value = env[name] ?? '';
  if (!pattern.test(value) || value.endsWith('\n')) {
    throw new InputError(`${name} is ${JSON.stringify(value)}; it must match ${pattern.source}`);
  }
  return value;
}

function readNumber(env, name, { integer = false, minimum, above, maximum, fallback }) {
  const text = env[name] ?? '';
  if (text === '') return fallback;
  const pattern = integer ? /^\d{1,10}$/ : /^\d{1,10}(\.\d{1,200})?([eE][+-]?\d{1,2})?$/;
  const value = pattern.test(text) ? Number(text) : NaN;
  if (!(value >= (minimum ?? above) && value <= maximum && value !== above)) {
    const range = above === undefined ? `from ${minimum} to ${maximum}` : `above ${above}, at most ${maximum}`;
    throw new InputError(`${name} is ${JSON.stringify(text)}; give ${integer ? 'an integer' : 'a number'} ${range}`);
  }
  return value;
}
