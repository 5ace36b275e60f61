#pragma once
/// A Prometheus text file, for the textfile collector of a node exporter.

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "counters.h"
#include "thread.h"

namespace memkv::nixl {

/// Rewritten every few seconds and at the end, whole or not at all. Agents may share one: the last writer's numbers
/// stand. Thread: its own.
class MetricsFile {
 public:
  using Rails = std::function<std::vector<RailCounters>()>;  ///< Thread: any
  MetricsFile(std::string path, std::string agent, const Counters& counters, Rails rails);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  /// False, with errno, if the file cannot be written.
  bool write_now() const;

 private:
  void run();

  const std::string path_;
  const std::string agent_;
  const Counters& counters_;
  const Rails rails_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  OptionalThread thread_{"memkv-metrics", "to rewrite metrics_file: it is written at the start and at the end"};
};

}  // namespace memkv::nixl
