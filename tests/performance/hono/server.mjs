// The same streams in Hono on Node.js: node --expose-gc server.mjs PORT INTERVAL.
//
// One app, as Hono's users would write it.
//
// Hono has no keep-alive of its own; its documentation's way is a loop in the handler. With
// INTERVAL 0 there is no loop: the same streams without pings.

import { readFileSync } from 'node:fs';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { streamSSE } from 'hono/streaming';

const [port, interval] = process.argv.slice(2).map(Number);
const TEXT = '0123456789012345678901234567890123456789';
const FIELDS = {
  Rss: 'rss_kib',
  Pss: 'pss_kib',
  Private_Clean: 'private_kib',
  Private_Dirty: 'private_kib',
};

const app = new Hono();

app.get('/idle', (c) =>
  streamSSE(c, async (stream) => {
    await stream.writeSSE({ data: TEXT });
    if (interval === 0) await new Promise((resolve) => stream.onAbort(resolve));
    await stream.sleep(interval * 1000);
    while (!stream.aborted) {
      await stream.writeSSE({ event: 'ping', data: '' });
      await stream.sleep(interval * 1000);
    }
  }),
);

app.get('/busy', (c) =>
  streamSSE(c, async (stream) => {
    const [count, turn] = [Number(c.req.query('n')), Number(c.req.query('turn'))];
    for (let number = 1; number <= count; number++) {
      await stream.writeSSE({ data: TEXT });
      if (number % turn === 0) await new Promise(setImmediate);
    }
  }),
);

app.get('/plain', (c) => c.text('Hello, world!'));

app.get('/cpu', (c) => {
  const { user, system } = process.cpuUsage();
  return c.json({ cpu_s: (user + system) / 1e6 });
});

app.get('/memory', (c) => {
  globalThis.gc();
  const found = { rss_kib: 0, pss_kib: 0, private_kib: 0 };
  for (const line of readFileSync('/proc/self/smaps_rollup', 'ascii').split('\n').slice(1)) {
    const [name, value] = line.split(':');
    if (name in FIELDS) found[FIELDS[name]] += parseInt(value);
  }
  return c.json(found);
});

serve({ fetch: app.fetch, port, hostname: '127.0.0.1' }, (info) => console.log(info.port));
