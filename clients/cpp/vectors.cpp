// The golden vectors of the protocol, read by this client: make test

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "helios_protocol.hpp"

using nlohmann::json;
namespace protocol = helios::protocol;

static helios::Bytes from_hex(const std::string& hex) {
    helios::Bytes found;
    for (std::size_t k = 0; k < hex.size(); k += 2)
        found.push_back(static_cast<std::uint8_t>(std::stoi(hex.substr(k, 2), nullptr, 16)));
    return found;
}

static std::string to_hex(const helios::Bytes& bytes) {
    std::string found;
    for (std::uint8_t byte : bytes) found += "0123456789abcdef"[byte >> 4], found += "0123456789abcdef"[byte & 15];
    return found;
}

/// A count as the vectors write it: what a double cannot hold is text.
static json count(std::uint64_t value) {
    return value < (std::uint64_t{1} << 53) ? json(value) : json(std::to_string(value));
}
static std::uint64_t count(const json& value) {
    return value.is_string() ? std::stoull(value.get<std::string>()) : value.get<std::uint64_t>();
}

static json counts(const std::vector<std::uint64_t>& values) {
    json found = json::array();
    for (std::uint64_t value : values) found.push_back(count(value));
    return found;
}

template <class T>
static std::optional<T> maybe(const json& value) {
    return value.is_null() ? std::nullopt : std::optional<T>(value.get<T>());
}

static protocol::Movement mouse(const json& m) {
    if (!m.contains("mouse")) return std::nullopt;
    return std::pair(m.at("mouse").at(0).get<double>(), m.at("mouse").at(1).get<double>());
}

static helios::Bytes encode(const json& m) {
    const std::string t = m.at("t");
    if (t == "hello") return protocol::hello(count(m.at("version")), m.at("client"), m.at("session"), m.at("codecs"));
    if (t == "ping") return protocol::ping(m.at("sent_at"));
    if (t == "close") return protocol::close();
    if (t == "act")
        return protocol::act(count(m.at("seq")), m.at("sent_at"), m.at("buttons"), count(m.at("wanted")), mouse(m));
    const std::uint64_t request = count(m.at("request"));
    if (t == "reset")
        return protocol::reset(request, maybe<std::string>(m.at("scene")), count(m.at("seed")),
                               maybe<std::string>(m.at("prompt")), m.at("arrays"));
    if (t == "step") return protocol::step(request, m.at("buttons"), mouse(m));
    if (t == "prompt")
        return protocol::prompt(request, m.at("verb"), m.at("text"), count(m.at("over")),
                                m.at("after").is_null() ? std::nullopt : std::optional(count(m.at("after"))));
    if (t == "snapshot") return protocol::snapshot(request);
    if (t == "restore") return protocol::restore(request);
    if (t == "invite") return protocol::invite(request, m.at("verb").get<std::string>());
    return protocol::fork(request);
}

static json plain(const protocol::Welcome& m) {
    const helios::Card& c = m.card;
    const json card = {{"name", c.name},
                       {"height", count(c.height)},
                       {"width", count(c.width)},
                       {"fps", c.fps},
                       {"frames_per_chunk", count(c.frames_per_chunk)},
                       {"buttons", c.buttons},
                       {"scenes", c.scenes},
                       {"bindings", c.bindings},
                       {"takes_prompt", c.takes_prompt}};
    return {{"t", "welcome"},
            {"version", count(m.version)},
            {"card", card},
            {"session", m.session},
            {"codec", m.codec},
            {"chunk", count(m.chunk)},
            {"answered", count(m.answered)},
            {"broadcast", count(m.broadcast)}};
}
static json plain(const protocol::Frames& m) {
    json found = {{"t", "frames"},        {"request", count(m.request)},  {"index", count(m.index)},
                  {"seq", count(m.seq)},  {"sent_at", m.sent_at},         {"shape", counts(m.shape)},
                  {"codec", m.codec},     {"lengths", counts(m.lengths)}, {"seconds", m.seconds},
                  {"made_at", m.made_at}, {"payload", to_hex(m.payload)}};
    if (const auto& o = m.outcome)
        found["outcome"] = {{"reward", o->reward},
                            {"terminated", o->terminated},
                            {"reward_chance", o->reward_chance},
                            {"end_chance", o->end_chance}};
    return found;
}
static json plain(const protocol::Done& m) {
    return {{"t", "done"},
            {"request", count(m.request)},
            {"chunk", count(m.chunk)},
            {"session", m.session},
            {"payload", to_hex(m.payload)}};
}
static json plain(const protocol::Failure& m) {
    return {{"t", "error"}, {"request", count(m.request)}, {"code", m.code}, {"message", m.message}};
}
static json plain(const protocol::Pong& m) { return {{"t", "pong"}, {"sent_at", m.sent_at}}; }

static protocol::Message decode(const json& row) {
    const helios::Bytes head = from_hex(row.at("header_hex")), body = from_hex(row.at("payload_hex"));
    return protocol::decode(head.data(), head.size(), body.data(), body.size());
}

static bool refused(const json& row) {
    try {
        decode(row);
    } catch (const helios::ProtocolError&) {
        return true;
    }
    return false;
}

int main(int count_of_words, char** words) {
    std::ifstream file(count_of_words > 1 ? words[1] : "../../docs/protocol/vectors.json");
    const json vectors = json::parse(file);
    int passed = 0, failed = 0;
    const auto check = [&](bool holds, const std::string& name) {
        holds ? ++passed : ++failed;
        if (!holds) std::cout << "failed: " << name << "\n";
    };
    for (const char* list : {"messages", "accepted"})
        for (const json& row : vectors.at(list)) {
            const std::string name = row.at("name");
            if (row.at("from") == "client") {
                check(to_hex(encode(row.at("message"))) == row.at("header_hex"), "encodes " + name);
                check(refused(row), "refuses a client's " + name);
            } else {
                check(std::visit([](const auto& m) { return plain(m); }, decode(row)) == row.at("message"),
                      "decodes " + name);
            }
        }
    for (const json& row : vectors.at("refused")) check(refused(row), "refuses " + row.at("why").get<std::string>());
    std::cout << passed << " passed, " << failed << " failed\n";
    return failed || passed < 100;
}
