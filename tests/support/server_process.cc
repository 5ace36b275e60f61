#include "tests/support/server_process.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace memkv::test {
namespace {

/// Clients of tests use tcp unless the test says otherwise; on one host `auto` would take shm.
[[maybe_unused]] const int default_transport = setenv("MEMKV_TRANSPORT", "tcp", /*overwrite=*/0);

std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream all;
  all << in.rdbuf();
  return all.str();
}

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "test support: %s\n", why.c_str());
  std::abort();
}

/// fork and exec, with stdout and stderr going into files.
pid_t spawn(const std::vector<std::string>& argv, const std::string& out, const std::string& err,
            const std::string& dir) {
  std::vector<char*> args;
  for (const std::string& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  const pid_t pid = fork();
  if (pid < 0) give_up("fork failed");
  if (pid > 0) return pid;
  if (!dir.empty() && chdir(dir.c_str()) != 0) _exit(126);
  const int o = open(out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  const int e = out == err ? o : open(err.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  dup2(o, 1);
  dup2(e, 2);
  execv(args[0], args.data());
  _exit(127);
}

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

}  // namespace

TempDir::TempDir() {
  const char* base = std::getenv("TMPDIR");
  std::string name = std::string(base != nullptr ? base : "/tmp") + "/memkv-test-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) give_up("no temporary folder: " + name);
  path_ = name;
}

TempDir::~TempDir() {
  if (is_kept_) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string bin_dir() {
  char self[PATH_MAX] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) < 0) give_up("no /proc/self/exe");
  return std::filesystem::path(self).parent_path().parent_path() / "bin";
}

int run_program(const std::vector<std::string>& argv, std::string* out, std::string* err) {
  const TempDir dir;
  const pid_t pid = spawn(argv, dir / "out", dir / "err", "");
  int status = 0;
  waitpid(pid, &status, 0);
  if (out != nullptr) *out = slurp(dir / "out");
  if (err != nullptr) *err = slurp(dir / "err");
  return exit_code(status);
}

std::string setup_file_drives(const TempDir& dir, int drives, const std::string& size, int shards,
                              const std::string& name) {
  std::vector<std::string> argv = {bin_dir() + "/memkv",   "setup",           "--shards",
                                   std::to_string(shards), "--auth-key-file", dir / (name + ".key")};
  for (int i = 0; i < drives; ++i) {
    argv.insert(argv.end(), {"--drive", (dir / (name + "-d" + std::to_string(i) + ".memkv")) + ":" + size});
  }
  std::string yaml, err;
  if (run_program(argv, &yaml, &err) != 0) give_up("setup failed: " + err);
  const std::string config = dir / (name + ".yaml");
  std::ofstream(config) << yaml;
  return config;
}

std::string credential_of(const TempDir& dir, const std::string& name) { return "@" + (dir / (name + ".key")); }

std::unique_ptr<ServerProcess> ServerProcess::launch(const Options& options) {
  static int count = 0;
  const std::string tag = std::to_string(getpid()) + "-" + std::to_string(count++);
  std::unique_ptr<ServerProcess> server(new ServerProcess);
  server->ready_path_ = options.dir + "/ready-" + tag;
  server->ready_timeout_s_ = options.ready_timeout_s;
  server->log_path_ = options.dir + "/server-" + tag + ".log";
  std::vector<std::string> argv = {bin_dir() + "/memkv", "start",        "--address",
                                   options.address,      "--ready-file", server->ready_path_};
  argv.insert(argv.end(), options.args.begin(), options.args.end());
  server->pid_ = spawn(argv, server->log_path_, server->log_path_, options.dir);
  return server;
}

bool ServerProcess::wait_until_ready(std::string& why) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(ready_timeout_s_);
  for (;;) {
    address_ = slurp(ready_path_);
    if (!address_.empty() && address_.back() == '\n') break;
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      why = "server ended with " + std::to_string(exit_code(status)) + " before it was ready:\n" + log();
      return false;
    }
    if (std::chrono::steady_clock::now() > deadline) {
      why = "server not ready in time:\n" + log();
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  address_.pop_back();
  return true;
}

std::unique_ptr<ServerProcess> ServerProcess::start(const Options& options) {
  auto server = launch(options);
  std::string why;
  if (!server->wait_until_ready(why)) give_up(why);
  return server;
}

ServerProcess::~ServerProcess() { kill_now(); }

int ServerProcess::stop() {
  if (pid_ <= 0) return -1;
  kill(pid_, SIGTERM);
  for (int i = 0; i < 6000; ++i) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      if (exit_code(status) != 0) std::fprintf(stderr, "server's log:\n%s\n", log().c_str());
      return exit_code(status);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  kill_now();
  std::fprintf(stderr, "server did not stop in 30 s; its log:\n%s\n", log().c_str());
  return -2;
}

void ServerProcess::kill_now() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void ServerProcess::freeze() {
  if (pid_ <= 0) return;  // kill(-1) would kill every process
  kill(pid_, SIGSTOP);
  waitpid(pid_, nullptr, WUNTRACED);  // the signal alone would leave the server time for an answer
}
void ServerProcess::thaw() {
  if (pid_ > 0) kill(pid_, SIGCONT);
}
std::string ServerProcess::log() const { return slurp(log_path_); }

std::unique_ptr<ServerProcess> start_memory_server(const TempDir& dir, const std::string& memory,
                                                   std::vector<std::string> more) {
  ServerProcess::Options options{.args = {"--mode", "memory", "--memory", memory}, .dir = dir.path()};
  options.args.insert(options.args.end(), more.begin(), more.end());
  return ServerProcess::start(options);
}

}  // namespace memkv::test
