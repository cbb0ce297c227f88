// Many tabs, one line, in virtual time: what one history after the other shows, with its exact result.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Holdfast } from "../../clients/js/holdfast.js";
import { fakeStorage } from "./fakes.js";
import { Browser, client, inBrowser } from "./tabs-world.js";

/** A browser with `count` tabs that have subscribed to both topics. */
async function withTabs(count, body, { workers = "missing", hidden = () => false, options = {} } = {}) {
  const browser = new Browser(11);
  browser.workers = workers;
  return inBrowser(browser, async () => {
    const tabs = [];
    const open = async (names = ["calls.a", "bare.b"], { more = {}, away = false } = {}) => {
      const tab = { got: [], gaps: [], events: [], errors: [], subs: {} };
      tab.realm = await browser.open(() => {
        tab.client = client({ ...options, ...more });
        tab.client.on("error", (error) => tab.errors.push(error));
        for (const type of ["state", "connected", "recovered"]) tab.client.on(type, (event) => tab.events.push({ type, ...event }));
        tab.run = (callback) => browser.run(tab.realm, callback);
        tab.subscribe = (name, fields) => {
          const sub = (tab.subs[name] = tab.client.subscribe(name, fields));
          for (const type of ["subscribed", "unsubscribed"]) sub.on(type, (event) => tab.events.push({ type, name, ...event }));
          sub.on("message", ({ data }) => tab.got.push(`${name} ${data}`));
          sub.on("gap", (gap) => tab.gaps.push(gap));
          sub.on("error", (error) => tab.errors.push(error));
          return sub;
        };
        for (const name of names) tab.subscribe(name);
      }, away);
      tabs.push(tab);
      await browser.pass(1_000);
      return tab;
    };
    for (let i = 0; i < count; i++) await open(undefined, { away: hidden(i) });
    await browser.pass(5_000);
    const publish = async (times = 1) => {
      for (let i = 0; i < times; i++) {
        browser.server.publish("calls.a");
        browser.server.publish("bare.b");
        await browser.pass(100);
      }
    };
    const mode = (tab) => tab.client.stats().tabs.mode;
    const leader = () => tabs.find((tab) => !tab.realm.dead && mode(tab) === "leader");
    const others = () => tabs.filter((tab) => !tab.realm.dead && tab !== leader());
    return body({ browser, tabs, open, publish, mode, leader, others, server: browser.server });
  });
}

const all = (count) => Array.from({ length: count }, (_, i) => [`calls.a ${i}`, `bare.b ${i}`]).flat();
const sorted = ({ got }) => [...got].sort((a, b) => a.split(" ")[1] - b.split(" ")[1] || (a < b ? 1 : -1));
const attached = (server) => [...server.sessions.values()].filter(({ transport }) => transport);

for (const workers of ["works", "missing", "broken"]) {
  test(`tabs have one session and one line, where shared workers are ${workers}`, () =>
    withTabs(8, async ({ browser, tabs, publish, mode, server }) => {
      assert.equal(server.sessions.size, 1);
      assert.equal(browser.carriers.length, 1);
      const modes = tabs.map(mode).sort();
      assert.deepEqual(modes, workers === "works" ? Array(8).fill("worker") : [...Array(7).fill("follower"), "leader"]);
      await publish(5);
      for (const tab of tabs) {
        assert.deepEqual(sorted(tab), all(5));
        assert.deepEqual(tab.errors, []);
        assert.equal(new Set(tabs.map((each) => each.client.stats().session)).size, 1);
      }
    }, { workers }));

  test(`whoever has the line may die in the flow, where shared workers are ${workers}`, () =>
    withTabs(4, async ({ browser, tabs, publish, leader, server }) => {
      for (let round = 0; round < 2; round++) {
        await publish(3);
        browser.kill(workers === "works" ? browser.worker : leader().realm);
        await publish(10);
      }
      await browser.pass(3_000);
      for (const tab of tabs.filter(({ realm }) => !realm.dead)) {
        assert.deepEqual(sorted(tab), all(26));
        assert.deepEqual(tab.gaps, []);
        assert.deepEqual(tab.events.filter(({ type }) => type === "connected").map(({ resumed }) => resumed).slice(1), [true, true]);
      }
      assert.equal(server.sessions.size, 1, "the session has outlived them");
      assert.equal(browser.carriers.length, 1);
    }, { workers }));
}

test("a leader that leaves in order says so, and nobody waits", () =>
  withTabs(3, async ({ browser, tabs, publish, leader, others }) => {
    await publish(2);
    const [one] = others();
    browser.close(leader().realm);
    const at = browser.clock.now;
    while (!one.events.some(({ type, resumed }) => type === "connected" && resumed)) await browser.pass(10);
    assert.ok(browser.clock.now - at <= 120, `${browser.clock.now - at} ms`);
    await publish(2);
    for (const tab of tabs.filter(({ realm }) => !realm.dead)) assert.deepEqual(sorted(tab), all(4));
  }));

test("close() of one tab leaves the others alone, the last one ends the line", () =>
  withTabs(3, async ({ browser, tabs, publish, leader, server }) => {
    const first = leader();
    first.run(() => first.client.close());
    assert.equal(first.client.state, "closed");
    await browser.pass(1_000);
    await publish(2);
    const rest = tabs.filter((tab) => tab !== first);
    for (const tab of rest) {
      assert.equal(tab.client.state, "connected");
      assert.deepEqual(sorted(tab), all(2));
    }
    assert.deepEqual(first.got, []);
    for (const tab of rest) tab.run(() => tab.client.close());
    await browser.pass(1_000);
    assert.deepEqual(attached(server), []);
    first.run(() => first.client.connect());
    await browser.pass(1_000);
    assert.equal(first.client.state, "connected");
    assert.deepEqual(first.got, ["calls.a 0", "calls.a 1"], "from its position");
    assert.deepEqual(first.gaps.map(({ subscription }) => subscription), ["bare.b"], "and what cannot be had is told");
  }));

test("what nobody wants any more is unsubscribed, and not before", () =>
  withTabs(3, async ({ browser, tabs, server }) => {
    const topics = () => [...attached(server)[0].topics.keys()].sort();
    const [a, b, c] = tabs;
    for (const tab of [a, b]) tab.run(() => tab.subs["calls.a"].unsubscribe());
    await browser.pass(500);
    assert.deepEqual(topics(), ["bare.b", "calls.a"]);
    assert.deepEqual([a, b].map((tab) => tab.subs["calls.a"].state), ["unsubscribed", "unsubscribed"]);
    c.run(() => c.subs["calls.a"].unsubscribe());
    await browser.pass(500);
    assert.deepEqual(topics(), ["bare.b"]);
    for (const tab of tabs.filter(({ realm }) => realm !== browser.holder("holdfast:hub:"))) browser.kill(tab.realm);
    await browser.pass(500);
    assert.deepEqual(topics(), ["bare.b"]);
  }));

test("a late joiner: at once and from now; from an older position; with other fields", () =>
  withTabs(2, async ({ browser, tabs, open, publish, server }) => {
    await publish(5);
    const late = await open([]);
    late.run(() => late.subscribe("calls.a"));
    await browser.pass(100);
    assert.deepEqual(late.events.filter(({ type }) => type === "subscribed"), [
      { type: "subscribed", name: "calls.a", position: { epoch: "e0", offset: 5 }, recovered: null, data: undefined },
    ]);
    const sent = attached(server)[0].received;
    const later = await open([]);
    later.run(() => later.subscribe("calls.a", { since: { epoch: "e0", offset: 2 } }));
    await browser.pass(500);
    assert.deepEqual(later.got, ["calls.a 2", "calls.a 3", "calls.a 4"]);
    assert.equal(attached(server)[0].received, sent + 2, "unsubscribed and subscribed again");
    const odd = await open([]);
    odd.run(() => odd.subscribe("calls.a", { color: "red" }));
    await browser.pass(500);
    assert.deepEqual(odd.errors.map(({ code }) => code), ["other_fields"]);
    assert.match(odd.errors[0].message, /same ones/);
    await publish(2);
    assert.deepEqual(later.got.slice(3), ["calls.a 5", "calls.a 6"]);
    for (const tab of tabs.slice(0, 2)) {
      assert.deepEqual(sorted(tab), all(7), "nobody else has noticed");
      assert.equal(tab.events.filter(({ type, name }) => type === "subscribed" && name === "calls.a").length, 1);
    }
  }));

/** The hub is killed when its unsubscribe has arrived, and the subscribe behind it is lost; and with it the tab for which it was. */
const killedInBetween = (tamper) =>
  withTabs(3, async ({ browser, publish, leader, others, server }) => {
    await publish(5);
    const [one, two] = others();
    two.run(() => two.subs["calls.a"].unsubscribe());
    await browser.pass(500);
    const receive = server.receive.bind(server);
    const { realm } = leader();
    server.receive = (transport, text) => {
      if (realm.dead && transport.realm === realm) return;
      receive(transport, text);
      if (text.includes('"unsubscribe"') && transport.realm === realm) for (const each of [realm, two.realm]) browser.kill(each);
    };
    browser.tamper = tamper;
    two.run(() => two.subscribe("calls.a", { since: { epoch: "e0", offset: 2 } }));
    await publish(20);
    assert.equal(realm.dead, true);
    assert.deepEqual(sorted(one), all(25));
  });

test("a hub that dies between an unsubscribe and the subscribe behind it leaves nobody without the topic", () =>
  killedInBetween((message) => message));

test("and would, did the tabs not know of it before", () =>
  assert.rejects(killedInBetween(({ actions, ...message }) => {
    return { ...message, ...(actions && { actions: actions.filter(({ type }) => type !== "unsure") }) };
  }), /Expected|strictly/));

test("commands find their tab, and outlive the hub", () =>
  withTabs(3, async ({ browser, tabs, leader, others, server }) => {
    const done = [];
    const [one, two] = others();
    one.run(() => one.client.message("calls.a", "x").then(() => done.push("one")));
    browser.kill(leader().realm);
    two.run(() => two.client.message("calls.a", "y").then(() => done.push("two")));
    await browser.pass(10_000);
    assert.deepEqual(done.sort(), ["one", "two"]);
    assert.equal(server.executed.length, 2, "each of them once");
    assert.equal(tabs.length, 3);
  }));

test("a tab that fills its queue is told; the others are not in its way", () =>
  withTabs(2, async ({ browser, tabs }) => {
    const [one, two] = tabs;
    const codes = [];
    browser.network.cutUntil = browser.clock.now + 3_000;
    one.run(() => one.client.message("calls.a", "x".repeat(900)).catch(({ code }) => codes.push(code)));
    one.run(() => one.client.message("calls.a", "x".repeat(900)).catch(({ code, limit }) => codes.push(code, limit)));
    await browser.pass(100);
    assert.deepEqual(codes, ["queue_full", 1_024]);
    let done = false;
    two.run(() => two.client.message("calls.a", "small").then(() => (done = true), ({ code }) => codes.push(code)));
    await browser.pass(20_000);
    assert.equal(done || codes.length > 2, true);
  }, { options: { queueBytes: 1_024 } }));

test("a leader that is frozen without a word loses its line within seconds, and does not fight for it", () =>
  withTabs(3, async ({ browser, tabs, publish, leader, server }) => {
    await publish(2);
    const sleeper = leader();
    browser.freeze(sleeper.realm, false);
    await publish(100);
    const rest = tabs.filter((tab) => tab !== sleeper);
    for (const tab of rest) {
      assert.equal(tab.client.state, "connected");
      assert.deepEqual(sorted(tab), all(102));
    }
    browser.thaw(sleeper.realm, false);
    await browser.pass(2_000);
    await publish(2);
    await browser.pass(2_000);
    assert.deepEqual(sleeper.errors, [], "it says nothing of having been replaced");
    assert.deepEqual(sleeper.got.filter((text) => text.startsWith("calls")), all(104).filter((text) => text.startsWith("calls")));
    assert.deepEqual(sleeper.gaps.map(({ subscription }) => subscription), ["bare.b"], "what cannot be had is told");
    assert.equal(leader() !== sleeper, true);
    assert.equal(server.sessions.size, 1);
    assert.equal(browser.carriers.length, 1);
  }));

test("a leader that is hidden for two seconds lets a visible tab lead", () =>
  withTabs(3, async ({ browser, tabs, publish, leader }) => {
    const first = leader();
    browser.hide(first.realm);
    await browser.pass(1_500);
    assert.equal(leader(), first, "people leaf through their tabs");
    browser.hide(first.realm, false);
    await browser.pass(1_500);
    for (const tab of tabs.slice(0, 2)) browser.hide(tab.realm);
    await publish(30);
    assert.equal(leader(), tabs[2]);
    for (const tab of tabs) assert.deepEqual(sorted(tab), all(30));
  }));

test("from the back/forward cache a page comes back by its positions", () =>
  withTabs(2, async ({ browser, tabs, publish, leader, server }) => {
    const away = leader();
    const rest = tabs.find((tab) => tab !== away);
    browser.fire(away.realm, "pagehide", { persisted: true });
    away.realm.frozen = true;
    await publish(5);
    assert.deepEqual(sorted(rest), all(5));
    browser.thaw(away.realm, false);
    browser.fire(away.realm, "pageshow", { persisted: true });
    await browser.pass(2_000);
    assert.deepEqual(away.got, ["calls.a 0", "calls.a 1", "calls.a 2", "calls.a 3", "calls.a 4"]);
    assert.deepEqual(away.gaps, [{ subscription: "bare.b", after: null, next: null, missing: null }]);
    const recovered = away.events.filter(({ type, by }) => type === "recovered" && by === "position");
    assert.deepEqual(recovered.map(({ subscription, messages }) => [subscription, messages]), [["calls.a", 5]]);
    assert.equal(server.sessions.size, 1);
  }));

/**
 * Two tabs that have never met come back at once, one of an epoch that is over. The next hub begins with the mirror of the one whose
 * session has been lost more often.
 */
const ofTwoEpochs = (further, firstBack) =>
  withTabs(1, async ({ browser, tabs, open, publish, server }) => {
    const away = async (tab) => {
      browser.fire(tab.realm, "pagehide", { persisted: true });
      tab.realm.frozen = true;
      await browser.pass(1_000);
    };
    const lose = async () => {
      server.forget();
      await browser.pass(3_000);
    };
    const [old] = tabs;
    await publish(2);
    for (let i = 0; i < 2; i++) if (further === "older") await lose();
    await away(old);
    server.newEpoch("calls.a");
    await publish(3);
    const recent = await open();
    await publish(1);
    for (let i = 0; i < 2; i++) if (further === "newer") await lose();
    await away(recent);
    server.forget();
    await publish(2);
    for (const tab of firstBack === "newer" ? [recent, old] : [old, recent]) {
      browser.thaw(tab.realm, false);
      browser.fire(tab.realm, "pageshow", { persisted: true });
    }
    await browser.pass(3_000);
    await publish(1);
    const calls = ({ got, gaps }) => [got, gaps].map((each) => each.filter((one) => (one.subscription ?? one).startsWith("calls")));
    const from = (first) => Array.from({ length: 9 - first }, (_, i) => `calls.a ${first + i}`);
    const gap = { subscription: "calls.a", after: null, next: 1, missing: null };
    assert.deepEqual(calls(old), [from(0), [gap]], "all of the new epoch, and told that it is one");
    assert.deepEqual(calls(recent), [from(5), []], "from its position");
    assert.equal(browser.carriers.length, 1);
  });

for (const further of ["older", "newer"]) {
  for (const firstBack of ["older", "newer"]) {
    const which = `the ${further} one's session is further, the ${firstBack} one is first`;
    test(`tabs of two epochs come back, each to its own position: ${which}`, () => ofTwoEpochs(further, firstBack));
  }
}

test("a tab that comes from a newer epoch than the hub knows of takes nothing from the others", () =>
  withTabs(1, async ({ browser, tabs, open, publish, server }) => {
    await publish(2);
    browser.network.cutUntil = browser.clock.now + 3_000;
    server.newEpoch("calls.a");
    for (let i = 0; i < 3; i++) server.publish("calls.a");
    const late = await open([]);
    late.run(() => late.subscribe("calls.a", { since: { epoch: "e1", offset: 2 } }));
    await browser.pass(10_000);
    assert.deepEqual(late.got, ["calls.a 4"]);
    assert.deepEqual(late.gaps, []);
    const [first] = tabs;
    assert.deepEqual(first.got.filter((text) => text.startsWith("calls")), [0, 1, 2, 3, 4].map((i) => `calls.a ${i}`));
    const gaps = first.gaps.filter(({ subscription }) => subscription === "calls.a");
    assert.deepEqual(gaps.map(({ after, next }) => [after, next]), [[null, 1]]);
  }));

test("another identity or other options: another line", () =>
  withTabs(1, async ({ open, server }) => {
    await open(undefined, { more: { identity: "somebody" } });
    await open(undefined, { more: { identity: "somebody" } });
    assert.equal(server.sessions.size, 2);
    await open(undefined, { more: { maxAttempts: 7 } });
    assert.equal(server.sessions.size, 3);
  }));

test("credentials are asked of a visible tab; identity has to be given with them", () =>
  withTabs(0, async ({ browser, open, tabs }) => {
    assert.throws(() => new Holdfast("wss://h/", { tabs: true, getToken: () => "t" }), /"identity"/);
    assert.throws(() => new Holdfast("wss://h/", { tabs: true, headers: {} }), /"identity"/);
    const asked = [];
    const more = (name) => ({ more: { identity: "me", getToken: () => (asked.push(name), "token") }, away: name === "hidden" });
    await open(undefined, more("hidden"));
    await open(undefined, more("visible"));
    assert.deepEqual(asked, ["hidden"]);
    for (const socket of browser.carriers.flatMap(({ sockets }) => [...sockets])) socket.transport.closed(4001);
    await browser.pass(5_000);
    assert.deepEqual(asked, ["hidden", "visible"]);
    assert.deepEqual(tabs.map(({ client }) => client.state), ["connected", "connected"]);
  }, { workers: "works" }));

for (const workers of ["works", "missing"]) {
  test(`what is remembered of WebSockets is in the tabs' storage, where shared workers are ${workers}`, () => {
    const { items, ...storage } = fakeStorage();
    const written = [];
    const { setItem } = storage;
    storage.setItem = (name, text) => (written.push(text), setItem(name, text));
    const key = "holdfast:https://example.com";
    const options = { storage, transports: ["websocket", "stream"] };
    return withTabs(0, async ({ browser, open }) => {
      await open();
      const [{ attempts }] = written.map((text) => JSON.parse(text));
      assert.equal(attempts.length, 1, "the attempt, while it was not answered");
      assert.ok(Math.abs(attempts[0] - Date.now()) < 2_000, "in the time of day");
      assert.equal(items[key], undefined, "it was answered, and is forgotten");
      const hour = 3_600_000;
      const blocked = { strikes: 0, until: Date.now() + hour, term: hour, deaths: 0, life: null, rest: null, pollUntil: null };
      items[key] = JSON.stringify({ v: 1, attempts: [], ...blocked });
      const second = await open();
      for (const socket of browser.carriers.flatMap(({ sockets }) => [...sockets])) socket.transport.closed(1006);
      await browser.pass(500);
      const { websocket, blockedUntil } = second.client.stats();
      assert.equal(websocket, "blocked", "a tab that comes brings what another one has learned");
      assert.ok(Math.abs(blockedUntil - hour) < 5_000, `${blockedUntil}`);
    }, { workers, options });
  });
}

test("where the server forbids it, all tabs are closed and told once", () =>
  withTabs(3, async ({ browser, tabs, server }) => {
    for (const session of [...server.sessions.values()]) server.end(session, 4003);
    await browser.pass(2_000);
    for (const tab of tabs) {
      assert.equal(tab.client.state, "closed");
      assert.deepEqual(tab.errors.map(({ code }) => code), ["forbidden"]);
    }
    assert.equal(browser.carriers.length, 0);
  }));

test("without Web Locks or BroadcastChannel each tab has a line of its own", () =>
  withTabs(0, async ({ browser, open, publish, tabs, server }) => {
    delete globalThis.navigator.locks;
    await open();
    await open();
    await publish(3);
    await browser.pass(500);
    for (const tab of tabs) {
      assert.equal(tab.client.stats().tabs.mode, "alone");
      assert.deepEqual(sorted(tab), all(3));
    }
    assert.equal(server.sessions.size, 2);
  }));

test("more tabs than a hub takes have lines of their own", () =>
  withTabs(0, async ({ browser, open, publish, mode, tabs, server }) => {
    const { warn } = console;
    console.warn = () => {};
    try {
      for (let i = 0; i < 66; i++) await open();
      await publish(2);
      await browser.pass(500);
    } finally {
      console.warn = warn;
    }
    assert.deepEqual(tabs.slice(64).map(mode), ["alone", "alone"]);
    assert.equal(server.sessions.size, 3);
    for (const tab of tabs) assert.deepEqual(tab.got.slice(-4).sort(), ["bare.b 0", "bare.b 1", "calls.a 0", "calls.a 1"]);
  }));
