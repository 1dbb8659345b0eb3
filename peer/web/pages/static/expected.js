// A list of expected patients is read from a file into the form, where it can be looked at first.
"use strict";

document.addEventListener("change", async (event) => {
  const into = event.target.dataset.into;
  const [file] = event.target.files ?? [];
  if (into && file) document.getElementById(into).value = (await file.text()).replace(/^\uFEFF/, "");
});
