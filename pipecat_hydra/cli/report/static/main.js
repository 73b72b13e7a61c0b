// Puts the page together: chooses the call, plays it, lists what happened, listens to keys.
//
// Texts of a call are anybody's. They reach the page as text of nodes and in no other way.

const LINES_AT_A_TIME = 100;
const $ = (id) => document.getElementById(id);

const report = JSON.parse($("data").textContent);
const player = new Audio();
player.preload = "auto";

let call = null;
let number = -1;
let shown = 0;
let url = "";
let marked = null;

const timeline = new Timeline($("stage"), $("view"), $("overview"), (secs) => listenFrom(secs));

function choose(index) {
  number = index;
  call = report.calls[index];
  player.pause();
  player.removeAttribute("src");
  if (url) URL.revokeObjectURL(url);
  url = "";
  shown = 0;
  marked = null;
  $("lines").replaceChildren();
  showMoreLines();
  $("call-name").textContent = report.calls.length > 1 ? call.name : "";
  $("length").textContent = `/ ${clock(call.secs)}`;
  $("stage").setAttribute("aria-valuemax", call.secs.toFixed(2));
  $("play").disabled = !call.has_audio;
  $("play").title = call.has_audio ? "Play or pause (space)" : "The recording has no audio";
  document.querySelectorAll("[data-call]").forEach((button) => {
    const isIt = Number(button.dataset.call) === index;
    button.closest("tr").toggleAttribute("aria-current", isIt);
  });
  timeline.show(call);
  showTime(0);
}

// Makes the audio playable: it waits as text, which costs nothing until somebody listens.
function load() {
  if (url || !call.has_audio) return;
  const text = $(`audio-${number}`);
  const bytes = Uint8Array.from(atob(text.textContent), (char) => char.charCodeAt(0));
  url = URL.createObjectURL(new Blob([bytes], { type: text.dataset.type }));
  player.src = url;
  player.playbackRate = Number($("speed").value);
}

function position() {
  return url ? player.currentTime : timeline.now;
}

function seek(secs) {
  const moment = Math.max(0, Math.min(call.secs, secs));
  if (url) player.currentTime = moment;
  timeline.moveTo(moment);
  showTime(moment);
}

async function play() {
  if (!call.has_audio) return;
  const from = timeline.now;
  if (!url) {
    load();
    player.currentTime = from;
  }
  if (player.ended || from >= call.secs - 0.01) player.currentTime = 0;
  try {
    await player.play();
  } catch (error) {
    // Another click has paused it before it began.
    if (error.name !== "AbortError") throw error;
  }
}

function toggle() {
  if (player.paused) play();
  else player.pause();
}

function listenFrom(secs) {
  seek(secs);
  play();
}

function showTime(secs) {
  $("now").textContent = clock(secs);
  const line = call.lines.findLastIndex((one) => one.at <= secs + 0.05);
  const item = line < 0 ? null : $("lines").children[line];
  if (item === marked) return;
  marked?.classList.remove("is-now");
  item?.classList.add("is-now");
  marked = item;
}

function tick() {
  const now = position();
  timeline.moveTo(now);
  showTime(now);
  if (!player.paused) requestAnimationFrame(tick);
}

player.addEventListener("play", () => {
  $("play").classList.add("is-playing");
  $("play").setAttribute("aria-label", "Pause");
  requestAnimationFrame(tick);
});
for (const kind of ["pause", "ended"]) {
  player.addEventListener(kind, () => {
    $("play").classList.remove("is-playing");
    $("play").setAttribute("aria-label", "Play");
  });
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function showMoreLines(count = LINES_AT_A_TIME) {
  const lines = call.lines.slice(shown, shown + count);
  $("lines").append(...lines.map(listItem));
  shown += lines.length;
  const left = call.lines.length - shown;
  $("more").hidden = left === 0;
  $("more").textContent = `Show ${Math.min(left, LINES_AT_A_TIME)} of ${left} more`;
}

function listItem(line) {
  const item = element("li", line.kind);
  const at = element("button", "at", clock(line.at, 2));
  at.type = "button";
  at.title = "Listen from here";
  at.addEventListener("click", () => listenFrom(line.at));
  const what = element("span", "what", line.what);
  what.dir = "auto";
  item.append(at, element("span", "who", line.who), what, element("span", "amount", line.figure));
  if (line.details.length) {
    const details = element("details");
    details.append(element("summary", "", line.details.map(([label]) => label).join(" and ")));
    details.append(...line.details.map(([label, value]) => valueOf(label, value)));
    item.append(details);
  }
  return item;
}

function valueOf(label, value) {
  const box = element("div", "value");
  const text = JSON.stringify(value, null, 2);
  const copy = element("button", "copy", "Copy");
  copy.type = "button";
  copy.addEventListener("click", async () => {
    await copyText(text);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 1500);
  });
  box.append(element("h3", "", label), element("pre", "", text), copy);
  return box;
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A page that was opened as a file may lack the right, and can still do it the old way.
    const area = element("textarea", "", text);
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

// Goes to the next turn, or to the one before.
function step(direction) {
  const begins = call.turns.map((turn) => turn.said_from ?? turn.began);
  const now = position();
  const next =
    direction > 0
      ? begins.find((begin) => begin > now + 0.05)
      : begins.findLast((begin) => begin < now - (player.paused ? 0.05 : 0.8));
  if (next !== undefined) seek(next);
}

const KEYS = {
  " ": () => toggle(),
  ArrowLeft: (event) => seek(position() - (event.shiftKey ? 5 : 1)),
  ArrowRight: (event) => seek(position() + (event.shiftKey ? 5 : 1)),
  Home: () => seek(0),
  End: () => seek(call.secs),
  "+": () => timeline.zoom(1.5),
  "=": () => timeline.zoom(1.5),
  "-": () => timeline.zoom(1 / 1.5),
  0: () => timeline.fit(),
  ",": () => step(-1),
  ".": () => step(1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // A key that means something to what has the focus is for it.
  if (event.target.closest("select, pre")) return;
  if (event.key === " " && event.target.closest("button, summary")) return;
  const act = Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : null;
  if (!act) return;
  event.preventDefault();
  act(event);
});

$("play").addEventListener("click", toggle);
$("zoom-in").addEventListener("click", () => timeline.zoom(1.5));
$("zoom-out").addEventListener("click", () => timeline.zoom(1 / 1.5));
$("fit").addEventListener("click", () => timeline.fit());
$("speed").addEventListener("change", () => (player.playbackRate = Number($("speed").value)));
$("more").addEventListener("click", () => showMoreLines());
document.querySelectorAll("[data-call]").forEach((button) => {
  button.addEventListener("click", () => choose(Number(button.dataset.call)));
});

// The pictures for paper wait as text: an hour's call would have thousands of elements of them.
addEventListener("beforeprint", () => {
  showMoreLines(Infinity);
  const parsed = new DOMParser().parseFromString($("printed").textContent, "text/html");
  $("pictures").hidden = false;
  $("pictures").replaceChildren(...parsed.querySelectorAll("svg"));
});

document.querySelectorAll(".player, .course").forEach((section) => (section.hidden = false));
choose(0);
