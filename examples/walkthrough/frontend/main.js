const list = document.querySelector('#notes');
for (const text of await (await fetch('/api/notes')).json()) {
  list.append(Object.assign(document.createElement('li'), { textContent: text }));
}
