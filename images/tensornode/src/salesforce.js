/**
 * Customers with their areas from Salesforce, through jsforce: client credentials, one SOQL query, page after page.
 * Owns which hosts may get credentials and tokens, and the mapping of objects and fields to columns.
 * jsforce sends through this module's transport, so that every address it uses passes net's checks and the list of hosts.
 */
import { createRequire } from 'node:module';
import { PassThrough } from 'node:stream';

import { InputError, RunError, keepSecret, oneLine } from './errors.js';
import { TransientError, connectionError, parseUrl, send, withRetries } from './net.js';
import { schema } from './schema.js';

const require = createRequire(import.meta.url);
const { Connection, OAuth2 } = require('jsforce/lib/core');
const { StreamPromise } = require('jsforce/lib/util/promise');

const API_VERSION = '60.0';
const PAGE_BYTES = 64 * 2 ** 20;
const REFUSALS_IN_A_ROW = 2;

const field = ({ name, object }) => `${object === 'area' ? 'Area__r.' : ''}${name}__c`;

/** The one query: attributes of the customer and of its area, in the order of the schema. */
export const SOQL = `SELECT ${[...schema.attributes, schema.target].map(field).join(', ')} FROM Customer__c ORDER BY Id`;

/** The https URL behind salesforce+https://HOST[:PORT], whose host must be on the list. */
export function loginUrl(dataUrl, hosts) {
  const url = parseUrl(dataUrl.replace(/^salesforce\+/i, ''));
  if (url.pathname !== '/' || url.search || url.hash) {
    throw new InputError(`DATA_URL is ${oneLine(dataUrl, 200)}; for Salesforce give salesforce+https://HOST[:PORT] and nothing after it`);
  }
  hostGuard(hosts)(url);
  return url.origin;
}

/** A check that passes only https URLs whose host (and port, where the entry names one) is on the list. */
export function hostGuard(hosts) {
  const allowed = new Set(hosts.map((host) => host.toLowerCase()));
  return (url) => {
    const port = url.port || '443';
    if (url.protocol === 'https:' && (allowed.has(url.hostname) || allowed.has(`${url.hostname}:${port}`))) return;
    const list = hosts.length > 0 ? hosts.join(', ') : 'empty';
    throw new InputError(`refusing to send Salesforce credentials or tokens to ${url.origin}: SALESFORCE_HOSTS is ${list}; correct the host, or have the stack allow it`);
  };
}

/** Yields one row after another, as functions from a column's index to its raw value. */
export async function* customers(dataUrl, { hosts, clientId, clientSecret }, { log, signal, retry }) {
  const origin = loginUrl(dataUrl, hosts);
  if (!clientId || !clientSecret) {
    throw new InputError('SALESFORCE_CLIENT_ID and SALESFORCE_CLIENT_SECRET are needed for this DATA_URL; put them into the Nomad Variable of the job');
  }
  const transport = guardedTransport(hostGuard(hosts), signal);
  const oauth2 = new OAuth2({ loginUrl: origin, clientId, clientSecret });
  oauth2._transport = transport;
  const login = () => withRetries(() => token(oauth2, origin), { log, ...retry });

  let refusals = 0;
  let failure; // jsforce wraps what a refresh throws into an Error of its own; this keeps ours
  const { access_token: accessToken, instance_url: instanceUrl } = await login();
  const connection = new Connection({
    instanceUrl,
    accessToken,
    version: API_VERSION,
    refreshFn: async (conn, done) => {
      try {
        refusals += 1;
        if (refusals > REFUSALS_IN_A_ROW) throw new InputError(`${origin} refuses the tokens it has just given; check the connected app's rights`);
        log('the Salesforce session has expired; logging in again');
        const fresh = await login();
        if (fresh.instance_url !== conn.instanceUrl) throw new RunError(`${origin} moved the session to another instance; dispatch again`);
        done(null, fresh.access_token);
      } catch (error) {
        failure = error;
        done(error);
      }
    },
  });
  connection._transport = transport;

  const fetchPage = (ask) =>
    withRetries(
      async () => {
        try {
          return await ask();
        } catch (error) {
          const actual = failure ?? error;
          failure = undefined;
          throw actual instanceof InputError || actual instanceof RunError ? actual : queryError(actual, origin);
        }
      },
      { log, ...retry },
    );

  let page = await fetchPage(() => connection.query(SOQL, { autoFetch: false }));
  for (;;) {
    refusals = 0;
    for (const record of page.records) {
      yield (index) => {
        const { name, object } = schema.attributes[index] ?? schema.target;
        return (object === 'area' ? record.Area__r : record)?.[`${name}__c`];
      };
    }
    if (page.done) return;
    const next = page.nextRecordsUrl;
    if (typeof next !== 'string' || page.records.length === 0) throw new InputError(`${origin} says there are more records, but not where; check that it is Salesforce`);
    page = await fetchPage(() => connection.queryMore(next, { autoFetch: false }));
  }
}

async function token(oauth2, origin) {
  let answer;
  try {
    answer = await oauth2.requestToken({ grant_type: 'client_credentials' });
  } catch (error) {
    if (error instanceof InputError || error instanceof RunError) throw error;
    throw new InputError(`${origin} refuses the Salesforce credentials (${oneLine(`${error.name}: ${error.message}`, 200)}); check the Nomad Variable of the job`);
  }
  keepSecret(answer?.access_token);
  if (typeof answer?.access_token !== 'string' || typeof answer?.instance_url !== 'string') {
    throw new InputError(`${origin} answers the log-in with something that is not a token; check that it is Salesforce`);
  }
  return answer;
}

function queryError(error, origin) {
  // jsforce takes a page apart unseen
  if (error instanceof TypeError) return new InputError(`${origin} answers the query with something that is not a page of records; check that it is Salesforce`);
  const text = oneLine(`${error.name}: ${error.message}`, 250);
  if (/LIMIT|UNABLE_TO_LOCK|SERVER_UNAVAILABLE/.test(error.name ?? '')) return new TransientError(`${origin} does not answer the query now (${text})`);
  return new InputError(`${origin} refuses the query (${text}); check the objects and fields there against the schema`);
}

/** What jsforce calls instead of its own HTTP: the same shape, through net.send. */
function guardedTransport(check, signal) {
  const exchange = async ({ method, url, headers, body }) => {
    const response = await send(url, { method, headers, body, signal, check });
    const chunks = [];
    let bytes = 0;
    try {
      for await (const chunk of response) {
        bytes += chunk.length;
        if (bytes > PAGE_BYTES) throw new InputError(`${new URL(url).host} sends a page of more than ${PAGE_BYTES} bytes; check that it is Salesforce`);
        chunks.push(chunk);
      }
    } catch (error) {
      throw connectionError(error, new URL(url).host);
    }
    return { statusCode: response.statusCode, headers: response.headers, body: Buffer.concat(chunks).toString('utf8') };
  };
  return { httpRequest: (request) => StreamPromise.create(() => ({ stream: new PassThrough().end(), promise: exchange(request) })) };
}
