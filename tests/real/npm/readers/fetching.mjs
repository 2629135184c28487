// Node's own fetch, undici's, and axios: what a program gets that reads the text itself.

import axios from "axios";
import { fetch as undiciFetch } from "undici";

const events = { Accept: "text/event-stream" };
const stream = { responseType: "stream" };
const fetching = (options) => async (url, say) => say(await (await fetch(url, options)).text());

async function axiosNode(url, say) {
  const { data } = await axios.get(url, stream);
  let text = "";
  for await (const chunk of data) text += chunk;
  say(text);
}

export const readers = {
  "fetch-get": fetching({}),
  "fetch-get-events": fetching({ headers: events }),
  "fetch-post": fetching({ method: "POST", body: "{}" }),
  "undici-fetch": async (url, say) => say(await (await undiciFetch(url)).text()),
  "axios-get": axiosNode,
  "axios-get-fetch": async (url, say) =>
    say((await axios.get(url, { adapter: "fetch", responseType: "text" })).data),
};
