// Which frame to show now, and when to ask for the next chunk. Pure: time is an argument, in seconds.
// The same rules as helios_world/bridge/player.py: frames of a chunk are shown evenly, and a chunk is asked for at the
// last moment from which it still arrives before it is due.

const RECENT = 64; // round trips that the lead is learnt from
const MARGIN = 0.003; // seconds
const SPREAD = 0.15; // part of (p90 - p50) added to the margin
const POLL = 0.02; // seconds that an asking may come late because of timers; anything longer was a stall
const CATCH_UP = 0.02; // part of a chunk's time that it is shortened by until lateness is made up
const STALL = 0.25; // seconds; who was later than this goes on at the usual pace
const RETRY = 1.0; // seconds after which an unanswered asking is repeated

export class Pacer {
  #step;
  #trips = [];
  #now;
  #then;
  #next;
  #seen;
  #askedAt;
  #planned;
  #putAt;
  #behind;

  constructor(fps, framesPerChunk) {
    this.#step = 1 / fps;
    this.lead = (0.5 * framesPerChunk) / fps; // seconds before it is due that a chunk is asked for; a guess at first
    this.lateChunks = 0;
    this.reset();
  }

  /** Forgets all frames. `nextChunk`: the one to ask for at once; 0 waits for the chunk that a world starts from. */
  reset(nextChunk = 0) {
    this.#now = this.#then = this.#seen = this.#askedAt = null;
    this.#next = nextChunk;
    this.#planned = this.#putAt = this.#behind = 0;
  }

  /** A chunk came. False if it is no newer than one that came before. */
  put(chunk, frames, now, tag) {
    if (chunk < this.#next) return false;
    if (this.#askedAt !== null) this.#learn(now - this.#planned);
    this.#askedAt = null;
    const due = this.#due(now);
    const begins = Math.max(due, now);
    if (begins > due) this.lateChunks++;
    if (begins - due < STALL) this.#behind += begins - due;
    const lasts = frames.length * this.#step;
    const madeUp = Math.min(this.#behind, CATCH_UP * lasts);
    this.#behind -= madeUp;
    const playing = { chunk, frames, begins, ends: begins + lasts - madeUp, tag };
    if (this.#now === null || now >= due) [this.#now, this.#then] = [playing, null];
    else this.#then = playing;
    this.#next = chunk + 1;
    this.#putAt = now;
    return true;
  }

  /** The frame due now if it was not given before, else null. */
  frame(now) {
    if (this.#then !== null && now >= this.#then.begins) [this.#now, this.#then] = [this.#then, null];
    const playing = this.#now;
    if (playing === null) return null;
    const due = Math.floor((now - playing.begins) / this.#step + 1e-9);
    const index = Math.min(Math.max(due, 0), playing.frames.length - 1);
    const name = `${playing.chunk}.${index}`;
    if (name === this.#seen) return null;
    this.#seen = name;
    return { pixels: playing.frames[index], chunk: playing.chunk, index, tag: playing.tag };
  }

  /** Index of the chunk to ask for now, or 0. Say `asked` once the asking is on its way. */
  wantsChunk(now) {
    return this.#next && now >= this.#askTime(now) ? this.#next : 0;
  }

  asked(now) {
    if (this.#askedAt === null) this.#planned = Math.max(this.#plannedTime(now), now - POLL);
    this.#askedAt = now;
  }

  /** The earliest time at which there may be something new to show or to ask for. */
  nextEvent(now) {
    const events = [this.#next ? this.#askTime(now) : Infinity];
    if (this.#then !== null) events.push(this.#then.begins);
    const playing = this.#now;
    if (playing !== null) {
      const index = Math.floor((now - playing.begins) / this.#step + 1e-9) + 1;
      if (index < playing.frames.length) events.push(playing.begins + Math.max(index, 1) * this.#step);
    }
    return Math.min(...events);
  }

  #learn(trip) {
    this.#trips.push(trip);
    if (this.#trips.length > RECENT) this.#trips.shift();
    const [middle, high] = [quantile(this.#trips, 0.5), quantile(this.#trips, 0.9)];
    this.lead = high + MARGIN + SPREAD * (high - middle);
  }

  #due(now) {
    return (this.#then ?? this.#now)?.ends ?? now;
  }

  #plannedTime(now) {
    return this.#now === null ? now : Math.max(this.#due(now) - this.lead, this.#putAt);
  }

  #askTime(now) {
    if (this.#askedAt !== null) return this.#askedAt + Math.max(RETRY, 3 * this.lead);
    const planned = this.#plannedTime(now);
    return this.#then === null ? planned : Math.max(this.#then.begins, planned);
  }
}

/** Linear between neighbours, as numpy has it; NaN of nothing. */
export function quantile(values, part) {
  if (!values.length) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const at = part * (sorted.length - 1);
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}
