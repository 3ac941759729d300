// Who waits for whom: services by tier, from left to right.
import { h, s, look } from "/dom.js";
import { ask } from "/server.js";

const WIDTH = 170;
const HEIGHT = 30;

export async function graphView(status) {
  const { nodes, edges } = await ask("graph");
  const tiers = [...new Set(nodes.map((node) => node.tier))].sort((a, b) => a - b);
  const places = new Map();
  let most = 1;
  tiers.forEach((tier, column) => {
    const here = nodes.filter((node) => node.tier === tier);
    most = Math.max(most, here.length);
    here.forEach((node, row) => places.set(node.name, { x: column * (WIDTH + 90) + 5, y: row * (HEIGHT + 18) + 5 }));
  });
  const lines = edges.filter((edge) => places.has(edge.from) && places.has(edge.to)).map((edge) => {
    const from = places.get(edge.to);
    const to = places.get(edge.from);
    const [x1, y1, x2, y2] = [from.x + WIDTH, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2];
    return s("path", { class: edge.required ? "edge" : "edge optional", "marker-end": "url(#arrow)", d: `M${x1} ${y1} C${x1 + 45} ${y1} ${x2 - 45} ${y2} ${x2} ${y2}` },
      s("title", {}, `${edge.from} waits for ${edge.to} to be ${edge.condition}`));
  });
  const boxes = nodes.map((node) => {
    const { x, y } = places.get(node.name);
    const one = status.services.find((service) => service.service === node.name);
    const [kind, mark] = one ? look(one.state, one.health) : ["off", "○"];
    return s("a", { href: `#/service/${encodeURIComponent(one ? one.name : node.name)}` },
      s("rect", { class: `node ${kind}`, x, y, width: WIDTH, height: HEIGHT, rx: node.kind === "task" ? 2 : 14 }),
      s("text", { x: x + 10, y: y + 20 }, `${mark} ${node.name.length > 20 ? `${node.name.slice(0, 19)}…` : node.name}`));
  });
  const view = `0 0 ${Math.max(tiers.length * (WIDTH + 90) - 80, 400)} ${most * (HEIGHT + 18) + 10}`;
  const drawing = s("svg", { viewBox: view, role: "group", "aria-label": "Dependency graph" },
    s("defs", {}, s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, s("path", { d: "M0 0L8 4L0 8z", class: "ready" }))),
    lines, boxes);
  const words = h("ul", {}, edges.map((edge) => h("li", {}, `${edge.from} waits for ${edge.to} to be ${edge.condition}${edge.required ? "" : " (optional)"}`)));
  return { element: [h("h2", {}, "Graph"), drawing, h("details", {}, h("summary", {}, "As text"), words)], reload: true };
}
