// Keys for the forms of the page, and decisions without a new page. Without this script the buttons do the same.
"use strict";

const forms = [...document.querySelectorAll("form[action='/audit/decide']")];
const faceOf = (form) => form.closest("li");
let at = -1;

function goTo(place) {
  if (place < 0 || place >= forms.length) return;
  at = place;
  faceOf(forms[at]).focus();
  faceOf(forms[at]).scrollIntoView({ block: "nearest" });
}

async function decide(form, decision) {
  const fields = new URLSearchParams(new FormData(form));
  fields.set("decision", decision);
  const state = faceOf(form).querySelector(".state");
  try {
    const answer = await fetch(form.action, { method: "POST", body: fields, headers: { Accept: "application/json" } });
    const said = await answer.json();
    state.classList.toggle("said", !answer.ok);
    state.textContent = answer.ok ? said.words : said.detail;
    if (answer.ok) faceOf(form).dataset.decision = said.decision;
    return answer.ok;
  } catch {
    state.classList.add("said");
    state.textContent = "the server does not answer; nothing was decided";
    return false;
  }
}

document.addEventListener("focusin", (event) => {
  const place = forms.findIndex((form) => faceOf(form).contains(event.target));
  if (place >= 0) at = place;
});

document.addEventListener("submit", (event) => {
  if (!forms.includes(event.target) || !event.submitter) return;
  event.preventDefault();
  decide(event.target, event.submitter.value);
});

document.addEventListener("keydown", async (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("select, input")) {
    if (event.key === "Escape") goTo(at);
    return;
  }
  const words = { k: "keep", d: "drop", r: "relabel", u: "undo" };
  if (event.key === "n") goTo(at + 1);
  else if (event.key === "p") goTo(at - 1);
  else if (words[event.key] && at >= 0) {
    const form = forms[at];
    if (event.key === "r" && !form.elements.label?.value) {
      form.elements.label?.focus();
      return;
    }
    if ((await decide(form, words[event.key])) && event.key !== "u" && forms[at] === form) goTo(at + 1);
  } else return;
  event.preventDefault();
});
