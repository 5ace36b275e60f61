#pragma once
/// Processes that the benchmark starts and always ends: its own MemKV server, bare servers, peers.

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "memkv/error.h"

namespace memkv::bench {

/// Ended (SIGTERM, then SIGKILL) and reaped at destruction; dies with the benchmark. Start children before threads.
class Child {
 public:
  /// `body`'s return value is the exit code. Its stdout and stderr go to `log` unless that is empty.
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

/// A directory that goes with its owner.
class WorkDir {
 public:
  /// In `parent`, or TMPDIR, or /tmp.
  static Result<std::unique_ptr<WorkDir>, Message> make(const std::string& parent);
  ~WorkDir();
  const std::string& path() const { return path_; }

 private:
  explicit WorkDir(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

struct OwnServerOptions {
  bool memory = false;      ///< else a file-backed drive in `dir`
  uint64_t size_bytes = 0;  ///< of the drive, or of the memory
  uint32_t workers = 0;
  std::string congestion;
  std::string drive;  ///< a path to be formatted instead of a file in `dir`
};

/// A MemKV server of this benchmark on loopback.
struct OwnServer {
  std::unique_ptr<Child> child;
  std::string address;
  std::string auth_key;  ///< "@FILE", or empty
};
Result<OwnServer, Message> start_own_server(const OwnServerOptions& options, const std::string& dir);

std::string read_file(const std::string& path);

}  // namespace memkv::bench
