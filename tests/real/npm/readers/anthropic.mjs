// Anthropic's SDK for JavaScript.
//
// Each reader returns what a user's code would get.

import Anthropic from "@anthropic-ai/sdk";

const hello = { model: "m", max_tokens: 9, messages: [{ role: "user", content: "hello" }] };
const client = (url) => new Anthropic({ apiKey: "none", baseURL: url, maxRetries: 0 });

async function messages(url, say) {
  const events = await client(url).messages.create({ ...hello, stream: true });
  for await (const event of events) say(event);
}

async function helper(url, say) {
  const stream = client(url).messages.stream(hello);
  for await (const event of stream) say(structuredClone(event));
  say(await stream.finalText());
}

export const readers = {
  messages,
  helper,
  whole: async (url, say) => say(await client(url).messages.create(hello)),
};
