#include "transport/shm/budget.h"

#include <fcntl.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "base/assert.h"
#include "base/test_rules.h"
#include "transport/shm/reopen.h"

namespace memkv::transport {
namespace {

/// The kernel breaks a lease by sending a signal. This one is ignored by default, so that the process survives it.
bool is_alone(int fd) {
  if (fd < 0) return true;
  (void)fcntl(fd, F_SETSIG, SIGURG);
  if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0) return errno != EAGAIN;
  (void)fcntl(fd, F_SETLEASE, F_UNLCK);
  return true;
}

}  // namespace

base::UniqueFd reopen(int fd, int flags) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return base::UniqueFd(::open(path.c_str(), flags | O_CLOEXEC));
}

ShmRemains::ShmRemains(int get_fd, int put_fd, uint64_t bytes, const ShmHolder& holder)
    : get_(reopen(get_fd, O_RDONLY)), put_(reopen(put_fd, O_RDONLY)), bytes_(bytes), holder_(holder) {}

bool ShmRemains::gone() const {
  return (is_alone(get_.get()) && is_alone(put_.get())) || !base::rules().windows_counted;
}

ShmBudget::ShmBudget(uint64_t bytes_max, size_t namespaces)
    : bytes_max_(bytes_max),
      guaranteed_(bytes_max / 2 / std::max<size_t>(1, namespaces)),
      common_(bytes_max - guaranteed_ * std::max<size_t>(1, namespaces)) {}

ShmBudget::~ShmBudget() {
  for (ShmRemains* next = retired_.load(); next != nullptr;) {
    const std::unique_ptr<ShmRemains> one(next);
    next = one->next_;
  }
}

bool ShmBudget::fits(const ShmHolder& holder, uint64_t bytes) const {
  const auto own = held_.find(holder);
  const uint64_t of_process = own != held_.end() ? own->second : 0;
  if (of_process > 0 && of_process + bytes > (guaranteed_ + common_) / 2) return false;
  std::map<uint64_t, uint64_t> by_namespace;
  for (const auto& [other, held] : held_) by_namespace[other.namespace_id] += held;
  by_namespace[holder.namespace_id] += bytes;
  uint64_t above = 0;
  for (const auto& [id, held] : by_namespace) above += held > guaranteed_ ? held - guaranteed_ : 0;
  return by_namespace[holder.namespace_id] <= guaranteed_ || above <= common_;
}

bool ShmBudget::take(const ShmHolder& holder, uint64_t bytes) {
  if (bytes > bytes_max_) return false;
  if (!fits(holder, bytes)) collect();
  if (!fits(holder, bytes)) return false;
  held_[holder] += bytes;
  in_use_.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

void ShmBudget::give_back(const ShmHolder& holder, uint64_t bytes) {
  const auto held = held_.find(holder);
  MEMKV_ASSERT(held != held_.end() && held->second >= bytes, "given back twice");
  held->second -= bytes;
  if (held->second == 0) held_.erase(held);
  in_use_.fetch_sub(bytes, std::memory_order_relaxed);
}

void ShmBudget::retire(std::unique_ptr<ShmRemains> remains) {
  MEMKV_ASSERT(remains != nullptr);
  ShmRemains* added = remains.release();
  added->next_ = retired_.load(std::memory_order_relaxed);
  while (!retired_.compare_exchange_weak(added->next_, added, std::memory_order_release, std::memory_order_relaxed)) {
  }
}

void ShmBudget::collect() {
  for (ShmRemains* next = retired_.exchange(nullptr, std::memory_order_acquire); next != nullptr;) {
    remains_.emplace_back(next);
    next = remains_.back()->next_;
  }
  std::erase_if(remains_, [this](const auto& one) {
    if (!one->gone()) return false;
    give_back(one->holder(), one->bytes());
    return true;
  });
  uint64_t kept = 0;
  for (const auto& one : remains_) kept += one->bytes();
  kept_.store(kept, std::memory_order_relaxed);
}

}  // namespace memkv::transport
