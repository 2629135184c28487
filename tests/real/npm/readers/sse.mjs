// JavaScript's SSE libraries, and what people write by hand instead of one.
//
// Each reader returns what a user's code would get.

import { EventSource } from "eventsource";
import { createParser } from "eventsource-parser";
import { EventSourceParserStream } from "eventsource-parser/stream";
import { Agent, EventSource as UndiciEventSource, fetch } from "undici";

// Milliseconds. undici counts them in steps of half a second, and may take two more.
const agent = new Agent({ bodyTimeout: 400 });

function source(Source, names) {
  return (url, say) =>
    new Promise((resolve) => {
      const events = new Source(url);
      for (const name of names) {
        const hear = (event) => say([event.type, event.data, event.lastEventId]);
        events.addEventListener(name, hear);
      }
      events.addEventListener("error", () => {
        events.close(); // the end of the stream; it would connect again
        resolve();
      });
    });
}

async function* texts(url, dispatcher = undefined) {
  const response = await fetch(url, { dispatcher });
  const decoder = new TextDecoder();
  for await (const chunk of response.body) yield decoder.decode(chunk, { stream: true });
}

async function* lines(url, dispatcher = undefined) {
  let buffer = "";
  for await (const text of texts(url, dispatcher)) {
    const parts = (buffer + text).split("\n");
    buffer = parts.pop();
    yield* parts;
  }
  return buffer; // what ends without a newline; most readers forget it
}

async function parser(url, say) {
  const onEvent = ({ event, data, id }) => say([event ?? null, data, id ?? null]);
  const made = createParser({ onEvent });
  for await (const text of texts(url)) made.feed(text);
}

async function parserStream(url, say) {
  const response = await fetch(url);
  const events = response.body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream());
  for await (const { event, data, id } of events) say([event ?? null, data, id ?? null]);
}

// As people read OpenAI's protocol: the lines that begin with `data: `.
async function linesChecked(url, say) {
  for await (const line of lines(url)) {
    if (line.startsWith("data: ") && line !== "data: [DONE]") say(JSON.parse(line.slice(6)));
  }
}

// As people read it in chunks: split on a blank line, then look at the first characters.
async function split(url, say) {
  let buffer = "";
  for await (const text of texts(url)) {
    const events = (buffer + text).split("\n\n");
    buffer = events.pop();
    for (const event of events) {
      if (event.startsWith("data: ") && event !== "data: [DONE]") {
        say(JSON.parse(event.slice(6)));
      }
    }
  }
}

async function timer(url, say) {
  for await (const line of lines(url, agent)) if (line.startsWith("data")) say(line);
}

async function records(url, say) {
  for await (const line of lines(url)) say(JSON.parse(line));
}

async function recordsChecked(url, say) {
  for await (const line of lines(url)) if (line) say(JSON.parse(line));
}

const real = ["message", "update"];

export const readers = {
  eventsource: source(EventSource, real),
  "eventsource-listening": source(EventSource, [...real, "ping"]),
  "undici-eventsource": source(UndiciEventSource, real),
  "undici-eventsource-listening": source(UndiciEventSource, [...real, "ping"]),
  parser,
  "parser-stream": parserStream,
  "lines-checked": linesChecked,
  split,
  timer,
  records,
  "records-checked": recordsChecked,
};
