// Faces of the camera from picture to picture: boxes that overlap are one track, whose answers are steadied.
// Nothing here looks at the page: what is known and what a picture says come in, what is known then goes out.
"use strict";

/** The least overlap, over both together, of a track's last box and its next: SORT's (Bewley et al. 2016). Boxes of one
 * size reach it while a face moves by less than 54 % of its width between pictures; people side by side have 0. */
const SAME_FACE = 0.3;
/** How much a picture counts in its track's average. What was before counts half after two, a twelfth after seven. */
const NEW = 0.3;
/** Pictures without its face that a track outlives: a turned head, a blurred picture. */
const MISSED = 3;

/** No face is known. */
const NOBODY = { tracks: [], next: 1, rows: [] };

/** The share that two boxes have in common of what they cover together, 0 to 1. */
function overlap(a, b) {
  const width = Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y);
  const both = Math.max(0, width) * Math.max(0, height);
  return both / (a.w * a.h + b.w * b.h - both) || 0;
}

/** Which track each row goes on with: the pair that overlaps most first, and every track and row once. */
function match(tracks, rows) {
  const pairs = tracks.flatMap((track) => rows.map((row) => ({ track, row, share: overlap(track.box, row.face.box) })));
  const [of, taken] = [new Map(), new Set()];
  for (const { track, row, share } of pairs.sort((a, b) => b.share - a.share)) {
    if (share < SAME_FACE || taken.has(track) || of.has(row)) continue;
    of.set(row, track);
    taken.add(track);
  }
  return of;
}

/** The answers of a track with those of a row: an exponential moving average of probabilities, by which labels go. */
function averaged(before, row, tasks) {
  const answers = { ...before };
  for (const task of tasks) {
    // A face that was set aside has no answer: those before stand.
    if (!row[task]) continue;
    const probabilities = { ...row[task].probabilities };
    for (const name of Object.keys(probabilities)) {
      if (before[task]) probabilities[name] = NEW * probabilities[name] + (1 - NEW) * before[task].probabilities[name];
    }
    const [label, probability] = Object.entries(probabilities).reduce((a, b) => (b[1] > a[1] ? b : a));
    answers[task] = { label, probability, probabilities };
  }
  return answers;
}

/** What is known after a picture's rows: tracks, and the rows to show, in the order of their tracks' numbers. */
function follow(known, found, tasks) {
  const faces = found.filter((row) => row.face && row.face.box);
  const of = match(known.tracks, faces);
  let next = known.next;
  const seen = faces.map((row) => {
    const { number, answers } = of.get(row) || { number: next++, answers: {} };
    return { number, box: row.face.box, missed: 0, answers: averaged(answers, row, tasks), row };
  }).sort((a, b) => a.number - b.number);
  const here = new Set(of.values());
  const missed = known.tracks.filter((track) => !here.has(track) && track.missed < MISSED)
    .map((track) => ({ ...track, missed: track.missed + 1 }));
  const rows = seen.map(({ number, answers, row }) => ({ ...row, ...answers, face: { ...row.face, number } }));
  const tracks = seen.map(({ row, ...track }) => track).concat(missed);
  return { tracks, next, rows: rows.concat(found.filter((row) => !faces.includes(row))) };
}
