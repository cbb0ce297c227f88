/**
 * The moving line: how long each event and each heartbeat took, on a logarithmic scale, over the last minute.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

const WINDOW_MS = 60_000;
const LOWEST_MS = 0.5;
const HIGHEST_MS = 120_000;
const GRID = /** @type {const} */ ([[1, "1 ms"], [10, "10 ms"], [100, "0.1 s"], [1_000, "1 s"], [10_000, "10 s"], [60_000, "1 min"]]);
const LEFT = 46;
const BOTTOM = 20;
const TOP = 32;

export class MovingLine {
  /** @type {{t: number, ms: number, recovered: boolean}[]} */
  #delays = [];
  /** @type {{t: number, ms: number}[]} */
  #beats = [];
  /** @type {{t: number, ms: number}[]} heartbeats too */
  #roundTrips = [];
  /** @type {{from: number, to: number|null}[]} */
  #cuts = [];
  /** @type {{t: number, text: string}[]} */
  #marks = [];
  /** @type {Record<string, string>} */
  #colours = {};

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.#readColours();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#readColours());
  }

  /** @param {number} t of the page's monotonic clock, as all times here @param {number} ms @param {boolean} recovered */
  event(t, ms, recovered) {
    this.#delays.push({ t, ms, recovered });
  }

  /** @param {number} t @param {number} ms */
  beat(t, ms) {
    this.#beats.push({ t, ms });
    this.roundTrip(t, ms);
  }

  /** @param {number} t @param {number} ms */
  roundTrip(t, ms) {
    this.#roundTrips.push({ t, ms });
  }

  /** @param {number} t @param {boolean} isCut */
  cut(t, isCut) {
    const open = this.#cuts.find((cut) => cut.to === null);
    if (isCut && !open) this.#cuts.push({ from: t, to: null });
    if (!isCut && open) open.to = t;
  }

  /** @param {number} t @param {string} text */
  mark(t, text) {
    this.#marks.push({ t, text });
  }

  /** @param {number} now @returns {{delay: number|null, worst: number|null, roundTrip: number|null, beats: number}} medians, ms */
  figures(now) {
    this.#forget(now);
    const delays = this.#delays.map((event) => event.ms);
    return { delay: median(delays), worst: delays.length ? Math.max(...delays) : null, roundTrip: median(this.#roundTrips.map(({ ms }) => ms)), beats: this.#beats.length };
  }

  /** @param {number} now */
  draw(now) {
    this.#forget(now);
    const { context, canvas } = this;
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);

    /** @param {number} t */
    const x = (t) => LEFT + (1 - (now - t) / WINDOW_MS) * (width - LEFT - 10);
    const low = Math.log(LOWEST_MS);
    const high = Math.log(HIGHEST_MS);
    /** @param {number} ms */
    const y = (ms) => {
      const at = (Math.log(Math.min(Math.max(ms, LOWEST_MS), HIGHEST_MS)) - low) / (high - low);
      return height - BOTTOM - at * (height - BOTTOM - TOP);
    };
    this.#drawGrid(width, height, x, y, now);
    this.#drawCuts(height, x, now);
    this.#drawMarks(width, height, x);
    this.#drawCurve(this.#delays.filter((event) => !event.recovered), this.#colours.accent, 1_500, x, y);
    this.#drawCurve(this.#roundTrips, this.#colours.beat, 6_000, x, y);
    this.#drawDots(x, y);
    this.#drawBeats(height, x, y);
  }

  /** @param {number} width @param {number} height @param {(t: number) => number} x @param {(ms: number) => number} y @param {number} now */
  #drawGrid(width, height, x, y, now) {
    const { context } = this;
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    context.strokeStyle = this.#colours.grid;
    context.fillStyle = this.#colours.muted;
    context.textBaseline = "middle";
    context.textAlign = "right";
    for (const [ms, label] of GRID) {
      const at = Math.round(y(ms)) + 0.5;
      context.beginPath();
      context.moveTo(LEFT, at);
      context.lineTo(width, at);
      context.stroke();
      context.fillText(label, LEFT - 7, at);
    }
    context.textBaseline = "alphabetic";
    context.textAlign = "center";
    for (let ago = 10; ago <= 50; ago += width < 500 ? 20 : 10) context.fillText(`−${ago} s`, x(now - ago * 1000), height - 4);
    context.textAlign = "right";
    context.fillText("now", width - 2, height - 4);
  }

  /** @param {number} height @param {(t: number) => number} x @param {number} now */
  #drawCuts(height, x, now) {
    const { context } = this;
    for (const { from, to } of this.#cuts) {
      const left = Math.max(x(from), LEFT);
      const right = x(to ?? now);
      context.save();
      context.beginPath();
      context.rect(left, TOP, right - left, height - BOTTOM - TOP);
      context.clip();
      context.fillStyle = this.#colours.cutFill;
      context.fillRect(left, TOP, right - left, height);
      // The hatching moves with the paper.
      context.strokeStyle = this.#colours.cutHatch;
      const shift = x(from) % 12;
      for (let at = left - height - 12 + shift; at < right; at += 12) {
        context.beginPath();
        context.moveTo(at, height);
        context.lineTo(at + height, 0);
        context.stroke();
      }
      context.restore();
    }
  }

  /** @param {number} width @param {number} height @param {(t: number) => number} x */
  #drawMarks(width, height, x) {
    const { context } = this;
    context.textAlign = "left";
    const free = [-Infinity, -Infinity];
    for (const { t, text } of this.#marks) {
      const at = Math.round(x(t)) + 0.5;
      if (at < LEFT) continue;
      const size = context.measureText(text).width;
      const from = at + size + 6 < width ? at + 4 : at - 4 - size;
      const row = free.findIndex((right) => right <= from);
      context.strokeStyle = this.#colours.muted;
      context.setLineDash([3, 3]);
      context.beginPath();
      context.moveTo(at, row < 0 ? TOP : 2 + row * 14);
      context.lineTo(at, height - BOTTOM);
      context.stroke();
      context.setLineDash([]);
      if (row < 0) continue; // no room beside those before
      context.fillStyle = this.#colours.ink;
      context.fillText(text, from, 11 + row * 14);
      free[row] = from + size + 8;
    }
  }

  /**
   * @param {{t: number, ms: number}[]} points @param {string} colour @param {number} reach ms that a stroke may span
   * @param {(t: number) => number} x @param {(ms: number) => number} y
   */
  #drawCurve(points, colour, reach, x, y) {
    const { context } = this;
    context.strokeStyle = colour;
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    context.beginPath();
    let before = -Infinity;
    for (const { t, ms } of points) {
      if (t - before > reach) context.moveTo(x(t), y(ms));
      else context.lineTo(x(t), y(ms));
      before = t;
    }
    context.stroke();
  }

  /** @param {(t: number) => number} x @param {(ms: number) => number} y */
  #drawDots(x, y) {
    const { context } = this;
    for (const { t, ms, recovered } of this.#delays) {
      context.fillStyle = recovered ? this.#colours.recovered : this.#colours.accent;
      context.beginPath();
      context.arc(x(t), y(ms), recovered ? 2.6 : 1.6, 0, 7);
      context.fill();
    }
  }

  /** @param {number} height @param {(t: number) => number} x @param {(ms: number) => number} y */
  #drawBeats(height, x, y) {
    const { context } = this;
    context.strokeStyle = this.#colours.beat;
    for (const { t, ms } of this.#beats) {
      context.lineWidth = 1;
      context.globalAlpha = 0.45;
      context.beginPath();
      context.moveTo(x(t), height - BOTTOM);
      context.lineTo(x(t), y(ms));
      context.stroke();
      context.globalAlpha = 1;
      context.lineWidth = 2;
      context.fillStyle = this.#colours.surface;
      context.beginPath();
      context.arc(x(t), y(ms), 3.6, 0, 7);
      context.fill();
      context.stroke();
    }
  }

  /** @param {number} now */
  #forget(now) {
    const before = now - WINDOW_MS;
    for (const list of [this.#delays, this.#beats, this.#roundTrips, this.#marks]) {
      while (list.length && list[0].t < before) list.shift();
    }
    while (this.#cuts.length && this.#cuts[0].to !== null && this.#cuts[0].to < before) this.#cuts.shift();
  }

  #readColours() {
    const style = getComputedStyle(this.canvas);
    /** @param {string} name */
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    this.#colours = {
      ink: colour("ink"), muted: colour("muted"), grid: colour("grid"), surface: colour("surface"), accent: colour("accent"),
      recovered: colour("amber"), beat: colour("violet"), cutFill: colour("cut-fill"), cutHatch: colour("cut-hatch"),
    };
  }
}

/** @param {number[]} values @returns {number|null} */
function median(values) {
  return values.length ? values.sort((a, b) => a - b)[values.length >> 1] : null;
}
