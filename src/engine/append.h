#pragma once
/// Records on their way into a log.

#include <cstdint>
#include <span>
#include <string_view>

#include "engine/index.h"
#include "format/format_check.h"
#include "io/reactor.h"

namespace memkv::engine {

/// One record on its way into a log. Owned by the op that appends it, borrowed until on_done (exactly once, never
/// inside append()).
struct Append {
  using Fn = void (*)(Append& append);
  format::RecordHeader
      header{};  ///< digest, namespace, sequence, kind, checksum ... set by the owner; sizes by the log
  std::string_view key;
  std::byte* payload = nullptr;  ///< lone records: 4 KiB aligned, 4 KiB of room in front, capacity rounded up to 4 KiB
  std::span<const uint64_t> sums;
  std::span<const format::PresentRange> ranges;
  bool lone = false;  ///< an extent of its own, header in front of the payload
  bool move = false;  ///< of reclaim: may use the last free segment
  uint64_t reserved_sector =
      0;  ///< memory mode: the record lies in the segment already (sector of its header); 0 = not
  uint64_t reserved_epoch = 0;
  uint64_t deadline_ns = ~uint64_t{0};
  Fn on_done = nullptr;
  void* context = nullptr;
  Status status = Status::kInternal;
  Place place;  ///< of the payload, when kOk
  uint64_t epoch = 0;
  Append* next = nullptr;
};

/// First in, first out list of appends.
struct AppendQueue {
  Append* head = nullptr;
  Append* tail = nullptr;
  uint64_t bytes = 0;
  bool empty() const { return head == nullptr; }
  void push(Append& a);
  Append* pop();
  void prepend(AppendQueue& other);
};

/// Appends that are done: their owners are told at the next turn of the loop, in order. Then the log goes on.
///
/// Part of a Log. Thread: worker.
class FinishedAppends {
 public:
  class Owner {
   public:
    /// The record's room in the segment is a record now, and its owner knows where it lies.
    virtual void close_room(uint64_t epoch, uint64_t sector) = 0;
    /// All were told.
    virtual void pump() = 0;

   protected:
    ~Owner() = default;
  };
  FinishedAppends(io::Reactor& reactor, Owner& owner);
  ~FinishedAppends();
  void add(Append& append, Status status);
  void add_all(AppendQueue& appends, Status status);
  /// The owner's pump() runs at the next turn, behind those that are done.
  void pump_soon();

 private:
  static void on_post(io::IoOp& op, int32_t result);

  io::Reactor& reactor_;
  Owner& owner_;
  AppendQueue queue_;
  bool posted_ = false;
  io::IoOp post_;
};

}  // namespace memkv::engine
