// The picture of a call: two lanes, the user's and the bot's, on one time axis, and a row with
// what befell the call. It grows with the call, and follows its end. All of it is in the list of
// the timeline too, where a screen reader finds it.

const SVG = "http://www.w3.org/2000/svg";

const PX_PER_SEC = 24;
const AXIS = { top: 0, height: 18 };
const USER = { top: 20, height: 34 };
const BETWEEN = { top: 54, height: 18 };
const BOT = { top: 72, height: 34 };
const EVENTS = { top: 110, height: 20 };
const HEIGHT = 132;

const TICK_SECS = 5;
const STEP_SECS = 0.1;
const STRETCH_SECS = 10;
const ROOM_SECS = 1.5;
const NEAR_PX = 48;
const SIGN_PX = 16;

export class Picture {
  #strip;
  #svg;
  #layers = {};
  #drawn = new Map(); // entries by id, with their parts
  #places = new Map(); // by id, where the signs of the lowest row are
  #voices = { user: null, bot: null };
  #secs = 0;
  #ticks = 0;
  #isFollowing = true;
  #cursor;

  // A part that scrolls, and the picture in it. `chosen` is called with the time in seconds
  // that the user points at.
  constructor(strip, svg, chosen) {
    this.#strip = strip;
    this.#svg = svg;
    svg.setAttribute("height", HEIGHT);
    strip.addEventListener("scroll", () => {
      const rest = strip.scrollWidth - strip.scrollLeft - strip.clientWidth;
      this.#isFollowing = rest < NEAR_PX;
    });
    svg.addEventListener("click", (event) => {
      chosen((event.clientX - svg.getBoundingClientRect().left) / PX_PER_SEC);
    });
    new ResizeObserver(() => this.#fit()).observe(strip);
    this.clear();
  }

  clear() {
    for (const name of ["axis", "turns", "user", "bot", "marks"]) {
      this.#layers[name] = make("g", { class: name });
    }
    this.#cursor = make("line", { class: "cursor", y1: AXIS.height, y2: HEIGHT });
    this.#cursor.setAttribute("visibility", "hidden");
    const { axis, turns, user, bot, marks } = this.#layers;
    this.#svg.replaceChildren(
      make("rect", { class: "lane user", y: USER.top, height: USER.height, width: "100%" }),
      make("rect", { class: "lane bot", y: BOT.top, height: BOT.height, width: "100%" }),
      axis,
      turns,
      user,
      bot,
      marks,
      this.#cursor,
    );
    this.#drawn.clear();
    this.#places.clear();
    this.#voices = {
      user: new Voice(user, USER),
      bot: new Voice(bot, BOT),
    };
    this.#secs = this.#ticks = 0;
    this.#isFollowing = true;
    this.#fit();
  }

  show(entry) {
    const before = this.#drawn.get(entry.id);
    before?.turn?.remove();
    before?.mark?.remove();
    const parts = { entry };
    const [turn, mark] = DRAWINGS[entry.kind](entry, this.#secs, () => this.#place(entry));
    if (turn) this.#layers.turns.append((parts.turn = turn));
    if (mark) this.#layers.marks.append((parts.mark = mark));
    this.#drawn.set(entry.id, parts);
  }

  // Both levels at a time in seconds: 0 is silence, 1 as loud as can be.
  hear(time, user, bot) {
    this.#voices.user.hear(time, user);
    this.#voices.bot.hear(time, bot);
  }

  // Let the picture grow to a time in seconds.
  grow(time) {
    this.#secs = time;
    for (const { entry } of this.#drawn.values()) if (entry.until === null) this.show(entry);
    this.#fit();
    if (this.#isFollowing) this.#strip.scrollLeft = this.#strip.scrollWidth;
  }

  // Show where the recording is played, in seconds; nowhere if null.
  point(time) {
    this.#cursor.setAttribute("visibility", time === null ? "hidden" : "visible");
    if (time === null) return;
    const x = time * PX_PER_SEC;
    this.#cursor.setAttribute("x1", x);
    this.#cursor.setAttribute("x2", x);
    const { scrollLeft, clientWidth } = this.#strip;
    if (x < scrollLeft || x > scrollLeft + clientWidth - NEAR_PX) {
      this.#strip.scrollLeft = x - NEAR_PX;
    }
  }

  // Where the sign of an entry is: at its time, or beside the sign before it.
  #place({ id, time }) {
    if (!this.#places.has(id)) {
      const before = Math.max(...this.#places.values());
      this.#places.set(id, Math.max(time * PX_PER_SEC, before + SIGN_PX + 2));
    }
    return this.#places.get(id);
  }

  #fit() {
    const grown = Math.ceil((this.#secs + ROOM_SECS) * PX_PER_SEC);
    const width = Math.max(this.#strip.clientWidth, grown);
    this.#svg.setAttribute("width", width);
    for (; this.#ticks * TICK_SECS * PX_PER_SEC < width; this.#ticks++) {
      const secs = this.#ticks * TICK_SECS;
      const x = secs * PX_PER_SEC;
      const label = `${Math.floor(secs / 60)}:${String(secs % 60).padStart(2, "0")}`;
      this.#layers.axis.append(
        make("line", { class: "tick", x1: x, x2: x, y1: AXIS.height, y2: EVENTS.top }),
        make("text", { x: x + 3, y: 12 }, label),
      );
    }
  }
}

// The level of one voice over time, in stretches, so that little is drawn anew.
class Voice {
  #layer;
  #lane;
  #stretch = null;
  #begun = -1;
  #path = "";
  #step = -1;
  #peak = 0;

  constructor(layer, lane) {
    this.#layer = layer;
    this.#lane = lane;
  }

  hear(time, level) {
    const step = Math.floor(time / STEP_SECS);
    if (step === this.#step) {
      this.#peak = Math.max(this.#peak, level);
      return;
    }
    if (this.#peak > 0.02) this.#draw();
    this.#step = step;
    this.#peak = level;
  }

  #draw() {
    const begun = Math.floor((this.#step * STEP_SECS) / STRETCH_SECS);
    if (begun !== this.#begun) {
      this.#begun = begun;
      this.#path = "";
      this.#layer.append((this.#stretch = make("path", { class: "level" })));
    }
    const x = (this.#step + 0.5) * STEP_SECS * PX_PER_SEC;
    const half = Math.max(1, (this.#peak * (this.#lane.height - 6)) / 2);
    const middle = this.#lane.top + this.#lane.height / 2;
    this.#path += `M${x.toFixed(1)} ${(middle - half).toFixed(1)}v${(2 * half).toFixed(1)}`;
    this.#stretch.setAttribute("d", this.#path);
  }
}

// Of each kind of entry: what lies behind the voices, and what lies over them.
const DRAWINGS = {
  user: (entry, now) => {
    const box = span(USER, entry.time, entry.until ?? now, entry.isDiscarded ? "noise" : "turn");
    return [titled(box, entry.isDiscarded ? "Noise: the turn was discarded" : "You")];
  },
  typed: ({ time, text }) => [null, sign(time * PX_PER_SEC, USER, "T", "typed", text)],
  reply: (entry, now) => {
    const parts = make("g", { class: "reply" });
    const until = entry.until ?? now;
    if (entry.generated) {
      const end = Math.max(until, entry.time + entry.generated);
      // It grows ahead of what is heard, so that the rest of a reply can be seen to be cut.
      parts.append(span(BOT, entry.time, end, "generated"));
    }
    parts.append(span(BOT, entry.time, until, entry.isInterrupted ? "turn cut" : "turn"));
    const mark = entry.answeredAfter === null ? null : answer(entry);
    return [titled(parts, entry.text.trim() || "A reply"), mark];
  },
  interruption: ({ time, silentAfter }) => {
    const parts = make("g", { class: "barge-in" });
    const x = time * PX_PER_SEC;
    parts.append(
      make("line", { x1: x, x2: x, y1: USER.top, y2: BOT.top + BOT.height }),
    );
    if (silentAfter !== null) {
      const text = `${Math.round(silentAfter * 1000)} ms`;
      parts.append(make("text", { x: x + 4, y: BETWEEN.top + 11 }, text));
    }
    return [null, titled(parts, "Barge-in")];
  },
  call: (entry, now, place) => {
    const name = entry.name ?? "A function";
    const secs = (entry.until ?? now) - entry.time;
    const line = make("rect", {
      class: "running",
      x: entry.time * PX_PER_SEC,
      y: middle(EVENTS) - 1,
      width: Math.max(1, secs * PX_PER_SEC),
      height: 2,
    });
    const mark = sign(place(), EVENTS, "ƒ", "call", name);
    mark.prepend(line);
    return [null, mark];
  },
  problem: ({ text }, _, place) => [null, sign(place(), EVENTS, "!", "problem", text)],
  disturbance: ({ text }, _, place) => [null, sign(place(), EVENTS, "~", "disturbance", text)],
  note: ({ text, isReconnect }, _, place) =>
    isReconnect ? [null, sign(place(), EVENTS, "↻", "note", text)] : [],
};

function answer({ heardFrom, answeredAfter, text }) {
  const parts = make("g", { class: "answer" });
  const end = heardFrom * PX_PER_SEC;
  const begin = Math.max(0, end - answeredAfter * PX_PER_SEC);
  const y = BETWEEN.top + BETWEEN.height - 3;
  parts.append(
    make("path", { d: `M${begin} ${y - 3}V${y}H${end}V${y - 3}` }),
    make("text", { x: end + 4, y: y - 1 }, `${answeredAfter.toFixed(1)} s`),
  );
  return titled(parts, `Answered after ${answeredAfter.toFixed(1)} s: ${text.trim()}`);
}

function span({ top, height }, time, until, name) {
  const width = Math.max(2, (until - time) * PX_PER_SEC);
  return make("rect", { class: name, x: time * PX_PER_SEC, y: top, width, height, rx: 5 });
}

function sign(x, lane, letter, name, title) {
  const parts = make("g", { class: `sign ${name}` });
  const y = middle(lane) - SIGN_PX / 2;
  parts.append(
    make("rect", { x, y, width: SIGN_PX, height: SIGN_PX, rx: 4 }),
    make("text", { x: x + SIGN_PX / 2, y: y + 12 }, letter),
  );
  return titled(parts, title);
}

function middle({ top, height }) {
  return top + height / 2;
}

function titled(part, text) {
  part.append(make("title", {}, text));
  return part;
}

function make(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}
