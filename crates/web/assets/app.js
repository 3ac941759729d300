// The page: which view is shown, and what keeps it up to date.
import { h, byId, refill, released, say, bytes, duration, look } from "/dom.js";
import { ask, act, follow, login, Refused } from "/server.js";
import { logsView } from "/logs.js";
import { timelineView, eventsView } from "/timeline.js";
import { graphView } from "/graph.js";
import { tracesView } from "/traces.js";
import { serviceView } from "/service.js";
import { terminalView } from "/terminal.js";

const VIEWS = [["services", "Services"], ["logs", "Logs"], ["timeline", "Timeline"], ["traces", "Traces"], ["graph", "Graph"], ["events", "Events"]];
let status = null;
let loaded = 0;
let view = null;
let viewed = 0;

function actions(name, one) {
  const stopped = one && !["running", "starting", "initialising", "backing-off", "waiting", "fetching", "stopping"].includes(one.state);
  return [["start", one && !stopped], ["stop", one && stopped], ["restart", false]].map(([verb, disabled]) =>
    h("button", { disabled, "aria-label": `${verb} ${name || "all services"}`, onclick: () => run(verb, name) }, verb));
}

async function run(verb, name, more = {}) {
  const text = [verb, name || "all services", more.replicas].filter((part) => part !== undefined).join(" ");
  say(`${text} …`);
  try {
    const done = await act(verb, name, more);
    say(done.code === 0 ? `${text}: done` : done.text);
  } catch (error) {
    say(error.message);
  }
  await changed({ state: true, logs: false });
}

function servicesView() {
  const rows = status.services.map((one) => {
    const [kind, mark] = look(one.state, one.health);
    const state = one.health === "none" ? one.state : `${one.state}, ${one.health}`;
    const note = one.waiting.length > 0 ? `waits for ${one.waiting.join(", ")}` : one.reason ?? "";
    return h("tr", {},
      h("td", {}, h("a", { href: `#/service/${encodeURIComponent(one.name)}` }, one.name)),
      h("td", { class: `state ${kind}` }, `${mark} ${state}`),
      h("td", { class: "number" }, one.restarts > 0 ? String(one.restarts) : ""),
      h("td", { class: "number" }, one.cpu_percent === null ? "" : `${one.cpu_percent.toFixed(0)} %`),
      h("td", { class: "number" }, bytes(one.memory_bytes)),
      h("td", { class: "number" }, duration(one.ready_ms)),
      h("td", {}, one.url && /^https?:/.test(one.url) ? h("a", { href: one.url, rel: "noreferrer" }, one.url) : one.url ?? "", note ? h("div", { class: "dim" }, note) : null),
      h("td", {}, h("div", { class: "bar" }, actions(one.name, one))));
  });
  const head = ["Name", "State", "Restarts", "CPU", "Memory", "Ready after", "Address", "Actions"].map((text) => h("th", { scope: "col" }, text));
  return {
    element: [h("h2", {}, "Services"), h("div", { class: "bar" }, actions("", null)), h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows))],
    reload: true,
  };
}

// `#/logs/api?time=1`: the view, the service, parameters. An address is a permalink.
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, service] = path.split("/");
  return { name: name || "services", service: decodeURIComponent(service ?? ""), parameters: new URLSearchParams(query ?? "") };
}

async function show(again = false) {
  const turn = ++viewed;
  const { name, service, parameters } = place();
  if (!again) byId("views").replaceChildren(...VIEWS.map(([key, text]) => h("a", { href: `#/${key}`, "aria-current": key === name ? "page" : null }, text)));
  let next;
  try {
    if (name === "logs") next = logsView(status, service, parameters);
    else if (name === "timeline") next = await timelineView(status, parameters);
    else if (name === "traces") next = await tracesView(service);
    else if (name === "graph") next = await graphView(status);
    else if (name === "events") next = await eventsView();
    else if (name === "service") next = await serviceView(service, () => status, (of) => actions(of, status.services.find((one) => one.name === of)), run);
    else if (name === "terminal") next = terminalView(service);
    else next = servicesView();
  } catch (error) {
    if (again) say(error.message);
    else if (turn === viewed) unanswered(turn, error);
    return;
  }
  if (again) await released();
  if (turn !== viewed) return;
  view?.close?.();
  view = next;
  if (again) refill(byId("main"), next.element);
  else byId("main").replaceChildren(...next.element.filter(Boolean));
  next.opened?.();
}

// A view that cannot be drawn: not the one before under another name. It is asked for again until it comes or another one is wanted.
const AGAIN = 2000;
function unanswered(turn, error) {
  view?.close?.();
  view = null;
  byId("main").replaceChildren(h("h2", {}, "There is no answer"), h("p", {}, error.message), h("button", { onclick: () => show() }, "Try again"));
  setTimeout(() => { if (turn === viewed) show(); }, AGAIN);
}

async function load() {
  status = await ask("status");
  loaded = Date.now();
  byId("project").textContent = status.instance ? `${status.project} (${status.instance})` : status.project;
  // Tasks are done, and never part of what runs.
  const services = status.services.filter((one) => one.kind === "service");
  const running = services.filter((one) => one.state === "running").length;
  const failed = status.services.filter((one) => one.state === "failed" || one.state === "blocked").length;
  const text = status.up ? `${running} of ${services.length} running${failed ? `, ${failed} failed` : ""}${status.stopping ? ", stopping" : ""}` : "down: this is how it ended";
  if (byId("summary").textContent !== text) byId("summary").textContent = text;
  document.title = `${failed ? `${failed} failed – ` : ""}${status.project} – devrun`;
}

// How old CPU and memory may be while lines are written.
const USAGE = 2000;
let loading = false;
let wanted = { state: false, logs: false };
async function changed(what) {
  wanted = { state: wanted.state || what.state, logs: wanted.logs || what.logs };
  if (loading) return;
  loading = true;
  while (wanted.state || wanted.logs) {
    const now = wanted;
    wanted = { state: false, logs: false };
    try {
      const before = JSON.stringify(status);
      if (now.state || (view?.reload && Date.now() - loaded > USAGE)) await load();
      await view?.changed?.(now, status);
      if ((view?.reload && JSON.stringify(status) !== before) || (view?.live && now.logs)) await show(true);
    } catch (error) {
      say(error.message);
    }
    // A drawing of everything is not made again for each line.
    if (view?.pause) await new Promise((done) => setTimeout(done, view.pause));
  }
  loading = false;
}

let begun = false;
// The address with the token may be opened in a tab that shows this page already: only the fragment changes then.
addEventListener("hashchange", () => {
  if (/^#token=/.test(location.hash)) begin();
  else if (begun) { say(""); show(); }
});

async function begin() {
  try {
    await login();
    await load();
  } catch (error) {
    byId("main").replaceChildren(h("h2", {}, error instanceof Refused ? "The token is missing" : "There is no answer"), h("p", {}, error.message));
    return;
  }
  await show();
  if (begun) return;
  begun = true;
  let gone = false;
  follow(changed, (lost) => {
    if (lost !== gone) say(lost ? "The connection to `devrun web` is lost." : "");
    gone = lost;
  });
}

begin();
