// The timeline: both voices, and what happened, on one time axis, drawn on a canvas.
//
// Only what is in view is drawn, from levels that are computed once in steps of four, so that an
// hour costs no more than a minute. The elements of the page do not become more with the call.

const LANES = { ruler: 22, wave: 58, box: 20, gap: 6, line: 16 };
const GUTTER = 52;
const LABEL_FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const MOST_PIXELS_A_SECOND = 800;
const FIRST_PIXELS_A_SECOND = 12;
const NICE_STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];

function clock(secs, digits = 1) {
  const whole = Math.max(0, secs);
  const minutes = Math.floor(whole / 60);
  const rest = (whole - 60 * minutes).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${minutes}:${rest}`;
}

function milliseconds(secs) {
  return `${Math.round(1000 * secs)} ms`;
}

// Levels of a voice: `levels[k]` has the greatest of 4^k steps each.
class Wave {
  constructor(text, step) {
    const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
    this.step = step;
    this.levels = [bytes];
    this.loudest = Math.max(0.22, bytes.reduce((most, level) => Math.max(most, level), 0) / 255);
    while (this.levels.at(-1).length > 512) {
      const finer = this.levels.at(-1);
      const coarser = new Uint8Array(Math.ceil(finer.length / 4));
      finer.forEach((level, index) => {
        if (level > coarser[index >> 2]) coarser[index >> 2] = level;
      });
      this.levels.push(coarser);
    }
  }

  // The greatest level between two moments, from 0 to 1.
  between(begin, end) {
    let number = 0;
    let step = this.step;
    while (number + 1 < this.levels.length && step * 4 <= end - begin) {
      number += 1;
      step *= 4;
    }
    const level = this.levels[number];
    const last = Math.min(level.length, Math.max(Math.floor(begin / step) + 1, Math.ceil(end / step)));
    let most = 0;
    for (let index = Math.max(0, Math.floor(begin / step)); index < last; index += 1) {
      if (level[index] > most) most = level[index];
    }
    return (most / 255 / this.loudest) ** 2;
  }
}

class Timeline {
  constructor(stage, canvas, overview, onSeek) {
    this.stage = stage;
    this.canvas = canvas;
    this.overview = overview;
    this.onSeek = onSeek;
    this.tip = stage.querySelector("#tip");
    this.playhead = stage.querySelector("#playhead");
    this.now = 0;
    this.begin = 0;
    this.scale = 0;
    this.targets = [];
    new ResizeObserver(() => this.resize()).observe(stage);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.listen();
  }

  show(call) {
    this.call = call;
    this.secs = Math.max(call.secs, 1);
    this.user = new Wave(call.peaks.user, call.peaks.step);
    this.bot = new Wave(call.peaks.bot, call.peaks.step);
    this.toolRows = rowsOf(call.tools.map((tool) => [tool.asked, tool.answered ?? call.secs, tool]));
    this.now = 0;
    this.begin = 0;
    const isShort = this.secs * FIRST_PIXELS_A_SECOND < 1.5 * this.stage.clientWidth;
    this.scale = isShort ? 0 : FIRST_PIXELS_A_SECOND;
    this.resize();
  }

  get left() {
    return this.width < 560 ? 0 : GUTTER;
  }

  // Above a voice, where there is no room on its left.
  get caption() {
    return this.left ? 0 : 12;
  }

  get room() {
    return this.width - this.left;
  }

  get least() {
    return this.room / this.secs;
  }

  x(secs) {
    return this.left + (secs - this.begin) * this.scale;
  }

  at(x) {
    return this.begin + (x - this.left) / this.scale;
  }

  resize() {
    if (!this.call || !this.stage.clientWidth) return;
    this.width = this.stage.clientWidth;
    const { ruler, wave, box, gap, line } = LANES;
    const rows = this.toolRows.length;
    this.height = ruler + 2 * (this.caption + wave + box + 2 * gap) + box + gap + rows * (box + 2) + line;
    fitCanvas(this.canvas, this.width, this.height);
    fitCanvas(this.overview, this.width, 40);
    this.setView(this.begin, this.scale);
  }

  setView(begin, scale) {
    this.scale = Math.min(MOST_PIXELS_A_SECOND, Math.max(this.least, scale));
    const last = this.secs - this.room / this.scale;
    this.begin = Math.max(0, Math.min(last, begin));
    this.draw();
  }

  zoom(factor, around = this.now) {
    const x = Math.min(this.width, Math.max(this.left, this.x(around)));
    const scale = Math.min(MOST_PIXELS_A_SECOND, Math.max(this.least, this.scale * factor));
    this.setView(around - (x - this.left) / scale, scale);
  }

  fit() {
    this.setView(0, 0);
  }

  // Shows a moment; turns the page when it leaves the view.
  moveTo(secs) {
    this.now = secs;
    const end = this.begin + this.room / this.scale;
    if (secs < this.begin || secs > end - 0.002) {
      this.setView(secs - (0.1 * this.room) / this.scale, this.scale);
    }
    this.placePlayhead();
  }

  placePlayhead() {
    const x = this.x(this.now);
    this.playhead.hidden = x < this.left - 1 || x > this.width + 1;
    this.playhead.style.transform = `translateX(${x}px)`;
    this.stage.setAttribute("aria-valuenow", this.now.toFixed(2));
    this.stage.setAttribute("aria-valuetext", clock(this.now));
    this.drawOverview();
  }

  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.paint();
      this.placePlayhead();
    });
  }

  paint() {
    const colors = (this.colors = readColors());
    const context = (this.context = startDrawing(this.canvas));
    context.font = LABEL_FONT;
    context.textBaseline = "middle";
    this.targets = [];
    const { ruler, wave, box, gap } = LANES;
    this.paintRuler();
    context.save();
    context.beginPath();
    context.rect(this.left, 0, this.room, this.height);
    context.clip();
    this.paintLine();
    let y = ruler + gap + this.caption;
    this.paintWave(this.user, colors.user, y, wave);
    y += wave + gap;
    this.paintTurns(y);
    y += box + gap;
    const latencies = y;
    y += box + gap + this.caption;
    this.paintWave(this.bot, colors.bot, y, wave);
    y += wave + gap;
    this.paintReplies(y);
    y += box + gap;
    this.paintTools(y);
    this.paintLatencies(latencies);
    context.restore();
    this.paintLabels();
  }

  paintLabels() {
    const { ruler, wave, box, gap } = LANES;
    const bot = ruler + wave + 2 * (box + this.caption) + 4 * gap;
    const labels = [["User", ruler + gap + this.caption, wave], ["Bot", bot, wave]];
    if (this.toolRows.length) labels.push(["Tools", bot + wave + box + 2 * gap, box]);
    this.context.fillStyle = this.colors.quiet;
    for (const [text, y, height] of labels) {
      if (this.left) this.context.fillText(text, 0, y + height / 2);
      else if (height === wave) this.context.fillText(text, 0, y - 6);
    }
  }

  paintRuler() {
    const { context, colors } = this;
    const step = NICE_STEPS.find((nice) => nice * this.scale >= 64) ?? 3600;
    const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    const end = Math.min(this.secs, this.at(this.width));
    for (let number = Math.ceil(this.begin / step); number * step <= end + 1e-6; number += 1) {
      const x = Math.round(this.x(number * step));
      context.fillStyle = colors.grid;
      context.fillRect(x, 18, 1, this.height);
      const text = clock(number * step, digits);
      const width = context.measureText(text).width;
      context.fillStyle = colors.quiet;
      const left = Math.max(this.left, Math.min(this.width - width, x - width / 2));
      context.fillText(text, left, 9);
    }
  }

  paintWave(wave, color, y, height) {
    const { context } = this;
    const pixel = 1 / (devicePixelRatio || 1);
    const middle = y + height / 2;
    context.fillStyle = color;
    context.globalAlpha = 0.35;
    context.fillRect(this.left, middle - 0.5, this.room, 1);
    context.globalAlpha = 1;
    for (let x = this.left; x < this.width; x += pixel) {
      const level = wave.between(this.at(x), this.at(x + pixel));
      const half = level * (height / 2);
      if (half > 0.4) context.fillRect(x, middle - half, pixel, 2 * half);
    }
  }

  // Draws a box with a text in it, as much as fits; on its right, if there is room up to `beside`.
  // Returns whether the box is in view.
  paintBox(begin, end, y, { fill, stroke, dash = [], text = "", tip = "", beside = 0 }) {
    const left = this.x(begin);
    const right = Math.max(left + 2, this.x(end));
    if (right < this.left || left > this.width) return false;
    const { context } = this;
    const x = Math.max(this.left - 4, left) + 0.5;
    const width = Math.min(this.width + 4, right) - x - 0.5;
    context.beginPath();
    context.roundRect(x, y + 0.5, Math.max(1.5, width), LANES.box - 1, 4);
    if (fill) {
      context.fillStyle = fill;
      context.fill();
    }
    context.strokeStyle = stroke;
    context.setLineDash(dash);
    context.stroke();
    context.setLineDash([]);
    if (tip) this.targets.push({ x, y, width: Math.max(8, width), height: LANES.box, at: begin, tip });
    const from = Math.max(this.left, x) + 6;
    const fits = fitted(context, text, Math.min(this.width, right) - from - 4);
    context.fillStyle = this.colors.ink;
    if (fits) context.fillText(fits, from, y + LANES.box / 2 + 0.5);
    else if (context.measureText(text).width <= beside - right - 8) context.fillText(text, right + 4, y + LANES.box / 2 + 0.5);
    return true;
  }

  paintTurns(y) {
    const { colors } = this;
    for (const turn of this.call.turns) {
      const begin = turn.said_from ?? turn.began;
      const end = turn.said_until ?? turn.ended ?? this.call.secs;
      const answer = turn.answer_secs === null ? "" : `\nanswered after ${milliseconds(turn.answer_secs)}`;
      const said = turn.is_discarded ? "discarded: noise" : turn.words;
      const tip = `Turn ${turn.number}, ${(end - begin).toFixed(2)} s\n${said}${answer}`;
      this.paintBox(begin, end, y, {
        fill: turn.is_discarded ? null : colors["user-soft"],
        stroke: turn.is_discarded ? colors.quiet : colors.user,
        dash: turn.is_discarded ? [3, 3] : [],
        text: turn.is_discarded ? "discarded" : turn.words || `turn ${turn.number}`,
        tip,
      });
    }
  }

  paintReplies(y) {
    const { colors } = this;
    const heard = this.call.replies.filter((reply) => reply.heard.length);
    heard.forEach((reply, index) => {
      const begin = reply.heard[0][0];
      const end = reply.heard.at(-1)[1];
      const amounts = `${reply.heard_secs.toFixed(2)} of ${reply.generated_secs.toFixed(2)} s heard`;
      const tip = `Reply${reply.is_cut ? ", cut" : ""}: ${amounts}\n${reply.words}`;
      if (reply.is_cut) {
        const following = index + 1 < heard.length ? heard[index + 1].heard[0][0] : Infinity;
        const whole = end + Math.max(0, reply.generated_secs - reply.heard_secs);
        const options = { stroke: colors.bot, dash: [3, 3], tip };
        this.paintBox(end, Math.min(whole, following, this.secs), y, options);
      }
      const options = { fill: colors["bot-soft"], stroke: colors.bot, tip };
      this.paintBox(begin, end, y, { ...options, text: reply.words || "reply" });
    });
  }

  paintTools(y) {
    const { colors } = this;
    this.toolRows.forEach((row, number) => {
      row.forEach(([begin, end, tool], index) => {
        const given = JSON.stringify(tool.arguments);
        const result = tool.error ?? JSON.stringify(tool.result);
        const options = { fill: colors["tool-soft"], stroke: colors.tool, text: tool.name };
        options.beside = index + 1 < row.length ? this.x(row[index + 1][0]) : this.width + 4;
        const took = tool.answered === null ? "not answered" : milliseconds(end - begin);
        options.tip = `${tool.name}, ${took}\n${given}\n${result}`.slice(0, 400);
        this.paintBox(begin, end, y + number * (LANES.box + 2), options);
      });
    });
  }

  // Draws how long each answer took, and how long each barge-in until silence.
  paintLatencies(y) {
    const { context, colors } = this;
    const measures = this.call.turns
      .filter((turn) => turn.answer_secs > 0)
      .map((turn) => {
        const begin = turn.said_until ?? turn.ended;
        return [begin, begin + turn.answer_secs, colors.quiet, "answer"];
      });
    for (const one of this.call.interruptions) {
      if (one.speech_began === null || one.silent_at <= one.speech_began) continue;
      measures.push([one.speech_began, one.silent_at, colors.problem, "barge-in"]);
      context.fillStyle = colors.problem;
      context.globalAlpha = 0.13;
      const x = this.x(one.speech_began);
      const { ruler, wave, box, gap } = LANES;
      const bottom = ruler + 2 * (wave + box + this.caption) + 4 * gap;
      context.fillRect(x, ruler + gap, (one.silent_at - one.speech_began) * this.scale, bottom - ruler - gap);
      context.globalAlpha = 1;
    }
    const brackets = measures
      .map(([begin, end, color, kind]) => ({ left: this.x(begin), right: this.x(end), color, begin, kind, text: milliseconds(end - begin) }))
      .filter(({ left, right }) => right >= this.left && left <= this.width);
    for (const { left, right, color, begin, kind, text } of brackets) {
      context.fillStyle = color;
      context.fillRect(left, y + 9, right - left, 1.5);
      context.fillRect(left, y + 5, 1.5, 10);
      context.fillRect(right - 1.5, y + 5, 1.5, 10);
      this.targets.push({ x: left, y, width: right - left, height: LANES.box, at: begin, tip: `${kind}: ${text}` });
    }
    // Barge-ins choose first.
    brackets.sort((one, other) => (other.kind === "barge-in") - (one.kind === "barge-in"));
    const taken = brackets.map(({ left, right }) => [left, right]);
    for (const { left, right, color, text } of brackets) {
      const width = context.measureText(text).width;
      const isFree = (x) =>
        x >= this.left && x + width <= this.width && taken.every((one) => x + width + 4 <= one[0] || x >= one[1] + 4);
      const isInside = right - left > width + 14;
      const x = isInside ? (left + right - width) / 2 : [right + 5, left - 5 - width].find(isFree);
      if (x === undefined) continue;
      if (isInside) {
        context.fillStyle = colors.surface;
        context.fillRect(x - 4, y, width + 8, LANES.box);
      }
      context.fillStyle = color;
      context.fillText(text, x, y + LANES.box / 2 + 0.5);
      taken.push([x, x + width]);
    }
  }

  // Draws losses of the connection, settings, errors, and where a recording is cut off.
  paintLine() {
    const { context, colors, call } = this;
    const y = this.height - LANES.line;
    for (const lost of call.reconnects) {
      const x = this.x(lost.began);
      const width = ((lost.ended ?? call.secs) - lost.began) * this.scale;
      context.fillStyle = colors["problem-soft"];
      context.fillRect(x, LANES.ruler, width, this.height);
      context.fillStyle = colors.problem;
      const text = fitted(context, "connection lost", width - 8);
      context.fillText(text, Math.max(x, this.left) + 4, y + 8);
      const known = lost.is_restored ? "" : "\nHydra does not know all that was said before.";
      const tip = `Connection lost for ${(width / this.scale).toFixed(2)} s\n${lost.reason}${known}`;
      this.targets.push({ x, y, width, height: 16, at: lost.began, tip });
    }
    const marks = [
      ...call.settings.map((change) => [change.at, colors.tool, `Settings\n${JSON.stringify(change.settings)}`]),
      ...call.errors.map((error) => [error.at, colors.problem, `Error (${error.source})\n${error.message}`]),
    ];
    for (const [at, color, tip] of marks) {
      const x = this.x(at);
      context.fillStyle = color;
      context.beginPath();
      context.arc(x, y + 8, 4.5, 0, 7);
      context.fill();
      this.targets.push({ x: x - 7, y: y + 1, width: 14, height: 14, at, tip });
    }
    if (!call.is_complete) {
      const x = Math.min(this.width - 2, this.x(call.secs));
      context.fillStyle = colors.problem;
      context.fillRect(x, LANES.ruler, 2, this.height);
      const text = `cut off at ${call.secs.toFixed(2)} s`;
      context.fillText(text, x - context.measureText(text).width - 5, y + 8);
    }
  }

  drawOverview() {
    const context = startDrawing(this.overview);
    const { colors } = this;
    if (!colors) return;
    const scale = this.room / this.secs;
    context.fillStyle = colors.sunken;
    context.fillRect(this.left, 0, this.room, 40);
    [[this.user, colors.user, 11], [this.bot, colors.bot, 29]].forEach(([wave, color, middle]) => {
      context.fillStyle = color;
      for (let x = 0; x < this.room; x += 1) {
        const half = 9 * wave.between(x / scale, (x + 1) / scale);
        if (half > 0.4) context.fillRect(this.left + x, middle - half, 1, 2 * half);
      }
    });
    const x = this.left + this.begin * scale;
    const width = (this.room / this.scale) * scale;
    if (width < this.room - 1) {
      context.strokeStyle = colors.ink;
      context.lineWidth = 1.5;
      context.strokeRect(x + 0.75, 0.75, Math.max(4, width - 1.5), 38.5);
      context.fillStyle = colors.surface;
      context.globalAlpha = 0.6;
      context.fillRect(this.left, 0, x - this.left, 40);
      context.fillRect(x + width, 0, this.width - x - width, 40);
      context.globalAlpha = 1;
    }
    context.fillStyle = colors.ink;
    context.fillRect(this.left + this.now * scale - 0.5, 0, 1.5, 40);
  }

  listen() {
    const { stage } = this;
    const fingers = new Map();
    let from = null;
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      fingers.set(event.pointerId, event.offsetX);
      from = { x: event.offsetX, begin: this.begin, moved: false, spread: spreadOf(fingers), scale: this.scale };
      stage.setPointerCapture(event.pointerId);
    });
    stage.addEventListener("pointermove", (event) => {
      const x = event.clientX - stage.getBoundingClientRect().left;
      if (!from || !fingers.has(event.pointerId)) return this.point(event);
      fingers.set(event.pointerId, x);
      if (fingers.size > 1) {
        from.moved = true;
        const middle = [...fingers.values()].reduce((sum, one) => sum + one, 0) / fingers.size;
        this.zoom(((from.scale / this.scale) * spreadOf(fingers)) / (from.spread || 1), this.at(middle));
        return;
      }
      if (Math.abs(x - from.x) > 4) from.moved = true;
      if (!from.moved) return;
      this.tip.hidden = true;
      stage.classList.add("is-dragged");
      this.setView(from.begin - (x - from.x) / this.scale, this.scale);
    });
    const release = (event) => {
      fingers.delete(event.pointerId);
      if (fingers.size || !from) return;
      stage.classList.remove("is-dragged");
      if (!from.moved && event.type === "pointerup") this.onSeek(this.clicked(from.x, event));
      from = null;
    };
    stage.addEventListener("pointerup", release);
    stage.addEventListener("pointercancel", release);
    stage.addEventListener("pointerleave", () => (this.tip.hidden = true));
    stage.addEventListener(
      "wheel",
      (event) => {
        const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
        if (!event.ctrlKey && !event.metaKey && !event.shiftKey && !sideways) return;
        event.preventDefault();
        if (event.ctrlKey || event.metaKey) {
          this.zoom(Math.exp(-event.deltaY / 200), this.at(event.offsetX));
        } else {
          this.setView(this.begin + (event.deltaX || event.deltaY) / this.scale, this.scale);
        }
      },
      { passive: false },
    );
    const pick = (event) => {
      if (!event.buttons) return;
      const secs = ((event.offsetX - this.left) / this.room) * this.secs;
      this.setView(secs - this.room / this.scale / 2, this.scale);
    };
    this.overview.addEventListener("pointerdown", (event) => {
      this.overview.setPointerCapture(event.pointerId);
      pick(event);
    });
    this.overview.addEventListener("pointermove", pick);
  }

  clicked(x) {
    return Math.max(0, Math.min(this.call.secs, this.at(x)));
  }

  // Shows what is under the pointer.
  point(event) {
    const box = this.stage.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const target = this.targets.findLast(
      (one) => x >= one.x && x <= one.x + one.width && y >= one.y && y <= one.y + one.height,
    );
    this.tip.hidden = !target;
    if (!target) return;
    this.tip.textContent = target.tip;
    const left = Math.max(0, Math.min(x + 12, this.width - this.tip.offsetWidth - 4));
    const below = target.y + target.height + 8;
    const above = target.y - this.tip.offsetHeight - 8;
    this.tip.style.left = `${left}px`;
    this.tip.style.top = `${below + this.tip.offsetHeight > this.height + 40 ? above : below}px`;
  }
}

// Distance between two fingers, 0 with fewer.
function spreadOf(fingers) {
  const xs = [...fingers.values()];
  return xs.length > 1 ? Math.max(20, Math.abs(xs[0] - xs[1])) : 0;
}

// Spans in as few rows as there are that do not overlap.
function rowsOf(spans) {
  const rows = [];
  for (const span of spans) {
    const row = rows.find((one) => one.at(-1)[1] <= span[0]);
    if (row) row.push(span);
    else rows.push([span]);
  }
  return rows;
}

function fitted(context, text, room) {
  const line = text.replace(/\s+/g, " ").trim();
  if (room < 12 || !line) return "";
  if (context.measureText(line).width <= room) return line;
  let [fits, end] = [0, Math.min(line.length, 400)];
  while (fits < end) {
    const middle = Math.ceil((fits + end) / 2);
    if (context.measureText(`${line.slice(0, middle)}…`).width <= room) fits = middle;
    else end = middle - 1;
  }
  return fits > 1 ? `${line.slice(0, fits).trimEnd()}…` : "";
}

function fitCanvas(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
}

function startDrawing(canvas) {
  const context = canvas.getContext("2d");
  const ratio = devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  return context;
}

function readColors() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "quiet", "grid", "surface", "sunken", "user", "user-soft", "bot", "bot-soft", "tool", "tool-soft", "problem", "problem-soft"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
