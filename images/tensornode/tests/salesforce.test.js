/** Extraction through jsforce from a server that speaks Salesforce's REST API over TLS; each run is a real process. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';

import { SOQL, hostGuard, loginUrl } from '../src/salesforce.js';
import { schema } from '../src/schema.js';
import { certificate, csv, customers, reply, runMain, serve, temporary } from './helpers.js';

const tls = await certificate();
const rows = customers(250);
const ID = 'the-client-id';
const SECRET = 'the-client-secret';
const json = (response, value, status = 200, headers = {}) => reply(response, JSON.stringify(value), { status, type: 'application/json;charset=UTF-8', headers });

const records = rows.map((row) => {
  const record = { attributes: { type: 'Customer__c' }, Area__r: { attributes: { type: 'Area__c' } }, [`${schema.target.name}__c`]: row[schema.target.name] };
  for (const { name, object } of schema.attributes) (object === 'area' ? record.Area__r : record)[`${name}__c`] = row[name];
  return record;
});

/** A Salesforce with 100 records a page. `change(request, response, count)` may answer first by returning true. */
async function salesforce(change = () => false) {
  let tokens = 0;
  const own = await serve((request, response, count) => {
    if (change(request, response, count, own)) return;
    if (request.url === '/services/oauth2/token') {
      const form = new URLSearchParams(request.body);
      if (form.get('grant_type') !== 'client_credentials' || form.get('client_id') !== ID || form.get('client_secret') !== SECRET) {
        json(response, { error: 'invalid_client', error_description: `no such client ${form.get('client_id')} with ${form.get('client_secret')}` }, 401);
        return;
      }
      tokens += 1;
      json(response, { access_token: `token-${tokens}`, instance_url: own.url, id: `${own.url}/id/org/user`, token_type: 'Bearer' });
      return;
    }
    if (request.headers.authorization !== `Bearer token-${tokens}`) {
      json(response, [{ errorCode: 'INVALID_SESSION_ID', message: 'Session expired or invalid' }], 401);
      return;
    }
    const page = /^\/services\/data\/v[\d.]+\/query\/cursor-(\d+)$/.exec(request.url);
    const start = page ? Number(page[1]) : 0;
    if (!page) assert.equal(new URL(request.url, own.url).searchParams.get('q'), SOQL);
    const done = start + 100 >= records.length;
    const next = done ? {} : { nextRecordsUrl: `/services/data/v60.0/query/cursor-${start + 100}` };
    json(response, { totalSize: records.length, done, ...next, records: records.slice(start, start + 100) });
  }, tls);
  own.expire = () => (tokens += 1);
  return own;
}

/** Runs `extract` against the host. */
async function run(host, more = {}) {
  const folder = temporary();
  const env = { PATH: process.env.PATH, NODE_EXTRA_CA_CERTS: tls.caFile, RUN_DIR: folder, DATA_PATH: 'customers.csv', DATA_URL: `salesforce+https://${host}`,
    SALESFORCE_HOSTS: host, SALESFORCE_CLIENT_ID: ID, SALESFORCE_CLIENT_SECRET: SECRET, ...more };
  const result = await runMain(['extract'], { env });
  const file = path.join(folder, 'customers.csv');
  const all = result.stdout + result.stderr;
  assert.ok(!all.includes(SECRET) && !all.includes('token-1'), `a secret was shown: ${all}`);
  return { ...result, text: existsSync(file) ? readFileSync(file, 'utf8') : undefined };
}

function isRefused(result, pattern) {
  assert.equal(result.code, 2, result.stderr);
  assert.match(result.stderr, /^[^\n]+\n$/); // one line, no traceback
  assert.match(result.stderr, pattern);
  assert.equal(result.text, undefined);
}

test('all pages arrive, related fields included, as the same file as CSV', async () => {
  const server = await salesforce();
  const result = await run(server.host);
  assert.equal(result.code, 0, result.stderr);
  assert.equal(result.text, csv(rows));
  assert.equal(server.requests.length, 1 + 3);
});

test('the host alone allows any port of it', async () => {
  const server = await salesforce();
  const result = await run(server.host, { SALESFORCE_HOSTS: 'elsewhere.example, localhost' });
  assert.equal(result.code, 0, result.stderr);
});

test('a session that expires half-way is renewed and the query goes on', async () => {
  const server = await salesforce((request, _, __, own) => {
    if (request.url.endsWith('cursor-200') && own.requests.length === 4) own.expire();
    return false;
  });
  const result = await run(server.host);
  assert.equal(result.code, 0, result.stderr);
  assert.equal(result.text, csv(rows));
  assert.match(result.stdout, /session has expired/);
  assert.deepEqual(server.requests.map(({ method }) => method).join(' '), 'POST GET GET GET POST GET');
});

test('busy answers and broken connections are tried again', async () => {
  const server = await salesforce((request, response, count) => {
    if (count === 1 || count === 3) json(response, [{ errorCode: 'SERVER_UNAVAILABLE', message: 'busy' }], 503);
    else if (count === 5) request.headers.authorization && response.socket.destroy();
    else return false;
    return true;
  });
  const result = await run(server.host);
  assert.equal(result.code, 0, result.stderr);
  assert.equal(result.text, csv(rows));
});

/** Answers once in the place of what Salesforce would say to the log-in, the query or a page. */
const once = (of, status, body, type = 'application/json') => {
  const places = { 'the log-in': /oauth2\/token$/, 'the query': /query\?q=/, 'the second page': /cursor-100$/ };
  let told = false;
  return (request, response) => {
    if (told || !places[of].test(request.url)) return false;
    told = true;
    reply(response, typeof body === 'string' ? body : JSON.stringify(body), { status, type });
    return true;
  };
};
const code = (errorCode) => [{ errorCode, message: 'in words' }];
const maintenance = '<!DOCTYPE html><html><body>We are down for maintenance</body></html>';
const short = (count) => ({ totalSize: 250, done: true, records: records.slice(0, count) });

for (const [name, of, status, body, type] of [
  ...['QUERY_TIMEOUT', 'UNABLE_TO_LOCK_ROW', 'SERVER_UNAVAILABLE', 'REQUEST_RUNNING_TOO_LONG', 'CONCURRENT_REQUESTS_LIMIT'].map((each) => [each, 'the query', 400, code(each)]),
  ['REQUEST_LIMIT_EXCEEDED', 'the second page', 403, code('REQUEST_LIMIT_EXCEEDED')],
  ['INVALID_QUERY_LOCATOR', 'the second page', 400, code('INVALID_QUERY_LOCATOR')],
  ['too many log-ins', 'the log-in', 400, { error: 'invalid_grant', error_description: 'login rate exceeded' }],
  ['rate_limit_exceeded', 'the log-in', 400, { error: 'rate_limit_exceeded', error_description: 'x' }],
  ...['the log-in', 'the query', 'the second page'].map((each) => ['a page of maintenance', each, 200, maintenance, 'text/html;charset=UTF-8']),
  ['fewer records than there are', 'the query', 200, short(3)],
  ['fewer records than there are', 'the second page', 200, short(3)],
]) {
  test(`passes: ${name} to ${of}, after which every record comes once`, async () => {
    const result = await run((await salesforce(once(of, status, body, type))).host);
    assert.equal(result.code, 0, result.stderr);
    assert.equal(result.text, csv(rows));
    assert.match(result.stdout, /trying again/);
  });
}

for (const [name, of, status, body, pattern] of [
  ['an API that the user may not use', 'the query', 403, code('API_CURRENTLY_DISABLED'), /API_CURRENTLY_DISABLED.*administrator/],
  ['a session that is not valid for REST', 'the query', 401, [{ errorCode: 'INVALID_SESSION_ID', message: 'This session is not valid for use with the REST API' }], /INVALID_SESSION_ID.*administrator/],
  ['a user who is no more', 'the log-in', 400, { error: 'invalid_grant', error_description: 'inactive user' }, /refuses the Salesforce credentials \(invalid_grant: inactive user\)/],
  ['a query that is wrong', 'the query', 400, code('MALFORMED_QUERY'), /MALFORMED_QUERY.*against the schema/],
  ['no count of the records', 'the query', 200, { done: true, records }, /not a page of records/],
]) {
  test(`refused at once: ${name}`, async () => {
    const server = await salesforce(once(of, status, body));
    isRefused(await run(server.host), pattern);
    assert.ok(server.requests.length <= 2);
  });
}

test('records that never come all end as a failure that may be repeated, with both numbers', async () => {
  const server = await salesforce((request, response) => {
    if (request.method === 'POST') return false;
    json(response, short(3));
    return true;
  });
  const result = await run(server.host);
  assert.equal(result.code, 1);
  assert.equal(result.text, undefined);
  assert.match(result.stderr, /sent 3 of the 250 records[^\n]*\n$/);
});

test('refused: tokens that are never good', async () => {
  const server = await salesforce((request, response) => {
    if (request.method === 'POST') return false;
    json(response, [{ errorCode: 'INVALID_SESSION_ID', message: 'Session expired or invalid' }], 401);
    return true;
  });
  isRefused(await run(server.host), /refuses the tokens it has just given/);
  assert.equal(server.requests.filter(({ method }) => method === 'POST').length, 3);
});

test('refused: wrong credentials, and the answer that repeats them is not shown', async () => {
  const server = await salesforce();
  const result = await run(server.host, { SALESFORCE_CLIENT_SECRET: 'mistyped-secret' });
  isRefused(result, /refuses the Salesforce credentials \(invalid_client: .*\*\*\*\)/);
  assert.ok(!result.stderr.includes('mistyped-secret'));
});

test('refused: no credentials', async () => {
  const server = await salesforce();
  isRefused(await run(server.host, { SALESFORCE_CLIENT_SECRET: '' }), /SALESFORCE_CLIENT_SECRET are needed/);
  assert.equal(server.requests.length, 0);
});

test('refused: a host that is not allowed gets nothing', async () => {
  const server = await salesforce();
  for (const SALESFORCE_HOSTS of ['', 'other.example', 'localhost:1', 'localhost.evil.example']) {
    isRefused(await run(server.host, { SALESFORCE_HOSTS }), /refusing to send Salesforce credentials or tokens to https:\/\/localhost/);
  }
  assert.equal(server.requests.length, 0);
});

for (const [name, change, more] of [
  ['instance_url', (request, response, _, own, other) => {
    if (request.method !== 'POST') return false;
    json(response, { access_token: 'token-1', instance_url: other.url, id: `${own.url}/id/o/u` });
    return true;
  }],
  ['a redirect of the query', (request, response, _, __, other) => {
    if (request.method !== 'GET') return false;
    json(response, {}, 302, { location: `${other.url}${request.url}` });
    return true;
  }],
  ['a redirect of the log-in', (request, response, _, __, other) => {
    json(response, {}, 307, { location: `${other.url}${request.url}` });
    return true;
  }],
  ['a redirect of the log-in to an allowed host', (request, response, _, __, other) => {
    json(response, {}, 307, { location: `${other.url}${request.url}` });
    return true;
  }, { SALESFORCE_HOSTS: 'localhost' }],
  ['a redirect to plain http', (request, response, _, own) => {
    if (request.method !== 'GET') return false;
    json(response, {}, 302, { location: own.url.replace('https:', 'http:') });
    return true;
  }],
  ['a redirect to the metadata service', (request, response) => {
    if (request.method !== 'GET') return false;
    json(response, {}, 302, { location: 'http://169.254.169.254/' });
    return true;
  }],
]) {
  test(`refused: ${name} leading elsewhere, where nothing is sent`, async () => {
    const other = await salesforce();
    const server = await salesforce((request, response, count, own) => change(request, response, count, own, other));
    isRefused(await run(server.host, more), /refusing to|is not followed|from https to http/);
    assert.equal(other.requests.length, 0);
  });
}

test('a nextRecordsUrl on another host is asked of the own host', async () => {
  const other = await salesforce();
  const server = await salesforce((request, response) => {
    if (!request.url.includes('?q=')) return false;
    json(response, { totalSize: 250, done: false, records: records.slice(0, 100), nextRecordsUrl: `${other.url}/services/data/v60.0/query/cursor-100` });
    return true;
  });
  const result = await run(server.host);
  assert.equal(result.code, 0, result.stderr);
  assert.equal(other.requests.length, 0);
});

for (const [name, answer, status, pattern] of [
  ['an unknown field', [{ errorCode: 'INVALID_FIELD', message: "No such column 'MOSTYPE__c'" }], 400, /refuses the query \(INVALID_FIELD: No such column/],
  ['an answer that is no page', { hello: 'world' }, 200, /not a page of records/],
  ['more records that nobody can ask for', { done: false, totalSize: 9, records: [] }, 200, /not where/],
  ['a customer without an area', { done: true, totalSize: 1, records: [{ ...records[0], Area__r: null }] }, 200, /row 1: MOSTYPE is missing/],
]) {
  test(`refused: ${name}`, async () => {
    const server = await salesforce((request, response) => {
      if (request.method !== 'GET') return false;
      json(response, answer, status);
      return true;
    });
    isRefused(await run(server.host), pattern);
  });
}

test('refused: a plain download that is redirected from https to http', async () => {
  const plain = await serve((_, response) => reply(response, csv(rows)));
  const server = await serve((_, response) => reply(response, '', { status: 302, headers: { location: plain.url } }), tls);
  isRefused(await run(server.host, { DATA_URL: server.url }), /redirects from https to http/);
  assert.equal(plain.requests.length, 0);
});

test('refused: a certificate that nobody vouches for', async () => {
  const server = await salesforce();
  isRefused(await run(server.host, { NODE_EXTRA_CA_CERTS: '' }), /certificate of localhost:\d+ is not trusted/);
});

test('the URL names a host and nothing else', () => {
  assert.equal(loginUrl('salesforce+https://LOCALHOST:8443', ['localhost']), 'https://localhost:8443');
  for (const url of ['salesforce+https://localhost/x', 'salesforce+https://localhost/?a', 'salesforce+https://a:b@localhost', 'salesforce+https://2852039166']) {
    assert.throws(() => loginUrl(url, ['localhost', '169.254.169.254']), /nothing after it|holds credentials|refusing to connect/);
  }
  assert.throws(() => hostGuard(['localhost:443'])(new URL('https://localhost:8443')), /refusing/);
  hostGuard(['localhost:443'])(new URL('https://localhost'));
});
