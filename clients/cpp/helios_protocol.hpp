// Protocol v1 as bytes and back, for the client's side. docs/protocol/schema.json is the table that this follows.
// No socket, no clock.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <variant>

#include "helios_msgpack.hpp"

namespace helios {

/// What a world is, seen from outside.
struct Card {
    std::string name;
    std::uint64_t height = 0, width = 0;
    double fps = 0;
    std::uint64_t frames_per_chunk = 0;
    std::vector<std::string> buttons, scenes;
    std::map<std::string, std::string> bindings;  // key to button
    bool takes_prompt = false;
};

/// What a chunk came to, in a world that has outcomes.
struct Outcome {
    double reward;
    bool terminated;  // the game ended in it
    double reward_chance, end_chance;
};

namespace protocol {

constexpr std::uint64_t version = 1;
constexpr std::uint64_t max_header = 1 << 16, max_payload = 64 << 20, max_count = (std::uint64_t{1} << 63) - 1;

// What a server sends.

struct Welcome {
    std::uint64_t version;
    Card card;
    std::string session, codec;
    std::uint64_t chunk, answered, broadcast;
};

struct Frames {
    std::uint64_t request, index, seq;
    double sent_at;
    std::vector<std::uint64_t> shape;  // frames, height, width, 3
    std::string codec;
    std::vector<std::uint64_t> lengths;  // of each JPEG
    double seconds, made_at;
    std::optional<Outcome> outcome;  // none in a world without
    Bytes payload;

    /// The frames one by one: RGB bytes, or a JPEG.
    std::vector<Bytes> split() const {
        std::vector<Bytes> found;
        auto at = payload.begin();
        for (std::uint64_t k = 0; k < shape[0]; ++k) {
            const auto size = static_cast<std::ptrdiff_t>(codec == "raw" ? shape[1] * shape[2] * 3 : lengths[k]);
            found.emplace_back(at, at + size);
            at += size;
        }
        return found;
    }
};

struct Done {
    std::uint64_t request, chunk;
    std::string session;
    Bytes payload;
};

struct Failure {  // `error` on the wire
    std::uint64_t request;
    std::string code, message;
};

struct Pong {
    double sent_at;
};

using Message = std::variant<Welcome, Frames, Done, Failure, Pong>;

// What a client sends: headers. Payloads go as they are.

using Buttons = std::vector<std::string>;
using Movement = std::optional<std::pair<double, double>>;  // of the mouse, right and down; may be left out
using Arrays = std::vector<std::pair<std::string, std::vector<std::uint64_t>>>;

class Header {
public:
    Header(const char* type, std::size_t fields) {
        writer_.map(fields + 1);
        put("t", std::string(type));
    }

    Header& put(const char* name, std::uint64_t value) { return key(name), writer_.count(value), *this; }
    Header& put(const char* name, const std::string& value) { return key(name), writer_.text(value), *this; }
    Header& real(const char* name, double value) { return key(name), writer_.real(value), *this; }

    template <class T>
    Header& put(const char* name, const std::optional<T>& value) {
        if (value) return put(name, *value);
        return key(name), writer_.nil(), *this;
    }

    Header& texts(const char* name, const std::vector<std::string>& values) {
        key(name), writer_.list(values.size());
        for (const auto& value : values) writer_.text(value);
        return *this;
    }

    Header& buttons(const Buttons& held) {  // each once, sorted: equal messages are equal bytes
        const std::set<std::string> sorted(held.begin(), held.end());
        return texts("buttons", {sorted.begin(), sorted.end()});
    }

    Header& mouse(const Movement& movement) {
        if (!movement) return *this;
        key("mouse"), writer_.list(2), writer_.real(movement->first), writer_.real(movement->second);
        return *this;
    }

    Header& arrays(const Arrays& arrays) {
        key("arrays"), writer_.list(arrays.size());
        for (const auto& [name, shape] : arrays) {
            writer_.list(2), writer_.text(name), writer_.list(shape.size());
            for (std::uint64_t size : shape) writer_.count(size);
        }
        return *this;
    }

    operator Bytes() const { return writer_.bytes; }

private:
    void key(const char* name) { writer_.text(name); }

    Writer writer_;
};

inline Bytes hello(std::uint64_t version, const std::string& client, const std::string& session,
                   const std::vector<std::string>& codecs) {
    return Header("hello", 4)
        .put("version", version)
        .put("client", client)
        .put("session", session)
        .texts("codecs", codecs);
}
inline Bytes reset(std::uint64_t request, const std::optional<std::string>& scene, std::uint64_t seed,
                   const std::optional<std::string>& prompt, const Arrays& arrays = {}) {
    return Header("reset", 5)
        .put("request", request)
        .put("scene", scene)
        .put("seed", seed)
        .put("prompt", prompt)
        .arrays(arrays);
}
inline Bytes step(std::uint64_t request, const Buttons& held, const Movement& mouse = {}) {
    return Header("step", mouse ? 3 : 2).put("request", request).buttons(held).mouse(mouse);
}
inline Bytes act(std::uint64_t seq, double sent_at, const Buttons& held, std::uint64_t wanted,
                 const Movement& mouse = {}) {
    return Header("act", mouse ? 5 : 4)
        .put("seq", seq)
        .real("sent_at", sent_at)
        .buttons(held)
        .put("wanted", wanted)
        .mouse(mouse);
}
inline Bytes prompt(std::uint64_t request, const std::string& verb, const std::string& text, std::uint64_t over,
                    std::optional<std::uint64_t> after) {
    return Header("prompt", 5)
        .put("request", request)
        .put("verb", verb)
        .put("text", text)
        .put("over", over)
        .put("after", after);
}
inline Bytes snapshot(std::uint64_t request) { return Header("snapshot", 1).put("request", request); }
inline Bytes restore(std::uint64_t request) { return Header("restore", 1).put("request", request); }
inline Bytes fork(std::uint64_t request) { return Header("fork", 1).put("request", request); }
inline Bytes invite(std::uint64_t request, const std::string& verb) {
    return Header("invite", 2).put("request", request).put("verb", verb);
}
inline Bytes ping(double sent_at) { return Header("ping", 1).real("sent_at", sent_at); }
inline Bytes close() { return Header("close", 0); }

// Reading: each check gives the value, or throws.

inline const Value& get(const Value& map, const std::string& key) {
    const Value* found = map.find(key);
    if (!found) throw ProtocolError("a message lacks " + key);
    return *found;
}

inline std::uint64_t count(const Value& value) {
    if (value.kind != Value::Kind::integer || value.negative || value.whole > max_count)
        throw ProtocolError("a count must be an integer from 0 to 2^63-1");
    return value.whole;
}

inline double number(const Value& value) {
    double found = value.real;
    if (value.kind == Value::Kind::integer)
        found = value.negative ? static_cast<double>(static_cast<std::int64_t>(value.whole))
                               : static_cast<double>(value.whole);
    else if (value.kind != Value::Kind::real) throw ProtocolError("a number must be a number");
    if (!(found >= -1e15 && found <= 1e15)) throw ProtocolError("a number must be finite");
    return found;
}

inline double seconds(const Value& value) {
    const double found = number(value);
    if (found < 0) throw ProtocolError("seconds must not be negative");
    return found;
}

inline double chance(const Value& value) {
    const double found = number(value);
    if (found < 0 || found > 1) throw ProtocolError("a chance must be from 0 to 1");
    return found;
}

inline bool flag(const Value& value) {
    if (value.kind != Value::Kind::flag) throw ProtocolError("a flag must be true or false");
    return value.flag;
}

inline std::string text(const Value& value, std::size_t longest) {
    if (value.kind != Value::Kind::text || count_characters(value.text) > longest)
        throw ProtocolError("text must have at most " + std::to_string(longest) + " characters");
    return value.text;
}

inline std::string codec(const Value& value) {
    const std::string found = text(value, 16);
    if (found != "raw" && found != "jpeg") throw ProtocolError("codec must be raw or jpeg");
    return found;
}

inline const std::vector<Value>& list(const Value& value, std::size_t longest) {
    if (value.kind != Value::Kind::list || value.items.size() > longest)
        throw ProtocolError("a list must have at most " + std::to_string(longest) + " values");
    return value.items;
}

inline std::vector<std::uint64_t> counts(const Value& value) {
    std::vector<std::uint64_t> found;
    for (const Value& item : list(value, 1024)) found.push_back(count(item));
    return found;
}

inline std::vector<std::string> texts(const Value& value, std::size_t most, std::size_t longest) {
    std::vector<std::string> found;
    for (const Value& item : list(value, most)) found.push_back(text(item, longest));
    return found;
}

inline std::map<std::string, std::string> bindings(const Value& value) {
    if (value.kind != Value::Kind::map) throw ProtocolError("bindings must be a map");
    std::map<std::string, std::string> found;
    for (std::size_t k = 0; k < value.keys.size(); ++k) {
        if (count_characters(value.keys[k]) > 256) throw ProtocolError("a key must have at most 256 characters");
        found[value.keys[k]] = text(value.items[k], 256);
    }
    return found;
}

inline Card card(const Value& value) {
    if (value.kind != Value::Kind::map) throw ProtocolError("card must be a map");
    Card found;
    found.name = text(get(value, "name"), 256);
    found.height = count(get(value, "height"));
    found.width = count(get(value, "width"));
    found.fps = number(get(value, "fps"));
    found.frames_per_chunk = count(get(value, "frames_per_chunk"));
    found.buttons = texts(get(value, "buttons"), 64, 64);
    found.scenes = texts(get(value, "scenes"), 256, 256);
    found.bindings = bindings(get(value, "bindings"));
    found.takes_prompt = flag(get(value, "takes_prompt"));
    if (!found.height || !found.width || !(found.fps > 0) || !found.frames_per_chunk || found.scenes.empty())
        throw ProtocolError("card must have a scene and sizes above 0");
    return found;
}

/// `a` times or plus `b`, but never more than `most + 1`.
inline std::uint64_t bounded_product(std::uint64_t a, std::uint64_t b, std::uint64_t most) {
    return b != 0 && a > most / b ? most + 1 : a * b;
}
inline std::uint64_t bounded_sum(std::uint64_t a, std::uint64_t b, std::uint64_t most) {
    return a > most || b > most || a + b > most ? most + 1 : a + b;
}

inline void check_frames(const Frames& frames) {
    const auto& shape = frames.shape;
    if (shape.size() != 4 || shape[3] != 3 || std::count(shape.begin(), shape.end(), 0))
        throw ProtocolError("shape must be frames, height, width, 3");
    std::uint64_t size = 1, total = 0;
    for (std::uint64_t axis : shape) size = bounded_product(size, axis, max_payload);
    for (std::uint64_t length : frames.lengths) total = bounded_sum(total, length, max_payload);
    if (size > max_payload) throw ProtocolError("frames take too many bytes");
    if (frames.codec == "raw" && (!frames.lengths.empty() || size != frames.payload.size()))
        throw ProtocolError("raw frames must fill the payload");
    if (frames.codec == "jpeg" && (frames.lengths.size() != shape[0] || total != frames.payload.size()))
        throw ProtocolError("the lengths of the JPEGs must make up the payload");
}

inline std::optional<Outcome> outcome(const Value* value) {
    if (!value) return {};
    if (value->kind != Value::Kind::map) throw ProtocolError("outcome must be a map");
    return Outcome{number(get(*value, "reward")), flag(get(*value, "terminated")),
                   chance(get(*value, "reward_chance")), chance(get(*value, "end_chance"))};
}

inline Frames frames(const Value& header, Bytes payload) {
    Frames found{count(get(header, "request")),  count(get(header, "index")),
                 count(get(header, "seq")),      number(get(header, "sent_at")),
                 counts(get(header, "shape")),   codec(get(header, "codec")),
                 counts(get(header, "lengths")), seconds(get(header, "seconds")),
                 number(get(header, "made_at")), outcome(header.find("outcome")),
                 std::move(payload)};
    check_frames(found);
    return found;
}

/// The message that a server sent; ProtocolError for anything else.
inline Message decode(const std::uint8_t* head, std::size_t head_size, const std::uint8_t* body,
                      std::size_t body_size) {
    if (head_size > max_header || body_size > max_payload) throw ProtocolError("a message is too long");
    const Value header = Reader::unpack(head, head_size);
    if (header.kind != Value::Kind::map) throw ProtocolError("a header must be a map");
    const Value& type = get(header, "t");
    const std::string t = type.kind == Value::Kind::text ? type.text : "";
    if (t == "frames") return frames(header, Bytes(body, body + body_size));
    if (t == "done")
        return Done{count(get(header, "request")), count(get(header, "chunk")), text(get(header, "session"), 64),
                    Bytes(body, body + body_size)};
    if (t != "welcome" && t != "error" && t != "pong") throw ProtocolError("not a message of a server");
    if (body_size) throw ProtocolError(t + " carries no payload");
    if (t == "welcome")
        return Welcome{count(get(header, "version")),    card(get(header, "card")),
                       text(get(header, "session"), 64), codec(get(header, "codec")),
                       count(get(header, "chunk")),      count(get(header, "answered")),
                       count(get(header, "broadcast"))};
    if (t == "error")
        return Failure{count(get(header, "request")), text(get(header, "code"), 64),
                       text(get(header, "message"), 2048)};
    return Pong{number(get(header, "sent_at"))};
}

}  // namespace protocol
}  // namespace helios
