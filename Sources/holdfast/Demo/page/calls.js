/**
 * The calls that this page knows of, as the events tell of them.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

const ENDED_SHOWN_MS = 4_000;
/** A call of which nothing is heard for this long after a gap: its end was among what is missing. */
const UNCERTAIN_KEPT_MS = 15_000;
const ROWS = 10;

/** @type {Record<string, string>} */
const WORDS = { ringing: "Ringing", talking: "Talking", held: "On hold", ended: "Ended" };

/**
 * @typedef {{name: string, number: string}} Party
 * @typedef {object} CallEvent
 * @property {string} call
 * @property {string} state "ringing", "talking", "held" or "ended"
 * @property {Party} from
 * @property {Party} to
 * @property {number} began ms since 1970, the server's clock
 * @property {number|null} answered
 * @property {number|null} ended
 * @property {number|null} sound 1 to 5
 */

export class CallBoard {
  /** @type {Map<string, CallEvent & {row: HTMLTableRowElement, uncertainSince: number|null, changed: number}>} */
  #calls = new Map();

  /** @param {HTMLElement} body @param {HTMLElement} empty */
  constructor(body, empty) {
    this.body = body;
    this.empty = empty;
  }

  /** @param {CallEvent} event @param {number} now the server's clock */
  apply(event, now) {
    const known = this.#calls.get(event.call);
    if (!known && event.state === "ended") return;
    const row = known?.row ?? makeRow(event);
    this.#calls.set(event.call, { ...event, row, uncertainSince: null, changed: now });
    show(row, event);
  }

  /**
   * Something is missing: whether these calls still are, only their next events can tell.
   * @param {number} now
   */
  doubt(now) {
    for (const call of this.#calls.values()) {
      if (call.state === "ended") continue;
      call.uncertainSince = now;
      call.row.dataset.uncertain = "";
    }
  }

  /** @param {number} now the server's clock @param {boolean} flowing whether silence about a call means anything */
  tick(now, flowing) {
    let shown = 0;
    const calls = [...this.#calls.values()].sort((a, b) => b.began - a.began);
    for (const call of calls) {
      const { row, ended, uncertainSince } = call;
      const gone = ended !== null ? now - Math.max(ended, call.changed) > ENDED_SHOWN_MS : flowing && uncertainSince !== null && now - uncertainSince > UNCERTAIN_KEPT_MS;
      if (gone) {
        this.#calls.delete(call.call);
        row.remove();
        continue;
      }
      if (this.body.children[shown] !== row) this.body.insertBefore(row, this.body.children[shown] ?? null);
      row.hidden = ++shown > ROWS;
      const since = call.answered ?? call.began;
      setText(row.cells[4], duration((ended ?? now) - since));
    }
    this.empty.hidden = this.#calls.size > 0;
  }
}

/** @param {CallEvent} event */
function makeRow(event) {
  const row = document.createElement("tr");
  for (const name of ["state", "from", "to", "sound", "time"]) {
    const cell = row.insertCell();
    cell.className = name;
  }
  row.cells[0].append(element("span", "pill"));
  for (const [cell, party] of /** @type {const} */ ([[row.cells[1], event.from], [row.cells[2], event.to]])) {
    cell.append(element("b", "", party.name), element("small", "", party.number));
  }
  const sound = element("span", "bars");
  for (let bar = 0; bar < 5; bar++) sound.append(document.createElement("i"));
  row.cells[3].append(sound);
  return row;
}

/** @param {HTMLTableRowElement} row @param {CallEvent} event */
function show(row, event) {
  row.dataset.state = event.state;
  delete row.dataset.uncertain;
  const pill = /** @type {HTMLElement} */ (row.cells[0].firstChild);
  setText(pill, WORDS[event.state] ?? event.state);
  const sound = /** @type {HTMLElement} */ (row.cells[3].firstChild);
  const heard = event.state === "talking" ? (event.sound ?? 0) : 0;
  sound.dataset.level = String(heard);
  sound.title = heard ? `Sound quality ${heard} of 5` : "";
  [...sound.children].forEach((bar, i) => bar.classList.toggle("on", i < heard));
}

/** @param {string} tag @param {string} className @param {string} [text] */
function element(tag, className, text = "") {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.textContent = text;
  return node;
}

/** @param {HTMLElement} node @param {string} text */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {number} ms */
function duration(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`;
}
