// The MCP SDK's client for JavaScript, over each of its HTTP transports.
//
// Each reader returns what a user's code would get.

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

async function count(transport, say) {
  const client = new Client({ name: "test", version: "1" });
  client.onerror = (error) => console.error(String(error));
  await client.connect(transport);
  const onprogress = ({ progress, total }) => say([progress, total]);
  const result = await client.callTool({ name: "count", arguments: {} }, { onprogress });
  say(result.content);
  client.onerror = undefined;
  await client.close();
}

export const readers = {
  http: (url, say) => count(new StreamableHTTPClientTransport(new URL(url)), say),
  sse: (url, say) => count(new SSEClientTransport(new URL(url)), say),
};
