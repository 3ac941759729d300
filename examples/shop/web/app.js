// The page of the demo. No framework: three lists and a form.
const euros = (cents) => (cents / 100).toLocaleString("en", { style: "currency", currency: "EUR" });
const byId = (id) => document.getElementById(id);

async function call(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.error ?? answer.statusText);
  return data;
}

// Text goes in as text nodes only, whatever the database holds.
function element(tag, text, className) {
  const node = document.createElement(tag);
  node.textContent = text;
  if (className) node.className = className;
  return node;
}

async function showProducts() {
  const products = await call("/api/products");
  byId("products").replaceChildren(...products.map((product) => {
    const item = document.createElement("li");
    item.append(
      element("span", product.name, "name"),
      element("span", euros(product.price_cents), "price"),
      element("span", product.description, "description"),
      element("span", product.stock > 0 ? `${product.stock} in stock` : "sold out", "stock"),
    );
    return item;
  }));
  const select = byId("order").elements.product_id;
  const chosen = select.value;
  select.replaceChildren(...products.map((product) => {
    const option = element("option", product.name);
    option.value = product.id;
    option.disabled = product.stock === 0;
    return option;
  }));
  if (chosen) select.value = chosen;
}

async function showOrders() {
  const orders = await call("/api/orders");
  if (orders.length === 0) return;
  byId("orders").replaceChildren(...orders.map((order) =>
    element("li", `#${order.id}: ${order.quantity} × ${order.product}, ${euros(order.total_cents)}, ${order.placed_at}`)));
}

byId("order").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const result = byId("result");
  try {
    const order = await call("/api/orders", {
      product_id: Number(form.elements.product_id.value),
      quantity: Number(form.elements.quantity.value),
    });
    result.className = "good";
    result.textContent = `Order #${order.id} placed: ${euros(order.total_cents)}.`;
  } catch (error) {
    result.className = "bad";
    result.textContent = `Not ordered: ${error.message}.`;
  }
  await Promise.all([showProducts(), showOrders()]);
});

const failed = (error) => {
  byId("result").className = "bad";
  byId("result").textContent = `The shop does not answer: ${error.message}.`;
};

call("/api/visits", {}).then(({ visits }) => { byId("visits").textContent = String(visits); }).catch(failed);
showProducts().catch(failed);
showOrders().catch(failed);
