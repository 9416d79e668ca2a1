// For tests: does what stdin says and prints what happens, one line each. clients/README.md has the words.

import { createInterface } from "node:readline";

import { HeliosClient } from "./helios.js";

const [address, codec, ...pair] = process.argv.slice(2);
const keys = pair.length ? { publicKey: pair[0], secretKey: pair[1], serverKey: pair[2] } : null;
const client = new HeliosClient(address, { codecs: [codec], keys });
const say = (...words) => process.stdout.write(`${words.join(" ")}\n`);
const buttons = (word) => (word ? word.split(",") : []);
/** The red of the first row, as hex; of a JPEG some bytes. */
const row = (pixels, width) => {
  const reds = pixels.subarray(0, 3 * width).filter((_, at) => at % 3 === 0);
  return Buffer.from(reds).toString("hex");
};
let saved;

client.on("lost", () => say("lost"));
client.on("back", ({ kept }) => say("back", kept ? "kept" : "anew"));
client.on("refused", (message) => say("refused", message));

async function stream() {
  for await (const { chunk, index, seq, pixels, width } of client.frames()) {
    say("frame", chunk, index, seq, row(pixels, width));
  }
}

const commands = {
  reset: async (seed) => say("began", (await client.reset({ seed: Number(seed) })).index),
  step: async (held) => {
    const { index, frames, width } = await client.step(buttons(held));
    say("stepped", index, row(frames.at(-1), width));
  },
  stream: async () => void stream(),
  hold: async (held) => client.hold(buttons(held)),
  look: async (counts) => client.look(Number(counts), 0),
  snapshot: async () => say("snapshot", (saved = await client.snapshot()).length),
  restore: async () => say("restored", await client.restore(saved)),
  prompt: async (text) => say("told", await client.prompt(text)),
  stats: async () => {
    const { fps, age, roundTrip, lateChunks } = client.stats();
    say("stats", fps, age.p50, age.p95, roundTrip.p50, roundTrip.p95, lateChunks);
  },
};

const { name, width, height, fps } = await client.connect();
say("card", name, width, height, fps);
for await (const line of createInterface({ input: process.stdin })) {
  const [command, word] = line.split(" ");
  try {
    await commands[command](word);
  } catch (error) {
    say("error", error.code ?? "-", error.message);
  }
}
await client.close();
