#include "metrics_file.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>

namespace memkv::nixl {
namespace {

constexpr std::chrono::seconds kInterval{5};

/// A draft that no other writer of the file has. One of that name is there if its process was killed, or lives in
/// another container with the same pid.
std::FILE* open_draft(const std::string& path, std::string& draft) {
  static std::atomic<uint64_t> drafts{0};
  std::FILE* file = nullptr;
  do {
    draft = path + "." + std::to_string(getpid()) + "." + std::to_string(drafts.fetch_add(1)) + ".new";
    file = std::fopen(draft.c_str(), "wxe");
  } while (!file && errno == EEXIST);
  return file;
}

}  // namespace

MetricsFile::MetricsFile(std::string path, std::string agent, const Counters& counters, Rails rails)
    : path_(std::move(path)), agent_(std::move(agent)), counters_(counters), rails_(std::move(rails)) {
  thread_.start([this] { run(); });
}

MetricsFile::~MetricsFile() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  write_now();
}

bool MetricsFile::write_now() const {
  const std::string text = prometheus(counters_, agent_) + prometheus(rails_(), agent_);
  std::string draft;
  std::FILE* file = open_draft(path_, draft);
  if (!file) return false;
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if ((std::fclose(file) == 0) && written && std::rename(draft.c_str(), path_.c_str()) == 0) return true;
  const int why = errno;
  std::remove(draft.c_str());
  errno = why;
  return false;
}

void MetricsFile::run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kInterval, [this] { return stopping_; })) write_now();
}

}  // namespace memkv::nixl
