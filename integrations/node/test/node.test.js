// The helpers under the real node:test, and vitest where it is installed. `DEVRUN` names the binary; `psql` is the client.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, symlinkSync, mkdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { devrun, forkDatabase, startStack } from '../index.js';

const here = dirname(dirname(fileURLToPath(import.meta.url)));
const cwd = mkdtempSync(join(tmpdir(), 'devrun-node-'));
const ask = (url, sql) => execFileSync('psql', ['-X', '-A', '-t', '-q', '-c', sql, url], { encoding: 'utf8' }).trim();
const running = async () => JSON.parse(await devrun(['ps', '--json'], { cwd })).supervisor_pid !== null;
let stop;

before(async () => {
  writeFileSync(
    join(cwd, 'procfile.toml'),
    '[project]\nname = "shop"\n[services.db]\nuse = "postgres"\nport = "auto"\nuser = "app"\ndatabase = "app"\ninit = ["10.sql"]\n',
  );
  writeFileSync(join(cwd, '10.sql'), 'create table orders (id int); insert into orders values (1), (2), (3);');
  stop = await startStack({ cwd });
});

after(async () => {
  await stop();
  assert.equal(await running(), false, 'a stack that was down is stopped again');
  rmSync(cwd, { recursive: true, force: true });
});

for (const turn of [1, 2]) {
  test(`each test has a database of its own (${turn})`, async (t) => {
    const { url, env } = await forkDatabase(t, { cwd });
    assert.equal(env.DATABASE_URL, url);
    assert.equal(ask(url, 'select count(*) from orders'), '3');
    ask(url, 'delete from orders');
  });
}

test('databases are dropped after their test', async () => {
  assert.deepEqual(JSON.parse(await devrun(['db', 'list', '--json'], { cwd })), []);
});

test('a stack that was up stays up', async () => {
  const again = await startStack({ cwd });
  await again();
  assert.equal(await running(), true);
});

test('a failure of devrun is shown', async () => {
  await assert.rejects(forkDatabase(undefined, { cwd, service: 'nobody' }), /nobody/);
});

test('vitest', async (t) => {
  const vitest = process.env.VITEST_DIR;
  if (!vitest || !existsSync(join(vitest, 'node_modules/vitest'))) return t.skip('VITEST_DIR names no directory with vitest installed');
  const folder = join(cwd, 'vitest');
  mkdirSync(folder);
  symlinkSync(join(vitest, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'vitest.config.js'), `export default { test: { globalSetup: [${JSON.stringify(join(here, 'vitest.js'))}] } };`);
  writeFileSync(
    join(folder, 'orders.test.js'),
    `import { forkDatabase } from ${JSON.stringify(join(here, 'index.js'))};
     import { execFileSync } from 'node:child_process';
     import { expect, onTestFinished, test } from 'vitest';
     const ask = (url, sql) => execFileSync('psql', ['-X', '-A', '-t', '-q', '-c', sql, url], { encoding: 'utf8' }).trim();
     for (const turn of [1, 2]) test('own database ' + turn, async () => {
       const { url, drop } = await forkDatabase();
       onTestFinished(drop);
       expect(ask(url, 'select count(*) from orders')).toBe('3');
       ask(url, 'delete from orders');
     }, 60000);`,
  );
  const done = spawnSync(join(folder, 'node_modules/.bin/vitest'), ['run'], { cwd: folder, encoding: 'utf8' });
  assert.equal(done.status, 0, done.stdout + done.stderr);
  assert.match(done.stdout, /2 passed/);
});
