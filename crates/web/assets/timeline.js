// States over time, one row a service, and the logs of the moment under the cursor.
import { h, s, clock, look, released } from "/dom.js";
import { ask } from "/server.js";
import { LogPane } from "/logs.js";
import { recordTable, took } from "/traces.js";

const LEFT = 150;
const RIGHT = 990;
const ROW = 24;
const micros = (text) => Math.round(new Date(text).getTime() * 1000);

// The stretches of one service: from, to, state, health.
export function stretches(events, end) {
  return events.map((event, at) => ({
    from: micros(event.ts),
    to: at + 1 < events.length ? micros(events[at + 1].ts) : end,
    state: event.to,
    health: event.health,
    reason: event.reason,
    exit: event.exit_code,
  }));
}

// The drawing of all rows, and its places in time.
function draw(status, parameters, { events, opened }, records) {
  // One start: since the last time that no service was live, at most an hour.
  const last = micros(events[events.length - 1].ts);
  const wanted = Number(parameters.get("minutes") ?? 60);
  const begin = Math.max(micros(events[0].ts), last - wanted * 60e6);
  const end = status.up ? Math.max(Date.now() * 1000, last) : last;
  const span = Math.max(end - begin, 1);
  const x = (time) => LEFT + ((Math.min(Math.max(time, begin), end) - begin) / span) * (RIGHT - LEFT);
  const names = status.services.map((one) => one.name);
  const nameOf = (event) => names.includes(event.service) ? event.service : `${event.service}.${event.replica}`;
  const rows = names.map((name, number) => {
    const own = events.filter((event) => nameOf(event) === name);
    const y = 28 + number * ROW;
    const pieces = stretches(own, end).filter((piece) => piece.to >= begin).map((piece) => {
      const [kind] = look(piece.state, piece.health);
      const why = [piece.state, piece.health !== "none" ? piece.health : "", piece.reason, piece.exit !== null && piece.exit !== undefined ? `exit ${piece.exit}` : ""];
      return s("rect", { class: `span ${kind}`, x: x(piece.from), y, width: Math.max(x(piece.to) - x(piece.from), 1), height: ROW - 8 },
        s("title", {}, `${name}: ${why.filter(Boolean).join(", ")} from ${clock(piece.from)}`));
    });
    const heard = opened.filter((one) => nameOf(one) === name && micros(one.ts) >= begin)
      .map((one) => s("circle", { class: "listening", cx: x(micros(one.ts)), cy: y + ROW / 2 - 4, r: 4 }, s("title", {}, `${name}: listening after ${(one.listening_us / 1e6).toFixed(2)}s`)));
    const ready = own.filter((event) => event.to === "running" && event.from !== "running" && micros(event.ts) >= begin)
      .map((event) => s("circle", { class: "ready", cx: x(micros(event.ts)), cy: y + ROW / 2 - 4, r: 3 }, s("title", {}, `${name}: ready at ${clock(micros(event.ts))}`)));
    // Spans lie below the states of the first copy, at most as many as can be told apart.
    const service = status.services[number].service;
    const first = status.services.findIndex((one) => one.service === service) === number;
    const traced = records.filter((one) => first && one.kind === "span" && one.service === service && one.start_us >= begin && one.start_us <= end).slice(-300)
      .map((one) => s("rect", { class: `span trace ${one.error !== undefined ? "bad" : "ok"}`, onclick: (event) => { event.stopPropagation(); location.hash = `#/traces/${one.trace}`; }, x: x(one.start_us), y: y + ROW - 7, width: Math.max(x(one.start_us + one.took_us) - x(one.start_us), 2), height: 5 },
        s("title", {}, `${one.name}, ${took(one.took_us)}${one.error !== undefined ? ", failed" : ""}`)));
    return [traced, s("text", { x: 0, y: y + ROW / 2 + 1 }, name.length > 20 ? `${name.slice(0, 19)}…` : name), pieces, heard, ready];
  });
  const height = 36 + names.length * ROW;
  const ticks = [0, 1, 2, 3, 4].map((part) => {
    const time = begin + (span * part) / 4;
    return [s("line", { class: "tick", x1: x(time), x2: x(time), y1: 18, y2: height - 6 }),
      s("text", { class: "dim", x: x(time), y: 12, "text-anchor": part === 0 ? "start" : part === 4 ? "end" : "middle" }, clock(time))];
  });
  const cursor = s("line", { class: "now", x1: RIGHT, x2: RIGHT, y1: 18, y2: height - 6 });
  const element = s("svg", { viewBox: `0 0 1000 ${height}`, role: "img", "aria-label": "States of each service over time; the table of events has the same as text" }, ticks, rows, cursor);
  return { begin, end, span, x, cursor, element };
}

// Between two drawings while something is written.
const PAUSE = 1000;

export async function timelineView(status, parameters) {
  const load = async () => {
    const [known, { records }] = await Promise.all([ask("events"), ask("telemetry")]);
    return known.events.length === 0 ? null : { ...draw(status, parameters, known, records), records };
  };
  let drawn = await load();
  if (!drawn) return { element: [h("h2", {}, "Timeline"), h("p", {}, "Nothing has happened yet.")], live: true, pause: PAUSE };
  const place = h("div", { class: "drawing" });
  const logs = h("div", { class: "log-place" });
  const shown = h("output", { for: "moment" });
  const range = h("input", { id: "moment", type: "range", min: "0", max: "1000", value: "1000" });
  const link = h("a", {}, "open this moment in the logs");
  const chosen = () => Math.round(drawn.begin + (drawn.span * Number(range.value)) / 1000);
  const point = () => {
    const time = chosen();
    drawn.cursor.setAttribute("x1", drawn.x(time));
    drawn.cursor.setAttribute("x2", drawn.x(time));
    shown.textContent = clock(time);
    link.setAttribute("href", `#/logs/?time=${time}`);
    return time;
  };
  const move = async () => {
    const time = point();
    const pane = new LogPane("", { time, height: "20rem" });
    const near = drawn.records.filter((one) => one.kind === "log" && Math.abs(one.at_us - time) < Math.max(drawn.span / 200, 1e6)).slice(-50);
    await pane.open();
    logs.replaceChildren(pane.lines, ...(near.length > 0 ? [h("h3", {}, "Structured logs of this moment"), recordTable(near)] : []));
    // What is above the first line of the moment is a scroll away.
    pane.lines.scrollTop = 0;
  };
  const put = () => {
    drawn.element.addEventListener("click", (event) => {
      const box = drawn.element.getBoundingClientRect();
      const at = ((event.clientX - box.left) / box.width) * 1000;
      range.value = String(Math.round(Math.min(Math.max((at - LEFT) / (RIGHT - LEFT), 0), 1) * 1000));
      move();
    });
    place.replaceChildren(drawn.element);
  };
  range.addEventListener("change", move);
  range.addEventListener("input", point);
  put();
  move();
  return {
    element: [h("h2", {}, "Timeline"), place, h("div", { class: "bar" }, h("label", { for: "moment" }, "Moment"), range, shown, link), logs],
    pause: PAUSE,
    // The chosen moment stays; at the right end it is the newest.
    changed: async (what, now) => {
      status = now;
      const loaded = await load();
      await released();
      // Read after the answers came: what was chosen while they were under way counts.
      const [time, isNewest] = [chosen(), range.value === range.max];
      drawn = loaded ?? drawn;
      put();
      if (!isNewest) range.value = String(Math.round(((time - drawn.begin) / drawn.span) * 1000));
      if (isNewest) await move();
      else point();
    },
  };
}

export async function eventsView() {
  const { events } = await ask("events");
  const rows = events.slice(-500).reverse().map((event) => {
    const [kind, mark] = look(event.to, event.health);
    return h("tr", {},
      h("td", { class: "number" }, h("a", { href: `#/logs/${encodeURIComponent(event.service)}?time=${micros(event.ts)}` }, clock(micros(event.ts)))),
      h("td", {}, event.replica > 1 ? `${event.service}.${event.replica}` : event.service),
      h("td", { class: `state ${kind}` }, `${mark} ${event.from === event.to ? event.health : `${event.from} → ${event.to}`}`),
      h("td", {}, [event.reason, event.exit_code !== null && event.exit_code !== undefined ? `exit ${event.exit_code}` : ""].filter(Boolean).join("  ")));
  });
  return {
    element: [h("h2", {}, "Events"), h("table", {}, h("thead", {}, h("tr", {}, ["Time", "Service", "Change", "Reason"].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows))],
    reload: true,
  };
}
