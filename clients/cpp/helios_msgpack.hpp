// The part of msgpack that message headers use. Reading is strict: limits, no binary, no extensions, valid UTF-8 alone.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace helios {

using Bytes = std::vector<std::uint8_t>;

/// Root of all that this client throws.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Bytes that are no message of a server.
struct ProtocolError : Error {
    using Error::Error;
};

/// What a header holds. A map has its keys in `keys` and their values in `items`.
struct Value {
    enum class Kind { nil, flag, integer, real, text, list, map };

    Kind kind = Kind::nil;
    bool flag = false;
    bool negative = false;  // integer: `whole` is its two's complement
    std::uint64_t whole = 0;
    double real = 0;
    std::string text;
    std::vector<std::string> keys;
    std::vector<Value> items;

    /// The value of `key`, the last one if it came twice; null where there is none.
    const Value* find(const std::string& key) const {
        for (std::size_t at = keys.size(); at-- > 0;)
            if (keys[at] == key) return &items[at];
        return nullptr;
    }
};

/// Number of characters in UTF-8 text; ProtocolError if it is not UTF-8.
inline std::size_t count_characters(const std::string& text) {
    std::size_t count = 0;
    for (std::size_t at = 0; at < text.size(); ++count) {
        const auto byte = [&](std::size_t k) { return static_cast<std::uint8_t>(text[k]); };
        const unsigned head = byte(at);
        const bool starts = head < 0x80 || (head >= 0xc2 && head < 0xf5);
        const std::size_t more = (head >= 0xc0) + (head >= 0xe0) + (head >= 0xf0);
        if (!starts || text.size() - at <= more) throw ProtocolError("text is not UTF-8");
        for (std::size_t k = at + 1; k <= at + more; ++k)
            if ((byte(k) & 0xc0) != 0x80) throw ProtocolError("text is not UTF-8");
        const unsigned second = more ? byte(at + 1) : 0;
        const bool overlong = (head == 0xe0 && second < 0xa0) || (head == 0xf0 && second < 0x90);
        const bool outside = (head == 0xed && second > 0x9f) || (head == 0xf4 && second > 0x8f);
        if (overlong || outside) throw ProtocolError("text is not UTF-8");
        at += more + 1;
    }
    return count;
}

class Reader {
public:
    /// The one value in `size` bytes.
    static Value unpack(const std::uint8_t* data, std::size_t size) {
        Reader reader(data, size);
        Value found = reader.value(max_depth);
        if (reader.left_ != 0) throw ProtocolError("bytes after the header");
        return found;
    }

private:
    static constexpr std::uint64_t max_text = 16384, max_list = 1024, max_map = 256;
    static constexpr int max_depth = 32;

    Reader(const std::uint8_t* data, std::size_t size) : at_(data), left_(size) {}

    const std::uint8_t* take(std::uint64_t size) {
        if (size > left_) throw ProtocolError("the header is cut short");
        const std::uint8_t* found = at_;
        at_ += size;
        left_ -= size;
        return found;
    }

    /// An unsigned integer of 1, 2, 4 or 8 bytes.
    std::uint64_t number(int width) {
        const std::uint8_t* bytes = take(width);
        std::uint64_t found = 0;
        for (int k = 0; k < width; ++k) found = found << 8 | bytes[k];
        return found;
    }

    Value value(int depth) {
        const unsigned head = static_cast<unsigned>(number(1));
        if (head < 0x80) return integer(head, false);
        if (head < 0x90) return map(head & 15, depth);
        if (head < 0xa0) return list(head & 15, depth);
        if (head < 0xc0) return text(head & 31);
        if (head >= 0xe0) return signed_integer(head, 1);
        switch (head) {
            case 0xc0: return {};
            case 0xc2: return flag(false);
            case 0xc3: return flag(true);
            case 0xca: return real32();
            case 0xcb: return real64();
            case 0xcc: return integer(number(1), false);
            case 0xcd: return integer(number(2), false);
            case 0xce: return integer(number(4), false);
            case 0xcf: return integer(number(8), false);
            case 0xd0: return signed_integer(number(1), 1);
            case 0xd1: return signed_integer(number(2), 2);
            case 0xd2: return signed_integer(number(4), 4);
            case 0xd3: return signed_integer(number(8), 8);
            case 0xd9: return text(number(1));
            case 0xda: return text(number(2));
            case 0xdb: return text(number(4));
            case 0xdc: return list(number(2), depth);
            case 0xdd: return list(number(4), depth);
            case 0xde: return map(number(2), depth);
            case 0xdf: return map(number(4), depth);
            default: throw ProtocolError("a msgpack type that headers do not use");
        }
    }

    static Value integer(std::uint64_t whole, bool negative) {
        Value found;
        found.kind = Value::Kind::integer;
        found.whole = whole;
        found.negative = negative;
        return found;
    }

    static Value signed_integer(std::uint64_t raw, int width) {
        const bool negative = raw >> (8 * width - 1) & 1;
        if (negative && width < 8) raw |= ~std::uint64_t{0} << (8 * width);
        return integer(raw, negative);
    }

    static Value flag(bool flag) {
        Value found;
        found.kind = Value::Kind::flag;
        found.flag = flag;
        return found;
    }

    static Value real(double real) {
        Value found;
        found.kind = Value::Kind::real;
        found.real = real;
        return found;
    }

    Value real32() {
        const auto raw = static_cast<std::uint32_t>(number(4));
        float narrow;
        std::memcpy(&narrow, &raw, sizeof narrow);
        return real(narrow);
    }

    Value real64() {
        const std::uint64_t raw = number(8);
        double wide;
        std::memcpy(&wide, &raw, sizeof wide);
        return real(wide);
    }

    Value text(std::uint64_t size) {
        if (size > max_text) throw ProtocolError("text is too long");
        Value found;
        found.kind = Value::Kind::text;
        found.text.assign(reinterpret_cast<const char*>(take(size)), size);
        count_characters(found.text);
        return found;
    }

    Value list(std::uint64_t size, int depth) {
        if (size > max_list || depth == 0) throw ProtocolError("a list is too long or too deep");
        Value found;
        found.kind = Value::Kind::list;
        for (; size > 0; --size) found.items.push_back(value(depth - 1));
        return found;
    }

    Value map(std::uint64_t size, int depth) {
        if (size > max_map || depth == 0) throw ProtocolError("a map is too large or too deep");
        Value found;
        found.kind = Value::Kind::map;
        for (; size > 0; --size) {
            Value key = value(0);
            if (key.kind != Value::Kind::text) throw ProtocolError("a key is no text");
            found.keys.push_back(std::move(key.text));
            found.items.push_back(value(depth - 1));
        }
        return found;
    }

    const std::uint8_t* at_;
    std::uint64_t left_;
};

/// Bytes of a header, value by value; every integer in its shortest form.
class Writer {
public:
    Bytes bytes;

    void nil() { bytes.push_back(0xc0); }

    void map(std::size_t size) { bytes.push_back(static_cast<std::uint8_t>(0x80 | size)); }  // fewer than 16 fields

    void list(std::size_t size) { size < 16 ? head(0x90 | size, 0, 0) : head(0xdc, 2, size); }

    void count(std::uint64_t value) {
        if (value < 0x80) head(static_cast<unsigned>(value), 0, 0);
        else if (value < 0x100) head(0xcc, 1, value);
        else if (value < 0x10000) head(0xcd, 2, value);
        else if (value < 0x100000000) head(0xce, 4, value);
        else head(0xcf, 8, value);
    }

    void real(double value) {
        std::uint64_t raw;
        std::memcpy(&raw, &value, sizeof raw);
        head(0xcb, 8, raw);
    }

    void text(const std::string& value) {
        if (value.size() < 32) head(0xa0 | value.size(), 0, 0);
        else if (value.size() < 0x100) head(0xd9, 1, value.size());
        else head(0xda, 2, value.size());
        bytes.insert(bytes.end(), value.begin(), value.end());
    }

private:
    void head(std::size_t code, int width, std::uint64_t value) {
        bytes.push_back(static_cast<std::uint8_t>(code));
        for (int k = width - 1; k >= 0; --k) bytes.push_back(static_cast<std::uint8_t>(value >> (8 * k)));
    }
};

}  // namespace helios
