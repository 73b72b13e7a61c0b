// Shows the entries of a conversation as a list, and follows the newest.

export class Timeline {
  // What the bot is called here.
  botName = "Hydra";
  #list;
  #newest;
  #items = new Map();
  #isFollowing = true;

  constructor(list, newest) {
    this.#list = list;
    this.#newest = newest;
    // Whoever has scrolled back to read is left there.
    new IntersectionObserver(([{ isIntersecting }]) => {
      this.#isFollowing = isIntersecting;
    }, { rootMargin: "0px 0px 48px" }).observe(newest);
    // When it gets lower, as under a message above it, the newest would be out of sight. This
    // is told before that is.
    new ResizeObserver(() => this.#follow()).observe(list.parentElement);
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
    const time = node("time", "", clock(entry.time));
    const body = node("div", "body");
    body.append(...BODIES[entry.kind](entry, this.botName));
    item.replaceChildren(time, body);
    this.#follow();
  }

  #follow() {
    if (this.#isFollowing) this.#newest.scrollIntoView({ block: "end" });
  }
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

const FIRST_AUDIO =
  "From the end of your turn to the first byte of the reply, as the server measures it";
const SILENT_AFTER =
  "From your first sound to the last sound of the reply, as this page hears both";

const BODIES = {
  note: ({ text }) => [node("p", "text", text)],
  problem: ({ text }) => [head("Problem"), node("p", "text", text)],
  user: (entry) => [head("You", fact(howLong(entry, "speaking")))],
  reply: (entry, botName) => [
    head(
      botName,
      fact(howLong(entry, "speaking")),
      entry.firstAudio !== null &&
        fact(`first audio ${duration(entry.firstAudio)}`, FIRST_AUDIO),
      entry.isInterrupted && fact("interrupted"),
    ),
    ...(entry.text ? [node("p", "text", entry.text.trim())] : []),
  ],
  interruption: ({ silentAfter }) => [
    head(
      "Barge-in",
      silentAfter === null
        ? fact("the reply stops")
        : fact(`silent ${duration(silentAfter)} after your first sound`, SILENT_AFTER),
    ),
  ],
  call: (entry) => [
    head(
      entry.name ?? "A function",
      fact(howLong(entry, "running")),
      entry.isCancelled && fact("cancelled"),
    ),
    pairs([
      ["Arguments", entry.args],
      ["Result", entry.until === null || entry.isCancelled ? undefined : (entry.result ?? null)],
    ]),
  ],
};

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
  return until === null ? meanwhile : duration(until - time);
}

function pairs(rows) {
  const list = node("dl", "pairs");
  for (const [name, value] of rows) {
    if (value === undefined) continue;
    list.append(node("dt", "", name), node("dd", "", readable(value)));
  }
  return list;
}

// A plain object on one line, as people write it; anything else as JSON.
function readable(value) {
  const isPlain = (part) => part === null || typeof part !== "object";
  if (isPlain(value)) return JSON.stringify(value);
  const parts = Object.entries(value);
  if (Array.isArray(value) || !parts.every(([, part]) => isPlain(part))) {
    return JSON.stringify(value, null, 2);
  }
  return parts.map(([name, part]) => `${name}: ${JSON.stringify(part)}`).join(", ") || "none";
}

function duration(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

function node(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}
