/// memkv-attack: one attacker. It prepares, says "ready", waits for a line, attacks until its input ends, and reports
/// what it did.

#include <arpa/inet.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/random.h"
#include "tests/tenants/attacks.h"

namespace memkv::test {
namespace {

int usage() {
  std::fprintf(
      stderr,
      "usage: memkv-attack ATTACK HOST:PORT CREDENTIAL [SHM_DIR [WIRE_VERSION [BLOCKS]]]\n"
      "  attacks: trickle readers idle uploads lists questions fill windows; busy: a loop that asks no server\n"
      "  BLOCKS of one byte are stored before the attack begins (lists)\n");
  return 2;
}

void say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

bool input_ended() {
  pollfd fd{STDIN_FILENO, POLLIN, 0};
  return poll(&fd, 1, 0) != 0;
}

void wait_for_line() {
  for (char c = 0; read(STDIN_FILENO, &c, 1) == 1 && c != '\n';) {
  }
}

/// Says ready, waits for a line, then calls `turn` until the input ends.
template <typename Turn>
void attack(Turn&& turn) {
  say("ready");
  wait_for_line();
  while (!input_ended()) turn();
}

bool parse_address(const char* text, sockaddr_in& address) {
  const char* colon = std::strrchr(text, ':');
  if (colon == nullptr) return false;
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::atoi(colon + 1)));
  return inet_pton(AF_INET, std::string(text, colon).c_str(), &address.sin_addr) == 1;
}

void prepare(const Target& target, uint64_t blocks) {
  Fill fill;
  Herd herd(target, fill);
  while (fill.acknowledged() < blocks) herd.turn();
}

void busy() {
  volatile uint64_t count = 0;
  attack([&] {
    for (int i = 0; i < 1'000'000; ++i) count = count + 1;
  });
}

int run(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "busy") {
    busy();
    return 0;
  }
  if (argc < 4) return usage();
  Target target;
  const auto secret = wire::parse_secret(argv[3]);
  if (!secret || !parse_address(argv[2], target.address)) return usage();
  target.secret = *secret;
  base::os_random(std::as_writable_bytes(std::span(target.client_id)));
  if (argc > 4) target.shm_dir = argv[4];
  if (argc > 5) target.wire_version = static_cast<uint16_t>(std::atoi(argv[5]));
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  if (name == "windows") {
    Windows windows(target);
    attack([&] { windows.turn(); });
    say(windows.summary());
    return 0;
  }
  const std::unique_ptr<Attack> way = make_attack(name);
  if (way == nullptr) return usage();
  if (argc > 6) prepare(target, std::strtoull(argv[6], nullptr, 10));
  Herd herd(target, *way);
  attack([&] { herd.turn(); });
  say(herd.summary());
  return 0;
}

}  // namespace
}  // namespace memkv::test

int main(int argc, char** argv) { return memkv::test::run(argc, argv); }
