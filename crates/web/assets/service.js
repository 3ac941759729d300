// All that is known of one service.
import { h, duration } from "/dom.js";
import { ask } from "/server.js";
import { LogPane } from "/logs.js";

export async function serviceView(name, actions) {
  const found = await ask("service", { name });
  const { why, about, probes, env } = found;
  const pane = new LogPane(name, { height: "16rem" });
  pane.open();
  const rows = Object.entries(about).filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && value.length === 0));
  const text = (value) => typeof value === "string" ? value : Array.isArray(value) ? value.join(" ") : JSON.stringify(value);
  const table = (head, lines) => h("table", {}, h("thead", {}, h("tr", {}, head.map((word) => h("th", { scope: "col" }, word)))), h("tbody", {}, lines));
  return {
    element: [
      h("h2", {}, name),
      h("div", { class: "bar" }, actions(name), h("a", { href: `#/logs/${encodeURIComponent(name)}` }, "whole log")),
      h("h3", {}, "Why"),
      h("pre", { id: "why" }, found.why_lines.join("\n")),
      why.help ? h("p", { class: "dim" }, `help: ${why.help}`) : null,
      h("h3", {}, "Log"),
      pane.lines,
      h("h3", {}, "Definition"),
      h("dl", {}, rows.map(([key, value]) => [h("dt", {}, key), h("dd", {}, text(value))])),
      h("h3", {}, "Probe history"),
      probes.length === 0 ? h("p", { class: "dim" }, "No attempts are known.")
        : table(["After", "Took", "Result", "Answer"], probes.map((probe) => h("tr", {},
          h("td", { class: "number" }, duration(probe.at_ms)), h("td", { class: "number" }, `${probe.took_ms.toFixed(1)} ms`),
          h("td", { class: probe.passed ? "ok" : "bad" }, probe.passed ? "passed" : "failed"), h("td", {}, probe.answer)))),
      h("h3", {}, "Environment (secrets masked)"),
      h("details", {}, h("summary", {}, `${Object.keys(env).length} variables`),
        table(["Variable", "Value"], Object.entries(env).map(([key, value]) => h("tr", {}, h("td", {}, key), h("td", {}, value))))),
    ],
    changed: () => pane.changed(),
  };
}
