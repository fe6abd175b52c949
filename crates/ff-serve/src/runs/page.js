// Follows runs that are being trained: a line of figures for every step, new charts every two seconds at most.
"use strict";

const charts = document.getElementById("charts");
let asked = false;

async function renew() {
  if (asked) return;
  asked = true;
  await new Promise((resolve) => setTimeout(resolve, 2000));
  asked = false;
  try {
    const answer = await fetch(`/runs/charts${location.search}`);
    if (answer.ok) charts.innerHTML = await answer.text();
  } catch {
    // The next record asks again.
  }
}

for (const row of document.querySelectorAll("[data-follow]")) {
  const query = new URLSearchParams({ run: row.dataset.follow, from: row.dataset.from });
  const events = new EventSource(`/runs/events?${query}`);
  const said = row.querySelector(".status");
  events.addEventListener("step", (event) => {
    const step = JSON.parse(event.data);
    const loss = step.loss === null ? "-" : step.loss.toFixed(3);
    said.textContent = `epoch ${step.epoch}, step ${step.step}, loss ${loss}`;
    renew();
  });
  events.addEventListener("epoch", renew);
  events.addEventListener("anew", renew);
  events.addEventListener("error", () => {
    said.textContent = "the server does not answer";
  });
  events.addEventListener("end", () => {
    events.close();
    said.textContent += " (ended)";
    renew();
  });
}
