// The server: login, questions, actions, and the stream of changes.
export class Refused extends Error {}

async function answer(response) {
  if (response.status === 401) throw new Refused("Open the address that `devrun web` printed: it carries the token.");
  const text = await response.text();
  if (!response.ok) {
    let reason = text;
    try { reason = JSON.parse(text).error ?? text; } catch { /* Plain text. */ }
    throw new Error(reason.trim());
  }
  return text.trim() === "" ? null : JSON.parse(text);
}

const post = (path, body) => fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

// The token comes in the fragment, once; after that there is the cookie.
export async function login() {
  const found = /^#token=([0-9a-zA-Z]+)$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", "/#/services");
  await answer(await post("/login", { token: found[1] }));
}

export const ask = async (what, parameters = {}) => answer(await fetch(`/api/${what}?${new URLSearchParams(parameters)}`));
export const act = async (action, service) => answer(await post("/api/act", { action, service }));

// Calls back on every change. The browser reconnects by itself; `lost` says that it has to.
export function follow(changed, lost) {
  const stream = new EventSource("/api/stream");
  stream.onmessage = () => { lost(false); changed(); };
  stream.onerror = () => lost(true);
}
