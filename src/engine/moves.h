#pragma once
/// Records on their way to the front of their log.

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/parts.h"
#include "engine/then.h"

namespace memkv::engine {

/// Appends again what reclaim keeps, and points the index, or the upload, at the copy.
///
/// Owns the records' headers, keys and sums until they are there; the payload stays where it is. Knows the blocks and
/// the uploads. Thread: worker.
class Moves {
 public:
  explicit Moves(Parts& parts) : parts_(parts) {}
  /// The record lies at `from` in the log, its payload in memory at `payload`, which stays until `then`. Nothing is
  /// written before the log is pumped.
  void start(Log& log, Place from, const format::RecordView& record, std::byte* payload, Then then);

 private:
  struct Move : Append {
    Moves* moves = nullptr;
    Log* log = nullptr;
    Place from;
    Then then;
    std::string key_bytes;
    std::vector<uint64_t> sum_list;
    std::vector<format::PresentRange> range_list;
  };
  static void on_moved(Append& append);
  void moved(Move& move);
  void append_tombstone_for(Move& copy);

  Parts& parts_;
  std::unordered_map<const Move*, std::unique_ptr<Move>> moves_;
};

}  // namespace memkv::engine
