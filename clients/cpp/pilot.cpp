// For tests: does what stdin says and prints what happens, one line each. clients/README.md has the words.

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <sstream>

#include "helios.hpp"

/// The red of the first row, as hex; of a JPEG some bytes.
static std::string row(const helios::Bytes& pixels, std::uint64_t width) {
    std::string found;
    for (std::uint64_t x = 0; x < width; ++x) {
        char two[3];
        std::snprintf(two, sizeof two, "%02x", pixels[3 * x]);
        found += two;
    }
    return found;
}

static helios::protocol::Buttons buttons(const std::string& word) {
    helios::protocol::Buttons found;
    std::stringstream parts(word);
    for (std::string part; std::getline(parts, part, ',');) found.push_back(part);
    return found;
}

class Pilot {
public:
    Pilot(const std::string& address, helios::Options options) : client_(address, std::move(options)) {
        client_.on_lost = [](const std::string&) { std::cout << "lost" << std::endl; };
        client_.on_back = [](bool kept) { std::cout << (kept ? "back kept" : "back anew") << std::endl; };
        client_.on_refused = [](const std::string& message) { std::cout << "refused " << message << std::endl; };
    }

    void fly() {
        const helios::Card& card = client_.connect();
        std::cout << "card " << card.name << " " << card.width << " " << card.height << " " << card.fps << std::endl;
        for (std::string line; read(line);) {
            if (!line.empty()) obey(line);
            if (!streaming_) continue;
            while (auto frame = client_.frame())
                std::cout << "frame " << frame->chunk << " " << frame->index << " " << frame->seq << " "
                          << row(frame->pixels, frame->width) << std::endl;
            client_.wait(0.005);
        }
    }

private:
    /// The next line of stdin, "" while there is none; false at its end. Waits only while nothing streams.
    bool read(std::string& line) {
        line.clear();
        pollfd input{STDIN_FILENO, POLLIN, 0};
        if (buffer_.find('\n') == std::string::npos && ::poll(&input, 1, streaming_ ? 0 : 100) > 0) {
            char bytes[256];
            const auto size = ::read(STDIN_FILENO, bytes, sizeof bytes);
            if (size <= 0) return false;
            buffer_.append(bytes, static_cast<std::size_t>(size));
        }
        if (const auto end = buffer_.find('\n'); end != std::string::npos) {
            line = buffer_.substr(0, end);
            buffer_.erase(0, end + 1);
        }
        return true;
    }

    void obey(const std::string& line) {
        std::stringstream words(line);
        std::string command, word;
        words >> command >> word;
        try {
            run(command, word);
        } catch (const helios::ServerError& error) {
            std::cout << "error " << error.code << " " << error.what() << std::endl;
        } catch (const helios::Error& error) {
            std::cout << "error - " << error.what() << std::endl;
        }
    }

    void run(const std::string& command, const std::string& word) {
        if (command == "reset") std::cout << "began " << client_.reset({}, std::stoull(word)).index << std::endl;
        if (command == "step") {
            const helios::Chunk chunk = client_.step(buttons(word));
            std::cout << "stepped " << chunk.index << " " << row(chunk.frames.back(), chunk.width) << std::endl;
        }
        if (command == "stream") streaming_ = true;
        if (command == "hold") client_.hold(buttons(word));
        if (command == "look") client_.look(std::stod(word), 0);
        if (command == "snapshot") std::cout << "snapshot " << (saved_ = client_.snapshot()).size() << std::endl;
        if (command == "restore") client_.restore(saved_), std::cout << "restored" << std::endl;
        if (command == "prompt") client_.prompt(word), std::cout << "told" << std::endl;
        if (command == "stats") {
            const helios::Stats s = client_.stats();
            std::cout << "stats " << s.fps << " " << s.age_p50 << " " << s.age_p95 << " " << s.round_trip_p50 << " "
                      << s.round_trip_p95 << " " << s.late_chunks << std::endl;
        }
    }

    helios::Client client_;
    helios::Bytes saved_;
    std::string buffer_;
    bool streaming_ = false;
};

int main(int count, char** words) {
    helios::Options options;
    options.codecs = {words[2]};
    if (count > 5) options.keys = helios::Keys{words[3], words[4], words[5]};
    try {
        Pilot(words[1], options).fly();
    } catch (const helios::Error& error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
}
