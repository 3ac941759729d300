// All that is known of one service.
import { h, duration, refill, released } from "/dom.js";
import { ask } from "/server.js";
import { LogPane } from "/logs.js";

export async function serviceView(name, status, actions, run) {
  const pane = new LogPane(name, { height: "16rem" });
  const [bar, above, below] = [h("div", { class: "bar" }), h("div", {}), h("div", {})];
  const copies = h("input", { id: "copies", type: "number", min: "0", max: "100", step: "1" });
  const scale = h("form", { class: "bar" }, h("label", { for: "copies" }, "Copies"), copies, h("button", { "aria-label": `scale ${name}` }, "scale"));
  const own = () => status().services.filter((one) => one.name === name || one.service === name);
  scale.addEventListener("submit", (event) => {
    event.preventDefault();
    if (copies.value !== "" && copies.checkValidity()) run("scale", own()[0]?.service ?? name, { replicas: Number(copies.value) });
  });
  const text = (value) => typeof value === "string" ? value : Array.isArray(value) ? value.join(" ") : JSON.stringify(value);
  const table = (head, lines) => h("table", {}, h("thead", {}, h("tr", {}, head.map((word) => h("th", { scope: "col" }, word)))), h("tbody", {}, lines));
  const fill = async () => {
    const { why, why_lines, about, probes, env } = await ask("service", { name });
    await released();
    const rows = Object.entries(about).filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && value.length === 0));
    refill(bar, [actions(name), about.terminal ? h("a", { href: `#/terminal/${encodeURIComponent(why.name)}` }, "terminal") : null, h("a", { href: `#/logs/${encodeURIComponent(name)}` }, "whole log")]);
    refill(above, [h("h3", {}, "Why"), h("pre", { id: "why" }, why_lines.join("\n")), why.help ? h("p", { class: "dim" }, `help: ${why.help}`) : null]);
    refill(below, [
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
    ]);
    scale.hidden = own()[0]?.kind !== "service";
    if (document.activeElement !== copies) copies.value = String(own()[0] ? status().services.filter((one) => one.service === own()[0].service).length : 1);
  };
  await fill();
  pane.open();
  return {
    element: [h("h2", {}, name), bar, scale, above, h("h3", {}, "Log"), pane.lines, below],
    changed: (what) => Promise.all([what.state ? fill() : null, pane.changed()]),
  };
}
