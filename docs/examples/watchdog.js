// Reads a stream of server-sent events, detects a dead connection, and reconnects.
//
// It uses EventSource, timers and the clock, and does not depend on the page.
//
// watch(url, options) connects immediately and returns { open, close, limit }. Its options:
//   onEvent(event)          called for each event, including pings, whose `type` is "ping"
//   onState(state, detail)  called with "connecting", "alive", "closed", or "lost" and
//                           { reason: "silent" or "ended", silence, wait }, in seconds
//   names                   names of the app's own events, besides "message"
//   interval                seconds between two pings, until the data of a ping contains it
//   lastId                  ID of the last event that the page already has
//
// A new EventSource sends no Last-Event-ID, so the ID is sent in the query, as `last`.

const SHORTEST = 1; // seconds; the wait doubles after each attempt without data
const LONGEST = 30;
const TO_CONNECT = 10; // minimum number of seconds allowed for connecting

export function watch(url, options = {}) {
  const { onEvent = () => {}, onState = () => {}, names = [] } = options;
  let { interval = 15, lastId = "" } = options;
  let source, timer, heard, state, doubted, failures, listening;

  const silence = () => Math.max(0, Date.now() - heard) / 1000;
  const timeout = () => Math.max(2 * interval, state === "alive" ? 0 : TO_CONNECT);

  function after(seconds, action) {
    clearTimeout(timer);
    timer = setTimeout(action, seconds * 1000);
  }

  function connect() {
    const address = new URL(url, location.href);
    if (lastId) address.searchParams.set("last", lastId);
    source = new EventSource(address);
    source.onopen = () => become("alive");
    source.onerror = () => lose("ended");
    for (const name of ["message", "ping", ...names]) source.addEventListener(name, hear);
    become("connecting");
  }

  function hear(event) {
    failures = 0;
    if (event.lastEventId) lastId = event.lastEventId; // a ping has the last one, too
    if (event.type === "ping" && Number(event.data) > 0) interval = Number(event.data);
    become("alive");
    onEvent(event);
  }

  function become(next) { // data or a new connection: the idle time counts from here
    const isNew = state !== next;
    state = next;
    heard = Date.now();
    doubted = false;
    look();
    if (isNew) onState(state, {});
  }

  // Timers are delayed in background tabs and stop while the machine sleeps, so the clock
  // decides. A page that was suspended has half an interval to read what has been buffered.
  function look() {
    const left = timeout() - silence();
    if (left > 0) {
      after(left, look);
    } else if (!doubted) {
      doubted = true;
      after(interval / 2, look);
    } else {
      lose("silent");
    }
  }

  function lose(reason) {
    source.close();
    const most = Math.min(LONGEST, SHORTEST * 2 ** failures++);
    const wait = most * (0.5 + Math.random() / 2); // to avoid a reconnect storm
    after(wait, connect);
    state = "lost";
    onState(state, { reason, silence: silence(), wait });
  }

  function wake() {
    if (document.hidden) return;
    if (state === "lost") {
      after(Math.random() * SHORTEST, connect);
    } else {
      doubted = false;
      look();
    }
  }

  function open() {
    close();
    failures = 0;
    listening = new AbortController();
    document.addEventListener("visibilitychange", wake, { signal: listening.signal });
    addEventListener("online", wake, { signal: listening.signal });
    connect();
  }

  function close() {
    if (!listening) return;
    listening.abort();
    listening = undefined;
    clearTimeout(timer);
    source.close();
    state = "closed";
    onState(state, {});
  }

  open();
  return { open, close, get limit() { return 2.5 * interval; } };
}
