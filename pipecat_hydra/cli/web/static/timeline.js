// Shows the entries of a conversation as a list, and follows the newest.

const NEAR_PX = 48;

export class Timeline {
  // What the bot is called here.
  botName = "Hydra";
  #list;
  #copied;
  #items = new Map();
  #isFollowing = true;

  // `copied` is called when a value was put on the clipboard.
  constructor(list, copied = () => {}) {
    this.#list = list;
    this.#copied = copied;
    // Whoever has scrolled back to read is left there.
    for (const area of [list.parentElement, window]) {
      area.addEventListener("scroll", () => {
        const { scrollHeight, scrollTop, clientHeight } = this.#area;
        this.#isFollowing = scrollHeight - scrollTop - clientHeight < NEAR_PX;
      });
    }
    // When it gets lower, as under a message above it, the newest would be out of sight.
    new ResizeObserver(() => this.#follow()).observe(list.parentElement);
  }

  // What scrolls: the list, or in a low window the whole page.
  get #area() {
    const scroller = this.#list.parentElement;
    const scrolls = getComputedStyle(scroller).overflowY !== "visible";
    return scrolls ? scroller : document.documentElement;
  }

  clear() {
    this.#list.replaceChildren();
    this.#items.clear();
    this.#isFollowing = true;
  }

  show(entry) {
    let item = this.#items.get(entry.id);
    if (!item) {
      item = node("li", "entry");
      this.#items.set(entry.id, item);
      this.#list.append(item);
    }
    item.className = `entry ${entry.kind}${entry.until === null ? " open" : ""}`;
    if (entry.isDiscarded) item.classList.add("discarded");
    const time = node("time", "", clock(entry.time));
    const body = node("div", "body");
    body.append(...BODIES[entry.kind](entry, this).filter(Boolean));
    item.replaceChildren(time, body);
    this.#follow();
  }

  async copy(part) {
    try {
      await navigator.clipboard.writeText(part.textContent);
      this.#copied();
    } catch {
      getSelection().selectAllChildren(part); // so that the user can
    }
  }

  #follow() {
    if (this.#isFollowing) this.#area.scrollTop = this.#area.scrollHeight;
  }
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

const ANSWERED_AFTER =
  "From your last sound to the first sound of the reply, as this page hears both";
const FIRST_AUDIO =
  "From the end of your turn to the first byte of the reply, as the server measures it";
const SILENT_AFTER =
  "From your first sound to the last sound of the reply, as this page hears both";
const HEARD = "What the model had generated when it was cut, or was not played";
const NO_WORDS =
  "Hydra gives no transcript of what you say. A bot that needs your words has an STT service " +
  "beside Hydra.";

// How much more is generated than heard until that is worth a word.
const UNHEARD_SECS = 0.5;

const BODIES = {
  note: ({ text }) => [node("p", "text", text)],
  problem: ({ text }) => [head("Problem"), node("p", "text", text)],
  disturbance: ({ text }) => [node("p", "text", text)],
  typed: ({ text }) => [head("You", fact("typed")), node("p", "text", text)],
  user: (entry) => [
    head(
      "You",
      fact(howLong(entry, "speaking")),
      entry.isDiscarded && fact("discarded as noise"),
    ),
    entry.text && node("p", "text", entry.text),
    entry.isFirst && !entry.text && node("p", "hint", NO_WORDS),
  ],
  reply: (entry, { botName }) => [
    head(
      botName,
      heard(entry),
      entry.answeredAfter !== null &&
        fact(`answered after ${tenths(entry.answeredAfter)}`, ANSWERED_AFTER),
      entry.firstAudio !== null &&
        fact(`first audio ${duration(entry.firstAudio)}`, FIRST_AUDIO),
      entry.isInterrupted && fact("interrupted"),
    ),
    entry.text && node("p", "text", entry.text.trim()),
  ],
  interruption: ({ silentAfter }) => [
    head(
      "Barge-in",
      silentAfter === null
        ? fact("the reply stops")
        : fact(`silent ${Math.round(silentAfter * 1000)} ms after your first sound`, SILENT_AFTER),
    ),
  ],
  call: (entry, timeline) => [
    head(
      entry.name ?? "A function",
      fact(entry.until === null ? "running" : duration(entry.until - entry.time)),
      entry.isCancelled && fact("cancelled"),
    ),
    values(timeline, [
      ["Arguments", entry.args],
      ["Result", entry.until === null || entry.isCancelled ? undefined : (entry.result ?? null)],
    ]),
  ],
};

function heard(entry) {
  const { generated, time, until } = entry;
  if (until === null || !entry.isInterrupted || generated - (until - time) < UNHEARD_SECS) {
    return fact(howLong(entry, "speaking"));
  }
  return fact(`${tenths(until - time)} of ${tenths(generated)} heard`, HEARD);
}

function head(title, ...facts) {
  const line = node("p", "head");
  line.append(node("strong", "", title), " ");
  for (const [place, part] of facts.filter(Boolean).entries()) {
    line.append(place ? " · " : "", part);
  }
  return line;
}

function fact(text, explanation = "") {
  const part = node("span", "fact", text);
  part.title = explanation;
  return part;
}

function howLong({ time, until }, meanwhile) {
  return until === null ? meanwhile : tenths(until - time);
}

function values(timeline, rows) {
  const list = node("dl", "values");
  for (const [name, value] of rows) {
    if (value === undefined) continue;
    const json = node("dd", "", asJson(value));
    const copy = node("button", "copy", "Copy");
    copy.type = "button";
    copy.setAttribute("aria-label", `Copy ${name.toLowerCase()}`);
    copy.addEventListener("click", () => timeline.copy(json));
    const row = node("div", "value");
    row.append(node("dt", "", name), json, copy);
    list.append(row);
  }
  return list;
}

// On one line if it is short.
function asJson(value) {
  const lines = JSON.stringify(value, null, 2);
  const line = lines.replace(/\n */g, " "); // a line break within a text is written as \n
  return line.length <= ONE_LINE ? line : lines;
}

const ONE_LINE = 88;

export function tenths(seconds) {
  return `${seconds.toFixed(1)} s`;
}

function duration(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : tenths(seconds);
}

function node(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
