#pragma once
/// Whether a server takes ops now, why not, and when it is tried again.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "memkv/error.h"

namespace memkv::client {

constexpr const char* kNotUsedYet = "not used yet";

/// Opens on missing liveness only: no connection can be made, or a ping stays unanswered; never on slow ops or kBusy.
/// While it is open nothing waits for the server, and one probe at a time looks whether it is back. Pure state, no I/O.
/// Thread: the context's.
class Breaker {
 public:
  /// kOk: closed. kUnavailable: the server does not live. Else: it answered and refuses us, and this is why.
  Status refusal() const { return refusal_; }
  bool is_open() const { return refusal_ != Status::kOk; }
  const std::string& why() const { return why_; }
  void note(std::string why) { why_ = std::move(why); }
  /// The server answered and will not have us: waiting does not help, but somebody may repair it.
  static bool is_refusal(Status status) {
    return status == Status::kUnauthorized || status == Status::kVersion || status == Status::kInvalid;
  }

  /// open() with these would tell something new.
  bool is_news(Status status, const std::string& why) const { return refusal_ != status || why_ != why; }
  /// Each time that it opens, and with each probe that fails, the next probe is later: see backoff_ns().
  void open(Status status, std::string why);
  /// A server process answered. True: it was open.
  bool close();

  /// An attempt on one of `addresses` failed. True: another one is to be tried before anything is concluded.
  bool tries_another(Status why, size_t addresses);
  void on_address_works() { addresses_failed_ = 0; }
  /// An attempt came to nothing while other connections are open.
  void on_failed_beside_others(std::string why, uint64_t now_ns);
  /// A connection ended that had been there for so long. One that takes connections and ends them again is not asked
  /// without a pause.
  void on_lost(std::string why, uint64_t lived_ns, uint64_t now_ns);

  /// No attempt before.
  uint64_t not_before_ns() const { return not_before_ns_; }
  /// While it is open the next probe is made after half of it to all of it.
  uint64_t backoff_ns() const { return backoff_ns_; }

 private:
  Status refusal_ = Status::kOk;
  std::string why_ = kNotUsedYet;
  size_t addresses_failed_ = 0;
  uint64_t backoff_ns_ = 0;
  uint64_t not_before_ns_ = 0;
  uint64_t reconnect_gap_ns_ = 0;  ///< after connections that ended as soon as they were open
};

}  // namespace memkv::client
