#pragma once
/// One op of a batch, from its start to its outcome.

#include "client/remote/remote.h"
#include "client/remote/unit.h"

namespace memkv::client {

struct Call;

/// How far an op is. Get, exists and admin ops and a change of one chunk are asking until they end; a change of several
/// chunks is an upload: begin, then chunks over the same link, then commit.
enum class Step : uint8_t {
  kFree,         ///< a record in the pool
  kAsking,       ///< its units are on their way, each answered for itself
  kAskingAgain,  ///< a get, once more: its first replies were of different generations
  kBegin,        ///< BEGIN is on its way, or waits to be tried again
  kChunks,       ///< the server has a number for the upload, and takes its chunks
  kCommit,       ///< all chunks are there, COMMIT is on its way
  kEnded,        ///< its outcome is final; it is complete when no frame holds its memory
};
constexpr bool is_asking(Step step) { return step == Step::kAsking || step == Step::kAskingAgain; }
constexpr bool is_upload(Step step) { return step >= Step::kBegin && step <= Step::kCommit; }
/// The server holds what a change will be made of.
constexpr bool is_begun(Step step) { return step == Step::kChunks || step == Step::kCommit; }

/// Complete when all its units are done and no frame holds its memory.
struct Op : Request {
  base::ListLink<Op> link;  ///< in its call
  base::IntrusiveList<Unit, &Unit::op_link> units;
  Call* call = nullptr;
  uint32_t index = 0;  ///< in the batch
  Remote* server = nullptr;
  Step step = Step::kFree;
  uint64_t ready_bytes = 0;         ///< from the front, may be read; units with others wait in no queue
  uint64_t expanded_by = 0;         ///< a flush: the number of the map that its units were made by
  bool generations_differ = false;  ///< a get: its units were answered of different ones
  Status last_delay = Status::kOk;  ///< the last kBusy or kNotReady
  uint64_t drain_until_ns = 0;      ///< 0 = not draining; then the connection that holds its memory is closed
  Outcome outcome;

  bool is_ready(const Unit& unit) const {
    return !wire::has_payload(unit.kind) || unit.offset - spec->offset + unit.length <= ready_bytes;
  }
  /// The link that its chunks went over is gone, and with it what it had sent.
  bool upload_is_lost() const { return pinned && !server->is_open(pinned); }
  void reset();
};

/// What units say together: a failure outweighs an outcome, the first of a kind stays.
inline void fold(Status& into, Status next) {
  if (next == Status::kOk || is_failure(into)) return;
  if (into == Status::kOk || is_failure(next)) into = next;
}

inline Op& op_of(Unit& unit) { return static_cast<Op&>(*unit.op); }

}  // namespace memkv::client
