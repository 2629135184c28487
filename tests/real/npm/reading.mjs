// Reads streams with the clients of one module, all at the same time, in one process.
//
//     node reading.mjs MODULE [SECONDS]
//
// A client that takes longer than these seconds hangs, and is left. Takes
// `[[READER, URL], ...]` as JSON from its standard input, and prints the readings in that
// order: what the reader handed to the user's code, the error, and the warnings logged.

import { AsyncLocalStorage } from "node:async_hooks";
import { format } from "node:util";

const [module, bound = "40"] = process.argv.slice(2);

const own = new AsyncLocalStorage();
for (const level of ["warn", "error"]) {
  console[level] = (...args) => own.getStore()?.logged.push(format(...args));
}
// Node's own warnings come once in a process, so they tell nothing.
process.removeAllListeners("warning");
process.on("unhandledRejection", (error) => {
  own.getStore()?.logged.push(`unhandled: ${error}`);
});

function bounded(promise) {
  return new Promise((resolve, reject) => {
    const hangs = () => reject(new Error(`hangs: nothing more in ${bound} s`));
    const timer = setTimeout(hangs, bound * 1000);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

async function reading(read, url) {
  const found = { got: [], error: null, logged: [] };
  const say = (item) => found.got.push(item);
  try {
    await own.run(found, () => bounded(read(url, say)));
  } catch (error) {
    const cause = error?.cause?.code ?? error?.cause?.message;
    const messages = [`${error?.name}: ${error?.message}`, ...(cause ? [cause] : [])];
    found.error = messages.join("; ").slice(0, 300);
  }
  // What differs between two streams by their addresses alone does not differ.
  found.logged = found.logged.map((text) => text.replaceAll(url, ""));
  return found;
}

async function input() {
  let text = "";
  for await (const chunk of process.stdin) text += chunk;
  return JSON.parse(text);
}

const { readers } = await import(`./readers/${module}.mjs`);
const asked = await input();
const found = await Promise.all(asked.map(([name, url]) => reading(readers[name], url)));
process.stdout.write(JSON.stringify(found), () => process.exit(0));
