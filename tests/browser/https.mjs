// A page and its WebSocket by HTTPS through the gateway in a real Chromium, which knows the local authority from the certificate
// database of its user, and one that does not know it.
//
// ADDRESSES: the gateway's, with a blank in between. HOME: where the database is. STRANGER: a home directory without one. Needs
// playwright-core in NODE_PATH.
import { createRequire } from "node:module";
import assert from "node:assert/strict";

const require = createRequire(`${process.env.NODE_PATH}/`);
const { chromium } = require("playwright-core");
const { ADDRESSES, HOME, STRANGER, CHROMIUM = "/usr/bin/chromium" } = process.env;

async function open(home, work) {
  const env = { ...process.env, HOME: home, XDG_CONFIG_HOME: `${home}/.config`, XDG_DATA_HOME: `${home}/.local/share` };
  const browser = await chromium.launch({ executablePath: CHROMIUM, env, args: ["--no-sandbox", "--disable-gpu"] });
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(60_000);
    await work(page);
  } finally {
    await browser.close();
  }
}

const addresses = ADDRESSES.split(" ");
await open(HOME, async (page) => {
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure().errorText}`));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  for (const address of addresses) {
    const socket = page.waitForEvent("websocket");
    const response = await page.goto(address);
    assert.equal(response.status(), 200);
    const security = await response.securityDetails();
    assert.match(security.issuer, /^devrun local CA /);
    assert.equal(security.protocol, "TLS 1.3");
    assert.equal(await page.evaluate(() => globalThis.isSecureContext), true);
    const url = new URL((await socket).url());
    assert.deepEqual([url.protocol, url.host], ["wss:", new URL(address).host]);
    await page.getByText("echo of hello").waitFor();
    assert.equal(await page.evaluate(async () => (await fetch("/data")).text()), "data");
    console.log(`ok ${new URL(address).hostname} by HTTPS and wss`);
  }
  assert.deepEqual(complaints, []);
});

await open(STRANGER, async (page) => {
  await assert.rejects(page.goto(addresses[0]), /ERR_CERT_AUTHORITY_INVALID/);
  console.log("ok without the authority it is refused");
});
