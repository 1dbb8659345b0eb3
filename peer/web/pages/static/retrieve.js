// Retrieving with live progress: what was a form becomes a bar that says how many are verified.
"use strict";

const OVER = new Set(["complete", "refused", "revoked", "failed"]);
// A browser has six connections to a server; the others are for what people click on meanwhile.
const AT_ONCE = 3;
let followed = 0;
const waiting = [];
const csrf = document.querySelector('meta[name="csrf"]').content;

async function answer(response) {
  const content = await response.json();
  if (!response.ok) throw new Error(`${content.error.reason} ${content.error.remedy}`.trim());
  return content;
}

function start(form) {
  const body = JSON.stringify({
    peer_id: form.elements.peer_id.value,
    study_instance_uid: form.elements.study_instance_uid.value,
    purpose: form.elements.purpose.value || null,
    reason: form.elements.reason.value,
  });
  return fetch("/api/v1/retrievals", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-OpenPriors-CSRF": csrf },
    body,
  }).then(answer);
}

function place(cell, ...nodes) {
  cell.replaceChildren(...nodes);
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function progress(found) {
  if (found.state !== "fetching" || !found.bytes_total) return found.sentence;
  const percent = Math.floor((100 * found.bytes) / found.bytes_total);
  const instances = found.instances === 1 ? "instance" : "instances";
  return `${found.instances_verified}/${found.instances} ${instances} verified, ${percent} % arrived${found.slowed ? `. ${found.slowed}` : ""}`;
}

function show(cell, found) {
  if (found.state === "complete") {
    const link = element("a", { className: "button small", href: `/studies/${found.study_instance_uid}` }, "Open");
    place(cell, link, element("p", { className: "small soft" }, found.sentence));
    link.focus({ preventScroll: true });
    return;
  }
  if (OVER.has(found.state)) {
    place(
      cell,
      element("p", { className: "small wrong" }, found.sentence),
      element("p", { className: "small soft" }, found.remedy ?? ""),
    );
    return;
  }
  showProgress(cell, found);
}

// What stands there is changed, not replaced: somebody may just be reaching for the link.
function showProgress(cell, found) {
  if (!cell.querySelector("progress")) {
    const bar = element("progress", {});
    bar.setAttribute("aria-label", "Retrieved");
    const link = element("a", { className: "button quiet small", textContent: "Look at what is here" });
    link.href = `/studies/${found.study_instance_uid}`;
    place(cell, element("div", { className: "progress" }, bar, element("p", {}), link));
  }
  const bar = cell.querySelector("progress");
  bar.max = Math.max(found.bytes_total, 1);
  bar.value = found.bytes;
  cell.querySelector(".progress p").textContent = progress(found);
  const link = cell.querySelector(".progress a");
  link.hidden = !found.viewable || link.pathname === location.pathname;
}

function unfollow(events) {
  events.close();
  followed -= 1;
  if (waiting.length) follow(...waiting.shift());
}

// The browser connects again by itself when the node was away for a while; not if it is refused.
function follow(cell, id) {
  if (followed === AT_ONCE) {
    waiting.push([cell, id]);
    return;
  }
  followed += 1;
  cell.setAttribute("aria-live", "polite");
  const events = new EventSource(`/api/v1/retrievals/${id}/events`);
  events.addEventListener("message", (event) => {
    const found = JSON.parse(event.data);
    show(cell, found);
    if (OVER.has(found.state)) unfollow(events);
  });
  events.addEventListener("error", () => {
    if (events.readyState !== EventSource.CLOSED) return;
    unfollow(events);
    fail(cell, new Error("How far this is cannot be shown any more. Reload the page."));
  });
}

function fail(cell, error) {
  place(cell, element("p", { className: "small wrong" }, error.message));
}

for (const form of document.querySelectorAll("form[data-retrieve]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const cell = form.parentElement;
    form.querySelector("button").disabled = true;
    start(form).then((found) => follow(cell, found.retrieval_id)).catch((error) => fail(cell, error));
  });
}

for (const cell of document.querySelectorAll("[data-retrieval]")) follow(cell, cell.dataset.retrieval);
