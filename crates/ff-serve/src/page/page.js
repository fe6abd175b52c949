// The page: photos to /v1/faces one at a time, boxes over faces, a table of every class beside them.
// All text goes in as text; nothing that a server or a file says becomes markup.
"use strict";

const $ = (id) => document.getElementById(id);
const results = [];
let about = { tasks: [], limits: { max_body_bytes: Infinity } };

/** An element with attributes and children; texts become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const percent = (p) => `${(100 * p).toFixed(1)} %`;
const say = (text) => { $("status").textContent = text; };

async function problem(response) {
  const said = await response.json().catch(() => ({}));
  return new Error(said.detail || `${response.status} ${response.statusText}`);
}

/** How often it is right by group: a table an attribute, a column a task. Wide ones are moved by arrow keys. */
function groups({ figures, unknown }) {
  if (!figures) {
    return [make("p", {}, `There are no figures: ${unknown}. Models err more often on some groups than on others.`)];
  }
  const share = (right) => {
    if (!right) return "no label";
    const [low, high] = right.interval.map((end) => (100 * end).toFixed(1));
    return `${percent(right.accuracy)} (${low} to ${high})`;
  };
  const tables = figures.groupings.map(({ by, groups: rows }) => {
    const columns = [by, "faces", ...Object.keys(rows[0].tasks)].map((name) => make("th", { scope: "col" }, name));
    const lines = rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row.group),
      make("td", {}, row.small ? `${row.n}, few` : `${row.n}`),
      ...Object.values(row.tasks).map((right) => make("td", {}, share(right)))));
    const caption = `Right answers by ${by}`;
    return make("div", { class: "groups", tabindex: "0", role: "region", "aria-label": caption },
      make("table", {}, make("caption", {}, caption), make("thead", {}, make("tr", {}, ...columns)),
        make("tbody", {}, ...lines)));
  });
  const few = figures.groupings.some((grouping) => grouping.groups.some((row) => row.small));
  const how = "The share of right answers, and in brackets its 95 % interval (Wilson): the fewer faces, the wider. "
    + "By a task's own labels, the share of each that is found.";
  return [make("p", {}, how + (few ? " Groups of few faces tell little." : "")), ...tables,
    make("p", { class: "hint" }, `${figures.faces}. From the run's ${figures.record}, as the model card has it.`)];
}

async function learn() {
  const response = await fetch("v1/model");
  if (!response.ok) throw await problem(response);
  about = await response.json();
  $("title").textContent = about.title;
  const size = `${about.architecture}, ${about.image_size} pixels, ${about.precision}`;
  const answers = about.tasks.map((task) => `${task.task} (${task.classes.length} classes)`).join(", ");
  const facts = [["Name", about.name], ["What", about.title], ["Trained on", about.trained_on], ["Network", size],
    ["Says", answers]];
  if (about.credit) facts.push(["From", about.credit]);
  for (const [term, text] of facts) $("model").append(make("dt", {}, term), make("dd", {}, text));
  $("groups").append(...groups(about.groups));
  for (const off of about.off) $("off").append(make("li", {}, `${off.task} is off. ${off.why}`));
}

function address(name) {
  const query = new URLSearchParams({ faces: $("faces").value, name });
  for (const option of ["min_face", "min_score", "min_sharpness"]) {
    if ($(option).value !== "") query.set(option, $(option).value);
  }
  return `v1/faces?${query}`;
}

/** What the server says of one image. */
async function ask(image, name) {
  if (image.size > about.limits.max_body_bytes) {
    throw new Error(`expected a file of at most ${about.limits.max_body_bytes} bytes, found ${image.size}`);
  }
  const kind = image.type.startsWith("image/") ? image.type : "application/octet-stream";
  for (;;) {
    const response = await fetch(address(name), { method: "POST", headers: { "content-type": kind }, body: image });
    if (response.ok) return response.json();
    if (response.status !== 429) throw await problem(response);
    await new Promise((done) => setTimeout(done, 1000 * Number(response.headers.get("retry-after") || 1)));
  }
}

/** The classes of a task with their probabilities, in the order in which people read them. */
function classes(task, answer) {
  const known = about.tasks.find((other) => other.task === task);
  const names = known ? known.shown_in_order : Object.keys(answer.probabilities);
  return names.map((name) => [name, answer.probabilities[name]]);
}

const tasksOf = (row) => about.tasks.filter(({ task }) => row[task]).map(({ task }) => [task, row[task]]);
const labels = (row) => tasksOf(row).map(([, answer]) => answer.label).join(", ");

/** What a face is called: by its track, or its place in the photo. */
const called = (row, i) => `Face ${row.face && row.face.number ? row.face.number : i + 1}`;

function title(row, i) {
  if (row.face === null) return "No face was found.";
  const score = row.face && row.face.score ? `, sure to ${percent(row.face.score)}` : "";
  const aside = row.face && row.face.set_aside ? ", set aside: not sharp enough" : "";
  return `${called(row, i)}${score}${aside}`;
}

function table(task, answer) {
  const body = make("tbody");
  for (const [name, p] of classes(task, answer)) {
    const best = name === answer.label;
    body.append(make("tr", { class: best ? "best" : false }, make("th", { scope: "row" }, name),
      make("td", {}, percent(p)), make("td", {}, make("meter", { value: p, "aria-hidden": "true" }))));
  }
  return make("table", {}, make("caption", {}, `${task}: ${answer.label}`), body);
}

/** A box over a face; places are shares of the picture, so they hold at every size. */
function box(row, i, width, height) {
  const { x, y, w, h } = row.face.box;
  const words = labels(row);
  const button = make("button", {
    type: "button", class: row.face.set_aside ? "box aside" : "box", "aria-pressed": "false",
    "aria-label": `${called(row, i)}${words ? `: ${words}` : ""}`,
  }, make("span", { "aria-hidden": "true" }, called(row, i).slice("Face ".length)));
  Object.assign(button.style, {
    left: `${100 * x / width}%`, top: `${100 * y / height}%`, width: `${100 * w / width}%`, height: `${100 * h / height}%`,
  });
  return button;
}

function choose(article, i) {
  article.querySelectorAll(".box").forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.face === String(i))));
  article.querySelectorAll(".face").forEach((face) => {
    const chosen = face.dataset.face === String(i);
    face.classList.toggle("chosen", chosen);
    if (chosen) face.scrollIntoView({ block: "nearest" });
  });
}

/** Puts rows into a frame and the tables beside it. */
function show(frame, said, rows, width, height) {
  frame.querySelectorAll(".box").forEach((old) => old.remove());
  said.replaceChildren();
  rows.forEach((row, i) => {
    if (row.face && row.face.box) {
      const button = box(row, i, width, height);
      button.dataset.face = i;
      button.addEventListener("click", () => choose(frame.parentElement, i));
      button.addEventListener("focus", () => choose(frame.parentElement, i));
      frame.append(button);
    }
    const face = make("div", { class: "face" }, make("p", {}, title(row, i)));
    face.dataset.face = i;
    for (const [task, answer] of tasksOf(row)) face.append(table(task, answer));
    said.append(face);
  });
}

async function add(file, name) {
  const image = make("img", { alt: name });
  image.src = URL.createObjectURL(file);
  const frame = make("div", { class: "frame" }, image);
  const said = make("div", { class: "said" }, make("p", {}, "…"));
  $("results").hidden = false;
  $("list").prepend(make("article", { class: "photo" }, make("h3", {}, name), frame, said));
  try {
    const [answer] = await Promise.all([ask(file, name), image.decode().catch(() => {})]);
    results.push(...answer.predictions);
    // A picture that the browser cannot show has no size to put boxes on.
    show(frame, said, answer.predictions, image.naturalWidth || 1, image.naturalHeight || 1);
    if (!image.naturalWidth) frame.replaceChildren(make("p", {}, "This browser cannot show the picture."));
    return answer.faces;
  } catch (error) {
    said.replaceChildren(make("p", { class: "error" }, error.message));
    return 0;
  }
}

let turn = Promise.resolve();
/** Photos one after the other, so that a folder of them fills no queue. */
function addAll(files) {
  [...files].forEach((file, i) => {
    turn = turn.then(async () => {
      say(`Photo ${i + 1} of ${files.length} …`);
      const faces = await add(file, file.name || "pasted");
      say(`${faces} face${faces === 1 ? "" : "s"} in ${file.name || "the pasted photo"}.`);
    });
  });
}

function save(name, kind, text) {
  const link = make("a", { download: name });
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function csv() {
  const cell = (value) => {
    const text = value === undefined || value === null ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll("\"", "\"\"")}"` : text;
  };
  const known = about.tasks.map(({ task, shown_in_order: names }) => ({ task, names }));
  const header = ["file", "face", "x", "y", "w", "h", "score", "set_aside"];
  for (const { task, names } of known) header.push(task, ...names.map((name) => `${task}: ${name}`));
  const lines = results.map((row) => {
    const face = row.face || {};
    const at = face.box || {};
    const cells = [row.file, face.index, at.x, at.y, at.w, at.h, face.score, face.set_aside];
    for (const { task, names } of known) {
      const answer = row[task] || { probabilities: {} };
      cells.push(answer.label, ...names.map((name) => answer.probabilities[name]));
    }
    return cells.map(cell).join(",");
  });
  return [header.map(cell).join(","), ...lines, ""].join("\r\n");
}

// The camera: one picture under way at a time, faces followed from one to the next (tracks.js).

let stream = null;
let followed = NOBODY;

async function look(video, canvas) {
  const frame = video.parentElement;
  const mine = stream;
  const goesOn = () => stream !== null && stream === mine;
  while (goesOn()) {
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    const picture = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
    try {
      const answer = await ask(picture, "camera");
      if (!goesOn()) return;
      followed = follow(followed, answer.predictions, about.tasks.map(({ task }) => task));
      show(frame, frame.nextElementSibling, followed.rows, canvas.width, canvas.height);
    } catch (error) {
      if (!goesOn()) return;
      say(error.message);
      stop();
    }
  }
}

function stop() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  [stream, followed] = [null, NOBODY];
  $("live").hidden = true;
  $("camera").textContent = "Use the camera";
}

async function camera() {
  if (stream) return stop();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
  } catch (error) {
    return say(`No camera: ${error.message}`);
  }
  $("camera").textContent = "Stop the camera";
  $("live").hidden = false;
  $("video").srcObject = stream;
  await $("video").play();
  return look($("video"), make("canvas"));
}

const images = (list) => [...list].filter((file) => file.type.startsWith("image/") || file.name);

$("files").addEventListener("change", (event) => { addAll(event.target.files); });
$("camera").addEventListener("click", camera);
$("csv").addEventListener("click", () => save("faces.csv", "text/csv", csv()));
$("json").addEventListener("click", () => save("faces.json", "application/json", JSON.stringify(results, null, 2)));
$("clear").addEventListener("click", () => {
  document.querySelectorAll("#list img").forEach((image) => URL.revokeObjectURL(image.src));
  results.length = 0;
  $("list").replaceChildren();
  $("results").hidden = true;
  say("");
});
document.addEventListener("paste", (event) => addAll(images(event.clipboardData.files)));
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  addAll(images(event.dataTransfer.files));
});
document.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const all = [...document.querySelectorAll(".box")];
  const at = all.indexOf(document.activeElement);
  if (!step || at < 0) return;
  event.preventDefault();
  all[(at + step + all.length) % all.length].focus();
});

learn().catch((error) => say(error.message));
