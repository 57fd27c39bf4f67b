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

/**
 * What an error code of Salesforce's REST API or of OAuth 2.0 asks for; any other says that the query is wrong.
 * Lists: "Status Codes and Error Responses" of the REST API, "ExceptionCode" of the SOAP API, "OAuth 2.0 Authorization Errors", RFC 6749.
 */
const AGAIN = new Set(['API_CURRENTLY_UNAVAILABLE', 'CONCURRENT_REQUESTS_LIMIT', 'QUERY_TIMEOUT', 'REQUEST_LIMIT_EXCEEDED', 'REQUEST_RUNNING_TOO_LONG', 'SERVER_UNAVAILABLE',
  'SERVICE_UNAVAILABLE', 'TOTAL_REQUESTS_LIMIT_EXCEEDED', 'UNABLE_TO_LOCK_ROW', 'UNKNOWN_EXCEPTION', 'rate_limit_exceeded', 'server_error', 'temporarily_unavailable', 'unknown_error']);
const QUERY_ANEW = new Set(['INVALID_QUERY_LOCATOR']);
const CREDENTIALS = new Set(['API_CURRENTLY_DISABLED', 'API_DISABLED_FOR_ORG', 'INSUFFICIENT_ACCESS', 'INVALID_AUTH_HEADER', 'INVALID_LOGIN', 'INVALID_SESSION_ID',
  'LOGIN_DURING_RESTRICTED_DOMAIN', 'LOGIN_DURING_RESTRICTED_TIME', 'ORG_LOCKED', 'PASSWORD_LOCKOUT', 'TRIAL_EXPIRED', 'USER_INACTIVE']);

/** The query has to begin anew: what came of it is no use without the rest. Repeating one request would not help. */
class QueryEnded extends RunError {}

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

/**
 * Yields one row after another, as functions from a column's index to its raw value. Throws TransientError where
 * everything has to begin anew, rows that came already included.
 */
export async function* customers(dataUrl, source, options) {
  try {
    yield* records(dataUrl, source, options);
  } catch (error) {
    throw error instanceof QueryEnded ? new TransientError(error.message) : error;
  }
}

async function* records(dataUrl, { hosts, clientId, clientSecret }, { log, signal, retry }) {
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
        if (fresh.instance_url !== conn.instanceUrl) throw new QueryEnded(`${origin} moved the session to another instance`);
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
  const { totalSize } = page;
  if (!Number.isInteger(totalSize)) throw noPage(origin);
  let received = 0;
  for (;;) {
    refusals = 0;
    received += page.records.length;
    for (const record of page.records) {
      yield (index) => {
        const { name, object } = schema.attributes[index] ?? schema.target;
        return (object === 'area' ? record.Area__r : record)?.[`${name}__c`];
      };
    }
    if (page.done && received !== totalSize) throw new QueryEnded(`${origin} sent ${received} of the ${totalSize} records that the query has`);
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
    if (AGAIN.has(error.name) || /rate (limit )?exceeded/i.test(error.message)) {
      throw new TransientError(`${origin} does not answer the log-in now (${oneLine(`${error.name}: ${error.message}`, 200)})`);
    }
    throw new InputError(`${origin} refuses the Salesforce credentials (${oneLine(`${error.name}: ${error.message}`, 200)}); check the Nomad Variable of the job`);
  }
  keepSecret(answer?.access_token);
  if (typeof answer?.access_token !== 'string' || typeof answer?.instance_url !== 'string') {
    throw new InputError(`${origin} answers the log-in with something that is not a token; check that it is Salesforce`);
  }
  return answer;
}

const noPage = (origin) => new InputError(`${origin} answers the query with something that is not a page of records; check that it is Salesforce`);

function queryError(error, origin) {
  // jsforce takes a page apart unseen
  if (error instanceof TypeError) return noPage(origin);
  const text = oneLine(`${error.name}: ${error.message}`, 250);
  if (AGAIN.has(error.name)) return new TransientError(`${origin} does not answer the query now (${text})`);
  if (QUERY_ANEW.has(error.name)) return new QueryEnded(`${origin} has ended the query before its last page (${text})`);
  if (CREDENTIALS.has(error.name)) {
    return new InputError(`${origin} lets these credentials read nothing (${text}); have an administrator there allow the connected app's user the API, or check the Nomad Variable of the job`);
  }
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
    const text = Buffer.concat(chunks).toString('utf8');
    // Salesforce's page of a maintenance says 200.
    if (response.statusCode < 300 && text.trimStart().startsWith('<')) throw new TransientError(`${new URL(url).host} answers with a page for people, as in a maintenance; check that it is Salesforce`);
    return { statusCode: response.statusCode, headers: response.headers, body: text };
  };
  return { httpRequest: (request) => StreamPromise.create(() => ({ stream: new PassThrough().end(), promise: exchange(request) })) };
}
