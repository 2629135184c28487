// Reads a stream of server-sent events, notices when its connection has died, and connects anew.
//
// It uses EventSource, timers and the clock, and does not depend on the page.
//
// watch(url, options) connects at once and returns { open, close, limit }. Its options:
//   onEvent(event)          each event that is heard, pings too: their `type` is "ping"
//   onState(state, detail)  "connecting"; "alive"; "closed"; or "lost", with
//                           { reason: "silent" or "ended", silence, wait }, in seconds
//   names                   of the app's own events, beside "message"
//   interval                seconds between two pings, as long as no ping's data says it
//   lastId                  of the last event that is known already
//
// A new EventSource sends no Last-Event-ID, so the id goes into the query, as `last`.

const SHORTEST = 1; // seconds of the first wait; it doubles as long as nothing is heard
const LONGEST = 30;
const TO_CONNECT = 10; // seconds that a connection may take to come about, at least

export function watch(url, options = {}) {
  const { onEvent = () => {}, onState = () => {}, names = [] } = options;
  let { interval = 15, lastId = "" } = options;
  let source, timer, heard, state, doubted, failures, listening;

  const silence = () => Math.max(0, Date.now() - heard) / 1000;
  const patience = () => Math.max(2 * interval, state === "alive" ? 0 : TO_CONNECT);

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
    if (event.lastEventId) lastId = event.lastEventId; // a ping carries the last one too
    if (event.type === "ping" && Number(event.data) > 0) interval = Number(event.data);
    become("alive");
    onEvent(event);
  }

  function become(next) { // a sign of life, or a beginning: the silence is counted from here
    const isNew = state !== next;
    state = next;
    heard = Date.now();
    doubted = false;
    look();
    if (isNew) onState(state, {});
  }

  // Timers are late in a page that nobody looks at, and stand still while a machine sleeps: so
  // the clock decides. A page that has slept itself gets half an interval to read what waits.
  function look() {
    const left = patience() - silence();
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
    const wait = most * (0.5 + Math.random() / 2); // so that not all come back at once
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
