// Elements from data. Text becomes text nodes and nothing else, so what a service prints is never markup.
const SVG = "http://www.w3.org/2000/svg";

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);
export const byId = (id) => document.getElementById(id);

// Other children, with the focus on the twin of the element that had it, and open what was opened.
export function refill(parent, children) {
  const name = (one) => one.getAttribute("aria-label") ?? one.getAttribute("href");
  const focused = parent.contains(document.activeElement) ? name(document.activeElement) : null;
  const opened = [...parent.querySelectorAll("details[open] > summary")].map((one) => one.textContent);
  parent.replaceChildren(...children.flat(Infinity).filter(Boolean));
  for (const one of parent.querySelectorAll("details > summary")) if (opened.includes(one.textContent)) one.parentElement.open = true;
  if (focused) [...parent.querySelectorAll("button, a")].find((one) => name(one) === focused)?.focus();
}

// A button of the mouse that is down holds back every new drawing: the browser reports no click where the pressed element is gone at the release.
let pressed = false;
let waiting = [];
function letGo() {
  pressed = false;
  const all = waiting;
  waiting = [];
  // The click comes after the release, in the same turn.
  setTimeout(() => all.forEach((go) => go()), 0);
}
addEventListener("pointerdown", (event) => { pressed = event.button === 0; }, true);
for (const kind of ["pointerup", "pointercancel", "blur", "dragend"]) addEventListener(kind, letGo, true);
export const released = () => pressed ? new Promise((go) => waiting.push(go)) : Promise.resolve();

export function say(text) {
  byId("message").textContent = text;
}

export const bytes = (count) => {
  if (count === null || count === undefined) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${unit === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
};

export const duration = (ms) => {
  if (ms === null || ms === undefined) return "";
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  if (seconds < 60) return `${Math.round(seconds)}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m ${Math.floor(seconds % 60)}s`;
  return `${Math.floor(minutes / 60)}h ${minutes % 60}m`;
};

export const clock = (micros) => new Date(micros / 1000).toLocaleTimeString([], { hour12: false });

// What stands for a state: a class for its colour and a mark where colours are not seen.
export function look(state, health) {
  if (state === "failed" || state === "blocked") return ["bad", "✗"];
  if (health === "unhealthy") return ["bad", "!"];
  if (state === "running" || state === "completed") return ["ok", "●"];
  if (state === "stopped" || state === "skipped" || state === "asleep") return ["off", "○"];
  return ["busy", "◌"];
}
