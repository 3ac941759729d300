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
// A step that fails says what was on the page.
const step = async (name, work) => {
  try {
    await work();
  } catch (error) {
    const text = await page.locator("body").innerText().catch((gone) => String(gone));
    console.error(`step "${name}" failed at ${page.url()} with:\n${text.slice(0, 4000)}\ncomplaints: ${complaints.join("; ")}`);
    throw error;
  }
  console.log(`ok ${name}`);
};
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
  // From the match back towards newer lines, and a time by the calendar.
  await page.getByLabel("Search", { exact: true }).fill("job line [23]$");
  await page.getByRole("button", { name: "Older match", exact: true }).click();
  const foundText = () => page.locator(".found").first().innerText().catch(() => "");
  await wait("the newest match", async () => /line 3$/.test(await foundText()));
  await page.getByRole("button", { name: "Older match", exact: true }).click();
  await wait("an older match", async () => /line 2$/.test(await foundText()));
  await page.getByRole("button", { name: "Newer match", exact: true }).click();
  await wait("a newer match", async () => /line 3$/.test(await foundText()));
  await page.getByLabel("At", { exact: true }).fill("2001-02-03T04:05:06");
  await wait("an address with the time", () => /time=98\d+000000$/.test(page.url()));
  await log.getByText(/job line 1$/).first().waitFor();
  await page.getByRole("button", { name: "Follow", exact: true }).click();
  await wait("no time in the address", () => !page.url().includes("time="));
  await page.getByLabel("Service", { exact: true }).selectOption("api");
  await page.getByRole("heading", { name: "Log of api" }).waitFor();
});
await step("timeline, with the logs of a moment", async () => {
  await page.getByRole("link", { name: "Timeline" }).click();
  await page.getByRole("img", { name: /States of each service/ }).waitFor();
  await wait("a span of each state", async () => (await page.locator("svg .span").count()) >= 6);
  // It is drawn again at each change: the element that was found may be gone when it is measured.
  let box;
  const drawn = async () => {
    box = await page.locator("main svg").boundingBox();
    return (box?.height ?? 0) > 80;
  };
  await wait("the height of the drawing", drawn);
  const titles = await page.locator("svg .span title").allTextContents();
  assert.ok(titles.some((text) => text.startsWith("worker: stopped")), titles.join("\n"));
  await page.getByLabel("Moment", { exact: true }).focus();
  await page.keyboard.press("Home");
  await page.getByRole("log").waitFor();
  await wait("lines of that moment", async () => (await page.getByRole("log").innerText()).length > 0);
  await accessible("timeline");
  await picture("web-timeline");
  // A click on the drawing chooses a moment, which is a permalink; what happens next is drawn without a reload, and the moment stays.
  await wait("the drawing", drawn);
  await page.mouse.click(box.x + box.width / 2, box.y + 20);
  await wait("the middle", async () => Math.abs(Number(await page.getByLabel("Moment", { exact: true }).inputValue()) - 410) < 60);
  const moment = await page.locator("output").innerText();
  const spans = await page.locator("svg .span").count();
  devrun("restart", "console");
  await wait("the restart is drawn", async () => (await page.locator("svg .span").count()) > spans);
  assert.equal(await page.locator("output").innerText(), moment);
  // What is chosen while the answers for the next drawing are under way stays.
  const mark = () => page.locator("svg").first().evaluate((drawing) => { drawing.dataset.old = "yes"; });
  const another = async () => (await page.locator("svg[data-old]").count()) === 0;
  let release;
  const held = new Promise((go) => { release = go; });
  const asked = page.waitForRequest("**/api/events*");
  await page.route("**/api/events*", async (route) => { await held; await route.continue(); });
  devrun("restart", "console");
  await asked;
  await mark();
  await page.getByLabel("Moment", { exact: true }).evaluate((range) => { range.value = "700"; range.dispatchEvent(new Event("change")); });
  const later = await page.locator("output").innerText();
  release();
  await wait("drawn again", another);
  assert.equal(await page.locator("output").innerText(), later);
  await page.unroute("**/api/events*");
  // A new drawing waits for the end of a press: it would make a press of the button no click.
  await wait("the drawing", drawn);
  await mark();
  await page.mouse.move(box.x + box.width / 4, box.y + 20);
  await page.mouse.down();
  const answered = page.waitForResponse("**/api/events*");
  devrun("restart", "console");
  await (await answered).finished();
  await page.mouse.up();
  await wait("drawn after the press", another);
  await wait("a quarter", async () => Math.abs(Number(await page.getByLabel("Moment", { exact: true }).inputValue()) - 119) < 60);
  await page.getByRole("link", { name: "open this moment in the logs" }).click();
  await page.getByRole("heading", { name: "Log of all services" }).waitFor();
  assert.match(page.url(), /time=\d+$/);
  await page.getByRole("log").getByText(/./).first().waitFor();
});
await step("a view without an answer is asked for again", async () => {
  const before = complaints.length;
  await page.route("**/api/telemetry*", (route) => route.abort());
  await page.getByRole("link", { name: "Traces" }).click();
  await page.getByRole("heading", { name: "There is no answer" }).waitFor();
  await page.unroute("**/api/telemetry*");
  await page.getByRole("heading", { name: "Traces", exact: true }).waitFor();
  // The browser says that the request came to nothing.
  complaints.length = before;
});
await step("traces come without a reload", async () => {
  await page.getByRole("link", { name: "Traces" }).click();
  await page.getByRole("row").filter({ hasText: "GET /<i>orders</i>" }).waitFor();
  const sent = Date.now();
  execFileSync(process.env.SEND, ["a live one"]);
  await page.getByRole("row").filter({ hasText: "a live one" }).waitFor();
  console.log(`   a trace was shown after ${Date.now() - sent} ms`);
  await page.getByRole("link", { name: "Timeline" }).click();
  // Behind the drawing's own click lies that of the span.
  const trace = page.locator("svg .trace").first();
  await trace.waitFor();
  await trace.dispatchEvent("click");
  await page.getByRole("img", { name: /Spans of the trace/ }).waitFor();
});
await step("traces: spans, logs of the trace, secrets masked", async () => {
  await page.getByRole("link", { name: "Traces" }).click();
  await page.getByRole("row").filter({ hasText: "GET /<i>orders</i>" }).filter({ hasText: "api, worker" }).waitFor();
  await page.getByRole("row").filter({ hasText: "stock is empty" }).getByRole("link", { name: "trace" }).click();
  await page.getByRole("heading", { name: "Trace of GET /<i>orders</i>" }).waitFor();
  await page.goBack();
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
  await page.locator("svg a").filter({ hasText: "worker" }).click();
  await page.getByRole("heading", { name: "worker" }).waitFor();
});
await step("events", async () => {
  await page.getByRole("link", { name: "Events" }).click();
  await page.getByRole("row").nth(5).waitFor();
  await accessible("events");
  await page.getByRole("row").nth(1).getByRole("link").click();
  await page.getByRole("heading", { name: /^Log of / }).waitFor();
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
await step("one service: stop, start, scale, its whole log", async () => {
  await page.getByRole("link", { name: "Services", exact: true }).click();
  await page.getByRole("link", { name: "worker", exact: true }).click();
  await page.getByRole("button", { name: "stop worker", exact: true }).click();
  await page.getByText("stop worker: done").waitFor();
  await page.locator("#why").getByText(/stopped/).first().waitFor();
  await page.getByRole("button", { name: "start worker", exact: true }).click();
  await page.getByText("start worker: done").waitFor();
  const copies = page.getByLabel("Copies", { exact: true });
  assert.equal(await copies.inputValue(), "1");
  await copies.fill("2");
  await copies.press("Enter");
  await page.getByText("scale worker 2: done").waitFor();
  await wait("a second copy", () => service("worker.2")?.state === "running");
  await accessible("a scaled service");
  await copies.fill("1");
  await page.getByRole("button", { name: "scale worker" }).click();
  await page.getByText("scale worker 1: done").waitFor();
  await wait("one copy", () => service("worker")?.state === "running" && service("worker.2") === undefined);
  await copies.fill("-1");
  await page.getByRole("button", { name: "scale worker" }).click();
  assert.equal(await page.getByText("scale worker -1").count(), 0, "the form refuses it");
  await page.getByRole("link", { name: "whole log" }).click();
  await page.getByRole("heading", { name: "Log of worker" }).waitFor();
});
await step("a terminal: typed at, pasted into, resized, ended, attached again", async () => {
  await page.goto(`${new URL("/", ADDRESS).href}#/service/console`);
  await page.getByRole("link", { name: "terminal", exact: true }).click();
  await page.getByText("attached", { exact: true }).waitFor();
  const screen = page.locator("#screen");
  const keys = page.getByLabel("Terminal of console");
  await wait("the keys have the focus", () => keys.evaluate((element) => element === document.activeElement));
  await page.keyboard.type("hello é <b>x</b>");
  await page.keyboard.press("Backspace");
  await page.keyboard.press("Enter");
  await screen.getByText("got hello é <b>x</b").waitFor();
  assert.equal(await screen.locator("b").count(), 0, "text stays text");
  await page.keyboard.type("wide");
  await page.keyboard.press("Enter");
  await screen.getByText("reversed", { exact: true }).waitFor();
  assert.equal(await screen.getByText("bold", { exact: true }).evaluate((element) => getComputedStyle(element).color), "rgb(255, 135, 0)");
  await keys.evaluate((element) => {
    const data = new DataTransfer();
    data.setData("text/plain", "pasted one\npasted two\n");
    element.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
  });
  await screen.getByText("got pasted two").waitFor();
  await accessible("terminal");
  await page.keyboard.type("size");
  await page.keyboard.press("Enter");
  await wait("a size", async () => /\n\d+ \d+\n/.test(await screen.innerText()));
  const before = /\n(\d+ \d+)\n/.exec(await screen.innerText())[1];
  await page.setViewportSize({ width: 800, height: 600 });
  await wait("another size", async () => {
    await page.keyboard.type("size");
    await page.keyboard.press("Enter");
    const sizes = [...(await screen.innerText()).matchAll(/^(\d+ \d+)$/gm)].map((found) => found[1]);
    return sizes.some((one) => one !== before);
  });
  await page.setViewportSize({ width: 1180, height: 760 });
  // Ctrl-C reaches the service: it ends, and the page attaches again when it runs.
  await page.keyboard.press("Control+c");
  await page.getByText("console has ended").waitFor();
  devrun("start", "console");
  await page.getByText("attached", { exact: true }).waitFor();
  await page.keyboard.type("again");
  await page.keyboard.press("Enter");
  await screen.getByText("got again").waitFor();
  await page.keyboard.press("Control+]");
  await page.getByRole("heading", { name: "console", exact: true }).waitFor();
  assert.equal(service("console").state, "running", "detaching ends nothing");
  // A service without one says so.
  await page.goto(`${new URL("/", ADDRESS).href}#/terminal/worker`);
  await page.getByText("worker has no terminal of its own").waitFor();
  // It is not asked for again when something changes.
  let attempts = 0;
  const count = (request) => { if (request.url().includes("/api/terminal?")) attempts += 1; };
  page.on("request", count);
  const runs = async (response) => response.url().includes("/api/status") && (await response.json()).services.some((one) => one.name === "worker" && one.pid);
  for (let turn = 0; turn < 3; turn += 1) await page.waitForResponse(runs);
  page.off("request", count);
  assert.equal(attempts, 0, "attempts to attach to what has no terminal");
  // The browser mentions the refusal.
  await wait("its mention", () => complaints.some((text) => text.includes("400")));
  complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes("400")));
});
await step("all services: restart, stop, start", async () => {
  await page.getByRole("link", { name: "Services", exact: true }).click();
  const before = service("api").pid;
  await page.getByRole("button", { name: "restart all services", exact: true }).click();
  await wait("another process", () => { const now = service("api"); return now.state === "running" && now.pid !== before; });
  await page.getByRole("button", { name: "stop all services", exact: true }).click();
  await wait("all stopped", () => ["stopped", undefined].includes(service("api")?.state));
  await page.getByRole("button", { name: "start all services", exact: true }).click();
  await wait("all running", () => service("api").state === "running" && service("worker").state === "running");
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
