#pragma once
/// A batch under way, and what it is expected to answer.

#include <memory>
#include <vector>

#include "client/ops/call.h"
#include "sim/model.h"
#include "sim/run.h"

namespace memkv::sim {

/// Memory of an op that its client has registered with its NICs.
struct Run::Registered {
  const ClientProcess* client = nullptr;
  std::shared_ptr<transport::rdma::Devices> devices;
  std::shared_ptr<transport::rdma::Registration> memory;
  bool leaving = false, gone = false;
};

struct Run::OpInfo {
  enum class Kind : uint8_t { kChange, kGet, kExists, kStat, kTouch, kPrefetch } kind = Kind::kChange;
  uint32_t server = 0;  ///< that is to be asked
  uint32_t key = 0;
  Version version = 0;  ///< for a change
  uint64_t offset = 0, length = 0;
  std::unique_ptr<std::byte[]> buffer;     ///< the bytes that a put reads or a get fills
  bool chained = false;                    ///< it begins when the one before it has ended
  std::shared_ptr<Registered> registered;  ///< the buffer; null: it is not
  uint64_t hash = 0;                       ///< of the buffer when its op completed: afterwards it must not change
};

struct Run::Pending {
  Run* run = nullptr;
  ClientProcess* client = nullptr;  ///< null: the client died
  size_t seat = 0;
  uint32_t tenant = 0;
  Batch batch;
  client::Call call;
  std::vector<Outcome> outcomes;
  std::vector<uint32_t> completed;
  std::vector<OpInfo> ops;
  std::vector<client::AdminSlot> admin;
  uint64_t start_ns = 0, end_ns = 0, deadline_ns = 0;
  uint32_t times_done = 0;
};

}  // namespace memkv::sim
