#include "metrics_file.h"

#include <chrono>
#include <cstdio>

namespace memkv::nixl {
namespace {

constexpr std::chrono::seconds kInterval{5};

}  // namespace

MetricsFile::MetricsFile(std::string path, std::string agent, const Counters& counters, Rails rails)
    : path_(std::move(path)), agent_(std::move(agent)), counters_(counters), rails_(std::move(rails)), thread_([this] {
        run();
      }) {}

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
  const std::string draft = path_ + ".new";
  std::FILE* file = std::fopen(draft.c_str(), "we");
  if (!file) return false;
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return (std::fclose(file) == 0) && written && std::rename(draft.c_str(), path_.c_str()) == 0;
}

void MetricsFile::run() {
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, kInterval, [this] { return stopping_; })) write_now();
}

}  // namespace memkv::nixl
