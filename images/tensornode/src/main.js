#!/usr/bin/env node
/**
 * The command line: which subcommand runs, what its help says, and how its failure is told (one line, exit code 1 or 2).
 */
import { parseArgs } from 'node:util';

import { InputError, describe, redact } from './errors.js';

const HELP = {
  '': `Usage: node src/main.js COMMAND

Trains and scores the sales-close-prediction model with TensorFlow.js.

Commands:
  train             train one model as the environment says, and leave its files in RUN_DIR
  extract           only fetch and check the training data, into RUN_DIR/DATA_PATH
  score MODEL_DIR   predictions for rows on standard input

Each command has a --help of its own. Exit codes: 0 done; 2 bad input or a definite no, which a repeat would say again;
anything else failed and may be tried again. The last line on standard error is the message.
`,
  train: `Usage: RUN_DIR=... DATA_URL=... node src/main.js train

Extracts, transforms, builds, trains and tests; then RUN_DIR holds model/, examples.json, metrics.json, the predictions
and, last, training.json, which lists them. After a definite no it holds failed.json alone.

Where:
  RUN_DIR          absolute path of this run's own directory, new or empty
  DATA_URL         salesforce+https://HOST[:PORT], or http(s):// of a CSV or of a JSON array of objects
  DATA_PATH        where the extracted CSV goes, relative to RUN_DIR           e.g. data/customers.csv
  PREDICTION_PATH  where the predictions on the test part go, likewise         e.g. predictions.csv
What:
  SAVE_PATH, MODEL_VERSION   name and version, recorded                        e.g. sales, 3
  BATCH_SIZE       rows a step                      (256)
  EPOCHS           at most so many; early stopping  (30)
  LEARNING_RATE    of Adam                          (0.004)
  SEED             0 to 4294967295; empty: derived from ALLOC_ID
  MIN_AUC          below this on the test part the run fails (0.6)
  ALLOC_ID, CODE_COMMIT, CODE_DIRTY   recorded
Salesforce:
  SALESFORCE_HOSTS comma list of HOST (any port) or HOST:PORT that may get credentials
  SALESFORCE_CLIENT_ID, SALESFORCE_CLIENT_SECRET
`,
  extract: `Usage: RUN_DIR=... DATA_URL=... DATA_PATH=... node src/main.js extract

Fetches the training data, checks every row against the schema and writes RUN_DIR/DATA_PATH, whole or not at all.
Columns that the schema does not have are left out, and named. DATA_URL and SALESFORCE_* are as for train.
`,
  score: `Usage: node src/main.js score MODEL_DIR < rows.jsonl > predictions.jsonl

MODEL_DIR holds model.json, weights.bin and preprocessing.json. Each input line is one JSON object of raw values, as
{"MOSTYPE": 33, "MAANTHUI": 1, ...} with all 85 attributes (integers, or their text); other keys are ignored. Each output line
is {"prediction": p}, in the order of the input. A bad line ends it with exit code 2 and the line's number; the
predictions before it have been written.
`,
};

const commands = {
  async train(rest) {
    const { run } = await import('./run.js');
    noArguments('train', rest);
    await run(process.env, { log: print });
  },
  async extract(rest) {
    noArguments('extract', rest);
    const [{ readRelative, readRunDir, readSource }, { extract }] = await Promise.all([import('./config.js'), import('./extract.js')]);
    const file = `${readRunDir(process.env)}/${readRelative(process.env, 'DATA_PATH')}`;
    const { rows, positives, sha256, ignored } = await extract(readSource(process.env), file, { log: print });
    if (ignored.length > 0) print(`ignored columns that the schema does not have: ${ignored.join(', ')}`);
    print(`${rows} rows, ${positives} of the positive class, sha256 ${sha256}, in ${file}`);
  },
  async score(rest) {
    if (rest.length !== 1) throw new InputError('score takes one MODEL_DIR; see --help');
    const { score } = await import('./score.js');
    await score(rest[0], process.stdin, process.stdout);
  },
};

function noArguments(name, rest) {
  if (rest.length > 0) throw new InputError(`${name} takes its parameters from the environment, not ${JSON.stringify(rest[0])}; see ${name} --help`);
}

function print(line) {
  process.stdout.write(`${redact(line)}\n`);
}

async function main(argv) {
  let parsed;
  try {
    parsed = parseArgs({ args: argv, allowPositionals: true, options: { help: { type: 'boolean', short: 'h' } } });
  } catch (error) {
    throw new InputError(`${error.message.split('. ')[0]}; see --help`);
  }
  const [name, ...rest] = parsed.positionals;
  if (name !== undefined && !Object.hasOwn(commands, name)) throw new InputError(`there is no command ${JSON.stringify(name)}; see --help`);
  if (parsed.values.help) process.stdout.write(HELP[name ?? '']);
  else if (name === undefined) throw new InputError('which command? train, extract or score; see --help');
  else await commands[name](rest);
}

function fail(error) {
  const { message, exitCode, expected } = describe(error);
  if (!expected) process.stderr.write(`${redact(error?.stack ?? error)}\n`);
  process.stderr.write(`${message}\n`);
  process.exitCode = exitCode;
}

process.stdout.on('error', (error) => {
  fail(error); // a reader that went away: nothing more can be said to it
  process.exit();
});

try {
  await main(process.argv.slice(2));
} catch (error) {
  fail(error);
}
