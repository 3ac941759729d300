// A page of Vite behind the gateway in a real Chromium: it is used, then its source is edited, and the page changes without a reload.
//
// ADDRESS: the gateway's. FILE: the source of the page's component. Needs playwright-core in NODE_PATH.
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";
import assert from "node:assert/strict";

const require = createRequire(`${process.env.NODE_PATH}/`);
const { chromium } = require("playwright-core");
const { ADDRESS, FILE, CHROMIUM = "/usr/bin/chromium" } = process.env;

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage();
page.setDefaultTimeout(60_000);
const complaints = [];
page.on("pageerror", (error) => complaints.push(String(error)));
const socket = page.waitForEvent("websocket");

await page.goto(ADDRESS);
await page.getByRole("heading", { name: "Items" }).waitFor();
assert.equal(new URL((await socket).url()).host, new URL(ADDRESS).host, "hot reload goes through the gateway");
await page.getByLabel("name").fill("made in the browser");
await page.getByRole("button", { name: "Add" }).click();
await page.getByRole("listitem").filter({ hasText: "made in the browser" }).waitFor();
console.log("ok the page reads and writes through the gateway");

await page.evaluate(() => { globalThis.sameDocument = true; });
writeFileSync(FILE, readFileSync(FILE, "utf8").replace("<h1>Items</h1>", "<h1>All items</h1>"));
await page.getByRole("heading", { name: "All items" }).waitFor();
assert.equal(await page.evaluate(() => globalThis.sameDocument), true, "the page was not loaded again");
assert.deepEqual(complaints, []);
console.log("ok an edit shows without a reload");
await browser.close();
