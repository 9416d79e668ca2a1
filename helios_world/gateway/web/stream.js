// A world played in real time through the gateway: what bridge/stream.py is for a window. Times are in seconds.

import { ChunkPlayer, NO_SCORE, quantiles } from "./player.js";
import { pack, pictures, unpack } from "./wire.js";

const VERSION = 1;
const RESEND = 0.1; // after which held buttons are said again
const PING = 1.0;
const SILENCE = 6.0; // without a word after which the gateway counts as lost
const RETRY = 1.0; // between attempts to reach it
const RECENT = 4096; // measurements kept
const FADE = 3; // chunks over which the world comes to what it was told
const CLOSE_WORDS = { 4401: "wrong token", 4429: "all places of this gateway are taken" };

// One session. `open` makes a WebSocket, `decode` a picture of JPEG bytes (a promise), `clock` gives seconds.
export class WorldStream {
  card = null;
  status = "connecting"; // then "playing", "paused" or "lost"
  message = ""; // one line for people, "" when all is well
  refused = ""; // why the gateway does not let us in, "" if it does
  ticket = ""; // of the session, to take it up again
  onCard = () => {};

  #open;
  #decode;
  #clock;
  #token;
  #socket = null;
  #player = null;
  #request = 0;
  #begun = 0; // number of an unanswered reset
  #wish = null; // seed that was asked for and did not come yet
  #live = false; // the server has our world
  #epoch = 0; // rises when what still comes of the old world is not wanted
  #held = [];
  #mouse = [0, 0]; // where it is, right and down; only differences count
  #seq = 0;
  #actedAt = -Infinity;
  #heardAt;
  #pingedAt = 0;
  #openedAt = -Infinity;
  #frozen = null; // player time of a pause
  #behind = 0; // clock minus player time: how long pauses took
  #asked = [0, 0]; // chunk and when
  #shown = false;
  #changes = []; // inputs not seen yet: number, when
  #pictures = []; // [chunk, frames] whose memory is still held
  #scores = []; // [chunk, score] of the last chunks, for a world that goes back
  #measured = { shownAt: [], seconds: [], trips: [], keys: [] };

  constructor({ open, decode, clock, token, seed, ticket = "" }) {
    Object.assign(this, { seed, ticket });
    this.#open = open;
    this.#decode = decode;
    this.#clock = clock;
    this.#token = token;
    this.#heardAt = clock();
    this.#connect(clock());
  }

  // Begins a new world; the old one shows until it comes.
  reset(seed) {
    this.#wish = seed;
    if (this.#live) this.#begin();
  }

  // `buttons` are held from now on, since `when`.
  hold(buttons, when) {
    if (buttons.join() === this.#held.join()) return;
    this.#held = buttons;
    if (this.#live && this.#act(this.#clock()) && this.#moves) keep(this.#changes, [this.#seq, when]);
  }

  // The mouse moved by so many counts; the next chunk that is asked for includes it.
  look(x, y) {
    if (this.#moves) this.#mouse = [this.#mouse[0] + x, this.#mouse[1] + y];
  }

  // Tells the world what to show, in words.
  tell(text) {
    if (!this.#live) return;
    this.#send({ t: "prompt", request: ++this.#request, verb: "change", text, over: FADE, after: null });
  }

  pause(paused) {
    const now = this.#clock();
    if (paused && this.#frozen === null) {
      this.#frozen = now - this.#behind;
      this.#changes = [];
    } else if (!paused && this.#frozen !== null) {
      this.#behind = now - this.#frozen;
      this.#frozen = null;
    }
    if (this.#shown && this.status !== "lost") this.status = paused ? "paused" : "playing";
  }

  // Does all there is to do now. Call it for every picture, and when `wait` says so.
  tick() {
    const now = this.#clock();
    this.#watch(now);
    if (!this.#live || this.#begun) return;
    if (this.#frozen === null) {
      const wanted = this.#player.wantsChunk(now - this.#behind);
      if (wanted && this.#act(now, wanted)) {
        this.#player.asked(now - this.#behind);
        this.#asked = [wanted, now];
      }
    }
    if (this.#held.length && now - this.#actedAt >= RESEND) this.#act(now);
  }

  // Seconds until `tick` may have something new to do or show.
  get wait() {
    if (!this.#live || this.#begun || this.#frozen !== null) return Infinity;
    const now = this.#clock();
    return Math.max(0, this.#player.nextEvent(now - this.#behind) + this.#behind - now);
  }

  // The frame due, or null; say `painted` once it is on screen.
  frame() {
    const now = this.#frozen === null ? this.#clock() - this.#behind : this.#frozen;
    return this.#player?.frame(now) ?? null;
  }

  painted(shown) {
    const now = this.#clock();
    keep(this.#measured.shownAt, now);
    while (this.#changes.length && this.#changes[0][0] <= shown.seq) {
      keep(this.#measured.keys, now - this.#changes.shift()[1]);
    }
    while (this.#pictures.length && this.#pictures[0][0] < shown.chunk) free(this.#pictures.shift()[1]);
  }

  // Whether the world goes on by itself, so that an input is soon seen: not after the end of a game.
  get #moves() {
    return this.status === "playing" && !this.#player.score.over;
  }

  get stats() {
    const { shownAt, seconds, trips, keys } = this.#measured;
    const since = this.#clock() - 2;
    return {
      shownFps: shownAt.filter((at) => at > since).length / 2,
      chunkMs: spread(seconds),
      roundTripMs: spread(trips),
      keyToPixelsMs: spread(keys),
      lateChunks: this.#player?.lateChunks ?? 0,
    };
  }

  // Leaves; the world waits a while for its ticket unless it is `over`.
  close(over = false) {
    if (over) this.#send({ t: "close" });
    this.#live = false;
    this.#socket.onclose = null;
    this.#socket.close();
  }

  #connect(now) {
    this.#openedAt = now;
    const socket = this.#open();
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#heardAt = this.#clock();
      this.#send({ t: "token", token: this.#token });
      this.#send({ t: "hello", version: VERSION, client: "helios-world-browser", session: this.ticket, codecs: ["jpeg"] });
    };
    socket.onmessage = (event) => this.#receive(...unpack(event.data));
    socket.onclose = (event) => {
      this.refused = event.code === 4401 ? CLOSE_WORDS[4401] : "";
      this.#lose(CLOSE_WORDS[event.code] ?? "the gateway is away: waiting for it");
    };
  }

  // Finds out whether the gateway is still there, and tells it that we are.
  #watch(now) {
    if (this.refused) return;
    const state = this.#socket.readyState;
    if (state === 1 && now - this.#pingedAt >= PING) {
      if (this.#pingedAt && now - this.#pingedAt > SILENCE) this.#heardAt = now; // we were away, not the gateway
      this.#pingedAt = now;
      this.#send({ t: "ping", sent_at: now });
    }
    if (state < 2 && now - this.#heardAt > SILENCE && now - this.#openedAt > SILENCE) {
      this.#socket.onclose = null;
      this.#socket.close();
      this.#lose("no answer from the gateway: waiting for it");
      this.#connect(now);
    } else if (state > 1 && now - this.#openedAt > RETRY) {
      this.#connect(now);
    }
  }

  #lose(why) {
    this.#live = false;
    this.#begun = 0;
    this.#epoch += 1;
    this.#changes = [];
    this.message = why;
    if (this.#shown) this.status = "lost";
  }

  #send(header) {
    if (this.#socket.readyState !== 1) return false;
    this.#socket.send(pack(header));
    return true;
  }

  #act(now, wanted = 0) {
    this.#actedAt = now;
    return this.#send({ t: "act", seq: ++this.#seq, sent_at: now, buttons: this.#held, wanted, mouse: this.#mouse });
  }

  #receive(header, payload) {
    this.#heardAt = this.#clock();
    if (header.t === "welcome") this.#welcome(header);
    else if (header.t === "lost") this.#lose("the server of worlds is away: waiting for it");
    else if (header.t === "frames") this.#take(header, payload);
    else if (header.t === "error") this.#fail(header);
  }

  #welcome({ card, session, chunk }) {
    if (this.card === null || JSON.stringify(card) !== JSON.stringify(this.card)) {
      this.card = card;
      this.#player = new ChunkPlayer(card.fps, card.frames_per_chunk);
      this.onCard(card);
    }
    this.ticket = session;
    this.#live = true;
    if (this.#wish === null && chunk === 0) this.#wish = this.seed;
    if (this.#wish !== null) this.#begin();
    else this.#resume(chunk);
  }

  #begin() {
    this.#begun = ++this.#request;
    this.#epoch += 1;
    this.#changes = [];
    this.message = "";
    this.#send({ t: "reset", request: this.#begun, scene: null, seed: this.#wish, prompt: null, arrays: [] });
  }

  #resume(chunk) {
    this.#forgetFrames(chunk);
    this.message = "";
    if (this.status === "lost") this.status = this.#frozen === null ? "playing" : "paused";
    this.#act(this.#clock());
  }

  #forgetFrames(next) {
    this.#scores = this.#scores.filter(([chunk]) => chunk < next);
    this.#player.reset(next, this.#scores.at(-1)?.[1] ?? NO_SCORE);
    this.#epoch += 1;
    for (const [, frames] of this.#pictures.splice(0)) free(frames);
  }

  async #take(header, payload) {
    const begins = header.request !== 0 && header.request === this.#begun;
    if (!begins && (header.request !== 0 || this.#begun || !this.#live)) return;
    const epoch = this.#epoch;
    let frames;
    try {
      frames = await Promise.all(pictures(header, payload).map(this.#decode));
    } catch (error) {
      this.message = `a picture could not be read: ${error.message}`;
      return;
    }
    if (epoch !== this.#epoch) {
      free(frames);
      return;
    }
    if (begins) {
      [this.seed, this.#wish, this.#begun] = [this.#wish, null, 0];
      this.#resume(0);
    }
    this.#put(header, frames);
  }

  #put(header, frames) {
    const now = this.#clock();
    const time = this.#frozen === null ? now - this.#behind : this.#frozen;
    if (!this.#player.put(header.index, frames, time, header.seq, header.outcome)) {
      free(frames);
      return;
    }
    keep(this.#scores, [header.index, this.#player.score]);
    this.#pictures.push([header.index, frames]);
    if (header.index) {
      keep(this.#measured.seconds, header.seconds);
      if (header.index === this.#asked[0]) keep(this.#measured.trips, now - this.#asked[1]);
    }
    if (!this.#shown) {
      this.#shown = true;
      this.status = this.#frozen === null ? "playing" : "paused";
    }
  }

  #fail({ request, message }) {
    this.message = message;
    if (request && request === this.#begun) {
      this.#begun = 0;
      this.#wish = null;
    }
  }
}

function keep(list, value) {
  list.push(value);
  if (list.length > RECENT) list.shift();
}

function free(frames) {
  for (const frame of frames) frame.close?.();
}

// [p50, p95] in milliseconds; null of nothing.
function spread(values) {
  return values.length ? quantiles(values, [0.5, 0.95]).map((seconds) => seconds * 1000) : null;
}
