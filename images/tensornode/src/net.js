/**
 * HTTP for extract: one request at a time, to addresses that may be asked, with time-outs, redirects and retries.
 * Owns the refusal of link-local and metadata addresses (after DNS resolution, for every connection, so for every redirect
 * too) and what counts as passing trouble. Knows nothing of CSV, JSON or Salesforce.
 */
import dns from 'node:dns';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';

import pRetry from 'p-retry';

import { InputError, RunError, oneLine } from './errors.js';

const IDLE_MS = 30_000;
const REDIRECTS = 5;

/** Addresses through which clouds hand out credentials, and the ranges they lie in. */
const refused = new net.BlockList();
refused.addSubnet('169.254.0.0', 16, 'ipv4');
refused.addSubnet('fe80::', 10, 'ipv6');
refused.addAddress('fd00:ec2::254', 'ipv6'); // AWS
refused.addAddress('fd20:ce::254', 'ipv6'); // Google Cloud
refused.addAddress('100.100.100.200', 'ipv4'); // Alibaba Cloud
refused.addAddress('168.63.129.16', 'ipv4'); // Azure
refused.addAddress('192.0.0.192', 'ipv4'); // Oracle Cloud
for (const prefix of ['::', '::ffff:0:', '64:ff9b::']) {
  // IPv4 inside IPv6: compatible, translated, NAT64. The mapped form (::ffff:a.b.c.d) BlockList understands by itself.
  refused.addSubnet(`${prefix}a9fe:0`, 112, 'ipv6');
}
const refusedNames = new Set(['metadata', 'metadata.google.internal', 'metadata.goog', 'instance-data', 'instance-data.ec2.internal']);

class RefusedAddress extends InputError {}

/** Trouble that may pass; `withRetries` tries again. */
export class TransientError extends RunError {}

/** Throws if this address (an IP, as text) must not be asked. */
export function checkAddress(address, host = address) {
  const bare = address.split('%')[0];
  if (refused.check(bare, net.isIPv6(bare) ? 'ipv6' : 'ipv4')) {
    const reached = host === address ? '' : ` (reached as ${host})`;
    throw new RefusedAddress(`refusing to connect to ${address}${reached}: link-local and metadata addresses hold no training data; correct DATA_URL`);
  }
}

// The addresses are checked where they are handed to the socket, so that a name cannot resolve to one thing for the check and to another for the connection.
function lookup(host, options, done) {
  dns.lookup(host, options, (error, found, family) => {
    if (error) return done(error);
    try {
      for (const one of Array.isArray(found) ? found : [{ address: found }]) checkAddress(one.address, host);
    } catch (refusal) {
      return done(refusal);
    }
    done(null, found, family);
  });
}

const agents = {
  'http:': new http.Agent({ keepAlive: true, lookup }),
  'https:': new https.Agent({ keepAlive: true, lookup }),
};

/** Parses an http(s) URL for a request; refuses other schemes, credentials in it and refused names. */
export function parseUrl(text, what = 'DATA_URL', base = undefined) {
  let url;
  try {
    url = new URL(text, base);
  } catch {
    throw new InputError(`${what} is not a URL: ${JSON.stringify(oneLine(text, 200))}`);
  }
  if (!agents[url.protocol]) {
    throw new InputError(`${what} has the scheme ${url.protocol.slice(0, -1)}; use salesforce+https, https or http`);
  }
  if (url.username || url.password) {
    throw new InputError(`${what} holds credentials, which would be recorded with the model; take them out of the URL`);
  }
  const host = url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  if (refusedNames.has(host)) {
    throw new RefusedAddress(`refusing to connect to ${host}: link-local and metadata addresses hold no training data; correct DATA_URL`);
  }
  if (net.isIP(host)) checkAddress(host); // a literal address is never looked up
  return url;
}

/** A URL as it may be shown and recorded: values of query parameters that look like a signature or token are left out. */
export function publicUrl(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    return oneLine(text, 200);
  }
  // By the text: URLSearchParams would write everything else anew, longer and in another form.
  url.search = url.search.replace(/[^?&]+/g, (pair) => {
    const [name] = new URLSearchParams(pair).keys();
    return /sig|token|secret|key|passw|credential|auth/i.test(name) ? `${pair.split('=')[0]}=REDACTED` : pair;
  });
  if (url.username || url.password) url.username = url.password = '';
  url.hash = '';
  return url.href;
}

/**
 * Sends one request and follows redirects of GET. Resolves to the response (a stream) once its status is 2xx or 4xx;
 * a status of 5xx, 408, 425 or 429, and any failure of the connection, rejects with TransientError.
 * @param {string} target
 * @param {{method?: string, headers?: object, body?: string, signal?: AbortSignal, check?: (url: URL) => void}} options
 *   `check` is called with each URL before anything is sent there, redirects included.
 */
export async function send(target, { method = 'GET', headers = {}, body, signal, check } = {}) {
  let url = parseUrl(target);
  for (let hop = 0; hop <= REDIRECTS; hop += 1) {
    check?.(url);
    const response = await once(url, { method, headers, body, signal });
    const status = response.statusCode;
    if (status >= 500 || [408, 425, 429].includes(status)) {
      response.destroy();
      throw new TransientError(`${url.host} answers ${status} ${oneLine(response.statusMessage, 80)}`);
    }
    if (![301, 302, 303, 307, 308].includes(status)) return response;
    response.destroy();
    if (method !== 'GET') throw new InputError(`${url.host} redirects a ${method}, which is not followed; put the right host in DATA_URL`);
    const { location } = response.headers;
    if (!location) throw new InputError(`${url.host} redirects to nowhere; correct DATA_URL`);
    const next = parseUrl(location, 'the redirect', url);
    if (url.protocol === 'https:' && next.protocol !== 'https:') {
      throw new InputError(`${url.host} redirects from https to http at ${next.host}, which is refused; correct DATA_URL`);
    }
    url = next;
  }
  throw new InputError(`DATA_URL redirects more than ${REDIRECTS} times; give the address of the data itself`);
}

function once(url, { method, headers, body, signal }) {
  return new Promise((resolve, reject) => {
    const module = url.protocol === 'https:' ? https : http;
    const request = module.request(url, {
      method,
      headers: { 'user-agent': 'tensornode', 'accept-encoding': 'identity', ...headers },
      agent: agents[url.protocol],
      signal,
    });
    request.setTimeout(IDLE_MS, () => request.destroy(new TransientError(`${url.host} was silent for ${IDLE_MS / 1000} s`)));
    request.on('error', (error) => reject(connectionError(error, url.host)));
    request.on('response', (response) => {
      const encoding = response.headers['content-encoding'] ?? 'identity';
      if (encoding !== 'identity') {
        response.destroy();
        reject(new InputError(`${url.host} answers in the encoding ${oneLine(encoding, 40)}, though identity was asked; serve the data uncompressed`));
      } else resolve(response);
    });
    request.end(body);
  });
}

/** Any error of a socket as one of ours: a certificate stays wrong, other trouble may pass. */
export function connectionError(error, host) {
  if (error instanceof InputError || error instanceof RunError) return error;
  if (error?.name === 'AbortError' || error?.name === 'TimeoutError') return new RunError(`${host} took too long to deliver the data`);
  const code = error?.code ?? error?.name ?? 'error';
  if (/CERT|SELF_SIGNED|UNABLE_TO|ERR_TLS/.test(code)) {
    return new InputError(`the certificate of ${host} is not trusted (${code}); have its CA in NODE_EXTRA_CA_CERTS, or correct DATA_URL`);
  }
  return new TransientError(`cannot read from ${host} (${code})`);
}

/** Calls `attempt` until it succeeds, fails definitely, or has met passing trouble too often. */
export async function withRetries(attempt, { log = () => {}, retries = 4, minTimeout = 500 } = {}) {
  try {
    return await pRetry(attempt, {
      retries,
      minTimeout,
      randomize: true,
      shouldRetry: (error) => error instanceof TransientError,
      onFailedAttempt: (error) => {
        if (error instanceof TransientError && error.retriesLeft > 0) log(`${oneLine(error.message)}; trying again`);
      },
    });
  } catch (error) {
    if (error instanceof TransientError) {
      throw new RunError(`${error.message}, ${retries + 1} times; this run stores nothing: dispatch again once it is reachable`);
    }
    throw error;
  }
}
