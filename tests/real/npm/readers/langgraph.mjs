// LangGraph's SDK for JavaScript.
//
// Each reader returns what a user's code would get.

import { Client } from "@langchain/langgraph-sdk";

const client = (url) => new Client({ apiUrl: url, callerOptions: { maxRetries: 0 } });

async function run(url, say) {
  for await (const chunk of client(url).runs.stream(null, "agent", { input: {} })) say(chunk);
}

async function join(url, say) {
  for await (const chunk of client(url).runs.joinStream("t1", "r1")) say(chunk);
}

export const readers = { run, join };
