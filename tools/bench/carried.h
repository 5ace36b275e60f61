#pragma once
/// What carried the bytes between two moments, as the servers count them. Bytes of other clients are counted too.

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
  std::map<std::string, uint64_t> by_transport;      ///< payload bytes in both directions
  std::vector<std::map<std::string, Rail>> by_rail;  ///< for each server by device: all bytes in both directions

  void add(const Carried& other);
  void take_off(const Carried& before);
  /// The transports that carried at least 1 % of the bytes, the largest share first: "rdma", "shm+tcp". "?" if no bytes
  /// were counted.
  std::string transports() const;
  /// How many rails carried at least 1 % of all rails' bytes, at the server with the most of them. 0: nothing went over
  /// rdma.
  uint32_t rails() const;
  bool emulated() const;
  /// Puts `transport`, `rails`, `bytes_by_transport` and `bytes_by_rail` into a run of the report.
  void tell(Json& run, const std::vector<std::string>& servers) const;
};

/// What carried the bytes of a run in a report: "shm", or "rdma:2" with the number of rails.
std::string via_of(const Json& run);

/// Adds one server's part, from the text of its status.
void add_status(const std::string& status, Carried& carried);

/// Asks the servers for their counters. Thread: one.
class CarriedMeter {
 public:
  static Result<std::unique_ptr<CarriedMeter>, Message> connect(const ClientOptions& options);
  Carried now();

 private:
  explicit CarriedMeter(Client client) : client_(std::move(client)) {}
  Client client_;
};

}  // namespace memkv::bench
