import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const port = Number(process.argv[process.argv.indexOf("-p") + 1]);
const page = readFileSync("dist/page.html");
const server = createServer(async (request, response) => {
  if (request.url === "/api-health") {
    const answer = await fetch(`${process.env.NEXT_PUBLIC_API_URL}/health`);
    response.writeHead(answer.status, { "content-type": "application/json" }).end(await answer.text());
  } else {
    response.writeHead(200, { "content-type": "text/html" }).end(page);
  }
});
server.listen(port, "127.0.0.1");
process.on("SIGTERM", () => server.close(() => process.exit(0)));
