#pragma once
/// A real `memkv start` in a process of its own, on a free port. It is always reaped.

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

namespace memkv::test {

/// A folder of its own under $TMPDIR or /tmp, which is removed at the end.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  void keep() { is_kept_ = true; }  ///< keeps the folder as evidence

 private:
  std::string path_;
  bool is_kept_ = false;
};

/// The folder of the programs that were built beside this test.
std::string bin_dir();

/// Runs a program to its end. stdout goes to `out`, stderr to `err` (each may be null).
int run_program(const std::vector<std::string>& argv, std::string* out, std::string* err);

/// Runs `memkv setup` with `drives` file drives of `size` each in `dir`. Returns the path of the configuration.
std::string setup_file_drives(const TempDir& dir, int drives, const std::string& size, int shards,
                              const std::string& name = "store");

class ServerProcess {
 public:
  struct Options {
    std::vector<std::string> args;  ///< for `memkv start`, in addition to --address and --ready-file
    std::string address = "127.0.0.1:0";
    std::string dir;  ///< working folder, with the log and the ready file
    int ready_timeout_s = 60;
  };
  /// Starts the server and waits until it is ready. If it does not get ready, the test is aborted with the server's
  /// log.
  static std::unique_ptr<ServerProcess> start(const Options& options);
  /// Starts the server and does not wait. address() is known once wait_until_ready() has returned true.
  static std::unique_ptr<ServerProcess> launch(const Options& options);
  /// False: the server ended, or did not get ready in time; `why` says so, with its log.
  bool wait_until_ready(std::string& why);
  ~ServerProcess();  ///< sends SIGKILL if it still runs

  const std::string& address() const { return address_; }  ///< "127.0.0.1:PORT"
  pid_t pid() const { return pid_; }
  int stop();       ///< SIGTERM; returns the exit code, which is not 0 if something leaked
  void kill_now();  ///< SIGKILL; it is reaped
  void freeze();    ///< it is stopped when this returns
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

/// A server in memory mode with `memory` bytes ("256MiB").
std::unique_ptr<ServerProcess> start_memory_server(const TempDir& dir, const std::string& memory,
                                                   std::vector<std::string> more = {});
/// The credential that setup_file_drives made, for ClientOptions::namespace_key ("@FILE").
std::string credential_of(const TempDir& dir, const std::string& name = "store");

}  // namespace memkv::test
