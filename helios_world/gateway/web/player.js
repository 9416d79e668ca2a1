// Which frame to show now, and when to ask for the next chunk: as bridge/player.py has it. Times are in seconds.
//
// Frames arrive a chunk at a time and are shown evenly. A chunk is asked for at the last moment from which it still
// arrives before it is due, because an input that comes after the asking waits for the chunk after. What the chunks
// came to adds up to a score.

const RECENT = 64; // round trips that the lead is learnt from
const QUANTILE = 0.9; // of them that must be in time even without the margin
const MARGIN = 0.003; // seconds
const SPREAD = 0.15; // part of (quantile - median) added to the margin
const POLL = 0.02; // seconds that an asking may come late because the caller polls; anything longer was a stall
const CATCH_UP = 0.02; // part of a chunk's time that it is shortened by until lateness is made up
const STALL = 0.25; // seconds; who was later than this goes on at the usual pace
const RETRY = 1.0; // seconds after which an unanswered asking is repeated

// Before the first chunk of a game: the sum of its rewards, and whether it ended.
export const NO_SCORE = Object.freeze({ total: 0, over: false });

// Paces the frames of one session, and asks for its chunks one at a time.
export class ChunkPlayer {
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

  // `framesPerChunk` is only used to guess how long the first chunk may take.
  constructor(fps, framesPerChunk) {
    this.#step = 1 / fps;
    this.lead = (0.5 * framesPerChunk) / fps; // seconds before it is due that a chunk is asked for
    this.lateChunks = 0;
    this.reset();
  }

  // Forgets all frames and any asking. `nextChunk` is asked for at once; 0 waits for the chunk that a world starts from.
  // `score`: before that chunk. Once it is over, no chunk is asked for.
  reset(nextChunk = 0, score = NO_SCORE) {
    this.score = score;
    this.#now = this.#then = this.#seen = this.#askedAt = null;
    this.#next = nextChunk;
    this.#planned = this.#putAt = this.#behind = 0;
  }

  // A chunk came, as a list of frames. False if it is no newer than one that came before.
  put(chunk, frames, now, tag = null, outcome = null) {
    if (chunk < this.#next) return false;
    if (this.#askedAt !== null) {
      this.#trips.push(now - this.#planned);
      if (this.#trips.length > RECENT) this.#trips.shift();
      const [middle, high] = quantiles(this.#trips, [0.5, QUANTILE]);
      this.lead = high + MARGIN + SPREAD * (high - middle);
    }
    this.#askedAt = null;
    const due = this.#due(now);
    const begins = Math.max(due, now);
    this.lateChunks += begins > due;
    this.#behind += begins - due < STALL ? begins - due : 0;
    const lasts = frames.length * this.#step;
    const madeUp = Math.min(this.#behind, CATCH_UP * lasts);
    this.#behind -= madeUp;
    if (outcome !== null) {
      this.score = { total: this.score.total + outcome.reward, over: this.score.over || outcome.terminated };
    }
    const playing = { chunk, frames, begins, ends: begins + lasts - madeUp, tag, score: this.score };
    if (this.#now === null || now >= due) {
      this.#now = playing;
      this.#then = null;
    } else {
      this.#then = playing;
    }
    this.#next = chunk + 1;
    this.#putAt = now;
    return true;
  }

  // The frame due at `now`; the last one again while the next is not there; null before the first.
  frame(now) {
    if (this.#then !== null && now >= this.#then.begins) {
      this.#now = this.#then;
      this.#then = null;
    }
    const playing = this.#now;
    if (playing === null) return null;
    // 1e-9: k / fps times fps may fall just short of k
    const due = Math.trunc((now - playing.begins) / this.#step + 1e-9);
    const index = Math.min(Math.max(due, 0), playing.frames.length - 1);
    const isNew = this.#seen === null || this.#seen[0] !== playing.chunk || this.#seen[1] !== index;
    this.#seen = [playing.chunk, index];
    const { chunk, frames, tag, score } = playing;
    return { pixels: frames[index], chunk, index, isNew, seq: tag, score };
  }

  // Index of the chunk to ask for now, or 0. Say `asked` once the asking is on its way.
  wantsChunk(now) {
    return now >= this.#askTime(now) ? this.#next : 0;
  }

  // The chunk was asked for.
  asked(now) {
    if (this.#askedAt === null) {
      // From the moment it should have gone out, so that the lead also covers how often the caller looks.
      this.#planned = Math.max(this.#plannedTime(now), now - POLL);
    }
    this.#askedAt = now;
  }

  // The earliest time at which `frame` or `wantsChunk` may say something new without another `put`.
  nextEvent(now) {
    const events = [this.#askTime(now)];
    if (this.#then !== null) events.push(this.#then.begins);
    const playing = this.#now;
    if (playing !== null) {
      const index = Math.trunc((now - playing.begins) / this.#step + 1e-9) + 1;
      if (index < playing.frames.length) events.push(playing.begins + Math.max(index, 1) * this.#step);
    }
    return Math.min(...events);
  }

  #due(now) {
    const last = this.#then ?? this.#now;
    return last === null ? now : last.ends;
  }

  #plannedTime(now) {
    return this.#now === null ? now : Math.max(this.#due(now) - this.lead, this.#putAt);
  }

  #askTime(now) {
    if (!this.#next || this.score.over) return Infinity;
    if (this.#askedAt !== null) return this.#askedAt + Math.max(RETRY, 3 * this.lead);
    // Two chunks ahead would make inputs wait.
    return this.#then === null ? this.#plannedTime(now) : Math.max(this.#then.begins, this.#plannedTime(now));
  }
}

// Values below which the given parts of `values` lie, with straight lines between neighbours, as numpy has them.
export function quantiles(values, parts) {
  const sorted = [...values].sort((a, b) => a - b);
  return parts.map((part) => {
    const place = part * (sorted.length - 1);
    const low = Math.floor(place);
    const high = Math.min(low + 1, sorted.length - 1);
    return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
  });
}
