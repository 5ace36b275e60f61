#pragma once
/// A client process of the torture: the child's side (run_client) and the parent's (ClientProcess).

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "tests/crash/model.h"

namespace memkv::test {

inline constexpr uint64_t kBlockBytesMax = 5'000'000;

/// All that a client process is told, as arguments of its program.
struct ClientPlan {
  std::string address;
  std::string credential;
  std::string transport;  ///< "tcp", "shm", "auto"
  std::string shm_dir;
  std::string journal;  ///< if not empty, this file gets each report before the parent does
  int tenant = 0;
  int id = 0;
  bool session = false;   ///< it drives a Session itself, instead of a Client with I/O threads
  bool verifies = false;  ///< it reads its own blocks meanwhile; not where blocks may be missing
  bool ordered = true;    ///< Rules::ordered
  uint64_t seed = 0;
  uint64_t version = 0;  ///< versions of this run are larger
  int64_t budget = 0;    ///< how many bytes it may write

  std::vector<std::string> arguments() const;
  static bool parse(const std::vector<std::string>& arguments, ClientPlan& plan);
};

/// The program of a client process. It changes its blocks until the other end of kStopFd is closed.
int run_client(const ClientPlan& plan);

/// What the parent counts in its clients' reports.
struct ClientCounts {
  std::atomic<uint64_t> acknowledged{0}, given_up{0}, not_done{0}, wrong_reads{0};
};

/// A client process, and the thread that takes its reports into the model of its blocks.
class ClientProcess {
 public:
  /// `blocks` (borrowed, one for each key) must not be touched before finish().
  ClientProcess(const ClientPlan& plan, const Rules& rules, std::vector<BlockModel>& blocks, ClientCounts& counts,
                const std::string& log_file);
  ~ClientProcess();
  ClientProcess(const ClientProcess&) = delete;

  void kill_now();
  void ask_to_end() { stop_.reset(); }
  /// Waits until the process is gone and all its reports are in the models. A process that does not end is killed.
  void finish();

 private:
  void read_reports();
  void take(const Report& report);

  Rules rules_;
  std::vector<BlockModel>& blocks_;
  ClientCounts& counts_;
  pid_t pid_ = -1;
  base::UniqueFd stop_, reports_;
  std::thread reader_;
};

}  // namespace memkv::test
