#include "log.h"

#include <poll.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <iterator>

namespace memkv::nixl {
namespace {

iovec part(std::string_view text) { return {const_cast<char*>(text.data()), text.size()}; }

}  // namespace

void log_line(std::string_view text) {
  static std::atomic<uint64_t> dropped{0};
  pollfd fd{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&fd, 1, 0) != 1 || (fd.revents & POLLOUT) == 0) {
    dropped.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  char count[64] = "";
  if (const uint64_t lost = dropped.exchange(0, std::memory_order_relaxed); lost > 0)
    std::snprintf(count, sizeof count, "(%llu lines before this one found no reader) ",
                  static_cast<unsigned long long>(lost));
  const iovec parts[] = {part("memkv nixl: "), part(count), part(text), part("\n")};
  const ssize_t written = writev(STDERR_FILENO, parts, std::size(parts));
  (void)written;  // nowhere to say it
}

std::string more_lines(uint64_t held_back) {
  return held_back == 0 ? "" : "; " + std::to_string(held_back) + " more such lines were held back";
}

uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

bool LogLimit::pass(uint64_t& held_back) {
  const uint64_t now = monotonic_ns();
  uint64_t next = next_ns_.load(std::memory_order_relaxed);
  if (now < next || !next_ns_.compare_exchange_strong(next, now + interval_ns_, std::memory_order_relaxed)) {
    held_back_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  held_back = held_back_.exchange(0, std::memory_order_relaxed);
  return true;
}

}  // namespace memkv::nixl
