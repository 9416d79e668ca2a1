// The golden vectors of the protocol, read by this client: npm test

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { ProtocolError, decode, encode } from "./protocol.js";

const vectors = JSON.parse(readFileSync(new URL("../../docs/protocol/vectors.json", import.meta.url), "utf8"));
const EMPTY = Buffer.alloc(0);
const parts = (row) => [Buffer.from(row.header_hex, "hex"), Buffer.from(row.payload_hex, "hex")];

/** A message as the vectors write it: binary is hex, what a double cannot hold is text. */
function plain(value) {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (typeof value === "bigint") return value.toString();
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value === 0 ? 0 : value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

const COUNTS = new Set(["version", "request", "seed", "seq", "wanted", "over", "after"]);

/** A client's message from what the vectors write. */
function fromPlain(message) {
  const entries = Object.entries(message).map(([key, value]) => {
    if (key === "payload") return [key, Buffer.from(value, "hex")];
    return [key, COUNTS.has(key) && typeof value === "string" ? BigInt(value) : value];
  });
  return Object.fromEntries(entries);
}

test("the vectors are of this version and hold something", () => {
  assert.equal(vectors.version, 1);
  assert.ok(vectors.messages.length > 30 && vectors.refused.length > 60);
});

for (const row of vectors.messages.filter((row) => row.from === "client")) {
  test(`encodes: ${row.name}`, () => {
    assert.deepEqual(encode(fromPlain(row.message)), parts(row));
    assert.throws(() => decode(parts(row)), ProtocolError, "a client must not take a client's message");
  });
}

for (const row of [...vectors.messages, ...vectors.accepted].filter((row) => row.from === "server")) {
  test(`decodes: ${row.name}`, () => assert.deepEqual(plain(decode(parts(row))), plain(row.message)));
}

for (const row of vectors.refused) {
  test(`refuses: ${row.why}`, () => assert.throws(() => decode(parts(row)), ProtocolError));
}

test("refuses messages of another number of parts, and headers over 64 KiB", () => {
  for (const wrong of [[], [EMPTY], [EMPTY, EMPTY, EMPTY], [Buffer.alloc(65537), EMPTY]]) {
    assert.throws(() => decode(wrong), ProtocolError);
  }
});
