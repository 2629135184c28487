// OpenAI's SDK for JavaScript.
//
// Each reader returns what a user's code would get.

import OpenAI from "openai";

const messages = [{ role: "user", content: "hello" }];
const client = (url) => new OpenAI({ apiKey: "none", baseURL: url, maxRetries: 0 });

async function chat(url, say) {
  const made = client(url).chat.completions;
  for await (const chunk of await made.create({ model: "m", messages, stream: true })) say(chunk);
}

async function chatHelper(url, say) {
  const made = client(url).chat.completions;
  for await (const chunk of made.stream({ model: "m", messages })) say(chunk);
}

async function responses(url, say) {
  const made = client(url).responses;
  const events = await made.create({ model: "m", input: "hello", stream: true });
  for await (const event of events) say(event);
}

export const readers = {
  chat,
  "chat-helper": chatHelper,
  responses,
  "chat-whole": async (url, say) =>
    say(await client(url).chat.completions.create({ model: "m", messages })),
  "responses-whole": async (url, say) =>
    say(await client(url).responses.create({ model: "m", input: "hello" })),
};
