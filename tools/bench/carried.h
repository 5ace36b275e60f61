#pragma once
/// What really carried the bytes between two moments, as the servers count them: other clients' bytes are in it, too.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "memkv/client.h"
#include "tools/bench/json.h"

namespace memkv::bench {

struct Carried {
  struct Rail {
    uint64_t bytes = 0;
    bool emulated = false;
  };
  std::map<std::string, uint64_t> by_transport;      ///< payload bytes, both ways
  std::vector<std::map<std::string, Rail>> by_rail;  ///< of each server by its device: all bytes, both ways

  void add(const Carried& other);
  void take_off(const Carried& before);
  /// The transports that carried at least 1 % of the bytes, the largest share first: "rdma", "shm+tcp". "?": no bytes
  /// were counted.
  std::string transports() const;
  /// Of the server that used most: its rails that carried at least a hundredth of what rails did; 0: not over rdma.
  uint32_t rails() const;
  bool emulated() const;
  /// `transport`, `rails`, `bytes_by_transport`, `bytes_by_rail`, for a run.
  void tell(Json& run, const std::vector<std::string>& servers) const;
};

/// What carried the bytes of a run that was told: "shm", "rdma:2" with its rails.
std::string via_of(const Json& run);

/// One server's part of it, from the text of its status.
void add_status(const std::string& status, Carried& carried);

/// Asks the servers. Thread: one.
class CarriedMeter {
 public:
  static Result<std::unique_ptr<CarriedMeter>, Message> connect(const ClientOptions& options);
  Carried now();

 private:
  explicit CarriedMeter(Client client) : client_(std::move(client)) {}
  Client client_;
};

}  // namespace memkv::bench
