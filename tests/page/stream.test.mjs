import assert from "node:assert/strict";
import { test } from "node:test";
import { WorldStream } from "../../helios_world/gateway/web/stream.js";
import { pack, pictures, unpack } from "../../helios_world/gateway/web/wire.js";

const CARD = { name: "fake", width: 80, height: 64, fps: 10, frames_per_chunk: 2, buttons: ["a", "b"], bindings: {} };

// A stream at a gateway that does what the test says; `sent` is what the stream said.
class Played {
  now = 100;
  sent = [];
  sockets = [];
  freed = 0;

  constructor(options = {}) {
    const open = () => {
      const socket = {
        readyState: 0,
        send: (data) => this.sent.push(unpack(data)[0]),
        close: () => (socket.readyState = 3),
      };
      this.sockets.push(socket);
      return socket;
    };
    const decode = async (bytes) => ({ value: bytes[0], close: () => this.freed++ });
    this.stream = new WorldStream({ open, decode, clock: () => this.now, token: "word", seed: 7, ...options });
  }

  get socket() {
    return this.sockets.at(-1);
  }

  opened() {
    this.socket.readyState = 1;
    this.socket.onopen();
    return this;
  }

  async hears(header, payload = []) {
    const head = new Uint8Array(pack(header));
    this.socket.onmessage({ data: Uint8Array.from([...head, ...payload]).buffer });
    for (let turn = 0; turn < 8; turn++) await null; // pictures are decoded
  }

  welcome(chunk, session = "ticket") {
    return this.hears({ t: "welcome", version: 1, card: CARD, session, codec: "jpeg", chunk });
  }

  frames(index, request = 0, seq = 0, more = {}) {
    const told = { t: "frames", request, index, seq, codec: "jpeg", lengths: [1, 1], seconds: 0.02, ...more };
    return this.hears(told, [index, index]);
  }

  came(index, reward, terminated = false, request = 0) {
    const outcome = { reward, terminated, reward_chance: 0.5, end_chance: 0.5 };
    return this.frames(index, request, 0, { outcome });
  }

  lost(code) {
    this.socket.readyState = 3;
    this.socket.onclose({ code });
  }

  passes(seconds) {
    for (const end = this.now + seconds; this.now < end; this.now += 0.01) {
      this.stream.tick();
      const shown = this.stream.frame();
      if (shown?.isNew) this.stream.painted(shown);
    }
  }

  said(kind) {
    return this.sent.filter((header) => header.t === kind);
  }

  static async playing(options) {
    const played = new Played(options).opened();
    await played.welcome(0);
    await played.frames(0, 1);
    return played;
  }
}

test("it says its token first, then hello, then what world it wants", async () => {
  const played = new Played().opened();
  assert.deepEqual(played.sent[0], { t: "token", token: "word" });
  assert.deepEqual(played.sent[1].codecs, ["jpeg"]);
  await played.welcome(0);
  assert.deepEqual([played.said("reset")[0].seed, played.stream.status], [7, "connecting"]);
  await played.frames(0, 1);
  assert.equal(played.stream.status, "playing");
  assert.equal(played.stream.frame().pixels.value, 0);
});

test("it asks just in time, once, and asks for the next", async () => {
  const played = await Played.playing();
  played.passes(0.08);
  assert.equal(played.said("act").filter((act) => act.wanted).length, 0);
  played.passes(0.05);
  assert.deepEqual(played.said("act").filter((act) => act.wanted).map((act) => act.wanted), [1]);
  await played.frames(1);
  played.passes(0.26);
  assert.deepEqual(played.said("act").filter((act) => act.wanted).map((act) => act.wanted), [1, 2]);
});

test("what is held is said at once and again, and measured until it is painted", async () => {
  const played = await Played.playing();
  played.stream.hold(["a"], played.now);
  const { seq, buttons } = played.said("act").at(-1);
  assert.deepEqual(buttons, ["a"]);
  played.stream.hold(["a"], played.now);
  assert.equal(played.said("act").at(-1).seq, seq);
  played.passes(0.35);
  assert.ok(played.said("act").filter((act) => act.buttons.includes("a")).length >= 4);
  assert.equal(played.stream.stats.keyToPixelsMs, null);
  await played.frames(1, 0, seq);
  played.passes(0.02);
  assert.ok(Math.abs(played.stream.stats.keyToPixelsMs[0] - 350) < 30);
});

test("pictures that are no longer needed are freed", async () => {
  const played = await Played.playing();
  for (let index = 1; index < 20; index++) {
    played.passes(0.2);
    await played.frames(index);
  }
  played.passes(0.2);
  assert.ok(played.freed >= 2 * 18, `${played.freed}`);
});

test("a new world replaces the old one only when it comes, and nothing of the old comes after", async () => {
  const played = await Played.playing();
  played.passes(0.15);
  played.stream.reset(8);
  await played.frames(1);
  assert.equal(played.stream.seed, 7);
  const { request, seed } = played.said("reset").at(-1);
  assert.deepEqual([request, seed], [2, 8]);
  await played.frames(0, 2);
  assert.deepEqual([played.stream.seed, played.stream.frame().chunk], [8, 0]);
});

test("pictures of the old world that are decoded late are not shown in the new one", async () => {
  const late = [];
  const decode = (bytes) => (bytes[0] === 1 ? new Promise((resolve) => late.push(resolve)) : { value: bytes[0] });
  const played = await Played.playing({ decode });
  played.passes(0.15);
  await played.frames(1);
  played.stream.reset(8);
  await played.frames(0, 2);
  let freed = 0;
  for (const resolve of late) resolve({ value: 1, close: () => freed++ });
  await played.hears({ t: "pong", sent_at: 0 });
  played.passes(0.4);
  assert.deepEqual([late.length, freed, played.stream.frame().chunk], [2, 2, 0]);
});

test("a refused world leaves the old one", async () => {
  const played = await Played.playing();
  played.stream.reset(8);
  await played.hears({ t: "error", request: 2, code: "engine", message: "out of luck" });
  assert.equal(played.stream.message, "out of luck");
  played.passes(0.3);
  assert.equal(played.said("act").at(-1).wanted, 1);
  assert.equal(played.stream.seed, 7);
});

test("a lost server stops the asking, and it goes on at the chunk that the welcome names", async () => {
  const played = await Played.playing();
  await played.hears({ t: "lost" });
  assert.equal(played.stream.status, "lost");
  const before = played.said("act").length;
  played.stream.hold(["b"], played.now);
  played.passes(1);
  assert.equal(played.said("act").length, before);
  await played.welcome(5);
  assert.deepEqual([played.stream.status, played.stream.message], ["playing", ""]);
  assert.deepEqual(played.said("act").at(-1).buttons, ["b"], "what is held is said to the new server");
  played.passes(0.02);
  assert.equal(played.said("act").at(-1).wanted, 5);
  await played.frames(5);
  assert.equal(played.stream.frame().chunk, 5);
});

test("a world that was asked for when the server went is asked for again", async () => {
  const played = await Played.playing();
  played.stream.reset(9);
  await played.hears({ t: "lost" });
  await played.welcome(5);
  assert.deepEqual(played.said("reset").map((reset) => reset.seed), [7, 9, 9]);
});

test("a gateway that went away is tried again with the ticket", async () => {
  const played = await Played.playing();
  played.lost(1006);
  assert.equal(played.stream.status, "lost");
  played.passes(3);
  assert.ok(played.sockets.length >= 2);
  played.opened();
  assert.equal(played.said("hello").at(-1).session, "ticket");
});

test("a gateway that says nothing for long is left", async () => {
  const played = await Played.playing();
  played.passes(8);
  assert.equal(played.stream.status, "lost");
  assert.equal(played.sockets.length, 2);
});

test("a wrong token is not tried again", () => {
  const played = new Played().opened();
  played.lost(4401);
  played.passes(5);
  assert.equal(played.stream.refused, "wrong token");
  assert.equal(played.sockets.length, 1);
});

test("a pause asks for nothing and goes on where it was", async () => {
  const played = await Played.playing();
  played.stream.pause(true);
  assert.equal(played.stream.status, "paused");
  played.passes(0.5);
  assert.equal(played.said("act").filter((act) => act.wanted).length, 0);
  assert.equal(played.stream.wait, Infinity);
  played.stream.pause(false);
  assert.equal(played.stream.frame().index, 0);
  played.passes(0.2);
  assert.equal(played.said("act").at(-1).wanted, 1);
});

test("a prompt is told only to a world that is there", async () => {
  const played = new Played().opened();
  played.stream.tell("a coast");
  assert.equal(played.said("prompt").length, 0);
  await played.welcome(3);
  played.stream.tell("a coast");
  assert.deepEqual([played.said("prompt")[0].verb, played.said("prompt")[0].text], ["change", "a coast"]);
});

test("rewards add up to the score of the picture, and a new world begins at nothing", async () => {
  const played = await Played.playing();
  assert.deepEqual(played.stream.frame().score, { total: 0, over: false });
  for (const [index, reward, wait] of [[1, 1, 0.15], [2, -0.5, 0.2], [3, 2, 0.2]]) {
    played.passes(wait);
    await played.came(index, reward);
  }
  assert.equal(played.stream.frame().score.total, 0.5, "chunk 3 is not on screen yet");
  played.passes(0.25);
  assert.equal(played.stream.frame().score.total, 2.5);
  played.stream.reset(8);
  await played.came(0, 0, false, 2);
  assert.deepEqual(played.stream.frame().score, { total: 0, over: false });
});

test("a game that is over stands still until the next one begins", async () => {
  const played = await Played.playing();
  played.passes(0.15);
  await played.came(1, 1, true);
  const asked = () => played.said("act").filter((act) => act.wanted).length;
  const before = asked();
  played.passes(2);
  assert.deepEqual([asked(), played.stream.frame().index, played.stream.frame().score.over], [before, 1, true]);
  assert.equal(played.stream.wait, Infinity);
  played.stream.look(100, 0);
  played.stream.reset(8);
  await played.came(0, 0, false, 2);
  played.passes(0.2);
  assert.equal(asked(), before + 1);
  assert.deepEqual(played.said("act").at(-1).mouse, [0, 0], "who looked around at the end does not begin turned");
});

test("a world that goes back after a loss has the score that it had there", async () => {
  const played = await Played.playing();
  for (const index of [1, 2, 3]) {
    played.passes(0.2);
    await played.came(index, 1);
  }
  await played.hears({ t: "lost" });
  await played.welcome(3);
  await played.came(3, 5);
  assert.deepEqual(played.stream.frame().score, { total: 7, over: false });
});

test("messages are a length, a JSON header and a payload", () => {
  const [header, payload] = unpack(pack({ t: "token", token: "wörd" }));
  assert.deepEqual([header, payload.length], [{ t: "token", token: "wörd" }, 0]);
  const cut = pictures({ codec: "jpeg", lengths: [2, 1] }, Uint8Array.of(1, 2, 3));
  assert.deepEqual(cut.map((part) => [...part]), [[1, 2], [3]]);
  assert.throws(() => pictures({ codec: "raw", lengths: [] }, payload), /reads jpeg/);
});
