// A window over the logs: a few hundred lines in the page, the history stays on the server's disk.
import { h, clock, say } from "/dom.js";
import { ask } from "/server.js";

const PAGE = 200;
const MOST = 600;

export class LogPane {
  constructor(service, { time = null, height = null } = {}) {
    this.service = service;
    this.time = time;
    this.filter = "";
    this.follows = time === null;
    this.busy = false;
    this.again = false;
    this.lines = h("div", { class: "log", role: "log", tabindex: "0", "aria-label": service ? `Log of ${service}` : "Log of all services", "aria-live": "off" });
    if (height) this.lines.style.flex = `0 0 ${height}`;
    this.lines.addEventListener("scroll", () => this.scrolled());
  }

  async open(parameters = {}) {
    const from = this.time === null ? { older: PAGE } : { time: this.time, older: 40, newer: PAGE };
    const found = await this.fetch({ ...from, ...parameters });
    if (!found) return;
    this.top = found.top;
    this.bottom = found.bottom;
    this.lines.replaceChildren(...found.lines.map((line) => this.row(line)));
    if (this.follows) this.toEnd();
    else if (this.time !== null) this.lines.scrollTop = 0;
    return found;
  }

  async fetch(parameters) {
    try {
      return await ask("logs", { service: this.service, filter: this.filter, ...parameters });
    } catch (error) {
      say(error.message);
      return null;
    }
  }

  row(line) {
    const kind = line.stream === "devrun" ? "note" : line.stream;
    return h("div", { class: kind }, h("time", { datetime: line.ts }, clock(line.micros)), this.service ? null : h("b", {}, line.service), line.text);
  }

  toEnd() {
    this.lines.scrollTop = this.lines.scrollHeight;
  }

  async scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.lines;
    const atEnd = scrollHeight - scrollTop - clientHeight < 8;
    this.follows = atEnd && this.time === null;
    if (scrollTop < 40 && this.top) await this.older();
    else if (atEnd) await this.newer();
  }

  async older() {
    if (this.busy) return;
    this.busy = true;
    const found = await this.fetch({ at: this.top, older: PAGE });
    if (found && found.lines.length > 0) {
      const before = this.lines.scrollHeight;
      this.lines.prepend(...found.lines.map((line) => this.row(line)));
      this.top = found.top;
      this.lines.scrollTop += this.lines.scrollHeight - before;
    }
    this.busy = false;
  }

  // Called for every change, and at the end of the window.
  async newer() {
    // Before the first answer there is no place to go on from.
    if (!this.bottom) return;
    if (this.busy) { this.again = true; return; }
    this.busy = true;
    do {
      this.again = false;
      const found = await this.fetch({ at: this.bottom, newer: MOST });
      if (!found || found.lines.length === 0) break;
      if (this.follows && found.lines.length === MOST) {
        // Too much to read: the newest lines are what is followed.
        this.busy = false;
        await this.open();
        return;
      }
      this.lines.append(...found.lines.map((line) => this.row(line)));
      this.bottom = found.bottom;
      if (this.follows) {
        while (this.lines.childElementCount > MOST) this.lines.firstElementChild.remove();
        if (found.lines.length > 0 && this.lines.childElementCount === MOST) this.top = null;
        this.toEnd();
      }
    } while (this.again);
    this.busy = false;
  }

  async changed() {
    if (this.follows) await this.newer();
  }

  async search(pattern, forward) {
    const at = this.found ?? this.bottom;
    const found = await this.fetch({ search: pattern, forward: forward && this.found ? "true" : "false", at, older: 40, newer: PAGE });
    if (!found) return;
    if (found.found === null) { say(`no ${forward ? "newer" : "older"} line matches ${pattern}`); return; }
    say("");
    this.follows = false;
    this.found = found.found_at;
    this.top = found.top;
    this.bottom = found.bottom;
    this.lines.replaceChildren(...found.lines.map((line) => this.row(line)));
    const row = this.lines.children[found.found];
    row?.classList.add("found");
    row?.scrollIntoView({ block: "center" });
  }
}

export function logsView(status, service, parameters) {
  const time = parameters.get("time");
  const pane = new LogPane(service, { time: time === null ? null : Number(time) });
  const choice = h("select", { id: "log-service", onchange: (event) => { location.hash = `#/logs/${encodeURIComponent(event.target.value)}`; } },
    h("option", { value: "" }, "all services"),
    status.services.map((one) => h("option", { value: one.name, selected: one.name === service }, one.name)));
  const search = h("input", { id: "log-search", type: "search", placeholder: "regular expression" });
  const filter = h("input", { id: "log-filter", type: "search", placeholder: "regular expression" });
  const at = h("input", { id: "log-time", type: "datetime-local", step: "1" });
  search.addEventListener("keydown", (event) => { if (event.key === "Enter" && search.value) pane.search(search.value, event.shiftKey); });
  filter.addEventListener("change", () => { pane.filter = filter.value; pane.follows = pane.time === null; pane.open(); });
  at.addEventListener("change", () => {
    const chosen = new Date(at.value).getTime();
    if (!Number.isNaN(chosen)) location.hash = `#/logs/${encodeURIComponent(service)}?time=${chosen * 1000}`;
  });
  pane.open();
  return {
    element: [
      h("h2", {}, service ? `Log of ${service}` : "Log of all services"),
      h("div", { class: "bar" },
        h("label", { for: "log-service" }, "Service"), choice,
        h("label", { for: "log-search" }, "Search"), search,
        h("button", { onclick: () => search.value && pane.search(search.value, false) }, "Older match"),
        h("button", { onclick: () => search.value && pane.search(search.value, true) }, "Newer match"),
        h("label", { for: "log-filter" }, "Filter"), filter,
        h("label", { for: "log-time" }, "At"), at,
        h("button", { id: "log-follow", onclick: () => {
          if (pane.time !== null) { location.hash = `#/logs/${encodeURIComponent(service)}`; return; }
          pane.follows = true; pane.found = undefined; pane.open();
        } }, "Follow")),
      pane.lines,
    ],
    changed: () => pane.changed(),
  };
}
