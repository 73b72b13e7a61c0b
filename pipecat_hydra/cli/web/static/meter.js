// The level of a voice: drawn as it goes by, told to a screen reader, and kept for a while,
// so that it can be said when the voice last began and ended.

const STEP_MS = 50;
const BAR_PX = 3;
const GAP_PX = 2;
const FLOOR_DB = -54;
const SOUND = 0.2;
const PAUSE_MS = 300;
const TOLD_MS = 250;

const stillness = matchMedia("(prefers-reduced-motion: reduce)");

export class Meter {
  // When the voice began after its last pause, and when it was last heard, in milliseconds
  // of `performance.now()`; null if never.
  began = null;
  lastHeard = null;
  // 0 is silence or close to it, 1 as loud as can be.
  level = 0;
  #canvas;
  #meter;
  #analyser = null;
  #source = null;
  #samples = new Float32Array(1024);
  #levels = [];
  #peak = 0;
  #nextStep = 0;
  #nextTold = 0;

  constructor(canvas, meter) {
    this.#canvas = canvas;
    this.#meter = meter;
    new ResizeObserver(() => this.#fit()).observe(canvas);
  }

  attach(context, stream) {
    this.#source?.disconnect();
    this.#analyser = context.createAnalyser();
    this.#analyser.fftSize = this.#samples.length;
    this.#source = context.createMediaStreamSource(stream);
    this.#source.connect(this.#analyser);
  }

  detach() {
    this.#source?.disconnect();
    this.#analyser = this.#source = this.began = this.lastHeard = null;
    this.#levels = [];
    this.level = this.#peak = 0;
    this.#tell(0);
    this.#draw(0);
  }

  update(now) {
    const level = (this.level = this.#measure());
    if (level > SOUND) {
      if (this.lastHeard === null || now - this.lastHeard > PAUSE_MS) this.began = now;
      this.lastHeard = now;
    }
    this.#peak = Math.max(this.#peak, level);
    if (now < this.#nextStep) return;
    this.#nextStep = Math.max(this.#nextStep + STEP_MS, now);
    this.#levels.push(this.#peak);
    this.#draw(this.#peak);
    this.#peak = 0;
    if (now < this.#nextTold) return;
    this.#nextTold = now + TOLD_MS;
    this.#tell(level);
  }

  #measure() {
    if (!this.#analyser) return 0;
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    const decibels = 10 * Math.log10(sum / this.#samples.length + 1e-12);
    return Math.min(1, Math.max(0, 1 - decibels / FLOOR_DB));
  }

  #tell(level) {
    this.#meter.setAttribute("aria-valuenow", String(Math.round(level * 100)));
  }

  #fit() {
    const scale = devicePixelRatio || 1;
    this.#canvas.width = this.#canvas.clientWidth * scale;
    this.#canvas.height = this.#canvas.clientHeight * scale;
    this.#draw(this.#levels.at(-1) ?? 0);
  }

  #draw(level) {
    const pen = this.#canvas.getContext("2d");
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = this.#canvas.width / (width || 1);
    const style = getComputedStyle(this.#canvas);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const bar = (x, level) => {
      const size = Math.max(BAR_PX, level * height);
      pen.fillStyle = style.getPropertyValue(level > 0.02 ? "--voice" : "--rest");
      pen.beginPath();
      pen.roundRect(x, (height - size) / 2, BAR_PX, size, BAR_PX / 2);
      pen.fill();
    };
    const count = Math.max(1, Math.floor((width + GAP_PX) / (BAR_PX + GAP_PX)));
    this.#levels = this.#levels.slice(-count);
    for (let place = 0; place < count; place++) {
      const age = count - 1 - place;
      // Without motion, one steady bar grows and shrinks instead of a band that goes by.
      const shown = stillness.matches
        ? (place / count < level ? 0.5 : 0)
        : (this.#levels.at(-1 - age) ?? 0);
      bar(place * (BAR_PX + GAP_PX), shown);
    }
  }
}
