// Messages as gateway/wire.py has them: u32 big-endian length of a JSON header, the header, the payload.

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

// A message without payload, as one binary WebSocket message.
export function pack(header) {
  const words = encoder.encode(JSON.stringify(header));
  const bytes = new Uint8Array(4 + words.length);
  new DataView(bytes.buffer).setUint32(0, words.length);
  bytes.set(words, 4);
  return bytes.buffer;
}

// [header, payload] of an ArrayBuffer; the payload shares its memory.
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0);
  const header = JSON.parse(decoder.decode(new Uint8Array(buffer, 4, length)));
  return [header, new Uint8Array(buffer, 4 + length)];
}

// The JPEGs of a `frames` message, each as bytes.
export function pictures(header, payload) {
  if (header.codec !== "jpeg") throw new Error(`frames are ${header.codec}: this page reads jpeg`);
  let offset = 0;
  return header.lengths.map((length) => payload.subarray(offset, (offset += length)));
}
