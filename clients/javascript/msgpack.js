// The part of msgpack that message headers use. Reading is strict: limits, no binary, no extensions, valid UTF-8 alone.

export class ProtocolError extends Error {}

/** A number that came as a float: it is no count, even if it is whole. */
export class Float {
  constructor(value) {
    this.value = value;
  }
}

const MAX_TEXT = 16384; // bytes
const MAX_LIST = 1024;
const MAX_MAP = 256;
const MAX_DEPTH = 32;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The one value in `bytes`: maps are Map, floats are Float, integers beyond 2^53 are BigInt. */
export function unpack(bytes) {
  const reader = new Reader(bytes);
  const value = reader.value(MAX_DEPTH);
  if (reader.offset !== bytes.length) throw new ProtocolError("bytes after the header");
  return value;
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.offset = 0;
  }

  /** Where the next `size` bytes begin. */
  take(size) {
    const at = this.offset;
    if (size > this.bytes.length - at) throw new ProtocolError("the header is cut short");
    this.offset += size;
    return at;
  }

  /** An unsigned integer of 1, 2 or 4 bytes. */
  size(width) {
    const at = this.take(width);
    if (width === 1) return this.view.getUint8(at);
    return width === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  value(depth) {
    const head = this.size(1);
    if (head < 0x80) return head;
    if (head < 0x90) return this.map(head & 15, depth);
    if (head < 0xa0) return this.list(head & 15, depth);
    if (head < 0xc0) return this.text(head & 31);
    if (head >= 0xe0) return head - 256;
    switch (head) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xca: return new Float(this.view.getFloat32(this.take(4)));
      case 0xcb: return new Float(this.view.getFloat64(this.take(8)));
      case 0xcc: return this.size(1);
      case 0xcd: return this.size(2);
      case 0xce: return this.size(4);
      case 0xcf: return narrow(this.view.getBigUint64(this.take(8)));
      case 0xd0: return this.view.getInt8(this.take(1));
      case 0xd1: return this.view.getInt16(this.take(2));
      case 0xd2: return this.view.getInt32(this.take(4));
      case 0xd3: return narrow(this.view.getBigInt64(this.take(8)));
      case 0xd9: return this.text(this.size(1));
      case 0xda: return this.text(this.size(2));
      case 0xdb: return this.text(this.size(4));
      case 0xdc: return this.list(this.size(2), depth);
      case 0xdd: return this.list(this.size(4), depth);
      case 0xde: return this.map(this.size(2), depth);
      case 0xdf: return this.map(this.size(4), depth);
      default: throw new ProtocolError(`msgpack type 0x${head.toString(16)} in a header`);
    }
  }

  text(size) {
    if (size > MAX_TEXT) throw new ProtocolError(`text of ${size} bytes`);
    const at = this.take(size);
    try {
      return utf8.decode(this.bytes.subarray(at, at + size));
    } catch {
      throw new ProtocolError("text is not UTF-8");
    }
  }

  list(size, depth) {
    if (size > MAX_LIST || depth === 0) throw new ProtocolError("a list is too long or too deep");
    return Array.from({ length: size }, () => this.value(depth - 1));
  }

  map(size, depth) {
    if (size > MAX_MAP || depth === 0) throw new ProtocolError("a map is too large or too deep");
    const found = new Map();
    for (let left = size; left > 0; left--) {
      const key = this.value(0);
      if (typeof key !== "string") throw new ProtocolError("a key is no text");
      found.set(key, this.value(depth - 1));
    }
    return found;
  }
}

function narrow(big) {
  const small = Number(big);
  return Number.isSafeInteger(small) ? small : big;
}

/** Bytes of a header, value by value; every integer in its shortest form. */
export class Writer {
  #parts = [];

  bytes() {
    return Buffer.concat(this.#parts);
  }

  #head(code, width = 0, value = 0) {
    const part = Buffer.alloc(1 + width);
    part[0] = code;
    if (width === 8) part.writeBigUInt64BE(BigInt(value), 1);
    else if (width) part.writeUIntBE(value, 1, width);
    this.#parts.push(part);
  }

  nil() {
    this.#head(0xc0);
  }

  map(size) {
    this.#head(0x80 | size); // messages have fewer than 16 fields
  }

  list(size) {
    if (size < 16) this.#head(0x90 | size);
    else this.#head(0xdc, 2, size);
  }

  count(value) {
    if (value < 0x80) this.#head(Number(value));
    else if (value < 0x100) this.#head(0xcc, 1, Number(value));
    else if (value < 0x10000) this.#head(0xcd, 2, Number(value));
    else if (value < 0x100000000) this.#head(0xce, 4, Number(value));
    else this.#head(0xcf, 8, value);
  }

  float(value) {
    const part = Buffer.alloc(9);
    part[0] = 0xcb;
    part.writeDoubleBE(value, 1);
    this.#parts.push(part);
  }

  text(value) {
    const bytes = Buffer.from(value, "utf8");
    if (bytes.length < 32) this.#head(0xa0 | bytes.length);
    else if (bytes.length < 0x100) this.#head(0xd9, 1, bytes.length);
    else this.#head(0xda, 2, bytes.length);
    this.#parts.push(bytes);
  }
}
