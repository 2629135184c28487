// The Vercel AI SDK: its providers, and the stream that its pages read.
//
// Each reader returns what a user's code would get.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { DefaultChatTransport, readUIMessageStream, streamText } from "ai";

const LIMIT = 1500; // milliseconds; the LIMIT of protocols.py

// What a user's code gets of a text; an error is one of its parts, and thrown here.
async function text(model, say, timeout = undefined) {
  const onError = () => {};
  const result = streamText({ model, prompt: "hello", maxRetries: 0, timeout, onError });
  for await (const part of result.fullStream) {
    if (part.type === "error") throw part.error;
    if (part.type === "abort") throw new Error(`aborted: ${part.reason}`);
    say([part.type, part.text ?? part.finishReason ?? null]);
  }
}

const options = { apiKey: "none" };
const chat = (url) => createOpenAI({ ...options, baseURL: url }).chat("m");
const responses = (url) => createOpenAI({ ...options, baseURL: url }).responses("m");
const compatible = (url) =>
  createOpenAICompatible({ ...options, name: "own", baseURL: url }).chatModel("m");
const anthropic = (url) => createAnthropic({ ...options, baseURL: url })("m");

function transport(url) {
  const messages = [{ id: "1", role: "user", parts: [{ type: "text", text: "hello" }] }];
  const made = new DefaultChatTransport({ api: url });
  return made.sendMessages({ chatId: "1", messages, trigger: "submit-message" });
}

async function uiChunks(url, say) {
  for await (const chunk of await transport(url)) {
    if (chunk.type === "error") throw new Error(chunk.errorText);
    say(chunk);
  }
}

async function uiMessages(url, say) {
  const stream = await transport(url);
  const messages = readUIMessageStream({ stream, terminateOnError: true });
  for await (const { parts } of messages) say(structuredClone(parts));
}

export const readers = {
  "openai-chat": (url, say) => text(chat(url), say),
  "openai-responses": (url, say) => text(responses(url), say),
  "openai-compatible": (url, say) => text(compatible(url), say),
  anthropic: (url, say) => text(anthropic(url), say),
  "ui-chunks": uiChunks,
  "ui-messages": uiMessages,
  timer: (url, say) => text(chat(url), say, { chunkMs: LIMIT }),
};
