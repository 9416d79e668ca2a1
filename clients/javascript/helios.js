// A world on a server (`helios-world serve`), in lock-step or in real time. Says hello again with its ticket when the
// server was lost, and goes on from the newest snapshot it kept when the server no longer knows the ticket.

import { EventEmitter } from "node:events";

import { Dealer } from "zeromq";

import { ChunkPlayer, quantiles } from "../../helios_world/gateway/web/player.js";
import { MAX_PAYLOAD, ProtocolError, VERSION, decode, encode, splitFrames } from "./protocol.js";

export { ProtocolError };

/** The server refused: `code` is one of those in docs/protocol/schema.json. */
export class ServerError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** Nobody answered in time, or the client was closed. */
export class ConnectionLost extends Error {}

const SILENCE = 1.5; // seconds without a word after which the server counts as lost; slow worlds get three chunks more
const WATCH = 0.1; // seconds between two looks at the connection; held buttons are said again then
const PING = 1.0; // seconds between pings
const RECENT = 1024; // measurements kept
const SOCKET = {
  linger: 0,
  sendTimeout: 0,
  reconnectInterval: 50,
  maxMessageSize: MAX_PAYLOAD,
  sendBufferSize: 1 << 20,
  receiveBufferSize: 1 << 20,
  heartbeatInterval: 500,
  heartbeatTimeout: 1500,
};
const clock = () => Number(process.hrtime.bigint()) / 1e9; // CLOCK_MONOTONIC on Linux, as the server's

/**
 * One live world. Emits "lost" (why) when the server is gone, and "back" ({kept}) when the world goes on: kept is true
 * if the server still had it.
 */
export class HeliosClient extends EventEmitter {
  card = null;
  snapshotKept = null; // the newest one: what the world goes on from when the server forgot it

  #address;
  #timeout;
  #codecs;
  #keys;
  #autosave;
  #socket = null;
  #closed = false;
  #ticket = "";
  #welcomed = null; // resolves connect()
  #request = 0;
  #turn = Promise.resolve(); // one request at a time
  #pending = null;
  #begun = 0; // request number of the world that is begun again after a loss
  #origin = null; // the Reset or Restore that the world began with
  #live = false; // the server's session has our world
  #lost = false;
  #playing = false;
  #player = null;
  #held = [];
  #mouse = [0, 0]; // where it is; only differences count
  #seq = 0;
  #asked = { chunk: 0, at: 0 };
  #heardAt = 0;
  #pingedAt = 0;
  #savedAt = -Infinity;
  #timer = null;
  #watch = null;
  #wake = () => {};
  #seconds = [];
  #trips = [];
  #ages = [];
  #shownAt = [];

  /**
   * @param address such as "tcp://127.0.0.1:5557"
   * @param options timeout: seconds until a request that nobody answers fails; autosave: seconds between snapshots kept
   *   while playing; codecs: "raw" gives RGB bytes, "jpeg" gives JPEGs as they came; keys: {publicKey, secretKey,
   *   serverKey} as `helios-world keygen` writes them, for a server that asks for them.
   */
  constructor(address, { timeout = 10, autosave = 2, codecs = ["raw"], keys = null } = {}) {
    super();
    this.#address = address;
    this.#timeout = timeout;
    this.#autosave = autosave;
    this.#codecs = codecs;
    this.#keys = keys && {
      curvePublicKey: keys.publicKey,
      curveSecretKey: keys.secretKey,
      curveServerKey: keys.serverKey,
    };
  }

  /** Waits for the server and gives its world card: name, height, width, fps, buttons, scenes, ... */
  async connect() {
    const welcomed = new Promise((resolve, reject) => (this.#welcomed = { resolve, reject }));
    try {
      this.#open();
      this.#watch = setInterval(() => this.#look(), WATCH * 1000);
      return await this.#within(welcomed);
    } catch (error) {
      this.#end();
      throw error;
    }
  }

  /** Starts a new world; the chunk that it starts from. */
  async reset({ scene = null, seed = 0, prompt = null } = {}) {
    return this.#chunk(await this.#ask({ t: "reset", scene, seed, prompt, arrays: [] }));
  }

  /** Lock-step: one chunk under `buttons`, held for all its frames, and a movement [x, y] of the mouse, in counts. */
  async step(buttons = [], mouse = null) {
    return this.#chunk(await this.#ask({ t: "step", buttons, mouse }));
  }

  /** This world as bytes. */
  async snapshot() {
    return (await this.#ask({ t: "snapshot" })).payload;
  }

  /** Goes back, or over, to the world in `bytes`. */
  async restore(bytes) {
    await this.#ask({ t: "restore", payload: bytes });
  }

  /** Tells the world what to show: verb "change", "queue" or "cancel". */
  async prompt(text, { verb = "change", over = 1, after = null } = {}) {
    await this.#ask({ t: "prompt", verb, text, over, after });
  }

  /** Real time: `buttons` are held from now on. */
  hold(buttons) {
    const held = [...buttons];
    if (held.join("\n") === this.#held.join("\n")) return;
    this.#held = held;
    if (this.#playing && this.#live) this.#act(0);
  }

  /** Real time: the mouse moved by so many counts, right and down; the next chunk that is asked for includes it. */
  look(x, y) {
    this.#mouse = [this.#mouse[0] + x, this.#mouse[1] + y];
  }

  /** Real time: every frame when it is due, until the client is closed. A slow reader misses frames, never waits. */
  async *frames() {
    this.#playing = true;
    this.#plan();
    while (!this.#closed) {
      const now = clock();
      const frame = this.#player?.frame(now);
      if (frame?.isNew) {
        remember(this.#shownAt, now);
        const tag = frame.seq; // what it was put with
        yield { ...tag, pixels: frame.pixels, chunk: frame.chunk, index: frame.index };
      } else {
        await new Promise((resolve) => (this.#wake = resolve));
      }
    }
  }

  /** Number of the newest input sent; a frame's `seq` says up to which one it includes. */
  get seq() {
    return this.#seq;
  }

  /**
   * Measured lately, in milliseconds: roundTrip from asking for a chunk to having it; age of a chunk when it came,
   * since it was made (only where server and client share a clock: on one machine).
   */
  stats() {
    const [first, last] = [this.#shownAt[0], this.#shownAt.at(-1)];
    const spread = (values) => {
      const [p50, p95] = quantiles(values, [0.5, 0.95]).map((seconds) => 1000 * seconds);
      return { p50, p95 };
    };
    return {
      fps: (this.#shownAt.length - 1) / (last - first),
      age: spread(this.#ages),
      roundTrip: spread(this.#trips),
      lateChunks: this.#player?.lateChunks ?? 0,
    };
  }

  /** Ends the session on the server. No other call may follow. */
  async close() {
    if (this.#closed) return;
    this.#send({ t: "close" });
    await new Promise((resolve) => setTimeout(resolve, 20)); // so that the goodbye leaves
    this.#end();
  }

  // The connection

  #open() {
    const socket = new Dealer({ ...SOCKET, ...this.#keys });
    this.#socket?.close();
    this.#socket = socket;
    this.#live = false;
    this.#begun = 0;
    this.#heardAt = this.#pingedAt = clock();
    socket.connect(this.#address);
    socket.events.on("disconnect", () => socket === this.#socket && this.#lose("the connection broke"));
    const hello = { t: "hello", version: VERSION, client: "helios-world-javascript" };
    this.#send({ ...hello, session: this.#ticket, codecs: this.#codecs });
    this.#receive(socket);
  }

  #lose(why) {
    if (this.#closed) return;
    if (!this.#lost && this.#origin !== null) {
      this.#lost = true;
      this.emit("lost", why);
    }
    this.#open();
  }

  #end() {
    this.#closed = true;
    clearInterval(this.#watch);
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#socket = null;
    this.#pending?.reject(new ConnectionLost("the client was closed"));
    this.#wake();
  }

  #look() {
    const now = clock();
    if (now - this.#heardAt > this.#patience()) this.#lose("no answer");
    else if (now - this.#pingedAt >= PING) {
      this.#pingedAt = now;
      this.#send({ t: "ping", sent_at: now });
    }
    if (this.#playing && this.#live && this.#held.length) this.#act(0);
  }

  /** Seconds of silence to bear: a server that makes a chunk says nothing else. */
  #patience() {
    const usual = SILENCE + 3 * Math.max(0, ...this.#seconds.slice(-4));
    const unknown = this.#pending || this.#begun || !this.#seconds.length;
    return unknown ? Math.max(usual, this.#timeout / 4) : usual;
  }

  #send(message) {
    // What a full or closed socket does not take is lost; the silence that follows ends the connection.
    this.#socket?.send(encode(message)).catch(() => {});
  }

  async #receive(socket) {
    try {
      for await (const parts of socket) {
        if (socket !== this.#socket) return;
        this.#heardAt = clock();
        this.#take(parts);
      }
    } catch (error) {
      if (socket === this.#socket) this.#lose(error.message);
    }
  }

  #take(parts) {
    let message;
    try {
      message = decode(parts);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.emit("refused", error.message);
      return;
    }
    if (message.t === "welcome") this.#welcome(message);
    else if (message.t === "error") this.#fail(message);
    else if (message.t === "frames" && message.request === 0) this.#arrive(message);
    else if (message.t === "frames" || message.t === "done") this.#answer(message);
  }

  #welcome({ card, session, chunk, answered }) {
    const kept = session === this.#ticket && chunk > 0;
    this.card = card;
    this.#ticket = session;
    this.#request = Math.max(this.#request, Number(answered));
    this.#player ??= new ChunkPlayer(card.fps, card.frames_per_chunk);
    this.#welcomed.resolve(card);
    this.#live = kept;
    if (kept) {
      this.#player.reset(chunk);
      this.#resume(true);
    } else if (this.#playing && this.#origin !== null) {
      this.#beginAgain();
    } else {
      this.#lost = false;
      this.#resend(true);
    }
  }

  #beginAgain() {
    this.#begun = ++this.#request;
    const again = this.snapshotKept ? { t: "restore", payload: this.snapshotKept } : this.#origin;
    this.#send({ ...again, request: this.#begun });
  }

  /** The world goes on. */
  #resume(kept) {
    this.#live = true;
    if (this.#lost) this.emit("back", { kept });
    this.#lost = false;
    this.#resend(!kept);
    if (this.#playing) this.#act(0);
    this.#plan();
  }

  /** Sends again what was not answered. To the same session under the same number, so that it is never done twice. */
  #resend(isNew) {
    if (!this.#pending) return;
    const { message, reject } = this.#pending;
    if (isNew && message.t === "step") {
      reject(new ServerError("unknown_session", "the server no longer has this world: reset or restore a snapshot"));
      return;
    }
    if (isNew) message.request = ++this.#request;
    this.#send(message);
  }

  // Requests

  async #ask(message) {
    const before = this.#turn;
    let finish;
    this.#turn = new Promise((resolve) => (finish = resolve));
    await before;
    try {
      if (this.#closed) throw new ConnectionLost("the client was closed");
      const answered = new Promise((resolve, reject) => {
        this.#pending = { message: { ...message, request: ++this.#request }, resolve, reject };
      });
      this.#send(this.#pending.message);
      return await this.#within(answered);
    } finally {
      this.#pending = null;
      finish();
    }
  }

  async #within(promise) {
    let timer;
    const late = new Promise((_, reject) => {
      const error = new ConnectionLost(`no answer from ${this.#address} within ${this.#timeout} s`);
      timer = setTimeout(() => reject(error), this.#timeout * 1000);
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #answer(message) {
    if (message.request === this.#begun) {
      this.#begun = 0;
      this.#enter(message);
      this.#resume(false);
    } else if (message.request === this.#pending?.message.request) {
      const { t } = this.#pending.message;
      if (t === "reset" || t === "restore") {
        this.#origin = this.#pending.message;
        this.snapshotKept = null;
        this.#savedAt = -Infinity;
        this.#live = true;
        this.#enter(message);
      }
      this.#pending.resolve(message);
    }
  }

  /** The server is in another world now: that of a reset's frames, or the one restored. */
  #enter(message) {
    this.#player.reset(message.t === "done" ? message.chunk : 0);
    if (message.t === "frames") this.#arrive(message);
    this.#plan();
  }

  #fail({ request, code, message }) {
    const error = new ServerError(code, message);
    if (request && request === this.#begun && this.snapshotKept) {
      this.snapshotKept = null; // a snapshot of another world: from the start
      this.#beginAgain();
    } else if (code === "unknown_session") this.#lose(message);
    else if (request && request === this.#pending?.message.request) this.#pending.reject(error);
    else if (!this.card) this.#welcomed.reject(error);
    else this.emit("refused", message);
  }

  #chunk(message) {
    const [, height, width] = message.shape;
    const { index, codec, seconds, outcome = null } = message;
    return { index, height, width, codec, seconds, outcome, frames: splitFrames(message) };
  }

  // Real time

  #arrive(message) {
    const now = clock();
    const [, height, width] = message.shape;
    const { seq, codec, outcome = null } = message;
    const tag = { seq, height, width, codec, outcome };
    if (!this.#player.put(message.index, splitFrames(message), now, tag)) return;
    if (message.index > 0) {
      remember(this.#seconds, message.seconds);
      remember(this.#ages, now - message.made_at);
      if (message.index === this.#asked.chunk) remember(this.#trips, now - this.#asked.at);
    }
    if (this.#playing && this.#live && now - this.#savedAt >= this.#autosave) this.#keep(now);
    this.#plan();
  }

  /** Keeps a snapshot for going on after a loss. Right after a chunk the server has time. */
  #keep(now) {
    this.#savedAt = now;
    this.#ask({ t: "snapshot" }).then(
      (done) => (this.snapshotKept = done.payload),
      () => {}, // the next one will come
    );
  }

  /** Does what is due, and sleeps until the next thing is. */
  #plan() {
    clearTimeout(this.#timer);
    if (this.#closed || !this.#playing || !this.#player) return;
    const now = clock();
    const wanted = this.#live && !this.#begun ? this.#player.wantsChunk(now) : 0;
    if (wanted) {
      this.#asked = { chunk: wanted, at: now };
      this.#act(wanted);
      this.#player.asked(now);
    }
    this.#wake();
    const next = this.#player.nextEvent(now);
    const pause = Math.max(1, 1000 * (Math.min(next, now + 1) - now));
    this.#timer = setTimeout(() => this.#plan(), pause);
  }

  #act(wanted) {
    this.#send({ t: "act", seq: ++this.#seq, sent_at: clock(), buttons: this.#held, wanted, mouse: this.#mouse });
  }
}

function remember(values, value) {
  values.push(value);
  if (values.length > RECENT) values.shift();
}
