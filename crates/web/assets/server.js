// The server: login, questions, actions, and the stream of changes.
export class Refused extends Error {}
// What the same question gets as long as the stack is described as it is.
export class Invalid extends Error {}

async function answer(response) {
  if (response.status === 401) throw new Refused("Open the address that `devrun web` printed: it carries the token.");
  const text = await response.text();
  if (!response.ok) {
    let reason = text;
    try { reason = JSON.parse(text).error ?? text; } catch { /* Plain text. */ }
    throw new (response.status === 400 ? Invalid : Error)(reason.trim());
  }
  return text.trim() === "" ? null : JSON.parse(text);
}

const post = (path, body) => fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

// The token comes in the fragment, once, and a view after it; then there is the cookie.
export async function login() {
  const found = /^#token=([0-9a-zA-Z]+)(\/.*)?$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", `/#${found[2] ?? "/services"}`);
  await answer(await post("/login", { token: found[1] }));
}

export const ask = async (what, parameters = {}) => answer(await fetch(`/api/${what}?${new URLSearchParams(parameters)}`));
export const act = async (action, service, more = {}) => answer(await post("/api/act", { action, service, ...more }));
export const sendKeys = async (message) => answer(await post("/api/keys", message));

// Attaches to a terminal and calls back with each update, until the service ends or the signal aborts.
export async function terminal(service, [columns, rows], signal, update) {
  const response = await fetch(`/api/terminal?${new URLSearchParams({ service, columns, rows })}`, { signal });
  if (!response.ok) return answer(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (text + value).split("\n");
    text = lines.pop();
    for (const line of lines) update(JSON.parse(line));
  }
}

// Calls back on every change with what has changed. The browser reconnects by itself; `lost` says that it has to.
export function follow(changed, lost) {
  const stream = new EventSource("/api/stream");
  let last = null;
  stream.onmessage = (event) => {
    const now = JSON.parse(event.data);
    lost(false);
    changed({ state: now.state !== last?.state, logs: now.logs !== last?.logs });
    last = now;
  };
  stream.onerror = () => { last = null; lost(true); };
}
