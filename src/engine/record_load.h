#pragma once
/// A record's bytes on their way from its drive.

#include <cstdint>

#include "engine/drives.h"
#include "engine/record_ref.h"
#include "engine/then.h"
#include "io/reactor.h"

namespace memkv::engine {

/// Part of a record as whole grains, in multiples of a sector.
struct GrainSpan {
  uint64_t from = 0, to = 0;
};
/// The whole grains that cover [from, to) of a record of `length` bytes.
GrainSpan grains_covering(uint64_t from, uint64_t to, uint64_t length);
/// The room that a read of this span takes: of a record that shares its extent the whole record is read.
uint64_t load_bytes(const RecordRef& record, GrainSpan span);

/// Reads a record, or a part of it, and keeps its segment pinned until release().
///
/// Owns the device ops. Part of an op, or of the range writer. Thread: worker.
class RecordLoad {
 public:
  enum class Started : uint8_t {
    kYes,
    kBusy,
    kNowhere
  };  ///< busy: the device's queue is full; nowhere: its segment is gone

  /// Reads `span` of the record into `buffer`, with a sector of room in front for its header, then calls `then`. A
  /// record that shares its extent is read whole: its bytes then start at buffer + place % 4096.
  Started start(const Drives& drives, const RecordRef& record, GrainSpan span, std::byte* buffer, bool with_header,
                Then then);
  /// Memory mode: nothing is read, the record is used where it lies. False: its segment is gone.
  bool pin_in_place(const Drives& drives, const RecordRef& record);
  /// The record's bytes are in memory, and no segment is pinned for them.
  void use_copy(const Drives& drives, const RecordRef& record);
  /// The segment may go.
  void release();

  const RecordRef& record() const { return record_; }
  uint64_t offset() const { return record_.place.pack * format::kPackBytes; }  ///< on the drive
  uint64_t epoch() const { return epoch_; }
  Log& log() const { return *log_; }
  bool succeeded() const { return result_ >= 0; }
  bool was_busy() const;  ///< not the drive's word: its queue was full

  /// What the header in the sector before a lone record's payload says; the view is into that sector. False: it is not
  /// that record's.
  bool read_header(const std::byte* header, Digest digest, uint32_t chunk, format::RecordView& view) const;

 private:
  bool find(const Drives& drives, const RecordRef& record);
  bool submit(size_t which, uint64_t offset, std::byte* memory, uint64_t bytes);
  static void on_io(io::IoOp& op, int32_t result);

  RecordRef record_;
  Log* log_ = nullptr;
  uint64_t epoch_ = 0;  // of its segment
  bool pinned_ = false;
  io::IoOp io_[2];  // the payload; the header, where that lies apart
  iovec piece_[2]{};
  uint32_t in_flight_ = 0;
  int32_t result_ = 0;
  Then then_;
};

}  // namespace memkv::engine
