/**
 * One training from environment to files: extract, transform, build, train, test, and the directory they leave.
 * Owns the order of the stages and the protocol of RUN_DIR: training.json comes last and whole; a definite no leaves failed.json
 * alone, so that a restart repeats it and does not train again; anything else leaves nothing. Storing is the registry's matter.
 */
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, rmSync } from 'node:fs';
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { readConfig, readRunDir } from './config.js';
import { InputError, describe } from './errors.js';
import { attributeNames, schema } from './schema.js';

const MARKER = '.tensornode';
const EXAMPLES = 200;

/** Trains as the environment says. Resolves once training.json stands; throws InputError or RunError. */
export async function run(env, { log = () => {}, retry = {} } = {}) {
  const runDir = readRunDir(env);
  await claim(runDir);
  const abandon = (signal) => {
    // Synchronous: whatever is being written stops with the process.
    rmSync(runDir, { recursive: true, force: true });
    process.stderr.write(`stopped by ${signal}; this run stores nothing\n`);
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };
  process.once('SIGTERM', abandon).once('SIGINT', abandon);
  try {
    await stages(runDir, readConfig(env), log, retry);
  } catch (error) {
    await rm(runDir, { recursive: true, force: true });
    if (error instanceof InputError) {
      await mkdir(runDir, { recursive: true });
      await writeWhole(path.join(runDir, 'failed.json'), { message: describe(error).message });
    }
    throw error;
  } finally {
    process.off('SIGTERM', abandon).off('SIGINT', abandon);
  }
}

/** Makes the run's directory, or empties the one a killed training left. Repeats the message of a definite failure. */
async function claim(runDir) {
  let entries = [];
  try {
    entries = await readdir(runDir);
  } catch (error) {
    if (error.code === 'ENOTDIR') throw new InputError(`RUN_DIR ${runDir} is not a directory; name one of this run alone`);
    if (error.code !== 'ENOENT') throw error;
  }
  if (entries.includes('failed.json')) {
    const { message } = JSON.parse(await readFile(path.join(runDir, 'failed.json'), 'utf8'));
    throw new InputError(message);
  }
  if (entries.length > 0 && !entries.includes(MARKER)) {
    throw new InputError(`RUN_DIR ${runDir} holds files that no training made; nothing was touched: name an empty or new directory`);
  }
  await mkdir(runDir, { recursive: true });
  await writeFile(path.join(runDir, MARKER), ''); // before anything is removed: a kill in between must not make it look like someone's
  for (const name of entries) if (name !== MARKER) await rm(path.join(runDir, name), { recursive: true, force: true });
}

async function stages(runDir, config, log, retry) {
  const place = (...names) => path.join(runDir, ...names);
  const timed = async (name, work) => {
    const start = performance.now();
    const [result, said] = await work();
    log(`${name}: ${said} (${((performance.now() - start) / 1000).toFixed(2)} s)`);
    return result;
  };

  const { extract } = await import('./extract.js');
  const source = await timed('extract', async () => {
    const found = await extract(config, place(config.dataPath), { log: (line) => log(`extract: ${line}`), retry });
    if (found.ignored.length > 0) log(`extract: ignored columns that the schema does not have: ${found.ignored.join(', ')}`);
    return [found, `${found.rows} rows, ${found.positives} with ${schema.target.name} = ${schema.target.positive}`];
  });

  // What follows computes; loading it earlier would make bad input wait for it.
  const [{ transform, width }, { ready, versions }, { buildNetwork }, { train }, { test }, { json, saveModel }] = await Promise.all(
    ['transform', 'tf', 'build', 'train', 'test', 'model'].map((name) => import(`./${name}.js`)),
  );
  await ready();
  const data = await timed('transform', async () => {
    const parts = await transform(place(config.dataPath));
    const sizes = ['train', 'validation', 'test'].map((name) => `${parts[name].labels.length} ${name}`).join(', ');
    return [parts, `${sizes}; ${width(parts.preprocessing)} features`];
  });
  const rate = data.train.labels.reduce((sum, label) => sum + label, 0) / data.train.labels.length;
  const model = buildNetwork({ features: width(data.preprocessing), positiveRate: rate, seed: config.seed, learningRate: config.learningRate });
  const training = await timed('train', async () => {
    log(`train: seed ${config.seed} (${config.seedSource === 'parameter' ? 'given' : 'from the allocation id'})`);
    const history = await train(model, data, { ...config, log: (line) => log(`train: ${line}`) });
    return [history, `${history.epochs_run} epochs, weights of epoch ${history.best_epoch}`];
  });
  const result = await timed('test', async () => {
    const outcome = await test(model, data);
    return [outcome, `AUC ${outcome.test.auc.toFixed(4)}, logistic regression ${outcome.baseline.auc.toFixed(4)}, on ${outcome.test.rows} rows`];
  });
  if (!(result.test.auc >= config.minAuc)) {
    throw new InputError(`the model's AUC of ${result.test.auc.toFixed(4)} on the test part is below min_auc ${config.minAuc}; nothing is stored: improve the data or the parameters, or lower min_auc`);
  }

  await saveModel(model, data.preprocessing, place('model'));
  const examples = data.test.rows.slice(0, EXAMPLES).map(({ values }, index) => ({
    input: Object.fromEntries(schema.attributes.map(({ name }, column) => [name, values[column]])),
    prediction: result.scores[index],
  }));
  const lines = examples.map((example) => JSON.stringify(example)).join(',\n'); // one a line: readable, and half the size
  const head = JSON.stringify({ target: schema.target.name, columns: attributeNames }).slice(0, -1);
  await writeFile(place('examples.json'), `${head},"examples":[\n${lines}\n]}\n`);
  await writeFile(place('metrics.json'), json({ test: result.test, baseline: result.baseline, training, min_auc: config.minAuc }));
  await mkdir(path.dirname(place(config.predictionPath)), { recursive: true });
  await writeFile(place(config.predictionPath), predictions(data.test, result.scores));

  const names = ['examples.json', 'metrics.json', 'model/model.json', 'model/preprocessing.json', 'model/weights.bin', config.predictionPath];
  const files = await Promise.all(names.map((name) => describeFile(runDir, name)));
  await writeWhole(place('training.json'), {
    format: 'tfjs-layers',
    parameters: {
      save_path: config.savePath,
      model_version: config.modelVersion,
      data_url: source.uri,
      data_path: config.dataPath,
      prediction_path: config.predictionPath,
      batch_size: config.batchSize,
      epochs: config.epochs,
      learning_rate: config.learningRate,
      seed: config.seedParameter,
      min_auc: config.minAuc,
    },
    seed: config.seed,
    seed_source: config.seedSource,
    data: {
      uri: source.uri,
      sha256: source.sha256,
      rows: source.rows,
      schema: [...schema.attributes, { ...schema.target, type: 'string' }].map(({ name, type }) => ({ name, type })),
    },
    code: config.code,
    tools: versions,
    model_digest: modelDigest(files),
    files,
  });
}

/** The test part's rows by their number in the data file, what was observed and what was predicted. */
function predictions({ rows, labels }, scores) {
  const { name, negative, positive } = schema.target;
  const lines = rows.map(({ number }, index) => `${number},${labels[index] === 1 ? positive : negative},${scores[index]}`);
  return `${['row', name, 'prediction'].join(',')}\n${lines.join('\n')}\n`;
}

/**
 * The canonical digest: what `sha256sum model/* | sha256sum` prints in RUN_DIR. No file in model/ holds a time or a name
 * of the run, so two trainings of the same data, parameters, seed and code have the same digest.
 */
export function modelDigest(files) {
  const lines = files
    .filter(({ path: name }) => name.startsWith('model/'))
    .sort((a, b) => (a.path < b.path ? -1 : 1))
    .map(({ path: name, sha256 }) => `${sha256}  ${name}\n`);
  return createHash('sha256').update(lines.join('')).digest('hex');
}

async function describeFile(runDir, name) {
  const bytes = await readFile(path.join(runDir, name));
  return { path: name, size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** Writes JSON so that the file is there whole or not at all, even across a crash of the machine. */
async function writeWhole(file, value) {
  const partial = `${file}.part`;
  await writeFile(partial, `${JSON.stringify(value, null, 2)}\n`);
  const handle = openSync(partial, 'r+');
  fsyncSync(handle);
  closeSync(handle);
  await rename(partial, file);
}
