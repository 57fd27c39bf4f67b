/**
 * The two kinds of failure that people see, and how any error becomes one line for them.
 * Owns wording rules and exit codes; does not print.
 */

/** Bad input or a definite no: repeating would say the same. Exit code 2. */
export class InputError extends Error {
  exitCode = 2;
}

/** Something outside failed (network, disk): a repeat may succeed. Exit code 1. */
export class RunError extends Error {
  exitCode = 1;
}

const secrets = new Set();

/** Remembers a value that must never be shown; `describe` blanks it, even where a remote server echoes it. */
export function keepSecret(value) {
  if (value) secrets.add(value);
}

/** Blanks secrets in a text of any length. */
export function redact(text) {
  let safe = String(text);
  for (const secret of secrets) safe = safe.replaceAll(secret, '***');
  return safe;
}

/** Text from anywhere (a server's answer, say) as one short line without control characters and secrets. */
export function oneLine(text, limit = 600) {
  const line = redact(text).replace(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim();
  return line.length > limit ? `${line.slice(0, limit - 3)}...` : line;
}

/** The line for people and the exit code that belong to an error. */
export function describe(error) {
  if (error instanceof InputError || error instanceof RunError) {
    return { message: oneLine(error.message), exitCode: error.exitCode, expected: true };
  }
  if (error?.code === 'ENOSPC' || error?.code === 'EDQUOT') {
    const message = 'the disk that holds RUN_DIR is full; this run stores nothing: free space there, then dispatch again';
    return { message, exitCode: 1, expected: true };
  }
  if (error?.code === 'EPIPE') return { message: 'nobody reads the output any more; stopped', exitCode: 1, expected: true };
  if (['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EISDIR', 'EIO'].includes(error?.code) && error.path) {
    const message = `cannot use ${error.path} (${error.code}); this run stores nothing: let this user read and write there`;
    return { message: oneLine(message), exitCode: 1, expected: true };
  }
  return { message: oneLine(`internal error: ${error?.message ?? error}`), exitCode: 1, expected: false };
}
