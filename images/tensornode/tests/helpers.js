/** Real servers, real processes and made-up customers for the tests of this image. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

import seedrandom from 'seedrandom';
import selfsigned from 'selfsigned';

import { attributeNames, columns, schema } from '../src/schema.js';

export const MAIN = fileURLToPath(new URL('../src/main.js', import.meta.url));

/** A directory that is removed when the test file is through. */
export function temporary() {
  const folder = mkdtempSync(path.join(tmpdir(), 'tensornode-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Customers whose purchase depends on four attributes: enough for an AUC of about 0.9. Row objects of integers. */
export function customers(count, seed = 'customers') {
  const random = seedrandom.alea(seed);
  return Array.from({ length: count }, () => {
    const values = attributeNames.map(() => Math.floor(random() * 5));
    const logit = -9 + 1.6 * (values[10] + values[50]) + (values[60] - values[70]);
    const row = Object.fromEntries(attributeNames.map((name, index) => [name, values[index]]));
    return { ...row, [schema.target.name]: random() < 1 / (1 + Math.exp(-logit)) ? 'Yes' : 'No' };
  });
}

export function csv(rows, names = columns) {
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((cells) => `${cells.join(',')}\n`).join('');
}

/** A certificate for localhost and the file of its CA for NODE_EXTRA_CA_CERTS. */
export async function certificate() {
  const made = await selfsigned.generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    extensions: [
      { name: 'basicConstraints', cA: true },
      { name: 'subjectAltName', altNames: [{ type: 2, value: 'localhost' }] },
    ],
  });
  const caFile = path.join(temporary(), 'ca.pem');
  writeFileSync(caFile, made.cert);
  return { key: made.private, cert: made.cert, caFile };
}

/** A server on a free port of localhost; `requests` collects what it was asked. */
export async function serve(handler, tls) {
  const requests = [];
  const answer = (request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const seen = { method: request.method, url: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() };
      requests.push(seen);
      handler(seen, response, requests.length);
    });
  };
  const server = tls ? https.createServer({ key: tls.key, cert: tls.cert }, answer) : http.createServer(answer);
  await new Promise((resolve) => server.listen(0, 'localhost', resolve));
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  const host = `localhost:${server.address().port}`;
  return { host, url: `${tls ? 'https' : 'http'}://${host}`, requests };
}

/** Answers with a body and, by default, success. */
export function reply(response, body, { status = 200, type = 'text/csv', headers = {} } = {}) {
  response.writeHead(status, { 'content-type': type, ...headers });
  response.end(body);
}

/** The environment of a training whose directory does not exist yet. */
export function environment(dataUrl, more = {}) {
  return {
    PATH: process.env.PATH,
    RUN_DIR: path.join(temporary(), 'run'),
    DATA_URL: dataUrl,
    DATA_PATH: 'data/customers.csv',
    PREDICTION_PATH: 'predictions.csv',
    SAVE_PATH: 'sales',
    MODEL_VERSION: '1',
    EPOCHS: '3',
    ALLOC_ID: '6ba7b810-9dad-11d1-80b4-00c04fd430c8',
    ...more,
  };
}

/** Runs the program as a process of its own. `started(child)` may act on it while it runs. */
export function runMain(args, { env = { PATH: process.env.PATH }, input, started, command = [process.execPath, MAIN] } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0], [...command.slice(1), ...args], { env });
    const output = { stdout: '', stderr: '' };
    child.stdout.on('data', (chunk) => (output.stdout += chunk));
    child.stderr.on('data', (chunk) => (output.stderr += chunk));
    child.stdin.on('error', () => {});
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, ...output }));
    if (input !== null) child.stdin.end(input);
    started?.(child);
  });
}
