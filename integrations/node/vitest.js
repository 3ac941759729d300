// vitest: `globalSetup: ['devrun-node/vitest']`. The stack is up while the tests run.
import { startStack } from './index.js';

export default async function setup(project) {
  // vitest 3 passes the project, earlier versions an object with its configuration.
  const cwd = project?.config?.root;
  return startStack({ cwd });
}
