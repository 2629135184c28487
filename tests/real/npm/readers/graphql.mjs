// graphql-sse, in both of its modes.
//
// Each reader returns what a user's code would get.

import { createClient } from "graphql-sse";

const query = "subscription { count }";

async function subscribe(url, say, singleConnection) {
  const client = createClient({ url, singleConnection, retryAttempts: 0 });
  await new Promise((complete, error) => {
    client.subscribe({ query }, { next: say, complete, error });
  });
  client.dispose();
}

export const readers = {
  distinct: (url, say) => subscribe(url, say, false),
  single: (url, say) => subscribe(url, say, true),
};
