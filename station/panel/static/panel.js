// The operator's page: shows what /events says, and nothing else.
//
// Promises: text is only ever set as text; a green tile means the light PASS and nothing else; when the station has not been
// heard for SILENCE_MS, or this script fails in any way, the whole page says so and shows no result.
"use strict";

const SILENCE_MS = 2500;
const RECONNECT_MS = 1000;
const RELOAD_MS = 5000;
const MOST_NOTICES = 2;
const PHASES = ["CONNECT", "FLASH", "VERIFY", "BOOT", "PROVISION", "SELF_TEST"];
const WIDE_TO_HIGH = 1.15; // the shape of a tile that its texts fill best
const TIGHT_BELOW = 0.7;
const SMALLEST_FIT = 0.5;
const MOST_CHARACTERS = 300;
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

const byId = (id) => document.getElementById(id);
const tiles = new Map();
let edition = null;
let heardAt = -Infinity;
let broken = false;

// ---- the link -------------------------------------------------------------------------------------------------------

function connect() {
  const source = new EventSource("/events");
  source.addEventListener("edition", (event) => {
    if (edition !== null && edition !== event.data) location.reload();
    edition = event.data;
  });
  source.addEventListener("state", (event) => {
    show(JSON.parse(event.data));
    heardAt = performance.now();
    setText(byId("clock"), new Date().toLocaleTimeString([], { hour12: false }));
  });
  source.addEventListener("error", () => {
    // The browser tries again by itself after a cut, but gives up for good after any answer that is not an event stream.
    lose();
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, RECONNECT_MS);
  });
}

function lose() {
  document.body.dataset.link = "lost";
}

setInterval(() => {
  if (performance.now() - heardAt > SILENCE_MS) lose();
}, 250);

window.addEventListener("error", () => {
  broken = true;
  lose();
  setTimeout(() => location.reload(), RELOAD_MS);
});

// ---- the station ----------------------------------------------------------------------------------------------------

function show(view) {
  if (broken) return;
  document.title = visible(`${view.station_id} – ${view.product || "no recipe"}`);
  setText(byId("product"), view.product || "NO RECIPE");
  byId("product").toggleAttribute("data-missing", !view.product);
  setText(byId("recipe-version"), view.recipe_version.replace(/^(?=\d)/, "v"));
  setText(byId("recipe-hash"), view.recipe_hash);
  setText(byId("station-id"), view.station_id);
  showLot(view);
  showNotices(view);
  const wasLost = document.body.dataset.link !== "live";
  document.body.dataset.link = "live";
  showSlots(view.slots, wasLost);
}

function showLot(view) {
  const shapes = { open: "●", paused: "❚❚", closed: "■" };
  const words = view.lot_state ? `lot ${view.lot_state}` : "no lot";
  byId("lot").dataset.state = view.lot_state;
  setText(byId("lot"), [shapes[view.lot_state] ?? "○", words, view.lot_person && `· ${view.lot_person}`].filter(Boolean).join(" "));
}

function showNotices(view) {
  const list = byId("notices");
  const signature = JSON.stringify(view.notices);
  list.dataset.ready = String(view.ready);
  if (list.dataset.signature === signature) return;
  list.dataset.signature = signature;
  list.hidden = view.notices.length === 0;
  const lines = view.notices.slice(0, MOST_NOTICES).map((notice) => {
    const line = document.createElement("li");
    line.append(shape("call"), element("span", notice));
    return line;
  });
  const more = view.notices.length - lines.length;
  if (more > 0) lines.at(-1).append(element("b", `and ${more} more`));
  list.replaceChildren(...lines);
}

// ---- the slots ------------------------------------------------------------------------------------------------------

function showSlots(slots, fitAll) {
  const grid = byId("slots");
  const wanted = slots.map((slot) => `${slot.slot} ${slot.place}`);
  if (JSON.stringify(wanted) !== grid.dataset.wanted) {
    grid.dataset.wanted = JSON.stringify(wanted);
    for (const key of [...tiles.keys()].filter((each) => !wanted.includes(each))) tiles.delete(key);
    for (const key of wanted) if (!tiles.has(key)) tiles.set(key, makeTile());
    const nobody = element("p", "No slots yet: plug in a programmer, or teach the slots.");
    nobody.className = "nobody";
    grid.replaceChildren(...(wanted.length ? wanted.map((key) => tiles.get(key).root) : [nobody]));
    grid.dataset.labels = JSON.stringify(slots.filter((slot) => slot.known).map((slot) => slot.slot));
    arrange();
    fitAll = true;
  }
  slots.forEach((slot, index) => {
    const tile = tiles.get(wanted[index]);
    if (showSlot(tile, slot) || fitAll) fit(tile);
  });
}

function lookOf(slot) {
  if (!slot.known) return "unknown";
  switch (slot.light) {
    case "EMPTY": return "empty";
    case "BUSY": return "busy";
    case "PASS": return "good";
    case "FAIL": return "bad";
    case "ACTION": return { AGAIN: "again", GOOD: "done" }[slot.headline] ?? "hand";
    default: return "call";
  }
}

// Returns whether texts changed, so that they must be fitted again.
function showSlot(tile, slot) {
  const look = lookOf(slot);
  tile.root.dataset.slot = slot.slot;
  tile.root.dataset.look = look;
  tile.root.dataset.light = slot.light;
  tile.root.title = slot.cause;
  tile.shape.setAttribute("href", `#shape-${look}`);
  tile.label.style.setProperty("--letters", slot.slot.length);
  setText(tile.mac, slot.mac);
  setText(tile.chip, slot.chip_id);
  showPhases(tile.phases, slot);
  const texts = [slot.slot, slot.headline, look === "busy" ? progressOf(slot) : wordsOf(slot), slot.deed];
  const changed = [tile.label, tile.headline, tile.words, tile.deed].map((each, index) => setText(each, texts[index]));
  tile.words.hidden = !texts[2];
  tile.deed.hidden = !texts[3];
  return changed.some(Boolean);
}

// The words may begin with the headline and end in the deed, which stand above and below in large letters: once is enough.
function wordsOf(slot) {
  let words = slot.words;
  if (slot.deed && words.endsWith(slot.deed)) words = words.slice(0, -slot.deed.length);
  if (slot.headline && words.startsWith(slot.headline)) words = words.slice(slot.headline.length);
  return words.replace(/^[:,\s]+|[:,\s]+$/g, "");
}

function progressOf(slot) {
  if (!slot.phase) return slot.note || slot.words;
  const percent = slot.fraction === null ? "" : ` ${Math.floor(slot.fraction * 100)} %`;
  return slot.phase.replace("_", " ") + percent + (slot.note ? ` · ${slot.note}` : "");
}

function showPhases(segments, slot) {
  const current = PHASES.indexOf(slot.phase);
  segments.forEach((segment, index) => {
    const here = index === current;
    segment.classList.toggle("unmeasured", here && slot.fraction === null);
    segment.style.setProperty("--done", index < current ? 1 : here ? (slot.fraction ?? 0) : 0);
  });
}

function makeTile() {
  const root = document.createElement("article");
  const inside = element("div"), top = element("div"), middle = element("div"), ids = element("div"), bar = element("div");
  const label = element("span"), headline = element("p"), words = element("p"), deed = element("p");
  const mac = element("span"), chip = element("span");
  const phases = PHASES.map(() => element("i"));
  const picture = shape("empty");
  Object.entries({ tile: root, inside, top, middle, ids, label, headline, words, deed, phases: bar }).forEach(([name, each]) => {
    each.className = name;
  });
  bar.append(...phases);
  top.append(label, picture);
  middle.append(headline, words, deed, bar);
  ids.append(mac, chip);
  inside.append(top, middle, ids);
  root.append(inside);
  return { root, inside, middle, label, headline, words, deed, mac, chip, phases, shape: picture.firstChild };
}

// ---- sizes ----------------------------------------------------------------------------------------------------------

// Choose the columns that make the largest tiles; rows that break up a letter of the labels (A1…A8) count less.
function arrange() {
  const grid = byId("slots");
  const count = Math.max(1, tiles.size);
  const labels = JSON.parse(grid.dataset.labels ?? "[]");
  const letter = labels[0]?.[0];
  const row = labels.filter((label) => label[0] === letter).length || count;
  let best = { columns: 1, size: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const size = Math.min(grid.clientWidth / columns / WIDE_TO_HIGH, grid.clientHeight / rows);
    const weighed = size * (row % columns === 0 || columns % row === 0 ? 1 : 0.75);
    if (weighed > best.size) best = { columns, size: weighed };
  }
  grid.style.setProperty("--columns", best.columns);
}

// Instructions are never cut off: their letters shrink until they fit. Before they get small, the words above lose a line.
function fit(tile) {
  for (const [tight, largest, smallest] of [[false, 1, TIGHT_BELOW], [true, TIGHT_BELOW + 0.1, SMALLEST_FIT]]) {
    tile.inside.toggleAttribute("data-tight", tight);
    for (let scale = largest; scale >= smallest; scale -= 0.05) {
      tile.inside.style.setProperty("--fit", scale);
      if (tile.middle.scrollHeight <= tile.middle.clientHeight) return;
    }
  }
}

new ResizeObserver(() => {
  arrange();
  tiles.forEach(fit);
}).observe(byId("slots"));

// ---- elements -------------------------------------------------------------------------------------------------------

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = visible(text);
  return made;
}

function shape(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#shape-${name}`);
  svg.append(use);
  return svg;
}

// Bytes of a board come escaped from the station; should some not be, they still neither hide nor reorder anything here.
function visible(text) {
  return text.slice(0, MOST_CHARACTERS).replace(UNSAFE, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

// Returns whether the text changed.
function setText(target, text) {
  const shown = visible(text);
  if (target.textContent === shown) return false;
  target.textContent = shown;
  return true;
}

connect();
