// Parts of the page are renewed when the server says that they have a new version.
"use strict";
const status = document.getElementById("connection");
const WORDS = { live: "live", lost: "not connected: is the board still running?", connecting: "connecting" };
const busy = new Set();
let versions = {};

function show(state) {
  status.className = state;
  status.textContent = WORDS[state];
}

function take(message) {
  if (message.state) show(message.state);
  if (message.versions) Object.assign(versions, message.versions);
  if (document.hidden) return; // nobody looks: what is new is fetched when somebody does
  for (const part of document.querySelectorAll("[data-part]")) {
    const version = versions[part.dataset.part];
    if (version && version !== part.dataset.version) renew(part);
  }
}

async function renew(part) {
  const name = part.dataset.part;
  if (busy.has(name)) return;
  busy.add(name);
  try {
    const answer = await fetch(`/part/${encodeURIComponent(name)}`);
    if (answer.ok) {
      put(part, await answer.text());
      part.dataset.version = answer.headers.get("x-version");
    }
  } catch {
    show("lost");
  }
  busy.delete(name);
  const latest = versions[name];
  if (latest && latest !== part.dataset.version) setTimeout(() => renew(part), 1000); // it changed meanwhile, or failed
}

// The new content takes the place of the old; what the reader has opened or scrolled, and sections that are the same
// as before, stay as they are.
function put(part, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  for (const old of part.querySelectorAll("[data-keep]")) {
    const same = fresh.content.querySelector(`[data-keep="${old.dataset.keep}"]`);
    if (same && same.id === old.id) same.replaceWith(old);
  }
  const open = new Set([...part.querySelectorAll("details[id][open]")].map((each) => each.id));
  for (const each of fresh.content.querySelectorAll("details[id]")) if (open.has(each.id)) each.open = true;
  const scrolled = [...part.querySelectorAll(".scroll, pre, .paper")].map((each) => [each.scrollLeft, each.scrollTop]);
  part.replaceChildren(fresh.content);
  [...part.querySelectorAll(".scroll, pre, .paper")].forEach((each, place) => {
    if (scrolled[place]) [each.scrollLeft, each.scrollTop] = scrolled[place];
  });
  tellTimes(part);
}

function tellTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const minutes = Math.round((Date.now() - at) / 60000);
    time.title = at.toLocaleString();
    if (minutes < 1) time.textContent = "just now";
    else if (minutes < 60) time.textContent = `${minutes} min ago`;
    else if (minutes < 24 * 60) time.textContent = `${Math.round(minutes / 60)} h ago`;
    else time.textContent = at.toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric" });
  }
}

function connectShared() {
  const shared = new SharedWorker("/shared.js");
  shared.port.onmessage = (event) => take(event.data);
  shared.port.start();
  addEventListener("pagehide", () => shared.port.postMessage("leaving"));
}

// Without shared workers each tab has its own connection, and only while it is looked at.
function connectAlone() {
  let source = null;
  const connect = () => {
    source = new EventSource("/events");
    source.onopen = () => show("live");
    source.addEventListener("parts", (event) => take({ versions: JSON.parse(event.data) }));
    source.onerror = () => {
      show("lost");
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
    };
  };
  document.addEventListener("visibilitychange", () => {
    if (source) source.close();
    if (!document.hidden) connect();
  });
  if (!document.hidden) connect();
}

addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // brought back from the history, without its connection
});
document.addEventListener("visibilitychange", () => take({}));
tellTimes(document);
setInterval(() => tellTimes(document), 30000);
show("connecting");
if (window.SharedWorker) connectShared();
else connectAlone();
