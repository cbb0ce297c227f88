/**
 * Counts numbered events, and says what became of each: once, twice, never, or late.
 *
 * SPDX-License-Identifier: Apache-2.0
 */

/** How many of the received numbers are kept for inspection. The counting itself needs only the ranges of missing ones. */
const NUMBERS_KEPT = 100_000;

export class Ledger {
  /** @type {number|null} the first number seen: what was before is not this page's business */
  first = null;
  /** @type {number|null} the highest number seen */
  last = null;
  /** Different events that arrived. */
  received = 0;
  /** Of these, those that had been published before the line was there that brought them. */
  recovered = 0;
  doubled = 0;
  outOfOrder = 0;
  /** Numbers that are missing while a later one has arrived. Delivery is in order, so they will not come. */
  lost = 0;
  /** @type {number[]} as they came */
  numbers = [];
  /** @type {[number, number][]} ranges of lost numbers, ascending */
  missing = [];

  /**
   * @param {number} n
   * @param {boolean} recovered
   * @returns {"first"|"next"|"jump"|"late"|"doubled"}
   */
  take(n, recovered = false) {
    this.numbers.push(n);
    if (this.numbers.length > NUMBERS_KEPT * 1.1) this.numbers.splice(0, this.numbers.length - NUMBERS_KEPT);
    const kind = this.#place(n);
    if (kind === "doubled") {
      this.doubled++;
      return kind;
    }
    this.received++;
    if (recovered) this.recovered++;
    return kind;
  }

  /**
   * How many events there are to be had, from the first that arrived on.
   * @param {number} published the number of the last one published
   */
  publishedSinceFirst(published) {
    return this.first === null || this.last === null ? 0 : Math.max(published, this.last) - this.first + 1;
  }

  /** @param {number} n */
  #place(n) {
    if (this.first === null || this.last === null) {
      this.first = this.last = n;
      return "first";
    }
    if (n > this.last) {
      const skipped = n - this.last - 1;
      if (skipped > 0) {
        this.missing.push([this.last + 1, n - 1]);
        this.lost += skipped;
      }
      this.last = n;
      return skipped > 0 ? "jump" : "next";
    }
    if (n < this.first) {
      this.missing.unshift([n, this.first - 1]);
      this.lost += this.first - n;
      this.first = n;
    }
    const at = this.missing.findIndex(([from, to]) => from <= n && n <= to);
    if (at < 0) return "doubled";
    const [from, to] = this.missing[at];
    /** @type {[number, number][]} */
    const rest = [[from, n - 1], [n + 1, to]];
    this.missing.splice(at, 1, ...rest.filter(([a, b]) => a <= b));
    this.lost--;
    this.outOfOrder++;
    return "late";
  }
}
