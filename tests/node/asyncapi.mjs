// AsyncAPI's own parser on a document: node asyncapi.mjs FILE; prints what it finds wrong, and the messages by channel
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const found = diagnostics.map(({ code, message, path, severity }) => ({ code, message, path: path.join("."), severity }));
const channels = (document?.channels().all() ?? []).map((channel) => [
  channel.address(),
  channel.messages().all().map((message) => message.name()),
]);
console.log(JSON.stringify({ found, channels: Object.fromEntries(channels) }));
