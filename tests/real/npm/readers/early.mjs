// OpenAI's and Anthropic's SDKs, on a path that serves both kinds of responses.
//
// The fragment of a URL says what the app is to serve, as the `model`. Each reader hands out what a
// user's code would get: the chunks, the whole answer, or what the exception says.

import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const messages = [{ role: "user", content: "Is all well?" }];

function reader(create, stream) {
  return async (url, say) => {
    const [baseURL, model] = url.split("#");
    try {
      const got = await create({ apiKey: "none", baseURL, maxRetries: 0 }, { model, messages, stream });
      if (!stream) return say(got);
      for await (const chunk of got) say(chunk);
    } catch (error) {
      say({ raised: error.constructor.name, message: error.message, type: error.type });
    }
  };
}

const openai = (options, body) => new OpenAI(options).chat.completions.create(body);
const anthropic = (options, body) =>
  new Anthropic(options).messages.create({ ...body, max_tokens: 9 });

export const readers = {
  "openai-stream": reader(openai, true),
  "openai-whole": reader(openai, false),
  "anthropic-stream": reader(anthropic, true),
  "anthropic-whole": reader(anthropic, false),
};
