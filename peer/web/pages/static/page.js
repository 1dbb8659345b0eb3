// Small conveniences of every page: local times, copying, choices that show their fields.
"use strict";

const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

for (const time of document.querySelectorAll("time[datetime]")) {
  time.title = time.textContent;
  time.textContent = format.format(new Date(time.dateTime));
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    const label = button.textContent;
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
      button.textContent = "Copied";
    } catch {
      // Without leave to use the clipboard, the text is selected for copying by hand.
      window.getSelection().selectAllChildren(source);
      button.textContent = "Selected: press Ctrl C";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  });
}

// On a narrow screen the navigation scrolls: the place we are at is to be seen.
document.querySelector('.nav [aria-current="page"]')?.scrollIntoView({ block: "nearest", inline: "center" });

// What is one of several choices shows only its own fields.
for (const part of document.querySelectorAll("[data-when]")) {
  const [name, value] = part.dataset.when.split("=");
  const radios = document.querySelectorAll(`input[name="${name}"]`);
  const update = () => {
    part.hidden = ![...radios].some((radio) => radio.checked && radio.value === value);
  };
  for (const radio of radios) radio.addEventListener("change", update);
  update();
}
