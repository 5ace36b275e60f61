#pragma once
/// A real `memkv start` in a process of its own, on a free port, always reaped.

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

namespace memkv::test {

/// A folder of its own under $TMPDIR or /tmp, removed at the end.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  void keep() { is_kept_ = true; }  ///< evidence: it stays

 private:
  std::string path_;
  bool is_kept_ = false;
};

/// The folder of the programs built beside this test.
std::string bin_dir();

/// Runs a program to its end; stdout lands in `out`, stderr in `err` (may be null).
int run_program(const std::vector<std::string>& argv, std::string* out, std::string* err);

/// `memkv setup` of `drives` file drives of `size` each in `dir`; returns the config's path.
std::string setup_file_drives(const TempDir& dir, int drives, const std::string& size, int shards,
                              const std::string& name = "store");

class ServerProcess {
 public:
  struct Options {
    std::vector<std::string> args;  ///< of `memkv start`, beside --address and --ready-file
    std::string address = "127.0.0.1:0";
    std::string dir;  ///< working folder; log and ready file land there
    int ready_timeout_s = 60;
  };
  /// Starts and waits until ready; aborts the test with the server's log when it does not come up.
  static std::unique_ptr<ServerProcess> start(const Options& options);
  /// Starts and does not wait; address() is known once wait_until_ready() says true.
  static std::unique_ptr<ServerProcess> launch(const Options& options);
  /// False: it ended, or did not get ready in time; `why` then says so, with its log.
  bool wait_until_ready(std::string& why);
  ~ServerProcess();  ///< SIGKILL if still there

  const std::string& address() const { return address_; }  ///< "127.0.0.1:PORT"
  pid_t pid() const { return pid_; }
  int stop();       ///< SIGTERM; the exit code (a leak at rest aborts the server: not 0)
  void kill_now();  ///< SIGKILL, reaped
  void freeze();    ///< stopped when this returns
  void thaw();
  std::string log() const;

 private:
  ServerProcess() = default;
  pid_t pid_ = -1;
  std::string address_;
  std::string log_path_;
  std::string ready_path_;
  int ready_timeout_s_ = 0;
};

/// RAM-mode server of `memory` bytes ("256MiB").
std::unique_ptr<ServerProcess> start_memory_server(const TempDir& dir, const std::string& memory,
                                                   std::vector<std::string> more = {});
/// The credential that setup_file_drives made, for ClientOptions::namespace_key ("@FILE").
std::string credential_of(const TempDir& dir, const std::string& name = "store");

}  // namespace memkv::test
