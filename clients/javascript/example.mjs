// Streams some seconds of a world and prints figures: node example.mjs [ADDRESS] [--seconds 5] [--button turn_left]
// Holds the button during the second half, and writes the last frame as last.ppm.

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { HeliosClient } from "./helios.js";

const options = {
  seconds: { type: "string", default: "5" },
  button: { type: "string" },
  out: { type: "string", default: "last.ppm" },
};
const { values, positionals } = parseArgs({ options, allowPositionals: true });
const seconds = Number(values.seconds);

const client = new HeliosClient(positionals[0] ?? "tcp://127.0.0.1:5557");
client.on("lost", (why) => console.log(`lost the server: ${why}`));
client.on("back", ({ kept }) => console.log(kept ? "back in the same world" : "back in a world begun again"));

const card = await client.connect();
console.log(`${card.name}: ${card.width}x${card.height} at ${card.fps} fps, buttons ${card.buttons.join(" ")}`);
await client.reset({ seed: 1 });

const button = values.button ?? card.buttons[0];
const began = performance.now();
let last;
for await (const frame of client.frames()) {
  last = frame;
  const passed = (performance.now() - began) / 1000;
  if (passed > seconds) break;
  client.hold(passed > seconds / 2 ? [button] : []);
}
await client.close();

const { fps, age, roundTrip, lateChunks } = client.stats();
const spread = ({ p50, p95 }) => `p50 ${p50.toFixed(2)} ms, p95 ${p95.toFixed(2)} ms`;
console.log(`fps ${fps.toFixed(2)}`);
console.log(`frame age ${spread(age)}`);
console.log(`round trip ${spread(roundTrip)}`);
console.log(`late chunks ${lateChunks}`);
writeFileSync(values.out, Buffer.concat([Buffer.from(`P6 ${last.width} ${last.height} 255\n`), last.pixels]));
