// The terminal of a service: rows of text come from the server, keys go to it. No sequence of the service is interpreted here.
import { h, say } from "/dom.js";
import { Invalid, terminal, sendKeys } from "/server.js";

const COLORS = ["#8b949e", "#ff7b72", "#6fd199", "#e9bf5b", "#7db8f5", "#d2a8ff", "#56d4dd", "#e6e9ec", "#a6b0ba", "#ffa198", "#8ee8b4", "#f5d483", "#a5cdf8", "#e2c5ff", "#8ce5ec", "#ffffff"];
const BACKGROUNDS = ["#000000", "#7a1614", "#14532d", "#5c4400", "#0b3b73", "#5b2a7a", "#0b4f57", "#4a525a", "#2b3238", "#8f2320", "#1c6b3d", "#735600", "#12509a", "#6f3894", "#12656f", "#5f6871"];
const FG = "#e6e9ec";
const BG = "#14171a";

// A number of the palette of 256, or `#rrggbb`.
function color(value, palette) {
  if (typeof value === "string") return /^#[0-9a-f]{6}$/.test(value) ? value : null;
  if (typeof value !== "number") return null;
  if (value < 16) return palette[value];
  if (value >= 232) { const grey = 8 + (value - 232) * 10; return `rgb(${grey},${grey},${grey})`; }
  const level = (part) => part === 0 ? 0 : 55 + part * 40;
  const cube = value - 16;
  return `rgb(${level(Math.floor(cube / 36))},${level(Math.floor(cube / 6) % 6)},${level(cube % 6)})`;
}

function runElement([text, letters = "", foreground = null, background = null]) {
  if (letters === "" && foreground === null && background === null) return text;
  const span = h("span", {}, text);
  let [fg, bg] = [color(foreground, COLORS), color(background, BACKGROUNDS)];
  if (letters.includes("r")) [fg, bg] = [bg ?? BG, fg ?? FG];
  if (fg) span.style.color = fg;
  if (bg) span.style.backgroundColor = bg;
  if (letters.includes("b")) span.style.fontWeight = "700";
  if (letters.includes("i")) span.style.fontStyle = "italic";
  if (letters.includes("u")) span.style.textDecoration = "underline";
  if (letters.includes("d")) span.style.opacity = ".75";
  if (letters.includes("w")) { span.style.display = "inline-block"; span.style.width = "2ch"; }
  return span;
}

const NAMED = { Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b", Insert: "\x1b[2~", Delete: "\x1b[3~", PageUp: "\x1b[5~", PageDown: "\x1b[6~",
  F1: "\x1bOP", F2: "\x1bOQ", F3: "\x1bOR", F4: "\x1bOS", F5: "\x1b[15~", F6: "\x1b[17~", F7: "\x1b[18~", F8: "\x1b[19~", F9: "\x1b[20~", F10: "\x1b[21~" };
const MOVES = { ArrowUp: "A", ArrowDown: "B", ArrowRight: "C", ArrowLeft: "D", Home: "H", End: "F" };

// What a terminal sends for a key; null: the browser's own, or text that comes as input.
export function keyText(event, applicationCursor) {
  const { key, ctrlKey, altKey, metaKey, shiftKey } = event;
  if (event.isComposing || metaKey) return null;
  if (MOVES[key]) {
    const modifiers = 1 + (shiftKey ? 1 : 0) + (altKey ? 2 : 0) + (ctrlKey ? 4 : 0);
    if (modifiers > 1) return `\x1b[1;${modifiers}${MOVES[key]}`;
    return `\x1b${applicationCursor ? "O" : "["}${MOVES[key]}`;
  }
  if (key === "Tab" && shiftKey) return "\x1b[Z";
  if (NAMED[key]) return altKey ? `\x1b${NAMED[key]}` : NAMED[key];
  if (key.length !== 1) return null;
  if (ctrlKey && !altKey) {
    // Copying and pasting are the browser's.
    if (shiftKey || key === "v" || (key === "c" && !getSelection().isCollapsed)) return null;
    if (key === " ") return "\0";
    const code = key.toUpperCase().charCodeAt(0);
    return code >= 64 && code < 96 ? String.fromCharCode(code - 64) : null;
  }
  return altKey && !ctrlKey ? `\x1b${key}` : null;
}

export function terminalView(name) {
  const screen = h("pre", { class: "screen", id: "screen" });
  const cursor = h("span", { class: "cursor" });
  const keys = h("textarea", { class: "keys", "aria-label": `Terminal of ${name}`, "aria-describedby": "terminal-help screen", autocapitalize: "off", autocomplete: "off", autocorrect: "off", spellcheck: "false", rows: "1" });
  const frame = h("div", { class: "terminal" }, screen, cursor, keys);
  const stateText = h("span", { role: "status", id: "terminal-state" }, "attaching …");
  let [number, size, applicationCursor, bracketed, ended] = [null, null, false, false, false];
  let stop = new AbortController();

  const fitting = () => {
    const probe = h("span", {}, "0".repeat(50));
    const line = h("div", {}, probe);
    screen.append(line);
    const [width, height] = [probe.getBoundingClientRect().width / 50, line.getBoundingClientRect().height];
    line.remove();
    const style = getComputedStyle(frame);
    const inner = (whole, from, to) => whole - parseFloat(style[from]) - parseFloat(style[to]);
    return [Math.max(10, Math.floor(inner(frame.clientWidth, "paddingLeft", "paddingRight") / width)), Math.max(3, Math.floor(inner(frame.clientHeight, "paddingTop", "paddingBottom") / height))];
  };
  const show = (update) => {
    if (update.terminal !== undefined) {
      number = update.terminal;
      stateText.textContent = "attached";
      screen.replaceChildren();
    }
    size = update.size;
    while (screen.childElementCount > size[1]) screen.lastElementChild.remove();
    while (screen.childElementCount < size[1]) screen.append(h("div", {}));
    for (const [row, runs] of Object.entries(update.rows)) screen.children[row]?.replaceChildren(...runs.map(runElement));
    cursor.hidden = update.cursor === null;
    if (update.cursor) for (const one of [cursor, keys]) { one.style.left = `calc(.5rem + ${update.cursor[1]}ch)`; one.style.top = `calc(.4rem + ${update.cursor[0]} * var(--line))`; }
    applicationCursor = update.application_cursor;
    bracketed = update.bracketed_paste;
    ended = update.ended === true;
  };
  // `again`: a change may be the end itself, of which the page knows first; then what it says stays.
  const attach = async (again = false) => {
    stop = new AbortController();
    ended = false;
    try {
      size = fitting();
      await terminal(name, size, stop.signal, show);
      ended = true;
      stateText.textContent = `${name} has ended, or its output was too fast to follow; it is attached again when something changes`;
    } catch (error) {
      if (stop.signal.aborted) return;
      // A service without a terminal is asked once, not at every change.
      ended = !(error instanceof Invalid);
      if (!again) stateText.textContent = error.message;
    }
    number = null;
    cursor.hidden = true;
  };

  let waiting = "";
  let sending = false;
  const send = async (text) => {
    waiting += text;
    if (sending) return;
    sending = true;
    while (waiting !== "" && number !== null) {
      // Not between the two halves of a character.
      const cut = /[\ud800-\udbff]/.test(waiting[1499] ?? "") ? 1499 : 1500;
      const part = waiting.slice(0, cut);
      waiting = waiting.slice(cut);
      try {
        await sendKeys({ terminal: number, keys: part });
      } catch (error) {
        say(error.message);
        waiting = "";
      }
    }
    waiting = "";
    sending = false;
  };
  keys.addEventListener("keydown", (event) => {
    if (event.ctrlKey && event.key === "]") {
      event.preventDefault();
      location.hash = `#/service/${encodeURIComponent(name)}`;
      return;
    }
    const text = keyText(event, applicationCursor);
    if (text === null) return;
    event.preventDefault();
    send(text);
  });
  keys.addEventListener("input", (event) => {
    if (event.isComposing) return;
    const text = keys.value;
    keys.value = "";
    if (text !== "") send(text.replace(/\r?\n/g, "\r"));
  });
  keys.addEventListener("compositionend", () => { const text = keys.value; keys.value = ""; if (text !== "") send(text); });
  keys.addEventListener("paste", (event) => {
    event.preventDefault();
    const text = event.clipboardData.getData("text/plain").replace(/\r?\n/g, "\r");
    send(bracketed ? `\x1b[200~${text.replaceAll("\x1b[201~", "")}\x1b[201~` : text);
  });
  frame.addEventListener("mouseup", () => { if (getSelection().isCollapsed) keys.focus(); });
  const resized = new ResizeObserver(() => {
    if (number === null) return;
    const now = fitting();
    if (now[0] === size[0] && now[1] === size[1]) return;
    size = now;
    sendKeys({ terminal: number, size: now }).catch((error) => say(error.message));
  });
  return {
    element: [
      h("h2", {}, `Terminal of ${name}`),
      h("div", { class: "bar" }, h("a", { href: `#/service/${encodeURIComponent(name)}` }, "detach"), stateText, h("span", { class: "dim", id: "terminal-help" }, "Keys go to the service; Ctrl-] detaches.")),
      frame,
    ],
    opened: () => { resized.observe(frame); keys.focus(); attach(); },
    changed: (what, status) => { if (ended && status.services.some((one) => one.name === name && one.pid)) attach(true); },
    close: () => { resized.disconnect(); stop.abort(); },
  };
}
