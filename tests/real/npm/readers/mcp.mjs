// The MCP SDK's client for JavaScript, over each of its HTTP transports.
//
// Each reader returns what a user's code would get.

import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

// Not with `onprogress`: the SDK drops a report that comes in one read with the result.
async function count(transport, say) {
  const client = new Client({ name: "test", version: "1" });
  client.onerror = (error) => console.error(String(error));
  await client.connect(transport);
  client.setNotificationHandler("notifications/progress", ({ params }) => {
    say([params.progress, params.total]);
  });
  const call = { name: "count", arguments: {}, _meta: { progressToken: "own" } };
  const result = await client.callTool(call);
  await new Promise(setImmediate); // handlers run behind the result then
  say(result.content);
  client.onerror = undefined;
  await client.close();
}

export const readers = {
  http: (url, say) => count(new StreamableHTTPClientTransport(new URL(url)), say),
  sse: (url, say) => count(new SSEClientTransport(new URL(url)), say),
};
