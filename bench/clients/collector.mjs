/** Takes whatever is posted to it and throws it away; prints its port, ends with its parent. */
import { createServer } from "node:http";
import process from "node:process";

const server = createServer((request, response) => {
  request.resume().on(
    "end",
    () => response.setHeader("content-type", "application/json").end("{}"),
  );
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.stdin.resume().on("end", () => process.exit()); // Deno emits no "close" there
