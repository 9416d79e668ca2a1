// A world on a server (`helios-world serve`), in lock-step or in real time. Says hello again with its ticket when the
// server was lost, and goes on from the newest snapshot it kept when the server no longer knows the ticket.
// Needs cppzmq and C++17. One thread at a time may use a client. All that it throws is a helios::Error.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <zmq.hpp>

#include "helios_pacer.hpp"

namespace helios {

/// The server refused: `code` is one of those in docs/protocol/schema.json.
struct ServerError : Error {
    ServerError(std::string code, const std::string& message) : Error(message), code(std::move(code)) {}
    std::string code;
};

/// Nobody answered in time.
struct ConnectionLost : Error {
    using Error::Error;
};

/// What one step made: frames as RGB bytes, or as JPEGs.
struct Chunk {
    std::uint64_t index = 0, height = 0, width = 0;
    std::string codec;
    double seconds = 0;
    std::optional<Outcome> outcome;  // none in a world without
    std::vector<Bytes> frames;
};

/// As `helios-world keygen` writes them, for a server that asks for them.
struct Keys {
    std::string public_key, secret_key, server_key;
};

struct Options {
    double timeout = 10;                     // seconds until a request that nobody answers fails
    double autosave = 2;                     // seconds between snapshots kept while playing
    std::vector<std::string> codecs{"raw"};  // "raw" gives RGB bytes, "jpeg" gives JPEGs as they came
    std::optional<Keys> keys;
};

/// Measured lately, in milliseconds. `round_trip`: from asking for a chunk to having it. `age`: of a chunk when it
/// came, since it was made; only where server and client share a clock, as on one machine.
struct Stats {
    double fps, age_p50, age_p95, round_trip_p50, round_trip_p95;
    int late_chunks;
};

class Client {
public:
    std::function<void(const std::string& why)> on_lost = [](const std::string&) {};
    std::function<void(bool kept)> on_back = [](bool) {};  // kept: the server still had the world
    std::function<void(const std::string& message)> on_refused = [](const std::string&) {};

    /// `address`: such as "tcp://127.0.0.1:5557".
    explicit Client(std::string address, Options options = {})
        : address_(std::move(address)), options_(std::move(options)) {}

    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client() { close(); }

    /// Waits for the server and gives its world card.
    const Card& connect() {
        open();
        await([this] { return card_.has_value() || failure_; });
        if (failure_) fail();
        return *card_;
    }

    /// Starts a new world; the chunk that it starts from.
    Chunk reset(std::optional<std::string> scene = {}, std::uint64_t seed = 0, std::optional<std::string> prompt = {}) {
        const auto write = [=](std::uint64_t request) { return protocol::reset(request, scene, seed, prompt); };
        return chunk(ask({write, {}, Kind::world}));
    }

    /// Lock-step: one chunk under `buttons`, held for all its frames, and a movement of the mouse.
    Chunk step(const protocol::Buttons& buttons = {}, const protocol::Movement& mouse = {}) {
        return chunk(ask({[=](std::uint64_t n) { return protocol::step(n, buttons, mouse); }, {}, Kind::step}));
    }

    /// This world as bytes.
    Bytes snapshot() { return std::get<protocol::Done>(ask({protocol::snapshot, {}, Kind::other})).payload; }

    /// Goes back, or over, to the world in `bytes`.
    void restore(const Bytes& bytes) { ask({protocol::restore, bytes, Kind::world}); }

    /// Tells the world what to show: verb "change", "queue" or "cancel".
    void prompt(const std::string& text, const std::string& verb = "change", std::uint64_t over = 1,
                std::optional<std::uint64_t> after = {}) {
        ask({[=](std::uint64_t request) { return protocol::prompt(request, verb, text, over, after); },
             {},
             Kind::other});
    }

    /// Real time: `buttons` are held from now on.
    void hold(const protocol::Buttons& buttons) {
        if (buttons == held_) return;
        held_ = buttons;
        if (playing_ && live_) act(0);
    }

    /// Real time: the mouse moved by so many counts, right and down; the next chunk that is asked for includes it.
    void look(double x, double y) {
        mouse_.first += x, mouse_.second += y;
    }

    /// Real time: the frame due now, if it was not given before. Never waits; to be called for every picture.
    std::optional<Frame> frame() {
        playing_ = true;
        tick();
        auto found = pacer_ ? pacer_->frame(now()) : std::nullopt;
        if (found) remember(shown_at_, now(), recent);
        return found;
    }

    /// Sleeps until `frame` may have something new, or until `seconds` have passed.
    void wait(double seconds) {
        const double from = now();
        double until = from + seconds;
        if (playing_ && pacer_) until = std::min(until, pacer_->next_event(from));
        poll(std::max(0.0, until - from));
    }

    /// Number of the newest input sent; a frame's `seq` says up to which one it includes.
    std::uint64_t seq() const { return seq_; }

    Stats stats() const {
        const double span = shown_at_.empty() ? 0 : shown_at_.back() - shown_at_.front();
        const double fps = span > 0 ? static_cast<double>(shown_at_.size() - 1) / span : 0;
        return {fps,
                1e3 * quantile(ages_, 0.5),
                1e3 * quantile(ages_, 0.95),
                1e3 * quantile(trips_, 0.5),
                1e3 * quantile(trips_, 0.95),
                pacer_ ? pacer_->late_chunks() : 0};
    }

    /// Ends the session on the server. No other call may follow.
    void close() noexcept {
        if (!socket_) return;
        try {
            send(protocol::close());
            socket_->set(zmq::sockopt::linger, 200);
        } catch (const std::exception&) {  // the server will find out by itself
        }
        monitor_.reset();
        socket_.reset();
    }

private:
    static constexpr double silence = 1.5;  // seconds without a word after which the server counts as lost
    static constexpr double ping = 1.0;     // seconds between pings
    static constexpr double repeat = 0.1;   // seconds after which held buttons are said again
    static constexpr std::size_t recent = 1024;

    enum class Kind { world, step, other };

    struct Request {
        std::function<Bytes(std::uint64_t)> header;
        Bytes payload;
        Kind kind;
    };

    using Answer = std::variant<protocol::Frames, protocol::Done>;

    static double now() {  // CLOCK_MONOTONIC on Linux, as the server's
        return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    }

    // The connection

    void open() {
        monitor_.reset();
        socket_.reset();
        live_ = false;
        begun_ = saving_ = 0;
        heard_at_ = pinged_at_ = now();
        try {
            socket_ = std::make_unique<zmq::socket_t>(context_, zmq::socket_type::dealer);
            socket_->set(zmq::sockopt::linger, 0);
            socket_->set(zmq::sockopt::reconnect_ivl, 50);
            socket_->set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(protocol::max_payload));
            socket_->set(zmq::sockopt::sndbuf, 1 << 20);
            socket_->set(zmq::sockopt::rcvbuf, 1 << 20);
            socket_->set(zmq::sockopt::heartbeat_ivl, 500);
            socket_->set(zmq::sockopt::heartbeat_timeout, 1500);
            if (const auto& keys = options_.keys) {
                socket_->set(zmq::sockopt::curve_publickey, keys->public_key);
                socket_->set(zmq::sockopt::curve_secretkey, keys->secret_key);
                socket_->set(zmq::sockopt::curve_serverkey, keys->server_key);
            }
            const std::string watched = "inproc://helios-monitor-" + std::to_string(++monitors_);
            zmq_socket_monitor(socket_->handle(), watched.c_str(), ZMQ_EVENT_DISCONNECTED);
            monitor_ = std::make_unique<zmq::socket_t>(context_, zmq::socket_type::pair);
            monitor_->set(zmq::sockopt::linger, 0);
            monitor_->connect(watched);
            socket_->connect(address_);
        } catch (const zmq::error_t& error) {
            throw Error("cannot connect to " + address_ + ": " + error.what());
        }
        send(protocol::hello(protocol::version, "helios-world-cpp", ticket_, options_.codecs));
    }

    void lose(const std::string& why) {
        if (!lost_ && origin_) {
            lost_ = true;
            on_lost(why);
        }
        open();
    }

    /// What a full socket does not take is lost; the silence that follows ends the connection.
    void send(const Bytes& header, const Bytes& payload = {}) {
        try {
            zmq::message_t head(header.data(), header.size()), body(payload.data(), payload.size());
            if (socket_->send(head, zmq::send_flags::sndmore | zmq::send_flags::dontwait))
                (void)socket_->send(body, zmq::send_flags::dontwait);
        } catch (const zmq::error_t& error) {
            throw ConnectionLost(error.what());
        }
    }

    void send(const Request& request, std::uint64_t number) { send(request.header(number), request.payload); }

    void poll(double seconds) {
        if (!socket_) throw ConnectionLost("the client is not connected");
        try {
            zmq::pollitem_t items[] = {{socket_->handle(), 0, ZMQ_POLLIN, 0}, {monitor_->handle(), 0, ZMQ_POLLIN, 0}};
            zmq::poll(items, 2, std::chrono::milliseconds(static_cast<long>(std::ceil(1e3 * seconds))));
        } catch (const zmq::error_t& error) {
            if (error.num() != EINTR) throw ConnectionLost(error.what());
        }
    }

    /// The parts of the next message, or none. More than three parts are not kept.
    std::vector<zmq::message_t> receive(zmq::socket_t& socket) {
        std::vector<zmq::message_t> parts;
        try {
            bool more = true;
            while (more) {
                zmq::message_t part;
                if (!socket.recv(part, zmq::recv_flags::dontwait)) break;
                more = part.more();
                if (parts.size() < 3) parts.push_back(std::move(part));
            }
        } catch (const zmq::error_t& error) {
            throw ConnectionLost(error.what());
        }
        return parts;
    }

    /// Does all there is to do now.
    void tick() {
        if (!socket_) throw ConnectionLost("the client is not connected");
        for (auto parts = receive(*socket_); !parts.empty(); parts = receive(*socket_)) take(parts);
        const double at = now();
        if (!receive(*monitor_).empty()) lose("the connection broke");
        else if (at - heard_at_ > patience()) lose("no answer");
        else if (at - pinged_at_ >= ping) {
            pinged_at_ = at;
            send(protocol::ping(at));
        }
        if (playing_ && live_ && !begun_) drive(at);
    }

    /// Seconds of silence to bear: a server that makes a chunk says nothing else.
    double patience() const {
        double slowest = 0;
        for (std::size_t k = seconds_.size() > 4 ? seconds_.size() - 4 : 0; k < seconds_.size(); ++k)
            slowest = std::max(slowest, seconds_[k]);
        const double usual = silence + 3 * slowest;
        return pending_ || begun_ || seconds_.empty() ? std::max(usual, options_.timeout / 4) : usual;
    }

    void take(const std::vector<zmq::message_t>& parts) {
        heard_at_ = now();
        try {
            if (parts.size() != 2) throw ProtocolError("a message must have 2 parts");
            const auto message = protocol::decode(parts[0].data<std::uint8_t>(), parts[0].size(),
                                                  parts[1].data<std::uint8_t>(), parts[1].size());
            std::visit([this](const auto& m) { on(m); }, message);
        } catch (const ProtocolError& error) {
            on_refused(error.what());
        }
    }

    void on(const protocol::Pong&) {}

    void on(const protocol::Welcome& welcome) {
        const bool kept = welcome.session == ticket_ && welcome.chunk > 0;
        card_ = welcome.card;
        ticket_ = welcome.session;
        request_ = std::max(request_, welcome.answered);
        if (!pacer_) pacer_.emplace(card_->fps, card_->frames_per_chunk);
        live_ = kept;
        if (kept) {
            pacer_->reset(welcome.chunk);
            resume(true);
        } else if (playing_ && origin_) {
            begin_again();
        } else {
            lost_ = false;
            resend(true);
        }
    }

    void begin_again() {
        begun_ = ++request_;
        if (kept_) send(Request{protocol::restore, *kept_, Kind::world}, begun_);
        else send(*origin_, begun_);
    }

    void on(const protocol::Frames& frames) { frames.request ? answer(frames) : arrive(frames); }

    void on(const protocol::Done& done) {
        if (done.request == saving_ && saving_) {
            kept_ = done.payload;
            saving_ = 0;
        } else answer(done);
    }

    void on(const protocol::Failure& failure) {
        if (failure.request && failure.request == saving_) saving_ = 0;
        else if (failure.request && failure.request == begun_ && kept_) {
            // A snapshot of another world: from the start.
            kept_.reset();
            begin_again();
        } else if (failure.code == "unknown_session") lose(failure.message);
        else if (!card_ || (failure.request && failure.request == number_)) failure_ = failure;
        else on_refused(failure.message);
    }

    /// The world goes on.
    void resume(bool kept) {
        live_ = true;
        const bool was_lost = std::exchange(lost_, false);
        resend(!kept);
        if (playing_) act(0);
        if (was_lost) on_back(kept);
    }

    /// Sends again what was not answered. To the same session under the same number, so that it is never done twice.
    void resend(bool is_new) {
        if (!pending_) return;
        if (is_new && pending_->kind == Kind::step) {
            failure_ = protocol::Failure{number_, "unknown_session",
                                         "the server no longer has this world: reset or restore a snapshot"};
            return;
        }
        if (is_new) number_ = ++request_;
        send(*pending_, number_);
    }

    // Requests

    Answer ask(Request request) {
        if (!socket_) throw ConnectionLost("the client is not connected");
        failure_.reset(), answer_.reset();
        pending_ = std::move(request);
        number_ = ++request_;
        try {
            send(*pending_, number_);
            await([this] { return answer_ || failure_; });
        } catch (...) {
            pending_.reset();
            throw;
        }
        pending_.reset();
        if (failure_) fail();
        return *std::exchange(answer_, std::nullopt);
    }

    template <class Condition>
    void await(Condition done) {
        const double until = now() + options_.timeout;
        for (tick(); !done(); tick()) {
            const double left = until - now();
            if (left <= 0) throw ConnectionLost("no answer from " + address_ + " in time");
            wait(std::min(left, 0.1));
        }
    }

    [[noreturn]] void fail() {
        const protocol::Failure failure = *std::exchange(failure_, std::nullopt);
        throw ServerError(failure.code, failure.message);
    }

    template <class Message>
    void answer(const Message& message) {
        if (begun_ && message.request == begun_) {
            begun_ = 0;
            enter(message);
            resume(false);
        } else if (pending_ && message.request == number_) {
            if (pending_->kind == Kind::world) {
                origin_ = *pending_;
                kept_.reset();
                saved_at_ = -1e9;
                live_ = true;
                enter(message);
            }
            answer_ = message;
        }
    }

    /// The server is in another world now: that of a reset's frames, or the one restored.
    void enter(const protocol::Frames& frames) {
        pacer_->reset();
        arrive(frames);
    }
    void enter(const protocol::Done& done) { pacer_->reset(done.chunk); }

    static Chunk chunk(const Answer& answer) {
        const auto& m = std::get<protocol::Frames>(answer);
        return {m.index, m.shape[1], m.shape[2], m.codec, m.seconds, m.outcome, m.split()};
    }

    // Real time

    void arrive(const protocol::Frames& frames) {
        const double at = now();
        if (!pacer_ || !pacer_->put(frames, at)) return;
        if (frames.index > 0) {
            remember(seconds_, frames.seconds, recent);
            remember(ages_, at - frames.made_at, recent);
            if (frames.index == asked_) remember(trips_, at - asked_at_, recent);
        }
        if (playing_ && live_ && !pending_ && !saving_ && at - saved_at_ >= options_.autosave) {
            // Right after a chunk the server has time.
            saved_at_ = at;
            saving_ = ++request_;
            send(protocol::snapshot(saving_));
        }
    }

    void drive(double at) {
        if (const std::uint64_t wanted = pacer_->wants_chunk(at)) {
            asked_ = wanted, asked_at_ = at;
            act(wanted);
            pacer_->asked(at);
        } else if (!held_.empty() && at - acted_at_ >= repeat) act(0);
    }

    void act(std::uint64_t wanted) {
        acted_at_ = now();
        send(protocol::act(++seq_, acted_at_, held_, wanted, mouse_));
    }

    std::string address_;
    Options options_;
    zmq::context_t context_;
    std::unique_ptr<zmq::socket_t> socket_, monitor_;
    int monitors_ = 0;
    std::optional<Card> card_;
    std::optional<Pacer> pacer_;
    std::string ticket_;
    std::uint64_t request_ = 0;
    std::optional<Request> pending_;  // the one request that waits for its answer
    std::uint64_t number_ = 0;        // of that one
    std::optional<Answer> answer_;
    std::optional<protocol::Failure> failure_;
    std::optional<Request> origin_;  // what the world began with
    std::optional<Bytes> kept_;      // the newest snapshot: what it goes on from when the server forgot it
    std::uint64_t begun_ = 0;        // request number of the world that is begun again after a loss
    std::uint64_t saving_ = 0;       // request number of an unanswered snapshot to keep
    bool live_ = false;              // the server's session has our world
    bool lost_ = false, playing_ = false;
    protocol::Buttons held_;
    std::pair<double, double> mouse_;  // where it is; only differences count
    std::uint64_t seq_ = 0, asked_ = 0;
    double asked_at_ = 0, acted_at_ = 0, heard_at_ = 0, pinged_at_ = 0, saved_at_ = -1e9;
    std::deque<double> seconds_, trips_, ages_, shown_at_;
};

}  // namespace helios
