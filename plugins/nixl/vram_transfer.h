#pragma once
/// One wire operation whose pieces lie in VRAM, at least one of them: step by step through staging slots.
///
/// A read goes in units of at most a chunk, several under way together: slot → get into it → copies out of it → slot
/// back. A write takes slots for all of it and begins its put at once; while chunks that are copied into their slots
/// are on the wire, the next ones are copied. Nothing here waits, and nothing here knows the client: its user asks
/// step() again and again. A transfer may be run again and again, which allocates nothing.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "copier.h"
#include "memkv/client.h"
#include "plan.h"
#include "staging.h"

namespace memkv::nixl {

/// The wire as a transfer sees it: one op under way for each lane.
class StagedWire {
 public:
  virtual ~StagedWire() = default;
  /// Reads the block's range [offset, offset + to.size) if it has this generation (0 = whichever).
  virtual void get(uint32_t lane, uint64_t offset, Piece to, Generation if_generation) = 0;
  /// Writes the whole operation, on lane 0. The pieces' bytes may be read as far as feed() says.
  virtual void put(std::span<const ConstPiece> pieces) = 0;
  /// The first `bytes` of what is put are there: more than before.
  virtual void feed(uint64_t bytes) = 0;
  /// True once for each op, when it is complete and its memory quiet.
  virtual bool done(uint32_t lane, Outcome& outcome) = 0;
  /// The lane's op shall be complete soon.
  virtual void cancel(uint32_t lane) = 0;
};

/// What both kinds of transfer are made of. The pools and the pieces must live longer.
struct StagedOp {
  uint64_t offset = 0;  ///< in the block
  uint64_t length = 0;  ///< > 0
  std::span<const LocalPiece> pieces;
  uint64_t deadline_ns = 0;  ///< for slots, on the clock of step(); the wire has its own
};

/// Thread: one at a time, its user's.
class StagedTransfer {
 public:
  StagedTransfer(StagedWire& wire, StagingPool& pool, Copier& copier) : wire_(wire), pool_(pool), copier_(copier) {}
  virtual ~StagedTransfer() = default;

  /// Begins anew. Only before the first step() or when it has ended.
  virtual void restart(uint64_t deadline_ns) = 0;
  /// Goes on as far as it can. True: it has ended, the memory is quiet and all slots are back.
  virtual bool step(uint64_t now_ns) = 0;
  /// It shall end soon, as kCanceled unless it had failed already.
  void cancel() { fail(Status::kCanceled); }
  /// Once ended. A block that changes while it is read, twice, is a miss; so is one that is too short.
  const Outcome& outcome() const { return outcome_; }
  /// What the CUDA runtime said when the outcome is kIo, or nullptr.
  const char* cuda_error() const { return cuda_error_; }

 protected:
  bool failed() const { return outcome_.status != Status::kOk; }
  /// The first failure stays; what is under way is stopped.
  void fail(Status status);
  virtual void stop_all() = 0;
  void clear_outcome();

  StagedWire& wire_;
  StagingPool& pool_;
  Copier& copier_;
  Outcome outcome_{.status = Status::kOk};
  const char* cuda_error_ = nullptr;
};

class StagedRead final : public StagedTransfer {
 public:
  static constexpr uint32_t kLanesMax = 8;

  StagedRead(StagedWire& wire, StagingPool& pool, Copier& copier, const StagedOp& op);
  void restart(uint64_t deadline_ns) override;
  bool step(uint64_t now_ns) override;

 private:
  enum class At : uint8_t { kIdle, kSlot, kWire, kCopy };
  struct Lane {
    At at = At::kIdle;
    uint32_t number = 0;
    size_t unit = 0;
    StagingPool::Ask ask;
    std::vector<Copy> copies;
    CopyJob job;
  };
  /// [begin, end) of the block.
  struct Range {
    uint64_t begin, end;
  };

  Range range_of(size_t unit) const;
  bool go_on(Lane& lane, uint64_t now_ns);
  bool begin(Lane& lane);
  bool wait_for_slot(Lane& lane, uint64_t now_ns);
  bool wait_for_wire(Lane& lane);
  bool wait_for_copies(Lane& lane);
  bool check(const Lane& lane, const Outcome& outcome);
  void release(Lane& lane);
  bool next_pass();
  void stop_all() override;

  StagedOp op_;
  std::vector<Lane> lanes_;
  std::vector<Generation> generations_;  // of the units; 0 = not here yet
  std::vector<size_t> to_do_;            // units, the next one last
  Generation demanded_ = 0;
};

class StagedWrite final : public StagedTransfer {
 public:
  /// So many slots are filled at once: with more ahead, a cancel would have to wait for more copies.
  static constexpr uint32_t kCopiesMax = 4;

  /// The operation must fit the pool when it begins (fits()).
  StagedWrite(StagedWire& wire, StagingPool& pool, Copier& copier, const StagedOp& op);
  static bool fits(const StagingPool& pool, uint64_t length) { return length <= pool.bytes(); }
  void restart(uint64_t deadline_ns) override;
  bool step(uint64_t now_ns) override;

 private:
  enum class At : uint8_t { kBegin, kSlots, kStream, kEnd };
  /// A slot that is being filled.
  struct Filling {
    std::vector<Copy> copies;
    CopyJob job;
  };

  bool go_on(uint64_t now_ns);
  bool begin();
  bool wait_for_slots(uint64_t now_ns);
  void put();
  bool stream();
  void take_copied();
  void copy_more();
  void take_outcome();
  uint64_t bytes_of(size_t slots) const;  ///< that the first so many slots hold
  Filling& filling(size_t slot) { return fillings_[slot % kCopiesMax]; }
  bool end();
  void stop_all() override;

  StagedOp op_;
  At at_ = At::kBegin;
  StagingPool::Ask ask_;
  std::vector<ConstPiece> put_pieces_;
  std::array<Filling, kCopiesMax> fillings_;
  size_t begun_ = 0;   ///< slots whose copies were begun
  size_t copied_ = 0;  ///< slots that are full, all before them too
  bool on_wire_ = false;
};

}  // namespace memkv::nixl
