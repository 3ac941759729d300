// The browser dashboard in a real Chromium: every view, every action, the keyboard, accessibility, a restart of the supervisor.
//
// Run by `scripts/browser-dashboard`, which makes the stack and gives: ADDRESS (with the token), DEVRUN (a command that runs
// devrun on the same stack), PICTURES (a directory, optional), ASSETS (optional: a directory whose files stand in for the page's own,
// while the page is worked on). Needs playwright-core and axe-core in NODE_PATH.
import { createRequire } from "node:module";
import { execFileSync } from "node:child_process";
import assert from "node:assert/strict";

const require = createRequire(`${process.env.NODE_PATH}/`);
const { chromium } = require("playwright-core");
const axe = require.resolve("axe-core/axe.min.js");
const { ADDRESS, DEVRUN, PICTURES, CHROMIUM = "/usr/bin/chromium" } = process.env;
const devrun = (...words) => execFileSync(DEVRUN, words, { encoding: "utf8" });
const service = (name) => JSON.parse(devrun("ps", "--json")).services.find((one) => one.name === name);

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
const context = await browser.newContext({ viewport: { width: 1180, height: 760 }, colorScheme: process.env.SCHEME ?? "light" });
const page = await context.newPage();
if (process.env.ASSETS) await page.route(/\/[a-z]+\.(js|css)$/, (route) => route.fulfill({ path: `${process.env.ASSETS}${new URL(route.request().url()).pathname}` }));
const complaints = [];
page.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(message.text()); });
page.on("pageerror", (error) => complaints.push(String(error)));
page.on("dialog", (dialog) => { complaints.push(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
const foreign = [];
page.on("request", (request) => { if (new URL(request.url()).origin !== new URL(ADDRESS).origin) foreign.push(request.url()); });

const picture = async (name) => { if (PICTURES) await page.screenshot({ path: `${PICTURES}/${name}.png` }); };
const step = async (name, work) => { await work(); console.log(`ok ${name}`); };
const wait = async (what, condition) => {
  for (let turn = 0; turn < 600; turn += 1) {
    if (await condition()) return;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`never came: ${what}`);
};
// Axe is put in by the debugger, which the page's policy does not concern.
const accessible = async (name) => {
  await page.evaluate(require("node:fs").readFileSync(axe, "utf8"));
  const { violations } = await page.evaluate(() => globalThis.axe.run(document));
  const found = violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ")}`);
  assert.deepEqual(found, [], `axe on ${name}`);
};

await step("without the token nothing is shown", async () => {
  await page.goto(new URL("/", ADDRESS).href);
  await page.getByText("The token is missing").waitFor();
  complaints.length = 0;
});
await step("services", async () => {
  await page.goto(ADDRESS);
  await page.getByRole("heading", { name: "Services" }).waitFor();
  assert.equal(new URL(page.url()).hash, "#/services", "the token is gone from the address");
  await page.getByRole("link", { name: "api", exact: true }).waitFor();
  await wait("memory", async () => (await page.locator("tbody").innerText()).includes("iB"));
  await accessible("services");
  await picture("web-services");
});
await step("stop, start, restart", async () => {
  await page.getByRole("button", { name: "stop worker", exact: true }).click();
  await wait("worker stopped", () => service("worker").state === "stopped");
  await page.getByRole("row", { name: /worker/ }).getByText("stopped").waitFor();
  await page.getByRole("button", { name: "start worker", exact: true }).click();
  await wait("worker running", () => service("worker").state === "running");
  const before = service("worker").pid;
  await page.getByRole("button", { name: "restart worker", exact: true }).focus();
  await page.keyboard.press("Enter");
  await wait("another process", () => { const now = service("worker"); return now.state === "running" && now.pid !== before; });
  await page.getByText("restart worker: done").waitFor();
});
await step("logs: text stays text, search, filter, follow", async () => {
  await page.getByRole("link", { name: "Logs", exact: true }).click();
  const log = page.getByRole("log");
  await log.getByText("<img src=x onerror=alert(1)>").first().waitFor();
  assert.equal(await log.locator("img").count(), 0);
  await page.getByLabel("Search", { exact: true }).fill("line 3$");
  await page.getByRole("button", { name: "Older match", exact: true }).click();
  await wait("a match", async () => /line 3$/.test(await page.locator(".found").first().innerText().catch(() => "")));
  await page.getByLabel("Filter", { exact: true }).fill("hello");
  await page.getByLabel("Filter", { exact: true }).press("Enter");
  await wait("filtered", async () => !(await log.innerText()).includes("line 3"));
  await page.getByLabel("Filter", { exact: true }).fill("");
  await page.getByLabel("Filter", { exact: true }).press("Enter");
  await page.getByRole("button", { name: "Follow", exact: true }).click();
  await wait("new lines", async () => {
    const count = async () => log.locator("div").last().innerText();
    const before = await count();
    await new Promise((done) => setTimeout(done, 1200));
    return (await count()) !== before;
  });
  await accessible("logs");
  await page.getByLabel("Service", { exact: true }).selectOption("api");
  await page.getByRole("heading", { name: "Log of api" }).waitFor();
});
await step("timeline, with the logs of a moment", async () => {
  await page.getByRole("link", { name: "Timeline" }).click();
  await page.getByRole("img", { name: /States of each service/ }).waitFor();
  assert.ok((await page.locator("svg .span").count()) >= 6);
  assert.ok((await page.locator("main svg").boundingBox()).height > 80, "the drawing has its height");
  const titles = await page.locator("svg .span title").allTextContents();
  assert.ok(titles.some((text) => text.startsWith("worker: stopped")), titles.join("\n"));
  await page.getByLabel("Moment", { exact: true }).focus();
  await page.keyboard.press("Home");
  await page.getByRole("log").waitFor();
  await wait("lines of that moment", async () => (await page.getByRole("log").innerText()).length > 0);
  await accessible("timeline");
  await picture("web-timeline");
});
await step("traces: spans, logs of the trace, secrets masked", async () => {
  await page.getByRole("link", { name: "Traces" }).click();
  await page.getByRole("row").filter({ hasText: "GET /<i>orders</i>" }).filter({ hasText: "api, worker" }).waitFor();
  await page.getByRole("row").filter({ hasText: "stock is empty" }).waitFor();
  await accessible("traces");
  await page.getByRole("link", { name: "GET /<i>orders</i>" }).click();
  await page.getByRole("img", { name: /Spans of the trace/ }).waitFor();
  assert.equal(await page.locator("svg rect.span").count(), 2);
  const text = await page.locator("main").textContent();
  assert.ok(text.includes("pack with") && !text.includes("s3cretvalue"), text);
  await page.getByRole("row").filter({ hasText: "stock is empty" }).waitFor();
  await accessible("one trace");
});
await step("graph", async () => {
  await page.getByRole("link", { name: "Graph" }).click();
  await page.locator("svg .node").first().waitFor();
  await page.getByText("As text").click();
  const line = page.getByRole("listitem").filter({ hasText: "api waits for db to be healthy" });
  await line.waitFor();
  // A change of the stack draws the view again: what was opened stays open.
  await page.locator("svg").first().evaluate((drawing) => { drawing.dataset.old = "yes"; });
  devrun("stop", "worker");
  await wait("drawn again", async () => (await page.locator("svg[data-old]").count()) === 0);
  assert.ok(await line.isVisible());
  devrun("start", "worker");
  await accessible("graph");
});
await step("events", async () => {
  await page.getByRole("link", { name: "Events" }).click();
  await page.getByRole("row").nth(5).waitFor();
  await accessible("events");
});
await step("one service: why, probes, masked environment", async () => {
  await page.goto(`${new URL("/", ADDRESS).href}#/service/api`);
  await page.locator("#why").waitFor();
  assert.match(await page.locator("#why").innerText(), /^api is running/);
  await page.getByRole("cell", { name: "passed" }).first().waitFor();
  await page.getByText(/variables$/).click();
  const text = await page.locator("main").innerText();
  assert.ok(!text.includes("s3cretvalue"), "the password is masked");
  assert.ok(text.includes("DB_PASSWORD"));
  await accessible("service");
});
await step("a restart of the supervisor", async () => {
  await page.getByRole("link", { name: "Services", exact: true }).click();
  devrun("down");
  await page.getByText("down: this is how it ended").waitFor();
  await page.getByRole("button", { name: "start all services", exact: true }).click();
  await wait("up again", async () => (await page.locator("#summary").innerText()).includes("running"));
  await wait("api", () => service("api").state === "running");
  // A question in the moment between two supervisors is answered with 503, which the browser mentions.
  const others = complaints.filter((text) => !text.includes("503"));
  complaints.splice(0, complaints.length, ...others);
});
await step("the keyboard reaches everything", async () => {
  await page.keyboard.press("Tab");
  const seen = new Set();
  for (let turn = 0; turn < 40; turn += 1) {
    seen.add(await page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent));
    await page.keyboard.press("Tab");
  }
  for (const name of ["Timeline", "stop all services", "restart worker"]) assert.ok(seen.has(name), [...seen].join(", "));
});
assert.deepEqual(foreign, [], "nothing is asked of another host");
assert.deepEqual(complaints, [], "no error in the console");
await browser.close();
console.log("all passed");
