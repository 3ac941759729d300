// Traces and structured logs that the stack's receiver of OTLP has kept.
import { h, s, clock } from "/dom.js";
import { ask } from "/server.js";

const LEFT = 240;
const RIGHT = 990;
const ROW = 22;
// Between two looks at what was received.
const PAUSE = 500;

export const took = (micros) => micros < 1000 ? `${micros} µs` : micros < 1e6 ? `${(micros / 1000).toFixed(1)} ms` : `${(micros / 1e6).toFixed(2)} s`;

// Spans by trace, the newest trace first.
export function traces(records) {
  const found = new Map();
  for (const one of records) {
    if (one.kind !== "span") continue;
    if (!found.has(one.trace)) found.set(one.trace, []);
    found.get(one.trace).push(one);
  }
  return [...found.entries()].map(([id, spans]) => {
    spans.sort((a, b) => a.start_us - b.start_us);
    const begin = spans[0].start_us;
    const end = Math.max(...spans.map((span) => span.start_us + span.took_us));
    const ids = new Set(spans.map((span) => span.span));
    const root = spans.find((span) => !ids.has(span.parent)) ?? spans[0];
    return { id, spans, begin, end, root, failed: spans.some((span) => span.error !== undefined), services: [...new Set(spans.map((span) => span.service))] };
  }).sort((a, b) => b.begin - a.begin);
}

export function recordTable(logs) {
  const rows = logs.map((log) => h("tr", {},
    h("td", { class: "number" }, clock(log.at_us)),
    h("td", {}, log.service),
    h("td", { class: ["error", "fatal"].includes(log.severity) ? "state bad" : "" }, log.severity),
    h("td", {}, log.body, Object.entries(log.attributes ?? {}).map(([key, value]) => h("span", { class: "dim" }, ` ${key}=${value}`))),
    h("td", {}, log.trace ? h("a", { href: `#/traces/${log.trace}` }, "trace") : "")));
  return h("table", {}, h("thead", {}, h("tr", {}, ["Time", "Service", "Severity", "Message", "Trace"].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, rows));
}

function one(trace, logs) {
  const depth = new Map();
  const byId = new Map(trace.spans.map((span) => [span.span, span]));
  const deep = (span, left = 32) => {
    if (!depth.has(span.span)) depth.set(span.span, left > 0 && byId.has(span.parent) ? deep(byId.get(span.parent), left - 1) + 1 : 0);
    return depth.get(span.span);
  };
  const width = Math.max(trace.end - trace.begin, 1);
  const x = (time) => LEFT + ((time - trace.begin) / width) * (RIGHT - LEFT);
  const rows = trace.spans.slice(0, 200).map((span, number) => {
    const y = 8 + number * ROW;
    const text = `${"· ".repeat(Math.min(deep(span), 8))}${span.service} ${span.name}`;
    const more = Object.entries(span.attributes ?? {}).map(([key, value]) => `${key}=${value}`).join("\n");
    return [s("text", { x: 0, y: y + 14 }, text.length > 34 ? `${text.slice(0, 33)}…` : text),
      s("rect", { class: `span ${span.error !== undefined ? "bad" : "ok"}`, x: x(span.start_us), y, width: Math.max((span.took_us / width) * (RIGHT - LEFT), 2), height: ROW - 6 },
        s("title", {}, `${span.service}: ${span.name}, ${took(span.took_us)}${span.error !== undefined ? `, failed ${span.error}` : ""}\n${more}`))];
  });
  const table = h("table", {}, h("thead", {}, h("tr", {}, ["Service", "Span", "After", "Took", "Error"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, trace.spans.slice(0, 200).map((span) => h("tr", {},
      h("td", {}, span.service), h("td", {}, `${span.name} (${span.role})`), h("td", { class: "number" }, took(span.start_us - trace.begin)), h("td", { class: "number" }, took(span.took_us)), h("td", {}, span.error ?? "")))));
  const own = logs.filter((log) => log.trace === trace.id);
  return [
    h("h2", {}, `Trace of ${trace.root.name}`),
    h("p", {}, `${trace.spans.length} spans in ${trace.services.join(", ")}, ${took(trace.end - trace.begin)} from ${clock(trace.begin)}. `, h("a", { href: `#/logs/?time=${trace.begin}` }, "open this moment in the logs")),
    s("svg", { viewBox: `0 0 1000 ${16 + rows.length * ROW}`, role: "img", "aria-label": "Spans of the trace over time; the table below has the same as text" }, rows),
    table,
    h("h3", {}, "Structured logs"),
    own.length > 0 ? recordTable(own) : h("p", { class: "dim" }, "None belong to this trace."),
  ];
}

export async function tracesView(wanted) {
  const { records } = await ask("telemetry");
  const all = traces(records);
  const logs = records.filter((record) => record.kind === "log");
  if (wanted) {
    const trace = all.find((trace) => trace.id === wanted);
    return { element: trace ? one(trace, logs) : [h("h2", {}, "Trace"), h("p", {}, "This trace is not kept any more.")], live: true, pause: PAUSE };
  }
  if (records.length === 0) {
    return { element: [h("h2", {}, "Traces"), h("p", {}, "Nothing was received. A service with use = \"telemetry\" receives what programs with an OpenTelemetry SDK send.")], live: true, pause: PAUSE };
  }
  const rows = all.slice(0, 200).map((trace) => h("tr", {},
    h("td", { class: "number" }, clock(trace.begin)),
    h("td", {}, h("a", { href: `#/traces/${trace.id}` }, trace.root.name || "(no name)")),
    h("td", {}, trace.services.join(", ")),
    h("td", { class: "number" }, String(trace.spans.length)),
    h("td", { class: "number" }, took(trace.end - trace.begin)),
    h("td", { class: trace.failed ? "state bad" : "" }, trace.failed ? "✗ failed" : "")));
  const head = ["Time", "Trace", "Services", "Spans", "Took", "Result"].map((text) => h("th", { scope: "col" }, text));
  return {
    element: [h("h2", {}, "Traces"), h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)),
      h("h3", {}, "Structured logs"), recordTable(logs.slice(-100).reverse())],
    live: true,
    pause: PAUSE,
  };
}
