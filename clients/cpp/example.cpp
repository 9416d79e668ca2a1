// Streams some seconds of a world and prints figures: build/example [ADDRESS [SECONDS [BUTTON]]]
// Holds the button during the second half, and writes the last frame as last.ppm.

#include <cstdio>
#include <fstream>

#include "helios.hpp"

static void play(const std::string& address, double seconds, std::string button) {
    helios::Client client(address);
    client.on_lost = [](const std::string& why) { std::printf("lost the server: %s\n", why.c_str()); };
    client.on_back = [](bool kept) { std::puts(kept ? "back in the same world" : "back in a world begun again"); };

    const helios::Card& card = client.connect();
    std::printf("%s: %dx%d at %g fps\n", card.name.c_str(), int(card.width), int(card.height), card.fps);
    if (button.empty() && !card.buttons.empty()) button = card.buttons[0];
    client.reset({}, 1);

    const auto began = std::chrono::steady_clock::now();
    helios::Frame last;
    for (double passed = 0; passed < seconds;) {
        if (auto frame = client.frame()) last = std::move(*frame);
        passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
        client.hold(passed > seconds / 2 ? helios::protocol::Buttons{button} : helios::protocol::Buttons{});
        client.wait(0.02);
    }

    const helios::Stats stats = client.stats();
    std::printf("fps %.2f\n", stats.fps);
    std::printf("frame age p50 %.2f ms, p95 %.2f ms\n", stats.age_p50, stats.age_p95);
    std::printf("round trip p50 %.2f ms, p95 %.2f ms\n", stats.round_trip_p50, stats.round_trip_p95);
    std::printf("late chunks %d\n", stats.late_chunks);
    std::ofstream file("last.ppm", std::ios::binary);
    file << "P6 " << last.width << " " << last.height << " 255\n";
    file.write(reinterpret_cast<const char*>(last.pixels.data()), static_cast<std::streamsize>(last.pixels.size()));
}

int main(int count, char** words) {
    try {
        play(count > 1 ? words[1] : "tcp://127.0.0.1:5557", count > 2 ? std::atof(words[2]) : 5,
             count > 3 ? words[3] : "");
    } catch (const helios::Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
