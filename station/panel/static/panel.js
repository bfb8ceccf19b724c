// The operator's page: shows what /events says, and nothing else.
//
// Promises: text is only ever set as text; a green tile means the light PASS of a board that is still there and nothing else;
// when the station has not been heard for SILENCE_MS, or this script fails in any way, the whole page says so and shows no
// result. Ages count from the station's own time, never from the browser's clock.
"use strict";

const SILENCE_MS = 2500;
const RECONNECT_MS = 1000;
const RELOAD_MS = 5000;
const MOST_NOTICES = 2;
const PHASES = ["CONNECT", "FLASH", "VERIFY", "BOOT", "PROVISION", "SELF_TEST"];
const WIDE_TO_HIGH = 1.15; // the shape of a tile that its texts fill best
const NARROWEST_TILE = 110; // px; a row of sockets that would get narrower tiles is folded
const GRID_LABEL = /^([A-Z]{1,2})([1-9][0-9]?)$/; // where a socket stands: letter of its row, number of its column
const TIGHT_BELOW = 0.7;
const SMALLEST_FIT = 0.4;
const MOST_CHARACTERS = 300;
const WORDS_WITH_A_LOOK = { AGAIN: "again", "ALREADY DONE": "done", "TEST NEXT": "next", INSPECTED: "inspected" };
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

const byId = (id) => document.getElementById(id);
const tiles = new Map();
let edition = null;
let heardAt = -Infinity;
let broken = false;
let stationTime = { atMs: NaN, heardAt: 0 };

// ---- the link -------------------------------------------------------------------------------------------------------

function connect() {
  const source = new EventSource("/events");
  source.addEventListener("edition", (event) => {
    if (edition !== null && edition !== event.data) location.reload();
    edition = event.data;
  });
  source.addEventListener("now", (event) => {
    stationTime = { atMs: Date.parse(event.data), heardAt: performance.now() };
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
  else showAges();
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
  showWarnings(view.diagnoses);
  const wasLost = document.body.dataset.link !== "live";
  document.body.dataset.link = "live";
  showPending(view);
  showSlots(view.slots, wasLost);
  showAges();
}

function showLot(view) {
  const shapes = { open: "●", paused: "❚❚", closed: "■" };
  const words = view.lot_state ? `lot ${view.lot_state}` : "no lot";
  byId("lot").dataset.state = view.lot_state;
  setText(byId("lot"), [shapes[view.lot_state] ?? "○", words, view.lot_person && `· ${view.lot_person}`].filter(Boolean).join(" "));
  byId("rejected").hidden = view.rejected_count === 0;
  setText(byId("rejected"), `⊘ ${view.rejected_count} rejected by hand`);
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

// What station doctor warns of, folded away; its problems are among the notices.
function showWarnings(diagnoses) {
  const warnings = diagnoses.filter((each) => each.level === "warning");
  const box = byId("warnings"), list = byId("warnings-list");
  const signature = JSON.stringify(warnings);
  if (list.dataset.signature === signature) return;
  list.dataset.signature = signature;
  box.hidden = warnings.length === 0;
  setText(byId("warnings-count"), `${warnings.length} ${warnings.length === 1 ? "warning" : "warnings"}`);
  list.replaceChildren(...warnings.map((each) => {
    const item = element("li");
    item.append(element("b", `${each.check}: ${each.said}`), element("span", each.fix));
    return item;
  }));
}

// ---- flashed, not tested --------------------------------------------------------------------------------------------

function showPending(view) {
  const signature = JSON.stringify([view.pending, view.pending_count]);
  const list = byId("pending-boards");
  if (list.dataset.signature === signature) return;
  list.dataset.signature = signature;
  list.dataset.count = view.pending_count;
  byId("pending").hidden = view.pending_count === 0;
  setText(byId("pending-count"), String(view.pending_count));
  list.replaceChildren(...view.pending.map(pendingBoard));
  fitPending();
}

function pendingBoard(board) {
  const item = element("li"), who = element("div"), age = element("span");
  const where = element("div", [board.chip_id, board.slot, board.product].filter(Boolean).join(" · "));
  const words = element("div", board.words.replace(/^flashed, not tested[:,]? */, ""));
  Object.entries({ who, where, words, age }).forEach(([name, each]) => {
    each.className = name;
  });
  age.dataset.since = board.since;
  who.append(element("b", board.mac), age);
  item.append(who, where, words);
  return item;
}

// What there is no room for is counted; the longest waiting stand first.
function fitPending() {
  const list = byId("pending-boards");
  const boards = [...list.children];
  boards.forEach((board) => (board.hidden = false));
  const bottom = list.getBoundingClientRect().bottom;
  const beyond = boards.filter((board) => board.getBoundingClientRect().bottom > bottom + 1);
  beyond.forEach((board) => (board.hidden = true));
  const more = Number(list.dataset.count ?? 0) - (boards.length - beyond.length);
  setText(byId("pending-more"), more > 0 ? `and ${more} more` : "");
}

// ---- ages -----------------------------------------------------------------------------------------------------------

function showAges() {
  document.querySelectorAll("#pending-boards .age").forEach((each) => setText(each, ageOf(each.dataset.since)));
  tiles.forEach((tile) => {
    const before = tile.age.textContent.length;
    setText(tile.age, tile.root.dataset.since ? `${ageOf(tile.root.dataset.since)} ago` : "");
    if (tile.age.textContent.length !== before) fit(tile);
  });
}

function ageOf(since) {
  const seconds = Math.floor((stationTime.atMs + performance.now() - stationTime.heardAt - Date.parse(since)) / 1000);
  if (Number.isNaN(seconds)) return "?";
  if (seconds < 60) return `${Math.max(0, seconds)} s`;
  const minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (hours < 1) return `${minutes} min`;
  return days < 1 ? `${hours} h ${minutes % 60} min` : `${days} d ${hours % 24} h`;
}

// ---- the slots ------------------------------------------------------------------------------------------------------

function showSlots(slots, fitAll) {
  const grid = byId("slots");
  const wanted = slots.map((slot) => `${slot.slot} ${slot.place}`);
  if (JSON.stringify(wanted) !== grid.dataset.wanted) {
    grid.dataset.wanted = JSON.stringify(wanted);
    for (const key of [...tiles.keys()].filter((each) => !wanted.includes(each))) tiles.delete(key);
    for (const key of wanted) if (!tiles.has(key)) tiles.set(key, makeTile());
    slots.forEach((slot, index) => nameTile(tiles.get(wanted[index]).root, slot));
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

function nameTile(root, slot) {
  root.dataset.slot = slot.slot;
  root.dataset.known = String(slot.known);
}

function lookOf(slot) {
  if (!slot.known) return "unknown";
  switch (slot.light) {
    case "EMPTY": return "empty";
    case "BUSY": return "busy";
    case "PASS": return "good";
    case "FAIL": return "bad";
    case "ACTION": return WORDS_WITH_A_LOOK[slot.headline] ?? "hand";
    default: return "call";
  }
}

// Returns whether texts changed, so that they must be fitted again.
function showSlot(tile, slot) {
  const look = lookOf(slot);
  tile.root.dataset.look = look;
  tile.root.dataset.light = slot.light;
  const values = slot.values.map(([name, value]) => `${name}\u00a0${value}`).join(" · ");
  tile.root.title = [slot.words, slot.cause, values, slot.properties].filter(Boolean).map(visible).join("\n");
  tile.root.toggleAttribute("data-unwatched", slot.unwatched);
  tile.root.dataset.since = slot.unwatched ? slot.changed_at : "";
  tile.root.dataset.role = roleOf(slot);
  tile.shape.setAttribute("href", `#shape-${look}`);
  tile.label.style.setProperty("--letters", slot.slot.length);
  tile.headline.style.setProperty("--letters", Math.max(...slot.headline.split(" ").map((word) => word.length)));
  if (setText(tile.mac, slot.mac)) tile.mac.href = `/board/${encodeURIComponent(slot.mac)}`;
  setText(tile.chip, slot.chip_id);
  setText(tile.values, values);
  setText(tile.role, roleOf(slot));
  setText(tile.properties, look === "empty" ? slot.properties : "");
  showPhases(tile.phases, slot);
  const texts = [slot.slot, slot.headline, look === "busy" ? progressOf(slot) : wordsOf(slot)];
  const changed = [tile.label, tile.headline, tile.words].map((each, index) => setText(each, texts[index]));
  changed.push(setDeed(tile.deed, slot.deed));
  tile.words.hidden = !texts[2];
  tile.deed.hidden = !slot.deed;
  return changed.some(Boolean);
}

// What the slot is for, where that is not everything: the last word of its properties.
function roleOf(slot) {
  const role = slot.properties.split(", ").at(-1);
  return role === "make" ? "" : role;
}

// A slot that the hand shall go to looks in the deed as on its own tile.
function setDeed(deed, text) {
  if (deed.dataset.said === text) return false;
  deed.dataset.said = text;
  const labels = JSON.parse(byId("slots").dataset.labels ?? "[]");
  const parts = visible(text).split(/([\s,]+)/);
  deed.replaceChildren(...parts.map((part) => (/\d/.test(part) && labels.includes(part) ? element("b", part) : part)));
  return true;
}

// The words may begin with the headline and end in the deed, which stand above and below in large letters: once is enough.
function wordsOf(slot) {
  let words = slot.words;
  if (slot.deed && words.endsWith(slot.deed)) words = words.slice(0, -slot.deed.length);
  if (slot.headline && words.toUpperCase().startsWith(slot.headline)) words = words.slice(slot.headline.length);
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
  const place = element("div"), said = element("div"), label = element("span"), role = element("span");
  const headline = element("span"), age = element("span"), words = element("p"), deed = element("p");
  const mac = element("a"), chip = element("span"), properties = element("span"), values = element("span");
  const phases = PHASES.map(() => element("i"));
  const picture = shape("empty");
  const parts = { tile: root, inside, top, middle, ids, place, said, label, role, headline, age, words, deed, properties, values };
  Object.entries({ ...parts, phases: bar }).forEach(([name, each]) => {
    each.className = name;
  });
  bar.append(...phases);
  place.append(label, role);
  top.append(place, picture);
  said.append(headline, age);
  middle.append(said, words, deed, bar);
  ids.append(mac, chip, values, properties);
  inside.append(top, middle, ids);
  root.append(inside);
  return { ...parts, root, mac, chip, phases, shape: picture.firstChild };
}

// ---- sizes ----------------------------------------------------------------------------------------------------------

// Tiles stand where the sockets stand, as their labels say; what has no such label comes after them, strangers last.
function arrange() {
  const grid = byId("slots");
  const labels = JSON.parse(grid.dataset.labels ?? "[]");
  const sockets = socketsOf(labels);
  const columns = sockets ? foldedColumns(sockets.columns, grid.clientWidth) : bestColumns(grid, labels);
  const folds = sockets ? Math.ceil(sockets.columns / columns) : 1;
  let next = sockets ? sockets.rows * folds * columns : 0;
  for (const tile of tiles.values()) {
    const cell = tile.root.dataset.known === "true" ? sockets?.cells.get(tile.root.dataset.slot) : undefined;
    const at = cell ? (cell.row * folds + Math.floor(cell.column / columns)) * columns + (cell.column % columns) : next++;
    tile.root.style.gridRow = Math.floor(at / columns) + 1;
    tile.root.style.gridColumn = (at % columns) + 1;
  }
  grid.style.setProperty("--columns", columns);
}

// The grid that the labels make: rows by letter, columns by number. Letters that no slot has make no row; a bench whose
// labels would leave most of their grid empty has none.
function socketsOf(labels) {
  const found = labels.map((label) => GRID_LABEL.exec(label)).filter(Boolean);
  if (found.length === 0) return null;
  const letters = [...new Set(found.map((each) => each[1]))].sort((one, other) => one.length - other.length || (one < other ? -1 : 1));
  const numbers = found.map((each) => Number(each[2]));
  const first = Math.min(...numbers);
  const columns = Math.max(...numbers) - first + 1;
  if (letters.length * columns > 4 * found.length + 8) return null;
  const cells = new Map(found.map((each) => [each[0], { row: letters.indexOf(each[1]), column: Number(each[2]) - first }]));
  return { rows: letters.length, columns, cells };
}

// A row that is too long for the screen is folded, in equal parts where that is possible.
function foldedColumns(columns, width) {
  const most = Math.max(1, Math.floor(width / NARROWEST_TILE));
  if (columns <= most) return columns;
  for (let part = most; part > most / 2; part -= 1) if (columns % part === 0) return part;
  return most;
}

// Without a grid: the columns that make the largest tiles; rows that break up a letter of the labels count less.
function bestColumns(grid, labels) {
  const count = Math.max(1, tiles.size);
  const letter = labels[0]?.[0];
  const row = labels.filter((label) => label[0] === letter).length || count;
  let best = { columns: 1, size: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const size = Math.min(grid.clientWidth / columns / WIDE_TO_HIGH, grid.clientHeight / rows);
    const weighed = size * (row % columns === 0 || columns % row === 0 ? 1 : 0.75);
    if (weighed > best.size) best = { columns, size: weighed };
  }
  return best.columns;
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
  fitPending();
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
