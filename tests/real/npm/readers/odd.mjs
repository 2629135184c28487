// Readers that behave badly, each in its way, to see what is reported of them.

import { setTimeout as sleep } from "node:timers/promises";

export const readers = {
  warns: async (url, say) => {
    say("one");
    await sleep(50); // the others are read meanwhile
    console.warn("of %s/warns", url);
    console.error("an error");
  },
  raises: async (url, say) => {
    say("one");
    throw new TypeError("on purpose", { cause: new Error("as well") });
  },
  hangs: (url, say) => {
    say("one");
    return new Promise(() => {});
  },
};
