// Databases for tests. Everything is asked of the command `devrun`, so this holds no protocol and needs no driver.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** Runs a devrun command and returns its standard output. `options.command` and `options.cwd` say which one and where. */
export async function devrun(words, options = {}) {
  const command = options.command ?? process.env.DEVRUN ?? 'devrun';
  try {
    const { stdout } = await execute(command, words, { cwd: options.cwd, maxBuffer: 64 << 20 });
    return stdout;
  } catch (error) {
    throw new Error(`devrun ${words.join(' ')} exited with ${error.code}:\n${String(error.stderr ?? error.message).trim()}`);
  }
}

/** Starts the stack unless it is up. Returns a function that stops it again in that case only. */
export async function startStack(options = {}) {
  const before = JSON.parse(await devrun(['ps', '--json'], options));
  // A second `up` starts no second stack, and waits until the first is ready.
  await devrun(['up', '-d'], options);
  return async () => {
    if (before.supervisor_pid === null) await devrun(['down'], options);
  };
}

/**
 * A fresh database: `{ database, url, env, drop }`. It goes with this process at the latest. Given the context of a
 * node:test, or anything else with `after(fn)`, it is dropped after that test.
 */
export async function forkDatabase(test, options = {}) {
  const words = ['db', 'fork', ...(options.service ? [options.service] : []), '--pid', String(process.pid), '--json'];
  const made = JSON.parse(await devrun(words, options));
  const drop = () => devrun(['db', 'drop', made.database], options).then(() => undefined);
  test?.after?.(drop);
  return { ...made, drop };
}
