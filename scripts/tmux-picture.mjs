// A screen of tmux (`capture-pane -p -e`) as a picture: only colours, bold, dim, italic and reverse are in it.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const require = createRequire(`${process.env.NODE_PATH}/`);
const { chromium } = require("playwright-core");
const [, , source, target] = process.argv;
const COLORS = ["#24292e", "#e5534b", "#57ab5a", "#c69026", "#539bf5", "#b083f0", "#39c5cf", "#adbac7"];
const BRIGHT = ["#636e7b", "#ff938a", "#8ddb8c", "#e0b558", "#79b8ff", "#d2a8ff", "#76e3ea", "#ffffff"];

const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
function style(state) {
  let [color, background] = [state.color ?? "#d3d9df", state.background ?? "#1b1f24"];
  if (state.reverse) [color, background] = [background, color];
  return `color:${color};background:${background}${state.bold ? ";font-weight:700" : ""}${state.dim ? ";opacity:.6" : ""}${state.italic ? ";font-style:italic" : ""}`;
}
let state = {};
const body = readFileSync(source, "utf8").split("\n").map((line) => line.split(/(\x1b\[[0-9;:]*m)/).map((part) => {
  const codes = /^\x1b\[([0-9;:]*)m$/.exec(part);
  if (!codes) return part ? `<span style="${style(state)}">${escape(part)}</span>` : "";
  const numbers = codes[1].split(/[;:]/).map(Number);
  for (let at = 0; at < numbers.length; at += 1) {
    const code = numbers[at];
    // The sixteen colours, as numbers of the palette of 256.
    if ((code === 38 || code === 48) && numbers[at + 1] === 5) {
      const found = numbers[at + 2] < 8 ? COLORS[numbers[at + 2]] : BRIGHT[numbers[at + 2] - 8];
      state[code === 38 ? "color" : "background"] = found;
      at += 2;
    } else if (code === 0) state = {};
    else if (code === 1) state.bold = true;
    else if (code === 2) state.dim = true;
    else if (code === 3) state.italic = true;
    else if (code === 7) state.reverse = true;
    else if (code >= 30 && code <= 37) state.color = COLORS[code - 30];
    else if (code >= 90 && code <= 97) state.color = BRIGHT[code - 90];
    else if (code === 39) delete state.color;
    else if (code >= 40 && code <= 47) state.background = COLORS[code - 40];
    else if (code === 49) delete state.background;
  }
  return "";
}).join("")).join("\n");
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage();
await page.setContent(`<body style="margin:0;background:#1b1f24"><pre style="display:inline-block;margin:0;padding:14px;font:15px/1.25 'DejaVu Sans Mono',monospace;color:#d3d9df;background:#1b1f24">${body}</pre>`);
await page.locator("pre").screenshot({ path: target });
await browser.close();
