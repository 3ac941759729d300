import { useEffect, useState } from "react";

export default function App() {
  const [name, setName] = useState("");
  const [items, setItems] = useState([]);
  const load = () => fetch("/api/v1/items/").then((answer) => answer.json()).then((answer) => setItems(answer.items));
  useEffect(() => {
    load();
    fetch("/api/v1/config/frontend/").then((answer) => answer.json()).then((config) => { document.title = config.appName; });
  }, []);
  const add = async (event) => {
    event.preventDefault();
    await fetch("/api/v1/items/", { method: "POST", body: JSON.stringify({ name }) });
    setName("");
    load();
  };
  return (
    <main>
      <h1>Items</h1>
      <form onSubmit={add}>
        <input aria-label="name" value={name} onChange={(event) => setName(event.target.value)} />
        <button>Add</button>
      </form>
      <ul>{items.map((item) => <li key={item}>{item}</li>)}</ul>
    </main>
  );
}
