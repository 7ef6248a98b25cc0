// One connection for all tabs of a browser, which allows six to a server: it hands on what the server says.
"use strict";
const ports = new Set();
const seen = {};
let source = null;
let state = "connecting";

function tell(message) {
  for (const port of ports) port.postMessage(message);
}

function connect() {
  source = new EventSource("/events");
  source.onopen = () => tell({ state: (state = "live") });
  source.addEventListener("parts", (event) => {
    const versions = JSON.parse(event.data);
    Object.assign(seen, versions);
    tell({ versions });
  });
  source.onerror = () => {
    tell({ state: (state = "lost") });
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000); // refused: no new try by itself
  };
}

onconnect = (event) => {
  const port = event.ports[0];
  ports.add(port);
  port.onmessage = () => ports.delete(port); // the tab is leaving
  port.postMessage({ state, versions: seen });
  if (source === null) connect();
};
