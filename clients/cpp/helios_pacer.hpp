// Which frame to show now, and when to ask for the next chunk. Pure: time is an argument, in seconds.
// The same rules as helios_world/bridge/player.py: frames of a chunk are shown evenly, and a chunk is asked for at the
// last moment from which it still arrives before it is due.
#pragma once

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <optional>
#include <vector>

#include "helios_protocol.hpp"

namespace helios {

/// Linear between neighbours, as numpy has it; nan of nothing.
inline double quantile(std::deque<double> values, double part) {
    if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
    std::sort(values.begin(), values.end());
    const double at = part * static_cast<double>(values.size() - 1);
    const auto low = static_cast<std::size_t>(at);
    const std::size_t high = std::min(low + 1, values.size() - 1);
    return values[low] + (at - static_cast<double>(low)) * (values[high] - values[low]);
}

inline void remember(std::deque<double>& values, double value, std::size_t most) {
    values.push_back(value);
    if (values.size() > most) values.pop_front();
}

/// A frame that is due: RGB bytes, or a JPEG. `seq`: the newest input that it includes. `outcome`: of its chunk, the same
/// for all frames of that.
struct Frame {
    Bytes pixels;
    std::uint64_t height = 0, width = 0;
    std::string codec;
    std::uint64_t chunk = 0, index = 0, seq = 0;
    std::optional<Outcome> outcome;
};

class Pacer {
public:
    Pacer(double fps, std::uint64_t frames_per_chunk)
        : step_(1 / fps), lead_(0.5 * static_cast<double>(frames_per_chunk) / fps) {}

    /// Forgets all frames. `next_chunk`: the one to ask for at once; 0 waits for the chunk that a world starts from.
    void reset(std::uint64_t next_chunk = 0) {
        now_.reset(), then_.reset(), seen_.reset(), asked_at_.reset();
        next_ = next_chunk;
        planned_ = put_at_ = behind_ = 0;
    }

    /// A chunk came. False if it is no newer than one that came before.
    bool put(const protocol::Frames& message, double now) {
        if (message.index < next_) return false;
        if (asked_at_) learn(now - planned_);
        asked_at_.reset();
        const double due = this->due(now), begins = std::max(due, now);
        late_chunks_ += begins > due;
        if (begins - due < stall) behind_ += begins - due;
        const double lasts = static_cast<double>(message.shape[0]) * step_;
        const double made_up = std::min(behind_, catch_up * lasts);
        behind_ -= made_up;
        Playing playing{message, message.split(), begins, begins + lasts - made_up};
        playing.message.payload.clear();
        if (!now_ || now >= due) now_ = std::move(playing), then_.reset();
        else then_ = std::move(playing);
        next_ = message.index + 1;
        put_at_ = now;
        return true;
    }

    /// The frame due now if it was not given before.
    std::optional<Frame> frame(double now) {
        if (then_ && now >= then_->begins) now_ = std::move(then_), then_.reset();
        if (!now_) return {};
        const auto last = static_cast<double>(now_->frames.size() - 1);
        const auto index =
            static_cast<std::size_t>(std::clamp(std::floor((now - now_->begins) / step_ + 1e-9), 0.0, last));
        const std::pair name(now_->message.index, index);
        if (seen_ == name) return {};
        seen_ = name;
        const auto& m = now_->message;
        return Frame{now_->frames[index], m.shape[1], m.shape[2], m.codec, m.index, index, m.seq, m.outcome};
    }

    /// Index of the chunk to ask for now, or 0. Say `asked` once the asking is on its way.
    std::uint64_t wants_chunk(double now) const { return next_ && now >= ask_time(now) ? next_ : 0; }

    void asked(double now) {
        if (!asked_at_) planned_ = std::max(planned_time(now), now - poll);
        asked_at_ = now;
    }

    /// The earliest time at which there may be something new to show or to ask for.
    double next_event(double now) const {
        double next = next_ ? ask_time(now) : std::numeric_limits<double>::infinity();
        if (then_) next = std::min(next, then_->begins);
        if (now_) {
            const double index = std::floor((now - now_->begins) / step_ + 1e-9) + 1;
            if (index < static_cast<double>(now_->frames.size()))
                next = std::min(next, now_->begins + std::max(index, 1.0) * step_);
        }
        return next;
    }

    int late_chunks() const { return late_chunks_; }

private:
    static constexpr std::size_t recent = 64;  // round trips that the lead is learnt from
    static constexpr double margin = 0.003;    // seconds
    static constexpr double spread = 0.15;     // part of (p90 - p50) added to the margin
    static constexpr double poll = 0.02;       // seconds that an asking may come late; anything longer was a stall
    static constexpr double catch_up = 0.02;   // part of a chunk's time by which lateness is made up
    static constexpr double stall = 0.25;      // seconds; who was later than this goes on at the usual pace
    static constexpr double retry = 1.0;       // seconds after which an unanswered asking is repeated

    struct Playing {
        protocol::Frames message;
        std::vector<Bytes> frames;
        double begins, ends;
    };

    void learn(double trip) {
        remember(trips_, trip, recent);
        const double middle = quantile(trips_, 0.5), high = quantile(trips_, 0.9);
        lead_ = high + margin + spread * (high - middle);
    }

    double due(double now) const { return then_ ? then_->ends : now_ ? now_->ends : now; }

    double planned_time(double now) const { return now_ ? std::max(due(now) - lead_, put_at_) : now; }

    double ask_time(double now) const {
        if (asked_at_) return *asked_at_ + std::max(retry, 3 * lead_);
        return then_ ? std::max(then_->begins, planned_time(now)) : planned_time(now);
    }

    double step_, lead_;
    std::deque<double> trips_;
    std::optional<Playing> now_, then_;
    std::optional<std::pair<std::uint64_t, std::size_t>> seen_;
    std::optional<double> asked_at_;
    std::uint64_t next_ = 0;
    double planned_ = 0, put_at_ = 0, behind_ = 0;
    int late_chunks_ = 0;
};

}  // namespace helios
