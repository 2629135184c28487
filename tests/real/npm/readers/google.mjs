// Google's Gen AI SDK for JavaScript.
//
// Each reader returns what a user's code would get.

import { GoogleGenAI } from "@google/genai";

const hello = { model: "m", contents: "hello" };
const client = (url) => new GoogleGenAI({ apiKey: "none", httpOptions: { baseUrl: url } });

async function stream(url, say) {
  for await (const chunk of await client(url).models.generateContentStream(hello)) {
    say(chunk.text);
  }
}

export const readers = {
  stream,
  whole: async (url, say) => say((await client(url).models.generateContent(hello)).text),
};
