#include "tools/bench/child.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "server/server.h"

namespace memkv::bench {
namespace {

constexpr int kReadyWaitMs = 120'000;

void redirect(const std::string& log, int fd) {
  const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file >= 0) dup2(file, fd);
}

}  // namespace

std::string read_file(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::unique_ptr<Child> Child::fork(const std::string& log, const std::function<int()>& body) {
  fflush(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = ::fork();
  if (pid != 0) return std::unique_ptr<Child>(new Child(pid));
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);
  signal(SIGINT, SIG_IGN);  // the benchmark ends it
  if (!log.empty()) redirect(log, STDOUT_FILENO), redirect(log, STDERR_FILENO);
  const int code = body();
  fflush(nullptr);
  _exit(code);
}

std::unique_ptr<Child> Child::exec(const std::string& log, const std::vector<std::string>& command) {
  return fork(log, [&command] {
    std::vector<char*> argv;
    for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    return 127;
  });
}

bool Child::alive() {
  if (pid_ <= 0) return false;
  if (waitpid(pid_, nullptr, WNOHANG) == 0) return true;
  pid_ = -1;
  return false;
}

Child::~Child() {
  if (!alive()) return;
  kill(pid_, SIGTERM);
  for (int i = 0; i < 1000; i++) {
    if (!alive()) return;
    usleep(10'000);
  }
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

Result<std::unique_ptr<WorkDir>, Message> WorkDir::make(const std::string& parent) {
  const char* tmp = getenv("TMPDIR");
  std::string path = (!parent.empty() ? parent : tmp && *tmp ? tmp : "/tmp") + "/memkv-bench-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    return Message{Status::kIo,
                   fmt::format("cannot make a directory {}: {}; name another with --dir", path, strerror(errno))};
  }
  return std::unique_ptr<WorkDir>(new WorkDir(path));
}

WorkDir::~WorkDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

/// Starts a server of the benchmark's own in a child process, in memory or on a file in `dir` that it formats first.
/// Waits until the server is ready.
Result<OwnServer, Message> start_own_server(const OwnServerOptions& options, const std::string& dir) {
  OwnServer server;
  const std::string log = dir + "/server.log", ready = dir + "/ready", config = dir + "/memkv.yaml";
  server::StartOptions start;
  start.address = "127.0.0.1:0";
  start.workers = options.workers;
  start.congestion = options.congestion.empty() ? "system" : options.congestion;
  start.tcp_one_copy = options.one_copy;
  start.ready_file = ready;
  if (options.memory) {
    start.storage_mode = "memory";
    start.memory_size = fmt::format("{}MiB", std::max<uint64_t>(128, options.size_bytes >> 20));
  } else {
    server::SetupOptions setup;
    setup.drives = {!options.drive.empty() ? options.drive
                                           : fmt::format("{}/d0.memkv:{}MiB", dir, options.size_bytes >> 20)};
    setup.force = !options.drive.empty();
    setup.auth_key_file = dir + "/memkv.key";
    const auto formatted = Child::fork("", [&] {
      redirect(config, STDOUT_FILENO);
      redirect(log, STDERR_FILENO);
      return server::run_setup(setup);
    });
    while (formatted->alive()) usleep(10'000);
    start.config_file = config;
    server.auth_key = "@" + setup.auth_key_file;
  }
  server.child = Child::fork(log, [&] { return server::run_start(start); });
  for (int waited = 0; waited < kReadyWaitMs; waited += 20) {
    server.address = read_file(ready);
    if (server.address.ends_with('\n')) {
      server.address.pop_back();
      return server;
    }
    if (!server.child->alive()) break;
    usleep(20'000);
  }
  return Message{Status::kUnavailable, "the benchmark's own server did not start:\n" + read_file(log)};
}

}  // namespace memkv::bench
