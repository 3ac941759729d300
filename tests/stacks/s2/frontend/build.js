import { mkdirSync, writeFileSync } from "node:fs";

mkdirSync("dist", { recursive: true });
writeFileSync("dist/page.html", `<!doctype html><title>PyAirtable</title><script>const api = "${process.env.NEXT_PUBLIC_API_URL}";</script>\n`);
