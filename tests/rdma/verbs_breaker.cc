#include "verbs_breaker.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "transport/rdma/verbs.h"

namespace memkv::test {
namespace {

constexpr size_t kLargeBytes = 1 << 20;

transport::rdma::Verbs real;
std::mutex mutex;
std::vector<ibv_qp*> in_use;  // guarded by the mutex, so none of them is destroyed meanwhile
std::atomic<bool> bad_keys{false};
std::atomic<uint64_t> given{0};

int modify_qp(ibv_qp* qp, ibv_qp_attr* attributes, int mask) {
  const int failed = real.modify_qp(qp, attributes, mask);
  const std::lock_guard lock(mutex);
  if (failed == 0 && (mask & IBV_QP_STATE) != 0 && attributes->qp_state == IBV_QPS_RTS) in_use.push_back(qp);
  return failed;
}

int destroy_qp(ibv_qp* qp) {
  const std::lock_guard lock(mutex);
  std::erase(in_use, qp);
  return real.destroy_qp(qp);
}

ibv_mr* reg_mr(ibv_pd* pd, void* address, size_t length, int access) {
  ibv_mr* mr = real.reg_mr(pd, address, length, access);
  if (mr != nullptr && bad_keys && length >= kLargeBytes) {
    mr->rkey ^= 0x5a00;
    given++;
  }
  return mr;
}

}  // namespace

bool watch_verbs() {
  auto verbs = transport::rdma::load_verbs();
  if (!verbs) return false;
  auto& table = const_cast<transport::rdma::Verbs&>(**verbs);
  real = table;
  table.modify_qp = modify_qp;
  table.destroy_qp = destroy_qp;
  table.reg_mr = reg_mr;
  return true;
}

bool break_queue_pair(uint64_t random) {
  const std::lock_guard lock(mutex);
  if (in_use.empty()) return false;
  ibv_qp* qp = in_use[random % in_use.size()];
  std::erase(in_use, qp);
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  return real.modify_qp(qp, &attributes, IBV_QP_STATE) == 0;
}

void give_bad_keys(bool bad) { bad_keys = bad; }
uint64_t bad_keys_given() { return given; }

}  // namespace memkv::test
