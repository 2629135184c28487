// The page of the demo: reads the same stream twice, byte by byte, and shows what it receives.
//
// The server defines how long everything takes. Pings are shown and counted, but not announced:
// a screen reader announces the start, the app's events and the end of each stream.

const place = (id) => document.getElementById(id);
const seconds = (number) => `${number.toFixed(1)} s`;
const short = (number) => Number(Number(number).toPrecision(2));
const now = () => performance.now() / 1000;
const settings = await (await fetch("/settings")).json();
const TOTAL = 2.15 * settings.silence; // seconds that the width of a timeline represents

// Splits received text into complete events and an incomplete rest.
function frames(text) {
  const parts = text.split(/(?<=\n\n)/);
  const rest = parts.at(-1).endsWith("\n\n") ? "" : parts.pop();
  return [parts, rest];
}

const field = (frame, name) => frame.match(new RegExp(`^${name}: ?(.*)`, "m"))?.[1];
const visible = (text) => text.replaceAll("\n", "\\n");

function item(list, ...content) {
  const made = document.createElement("li");
  made.append(...content);
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 8;
  list.append(made);
  if (atEnd) list.scrollTop = list.scrollHeight;
  return made;
}

function element(name, text, className = "") {
  return Object.assign(document.createElement(name), { textContent: text, className });
}

class Cut extends Error {
  constructor(status) {
    super("no response, or no clean end");
    this.status = status;
  }
}

// Turns network errors into `Cut`.
function reached(promise) {
  return promise.catch(() => { throw new Cut(); });
}

// One of the two streams, served at `path`.
class Stream {
  constructor(name, path) {
    this.path = path;
    this.root = place(name);
    for (const kind of ["live", "lists"]) {
      this.find(`.${kind}`).append(place(kind).content.cloneNode(true));
    }
    const title = place(`${name}-title`).textContent;
    this.find("[role=log]").ariaLabel = `Events from the app: ${title}`;
    this.find(".frames").ariaLabel = `Received bytes: ${title}`;
    const most = 0.7 * settings.limit;
    Object.assign(this.find("meter"), { max: settings.limit, low: most, high: most, optimum: 0 });
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  become(state, text) {
    this.state = state;
    this.find(".state").className = `state ${state}`;
    this.find(".state").textContent = text;
    this.onState?.();
  }

  get isOpen() {
    return ["asked", "open", "stopping"].includes(this.state);
  }

  async start(query) {
    this.leaving?.abort();
    const leaving = (this.leaving = new AbortController());
    this.id = Math.random().toString(36).slice(2, 10);
    Object.assign(this, { began: now(), heard: now(), bytes: 0, events: 0, pings: 0 });
    this.farewell = this.answer = undefined;
    for (const list of this.root.querySelectorAll(".said, .frames")) list.replaceChildren();
    for (const mark of this.root.querySelectorAll(".mark")) mark.remove();
    this.become("asked", "Request sent. Nothing received yet.");
    this.tick();
    try {
      await this.read(`${this.path}/${this.id}?${query}`, leaving.signal);
    } catch (error) {
      if (!(error instanceof Cut)) throw error;
      if (!leaving.signal.aborted) this.cut(error.status);
    }
  }

  async read(url, signal) {
    const response = await reached(fetch(url, { headers: { accept: "text/event-stream" }, signal }));
    this.show("headers", `${response.status} ${response.headers.get("content-type") ?? ""}`);
    if (!response.ok) throw new Cut(response.status);
    this.become("open", "Connected. Waiting for the app.");
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const { done, value } = await reached(reader.read());
      if (done) break;
      this.heard = now();
      this.bytes += value.length;
      const [whole, rest] = frames(text + decoder.decode(value, { stream: true }));
      text = rest;
      whole.forEach((frame) => this.take(frame));
    }
    // Some browsers report a connection that was cut as the end of the stream.
    if (!this.answer && this.farewell === undefined) throw new Cut();
    this.end();
  }

  take(frame) {
    const type = field(frame, "event");
    const data = field(frame, "data") ?? "";
    const kind = type === "ping" || type === "farewell" ? type : "event";
    if (kind === "ping") this.pings++;
    else if (kind === "farewell") this.farewell = data;
    else this.hear(data);
    this.show(kind, visible(frame));
  }

  hear(words) {
    this.events++;
    if (words.includes("answer")) this.answer = words;
    item(this.find(".said"), element("time", seconds(this.age)), words);
  }

  show(kind, text) {
    const [time, label] = [element("time", seconds(this.age)), element("b", kind)];
    item(this.find(".frames"), time, label, element("code", text)).className = kind;
    if (kind !== "headers") this.mark(kind);
  }

  mark(kind, text = "") {
    const made = element("i", text, `mark ${kind}`);
    made.style.left = `${Math.min(1, this.age / TOTAL) * 100}%`;
    this.find(".wire").append(made);
  }

  get age() {
    return now() - this.began;
  }

  get silence() {
    return now() - this.heard;
  }

  cut(status) {
    this.tick();
    this.mark("end cut", "✕");
    const isLate = this.silence > 0.9 * settings.limit;
    const cut = isLate ? "The proxy dropped the connection" : "The connection was lost";
    const what = status ? `The proxy responded with ${status}` : cut;
    const lost = this.answer ? "" : " The answer never arrived.";
    this.become("cut", `${what} after ${seconds(this.silence)} without data.${lost}`);
  }

  end() {
    this.tick();
    this.mark("end whole", "✓");
    if (this.answer) this.become("whole", `Complete after ${seconds(this.age)}: “${this.answer}”`);
    else this.become("ended", this.goodbye());
  }

  goodbye(reason = "") {
    const said = this.farewell ? `, with a farewell: “${this.farewell}”` : ".";
    return `Ended by the server${said}${reason && ` Reason: ${reason}.`}`;
  }

  tick() {
    this.find(".alive").textContent = seconds(this.age);
    for (const name of ["events", "pings", "bytes"]) {
      this.find(`.${name}`).textContent = this[name];
    }
    const silence = Math.min(this.silence, settings.limit);
    this.find("meter").value = silence;
    this.find(".measured").textContent = `${seconds(silence)} of ${seconds(settings.limit)}`;
    this.find(".line").style.width = `${Math.min(1, this.age / TOTAL) * 100}%`;
  }
}

const plain = new Stream("plain", "/plain");
const kept = new Stream("kept", "/kept");

// The chosen options, as a query string.
function query() {
  const interval = new FormData(place("choices")).get("interval");
  const late = place("late").checked;
  const shown = short(interval);
  place("arguments").textContent = `interval=${shown}${late ? `, start_after=${shown}` : ""}`;
  return `interval=${interval}${late ? "&late=1" : ""}`;
}

// Fetch the server's reports until they are complete, or no more are expected.
async function follow() {
  const stream = kept.id;
  for (let left = 20; left && stream === kept.id; left -= !kept.isOpen) {
    await new Promise((wake) => setTimeout(wake, 250));
    const answer = await fetch(`/reports/${stream}`).catch(() => {}); // the server may have stopped
    if (!answer) return;
    const reports = await answer.json();
    if (stream === kept.id && showReports(reports)) return;
  }
}

function showReports(reports) {
  const list = place("reports");
  for (const { name, ...fields } of reports.slice(list.children.length)) {
    const listed = Object.entries(fields).map(([key, value]) => `${key}=${value}`);
    item(list, `${name}: ${listed.join(", ")}`);
  }
  const reason = reports.find(({ name }) => name === "StreamEnded")?.reason;
  if (kept.isOpen || !reason) return false;
  if (kept.state === "ended") kept.become("ended", kept.goodbye(reason));
  return true;
}

function startKept() {
  place("reports").replaceChildren();
  kept.start(query());
  follow();
}

function startBoth() {
  plain.start(query());
  startKept();
}

// Without an open stream the button is disabled for ARIA only, so that it keeps the focus.
function onPress(id, path, text) {
  place(id).onclick = async () => {
    if (kept.state !== "open") return;
    kept.become("stopping", text);
    await fetch(path(), { method: "POST" });
  };
}

kept.onState = () => {
  for (const id of ["abort", "shutdown"]) place(id).ariaDisabled = kept.state !== "open";
};

place("limit").textContent = `${settings.limit} seconds`;
settings.intervals.forEach((interval, number) => {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), {
    type: "radio", name: "interval", value: interval, checked: number === 0,
  });
  const note = interval > settings.limit ? " (too long)" : "";
  label.append(input, `${short(interval)} s${note}`);
  place("intervals").append(label);
});
place("choices").onchange = startBoth;
place("choices").onsubmit = (event) => {
  event.preventDefault();
  startBoth();
};
plain.find(".start").onclick = () => plain.start(query());
kept.find(".start").onclick = startKept;
onPress("abort", () => `/abort/${kept.id}`,
  "Aborted: no more pings. The app may continue for a moment, then the stream is ended.");
onPress("shutdown", () => "/shutdown",
  "Shutting down: no more pings. The app may continue for a moment, then the stream is ended.");

setInterval(() => [plain, kept].forEach((stream) => stream.isOpen && stream.tick()), 100);
startBoth();
