// Searching with what each facility has as it comes; the page of the answer follows by itself.
"use strict";

let stop = null;

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function day(date) {
  return date.length === 8 ? `${date.slice(0, 4)}-${date.slice(4, 6)}-${date.slice(6)}` : date;
}

// What has come so far: who was asked, and the studies, the newest first.
class Progress {
  constructor(form) {
    this.studies = new Map();
    this.title = element("h2", {}, "Searching …");
    this.told = element("div", { className: "small" });
    this.rows = element("tbody", {});
    const stopping = element("button", { type: "button", className: "quiet small" }, "Stop");
    stopping.addEventListener("click", () => stop?.abort());
    const columns = ["Date", "Study", "Facility"].map((name) => element("th", { scope: "col" }, name));
    const head = element("thead", {}, element("tr", {}, ...columns));
    this.place = element(
      "section",
      { className: "sheet", id: "so-far" },
      element("div", { className: "sheet-head" }, element("div", { className: "line" }, this.title, stopping), this.told),
      element("table", { className: "table" }, head, this.rows),
    );
    this.title.setAttribute("aria-live", "polite");
    form.after(this.place);
  }

  hear(heard) {
    for (const each of heard.results) {
      this.studies.set(`${each.facility.peer_id} ${each.study_instance_uid}`, each);
    }
    const partners = heard.waiting === 1 ? "1 facility" : `${heard.waiting} facilities`;
    this.title.textContent = heard.waiting ? `Waiting for ${partners}` : "Putting the list together";
    this.told.append(element("p", { className: heard.searched ? "soft" : "wrong" }, heard.sentence));
    const moment = (one) => one.study_date + one.study_time;
    const listed = [...this.studies.values()].sort((one, other) => (moment(one) < moment(other) ? 1 : -1));
    this.rows.replaceChildren(...listed.map((each) => this.row(each)));
  }

  row(each) {
    const tags = each.modalities.flatMap((one) => [element("span", { className: "tag" }, one), " "]);
    return element(
      "tr",
      {},
      element("td", {}, element("span", { className: "date" }, day(each.study_date))),
      element("td", {}, ...tags, each.description || "No description"),
      element("td", {}, element("span", { className: "tag place" }, each.facility.name)),
    );
  }
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

function say(form, text) {
  const note = element("div", { className: "note bad" }, element("p", {}, text));
  note.setAttribute("role", "alert");
  form.before(note);
}

function reset(form) {
  stop = null;
  form.querySelector("button:not([type])").disabled = false;
  document.getElementById("so-far")?.remove();
}

async function search(form) {
  for (const note of document.querySelectorAll("main .note.bad")) note.remove();
  form.querySelector("button:not([type])").disabled = true;
  stop = new AbortController();
  const response = await fetch(form.action, {
    method: "POST",
    body: new URLSearchParams(new FormData(form)),
    headers: { Accept: "application/x-ndjson" },
    signal: stop.signal,
  });
  if (!response.headers.get("Content-Type").startsWith("application/x-ndjson")) {
    // The form with what is wrong in it, or the page of an error.
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    document.querySelector("main").replaceWith(page.querySelector("main"));
    return;
  }
  const progress = new Progress(form);
  for await (const line of lines(response.body)) {
    if (line.event === "facility") progress.hear(line);
    else if (line.event === "answer") {
      window.location.assign(line.page);
      return;
    } else throw new Error(`${line.error.reason} ${line.error.remedy ?? ""}`.trim());
  }
  throw new Error("The node has ended the search. Search again.");
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-search]");
  if (!form) return;
  event.preventDefault();
  search(form).catch((error) => {
    reset(form);
    if (error.name !== "AbortError") say(form, error.message);
  });
});

// Somebody who comes back by the browser's button finds the form as it was before.
window.addEventListener("pageshow", (event) => {
  const form = document.querySelector("form[data-search]");
  if (event.persisted && form) reset(form);
});
