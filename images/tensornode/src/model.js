/**
 * A model as files: model.json and weights.bin in TensorFlow.js's own layers format, preprocessing.json beside them.
 * Owns that nothing in them depends on when or where they were written: the same training gives the same bytes.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { InputError } from './errors.js';
import { schema } from './schema.js';
import { layers, tf } from './tf.js';
import { width } from './transform.js';

export const MODEL_FILES = ['model.json', 'preprocessing.json', 'weights.bin'];

/** Writes the three files into `folder`. */
export async function saveModel(model, preprocessing, folder) {
  await mkdir(folder, { recursive: true });
  await model.save({
    save: async ({ modelTopology, weightSpecs, weightData, format, generatedBy }) => {
      const weightsManifest = [{ paths: ['weights.bin'], weights: weightSpecs }];
      const bytes = tf.io.CompositeArrayBuffer.join(weightData);
      await writeFile(path.join(folder, 'model.json'), json({ modelTopology, format, generatedBy, convertedBy: null, weightsManifest }));
      await writeFile(path.join(folder, 'weights.bin'), new Uint8Array(bytes));
      return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' } }; // not written anywhere
    },
  });
  await writeFile(path.join(folder, 'preprocessing.json'), json(preprocessing));
}

/** Reads the three files back. Throws InputError where they are not a whole model. */
export async function loadModel(folder) {
  const wrong = (why) => new InputError(`${folder} does not hold a model: ${why}; give the folder with ${MODEL_FILES.join(', ')}`);
  const [topology, preprocessing, weights] = await Promise.all(
    MODEL_FILES.map(async (name) => {
      try {
        const bytes = await readFile(path.join(folder, name));
        return name.endsWith('.json') ? JSON.parse(bytes.toString('utf8')) : bytes;
      } catch (error) {
        throw wrong(error instanceof SyntaxError ? `${name} is not JSON` : `${name} cannot be read (${error.code})`);
      }
    }),
  );
  const weightSpecs = topology?.weightsManifest?.[0]?.weights;
  const names = preprocessing?.encodings?.map?.(({ name }) => name);
  if (!Array.isArray(weightSpecs) || !Array.isArray(names)) throw wrong('model.json or preprocessing.json lacks its parts');
  const known = new Set(schema.attributes.map(({ name }) => name));
  if (!names.every((name) => known.has(name))) throw wrong('preprocessing.json has attributes that the schema does not');
  const weightData = weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.length);
  let model;
  try {
    model = await layers.loadLayersModel({ load: async () => ({ modelTopology: topology.modelTopology, weightSpecs, weightData }) });
  } catch (error) {
    throw wrong(error.message);
  }
  if (model.inputs[0].shape[1] !== width(preprocessing)) throw wrong('preprocessing.json makes another number of features than the network takes');
  return { model, preprocessing };
}

/** JSON for people and for hashing: two spaces, a newline at the end. */
export function json(value) {
  return `${JSON.stringify(value, null, 2)}\n`;
}
