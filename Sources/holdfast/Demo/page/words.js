/**
 * The state of the line in plain words.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/** @param {number} ms */
export function seconds(ms) {
  const s = Math.max(0, ms) / 1000;
  return s < 9.95 ? `${s.toFixed(1)} s` : s < 99.5 ? `${Math.round(s)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
}

/** @param {number} n */
export function count(n) {
  return n.toLocaleString("en");
}

/** @param {number} n @param {string} one @param {string} [many] */
export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** @param {[number, number]} range */
export function range([from, to]) {
  return from === to ? `event ${count(from)} is` : `events ${count(from)} to ${count(to)} are`;
}

/**
 * @typedef {object} Facts times in milliseconds
 * @property {string} state the client's
 * @property {string} [reason] of the state
 * @property {number} quiet since something was heard
 * @property {number} interval of quiet after which the client asks
 * @property {boolean} suspect
 * @property {number|null} nextAttempt from now; null: one is under way
 * @property {number} attempt
 * @property {number} away since the last word of the lost line
 */

/**
 * @param {Facts} facts
 * @returns {{tone: "good"|"wait"|"bad", title: string, detail: string}}
 */
export function describe(facts) {
  const { state, quiet, interval, suspect, nextAttempt, attempt, away } = facts;
  switch (state) {
    case "idle":
    case "connecting":
      return { tone: "wait", title: "Opening the line", detail: "Saying hello to the gateway." };
    case "connected":
      if (suspect) {
        return {
          tone: "bad",
          title: "The line is suspect",
          detail: `Nothing heard for ${seconds(quiet)}, no answer either. A second line is tried beside it; whichever speaks first wins.`,
        };
      }
      if (quiet >= interval) return { tone: "wait", title: "Quiet: asking", detail: `Nothing heard for ${seconds(quiet)}. A ping is out; the answer is due within 2 s.` };
      if (quiet >= 1500) {
        return { tone: "wait", title: "Connected, but quiet", detail: `Nothing heard for ${seconds(quiet)}. That may be all right; after ${seconds(interval)} the page asks.` };
      }
      return { tone: "good", title: "Connected", detail: "Events flow. As long as something is heard, nobody needs to ask." };
    case "reconnecting":
      if (nextAttempt === null || nextAttempt <= 0) {
        return { tone: "bad", title: "No line: trying", detail: `Attempt ${attempt}. Last word ${seconds(away)} ago; what is published meanwhile is kept for this page.` };
      }
      return {
        tone: "bad",
        title: `No line: next try in ${Math.ceil(nextAttempt / 1000)} s`,
        detail: `Last word ${seconds(away)} ago. The pause is random, so that thousands of pages do not come back together.`,
      };
    case "suspended":
      return { tone: "wait", title: "The browser is offline", detail: "No attempts until it says that it is online again." };
    case "closed":
      return { tone: "bad", title: "Closed", detail: `The client has stopped: ${facts.reason ?? "no reason given"}. Reload the page to begin anew.` };
    default:
      return { tone: "wait", title: state, detail: "" };
  }
}
