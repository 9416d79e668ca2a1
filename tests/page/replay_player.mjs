// Does what it is told, as [[call, ...arguments], ...] on stdin, with a ChunkPlayer; prints what each call gave.

import { readFileSync } from "node:fs";
import { ChunkPlayer } from "../../helios_world/gateway/web/player.js";

const { fps, framesPerChunk, calls } = JSON.parse(readFileSync(0, "utf-8"));
const player = new ChunkPlayer(fps, framesPerChunk);
const does = {
  put: (chunk, frames, now, tag, outcome) => {
    return player.put(chunk, Array.from({ length: frames }, (_, k) => k), now, tag, outcome);
  },
  frame: (now) => {
    const shown = player.frame(now);
    return shown && [shown.pixels, shown.chunk, shown.index, shown.isNew, shown.seq, shown.score.total, shown.score.over];
  },
  wants: (now) => player.wantsChunk(now),
  asked: (now) => player.asked(now),
  event: (now) => player.nextEvent(now),
  reset: (next, score) => player.reset(next, score ?? undefined),
  learnt: () => [player.lead, player.lateChunks],
};
const gave = calls.map(([call, ...given]) => does[call](...given) ?? null);
console.log(JSON.stringify(gave, (_, value) => (value === Infinity ? "inf" : value)));
