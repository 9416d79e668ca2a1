// Protocol v1 as bytes and back, for the client's side: `encode` what a client sends, `decode` what a server sends.
// docs/protocol/schema.json is the table that this follows. No socket, no clock.

import { Float, ProtocolError, Writer, unpack } from "./msgpack.js";

export { ProtocolError };
export const VERSION = 1;
export const MAX_PAYLOAD = 64 << 20;
const MAX_HEADER = 1 << 16;
const MAX_COUNT = (1n << 63n) - 1n;
const CODECS = ["raw", "jpeg"];
const EMPTY = Buffer.alloc(0);

// What each message of a client holds, in this order. `payload` is the second part.

const writeTexts = (writer, values) => {
  writer.list(values.length);
  for (const value of values) writer.text(value);
};
const put = {
  count: (writer, value) => writer.count(value),
  float: (writer, value) => writer.float(value),
  text: (writer, value) => writer.text(value),
  texts: writeTexts,
  buttons: (writer, values) => writeTexts(writer, [...new Set(values)].sort(byCodePoint)),
  textOrNil: (writer, value) => (value === null ? writer.nil() : writer.text(value)),
  countOrNil: (writer, value) => (value === null ? writer.nil() : writer.count(value)),
  pair: (writer, values) => {
    writer.list(2);
    for (const value of values) writer.float(value);
  },
  arrays: (writer, values) => {
    writer.list(values.length);
    for (const [name, shape] of values) {
      writer.list(2);
      writer.text(name);
      writer.list(shape.length);
      for (const size of shape) writer.count(size);
    }
  },
};
const SENT = {
  hello: { version: put.count, client: put.text, session: put.text, codecs: put.texts },
  reset: { request: put.count, scene: put.textOrNil, seed: put.count, prompt: put.textOrNil, arrays: put.arrays },
  step: { request: put.count, buttons: put.buttons, mouse: put.pair },
  act: { seq: put.count, sent_at: put.float, buttons: put.buttons, wanted: put.count, mouse: put.pair },
  prompt: { request: put.count, verb: put.text, text: put.text, over: put.count, after: put.countOrNil },
  snapshot: { request: put.count },
  restore: { request: put.count },
  fork: { request: put.count },
  invite: { request: put.count, verb: put.text },
  ping: { sent_at: put.float },
  close: {},
};

/** The two parts of a client's message, such as {t: "step", request: 1, buttons: ["forward"]}; `mouse` may be missing. */
export function encode(message) {
  const fields = Object.entries(SENT[message.t]).filter(([name]) => name !== "mouse" || message.mouse);
  const writer = new Writer();
  writer.map(fields.length + 1);
  writer.text("t");
  writer.text(message.t);
  for (const [name, write] of fields) {
    writer.text(name);
    write(writer, message[name]);
  }
  return [writer.bytes(), message.payload ?? EMPTY];
}

function byCodePoint(a, b) {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

// What each message of a server holds: a check gives the value, or throws.

const refuse = (name, what) => {
  throw new ProtocolError(`${name} must be ${what}`);
};

function count(name, value) {
  const whole = typeof value === "number" || typeof value === "bigint";
  return whole && value >= 0 && value <= MAX_COUNT ? value : refuse(name, "an integer from 0 to 2^63-1");
}

function number(name, value) {
  const found = value instanceof Float ? value.value : value;
  const fits = (typeof found === "number" || typeof found === "bigint") && found >= -1e15 && found <= 1e15;
  return fits ? Number(found) : refuse(name, "a finite number");
}

function seconds(name, value) {
  return number(name, value) >= 0 ? number(name, value) : refuse(name, "at least 0");
}

function chance(name, value) {
  const found = number(name, value);
  return found >= 0 && found <= 1 ? found : refuse(name, "from 0 to 1");
}

function flag(name, value) {
  return typeof value === "boolean" ? value : refuse(name, "true or false");
}

const text = (longest) => (name, value) => {
  const fits = typeof value === "string" && (value.length <= longest || [...value].length <= longest);
  return fits ? value : refuse(name, `text of at most ${longest} characters`);
};

const oneOf = (names) => (name, value) => (names.includes(value) ? value : refuse(name, `one of ${names.join(", ")}`));

const listOf = (check, longest) => (name, value) => {
  if (!Array.isArray(value) || value.length > longest) refuse(name, `a list of at most ${longest}`);
  return value.map((item) => check(name, item));
};

const map = (checks, optional = {}) => (name, value) => {
  if (!(value instanceof Map)) refuse(name, "a map");
  const found = {};
  for (const [key, check] of Object.entries({ ...checks, ...optional })) {
    if (!value.has(key) && Object.hasOwn(optional, key)) continue;
    if (!value.has(key)) throw new ProtocolError(`${name} lacks ${key}`);
    found[key] = check(`${name}.${key}`, value.get(key));
  }
  return found;
};

const label = text(256);
const sizes = listOf(count, 1024);

function bindings(name, value) {
  if (!(value instanceof Map)) refuse(name, "a map");
  return Object.fromEntries([...value].map(([key, button]) => [label(name, key), label(name, button)]));
}

const readCard = map({
  name: label,
  height: count,
  width: count,
  fps: number,
  frames_per_chunk: count,
  buttons: listOf(text(64), 64),
  scenes: listOf(label, 256),
  bindings,
  takes_prompt: flag,
});

function card(name, value) {
  const found = readCard(name, value);
  const positive = [found.height, found.width, found.fps, found.frames_per_chunk].every((size) => size > 0);
  return positive && found.scenes.length ? found : refuse(name, "one with a scene and sizes above 0");
}

const outcome = map({ reward: number, terminated: flag, reward_chance: chance, end_chance: chance });
const FRAMES = {
  request: count,
  index: count,
  seq: count,
  sent_at: number,
  shape: sizes,
  codec: oneOf(CODECS),
  lengths: sizes,
  seconds,
  made_at: number,
};
const RECEIVED = {
  welcome: map({
    version: count,
    card,
    session: text(64),
    codec: oneOf(CODECS),
    chunk: count,
    answered: count,
    broadcast: count,
  }),
  frames: map(FRAMES, { outcome }),
  done: map({ request: count, chunk: count, session: text(64) }),
  error: map({ request: count, code: text(64), message: text(2048) }),
  pong: map({ sent_at: number }),
};
const WITH_PAYLOAD = new Set(["frames", "done"]);

/** The message in two parts that a server sent, as an object with its type in `t`; throws ProtocolError. */
export function decode(parts) {
  if (parts.length !== 2) throw new ProtocolError(`message has ${parts.length} parts: must have 2`);
  const [head, payload] = parts;
  if (head.length > MAX_HEADER || payload.length > MAX_PAYLOAD) throw new ProtocolError("message is too long");
  const header = unpack(head);
  const t = header instanceof Map ? header.get("t") : undefined;
  if (typeof t !== "string" || !Object.hasOwn(RECEIVED, t)) throw new ProtocolError("not a message of a server");
  const message = { t, ...RECEIVED[t](t, header) };
  if (WITH_PAYLOAD.has(t)) message.payload = payload;
  else if (payload.length) throw new ProtocolError(`${t} carries no payload`);
  if (t === "frames") checkFrames(message);
  return message;
}

function checkFrames({ shape, codec, lengths, payload }) {
  if (shape.length !== 4 || shape[3] !== 3 || shape.includes(0)) refuse("shape", "frames, height, width, 3");
  const size = shape.reduce((product, axis) => product * BigInt(axis), 1n);
  if (size > MAX_PAYLOAD) throw new ProtocolError(`frames take more than ${MAX_PAYLOAD} bytes`);
  const total = lengths.reduce((sum, length) => sum + BigInt(length), 0n);
  if (codec === "raw" && (lengths.length || size !== BigInt(payload.length))) refuse("payload", "as the shape says");
  if (codec === "jpeg" && (lengths.length !== shape[0] || total !== BigInt(payload.length))) {
    refuse("lengths", "those that make up the payload");
  }
}

/** The frames of a decoded message, one array each: RGB bytes, or a JPEG. */
export function splitFrames({ shape, codec, lengths, payload }) {
  const sizes = codec === "raw" ? Array(shape[0]).fill(shape[1] * shape[2] * 3) : lengths;
  let offset = 0;
  return sizes.map((size) => payload.subarray(offset, (offset += size)));
}
