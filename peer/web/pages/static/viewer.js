// The built-in viewer: rendered frames, scrolled by wheel, keys, touch or slider; windows by name.
"use strict";

const KEPT = 80; // Pictures kept in memory: scrolling back does not ask again.
const AHEAD = 4;
const SWIPE_PX = 14;

const viewer = document.querySelector("[data-viewer]");
const message = viewer.querySelector(".frame p");
const slider = viewer.querySelector('input[type="range"]');
const place = viewer.querySelector("output");
const buttons = [...viewer.querySelectorAll(".series button")];
const windows = [...viewer.querySelectorAll("[data-window]")];
const kept = new Map();

let image = viewer.querySelector(".frame img");
let frames = [];
let current = 0;
let chosen = "";

function framesOf(button) {
  const base = `/dicom-web/studies/${viewer.dataset.viewer}/series/${button.dataset.series}/instances/`;
  return JSON.parse(button.dataset.images).flatMap(([uid, count]) =>
    Array.from({ length: count }, (_, index) => `${base}${uid}/frames/${index + 1}/rendered`));
}

function address(index) {
  const query = new URLSearchParams({ viewport: "1600,1600" });
  if (chosen) query.set("window", chosen);
  return `${frames[index]}?${query}`;
}

function load(url) {
  let picture = kept.get(url);
  if (!picture) {
    picture = new Image();
    picture.draggable = false;
    picture.src = url;
  }
  kept.delete(url);
  kept.set(url, picture);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return picture;
}

function say(text) {
  message.textContent = text;
  message.hidden = !text;
  image.hidden = Boolean(text);
}

async function show(index) {
  if (!frames.length) {
    say("This series holds no images. Its content can be retrieved with a workstation.");
    place.textContent = "";
    return;
  }
  current = Math.min(Math.max(index, 0), frames.length - 1);
  slider.value = String(current + 1);
  place.textContent = `Image ${current + 1} of ${frames.length}`;
  slider.setAttribute("aria-valuetext", place.textContent);
  const url = address(current);
  const picture = load(url);
  try {
    await picture.decode();
  } catch {
    kept.delete(url);
    if (url === address(current)) say("This image cannot be shown here. Retrieve it with a workstation.");
    return;
  }
  if (url !== address(current)) return; // Scrolled on meanwhile.
  // The picture itself is shown: another element with its address would ask for it again.
  picture.alt = `${viewer.dataset.title}, ${place.textContent}`;
  image.replaceWith(picture);
  image = picture;
  say("");
  for (let step = 1; step <= AHEAD; step += 1) {
    for (const near of [current + step, current - step]) {
      if (near >= 0 && near < frames.length) load(address(near));
    }
  }
}

function open(button) {
  for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
  frames = framesOf(button);
  slider.max = String(Math.max(frames.length, 1));
  slider.disabled = frames.length < 2;
  const isCt = button.dataset.modality === "CT";
  for (const each of windows) each.hidden = Boolean(each.dataset.window) && !isCt;
  choose(isCt ? chosen : "");
  show(button === buttons[0] ? 0 : Math.floor(frames.length / 2));
}

function choose(value) {
  chosen = value;
  for (const each of windows) each.setAttribute("aria-pressed", String(each.dataset.window === value));
}

for (const button of buttons) button.addEventListener("click", () => open(button));

for (const button of windows) {
  button.addEventListener("click", () => {
    choose(button.dataset.window);
    show(current);
  });
}

slider.addEventListener("input", () => show(Number(slider.value) - 1));

const stage = viewer.querySelector(".frame");

let travelled = 0;
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  // A mouse's notch is one image; a touch pad's small steps add up.
  travelled += Math.abs(event.deltaY) >= 50 ? Math.sign(event.deltaY) * 50 : event.deltaY;
  const steps = Math.trunc(travelled / 50);
  travelled -= steps * 50;
  if (steps) show(current + steps);
}, { passive: false });

const KEYS = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10 };
stage.addEventListener("keydown", (event) => {
  if (event.key in KEYS) show(current + KEYS[event.key]);
  else if (event.key === "Home") show(0);
  else if (event.key === "End") show(frames.length - 1);
  else return;
  event.preventDefault();
});

let from = null;
stage.addEventListener("pointerdown", (event) => {
  from = { y: event.clientY, index: current };
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  if (from) show(from.index + Math.trunc((event.clientY - from.y) / SWIPE_PX));
});
for (const name of ["pointerup", "pointercancel"]) {
  stage.addEventListener(name, () => { from = null; });
}

if (buttons.length) open(buttons[0]);
