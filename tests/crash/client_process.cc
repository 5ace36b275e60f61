/// The parent's side of a client process.

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "tests/crash/client.h"

namespace memkv::test {
namespace {

constexpr auto kGrace = std::chrono::milliseconds(500);  ///< how long a client may take to end when asked

struct Pipe {
  base::UniqueFd read, write;
};

Pipe make_pipe() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) {
    std::perror("torture: pipe");
    std::abort();
  }
  return {base::UniqueFd(fds[0]), base::UniqueFd(fds[1])};
}

[[noreturn]] void become_client(const std::vector<std::string>& arguments, int reports, int stop, int log) {
  // First both move out of the way of the two fixed numbers, since one of the pipes may have either.
  reports = fcntl(reports, F_DUPFD_CLOEXEC, 16);
  stop = fcntl(stop, F_DUPFD_CLOEXEC, 16);
  dup2(log, 1);
  dup2(log, 2);
  dup2(reports, kReportFd);
  dup2(stop, kStopFd);
  std::vector<char*> argv;
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  execv("/proc/self/exe", argv.data());
  _exit(127);
}

}  // namespace

std::vector<std::string> ClientPlan::arguments() const {
  return {"memkv-torture",
          "client",
          address,
          credential,
          transport,
          shm_dir,
          journal,
          std::to_string(tenant),
          std::to_string(id),
          std::to_string(session ? 1 : 0),
          std::to_string(verifies ? 1 : 0),
          std::to_string(ordered ? 1 : 0),
          std::to_string(seed),
          std::to_string(version),
          std::to_string(budget)};
}

bool ClientPlan::parse(const std::vector<std::string>& arguments, ClientPlan& plan) {
  if (arguments.size() != plan.arguments().size()) return false;
  const auto number = [&](size_t i) { return std::strtoull(arguments[i].c_str(), nullptr, 10); };
  plan.address = arguments[2];
  plan.credential = arguments[3];
  plan.transport = arguments[4];
  plan.shm_dir = arguments[5];
  plan.journal = arguments[6];
  plan.tenant = static_cast<int>(number(7));
  plan.id = static_cast<int>(number(8));
  plan.session = number(9) != 0;
  plan.verifies = number(10) != 0;
  plan.ordered = number(11) != 0;
  plan.seed = number(12);
  plan.version = number(13);
  plan.budget = static_cast<int64_t>(number(14));
  return true;
}

ClientProcess::ClientProcess(const ClientPlan& plan, const Rules& rules, std::vector<BlockModel>& blocks,
                             ClientCounts& counts, const std::string& log_file)
    : rules_(rules), blocks_(blocks), counts_(counts) {
  Pipe reports = make_pipe();
  Pipe stop = make_pipe();
  const base::UniqueFd log(open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  const std::vector<std::string> arguments = plan.arguments();
  pid_ = fork();
  if (pid_ == 0) become_client(arguments, reports.write.get(), stop.read.get(), log.get());
  if (pid_ < 0) {
    std::perror("torture: fork");
    std::abort();
  }
  reports_ = std::move(reports.read);
  stop_ = std::move(stop.write);
  reader_ = std::thread([this] { read_reports(); });
}

ClientProcess::~ClientProcess() {
  kill_now();
  if (reader_.joinable()) reader_.join();
}

void ClientProcess::kill_now() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void ClientProcess::finish() {
  ask_to_end();
  const auto deadline = std::chrono::steady_clock::now() + kGrace;
  while (pid_ > 0 && std::chrono::steady_clock::now() < deadline) {
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) pid_ = -1;
    if (pid_ > 0) usleep(2000);
  }
  kill_now();
  if (reader_.joinable()) reader_.join();
}

/// Ends when the process is gone, since nobody else has the writing end.
void ClientProcess::read_reports() {
  Report report;
  for (size_t have = 0;;) {
    const ssize_t n = read(reports_.get(), reinterpret_cast<char*>(&report) + have, sizeof report - have);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    have += static_cast<size_t>(n);
    if (have < sizeof report) continue;
    have = 0;
    take(report);
  }
}

void ClientProcess::take(const Report& report) {
  BlockModel& block = blocks_[report.change.key];
  switch (report.kind) {
    case Report::Kind::kBegun:
      return block.begun(report.change);
    case Report::Kind::kWrongRead:
      std::printf("%s: read by its own client, not as version %lu was acknowledged; before that:\n%s",
                  block.name().c_str(), static_cast<unsigned long>(report.change.version), block.history().c_str());
      ++counts_.wrong_reads;
      return;
    case Report::Kind::kEnded:
      break;
  }
  if (was_done(report.change, report.status)) {
    ++counts_.acknowledged;
  } else if (changed_nothing(report.status)) {
    ++counts_.not_done;
  } else {
    ++counts_.given_up;
  }
  block.ended(report.status, rules_);
}

}  // namespace memkv::test
