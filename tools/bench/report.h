#pragma once
/// The output of a benchmark: a table, JSON, and one HTML file.

#include <string>
#include <vector>

#include "memkv/error.h"
#include "tools/bench/carried.h"
#include "tools/bench/json.h"
#include "tools/bench/load.h"

namespace memkv::bench {

/// One line of the sweep.
struct Run {
  std::string way;  ///< as asked for: "tcp", "rdma:2"
  Carried carried;
  bool emulated = false;
  std::string op;  ///< read, write or mixed
  uint64_t block_bytes = 0;
  uint32_t threads = 0, batch = 0, depth = 0;
  uint64_t keys = 0;
  double ceiling_gib_per_s = 0;   ///< 0: not measured
  double one_copy_gib_per_s = 0;  ///< the same over TCP with one copy; 0: not measured
  bool server_cpu_known = false;
  LoadResult result;
};

/// Machine, kernel, program and date: without them the numbers mean nothing.
Json describe_machine();
/// `servers`: their names.
Json json_of(const Run& run, const std::vector<std::string>& servers);
std::string table_head();
std::string table_line(const Json& run);

/// `report` has `machine`, `settings` and `runs` (json_of), and perhaps `scaling`.
std::string html_of(const Json& report);
/// A page around `body`, with the head, machine, settings and servers of the report.
std::string page_of(const Json& report, const std::string& title, const std::string& body);
/// Cards with the highest `rate`, and with what was verified.
std::string cards_of(const Json& runs, const char* rate, const std::string& read_name);
Result<void, Message> write_text(const std::string& path, const std::string& text);
/// Writes nothing if the path is empty.
Result<void, Message> write_json(const std::string& path, const Json& report);

/// Progress on stderr: a bar on a terminal, otherwise a line every few seconds.
class Progress {
 public:
  Progress(std::string what, uint64_t total_bytes);
  ~Progress();
  void update(uint64_t bytes);

 private:
  const std::string what_;
  const uint64_t total_;
  const bool terminal_;
  double shown_ = 0;
  const double started_;
  bool any_ = false;
};

}  // namespace memkv::bench
