#pragma once
/// Processes that the benchmark starts and always ends: its own MemKV server, bare servers, peers.

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "memkv/error.h"

namespace memkv::bench {

/// Its destructor ends the process (SIGTERM, then SIGKILL) and reaps it. The process also dies with the benchmark.
/// Start children before threads, since they are forked.
class Child {
 public:
  /// The exit code is what `body` returns. stdout and stderr go to the file `log`, unless that is empty.
  static std::unique_ptr<Child> fork(const std::string& log, const std::function<int()>& body);
  static std::unique_ptr<Child> exec(const std::string& log, const std::vector<std::string>& command);
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  pid_t pid() const { return pid_; }
  bool alive();

 private:
  explicit Child(pid_t pid) : pid_(pid) {}
  pid_t pid_;
};

/// A folder that is removed with its owner.
class WorkDir {
 public:
  /// Makes it in `parent`, TMPDIR or /tmp.
  static Result<std::unique_ptr<WorkDir>, Message> make(const std::string& parent);
  ~WorkDir();
  const std::string& path() const { return path_; }

 private:
  explicit WorkDir(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

struct OwnServerOptions {
  bool memory = false;      ///< false: on a file in `dir`
  uint64_t size_bytes = 0;  ///< size of the drive or of the memory
  uint32_t workers = 0;
  std::string congestion;
  bool one_copy = false;  ///< network.tcp_one_copy
  std::string drive;      ///< a path to format, instead of a file in `dir`
};

/// A MemKV server of this benchmark, on loopback.
struct OwnServer {
  std::unique_ptr<Child> child;
  std::string address;
  std::string auth_key;  ///< "@FILE", or empty
};
Result<OwnServer, Message> start_own_server(const OwnServerOptions& options, const std::string& dir);

std::string read_file(const std::string& path);

}  // namespace memkv::bench
