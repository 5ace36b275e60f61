#pragma once
/// What each block of the torture may hold, judging by what was acknowledged and what was given up.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/crash/change.h"

namespace memkv::test {

/// The content of a block: nothing, or bytes. Each part of the bytes is of one version.
struct Content {
  struct Part {
    uint64_t end = 0;
    uint64_t version = 0;  ///< 0: a hole, where no byte was ever written
    bool operator==(const Part&) const = default;
  };
  bool present = false;
  std::vector<Part> parts;  ///< front to back, without gaps

  uint64_t bytes() const { return parts.empty() ? 0 : parts.back().end; }
  bool has_hole() const;
  bool operator==(const Content&) const = default;
};

/// The content when `change` was applied to `before`.
Content after(const Change& change, const Content& before);

/// The answer to a get of the whole block.
struct Found {
  bool hit = false;
  const unsigned char* data = nullptr;
  uint64_t bytes = 0;
};

enum class Finding { kAllowed, kLost, kOld, kRevived, kWrong };
const char* name_of(Finding finding);

/// The rules that the store is held to.
struct Rules {
  /// A given-up change is never applied after a newer change of the same block was acknowledged. Without this rule it
  /// may be applied until server and client are gone.
  bool ordered = true;
  /// Blocks may be missing, since the store evicts, or drives rotted or were taken away. An older version is never
  /// right.
  bool may_miss = false;
  /// Missing blocks may come back: an evicted block lies on its drive until something else is written there. What
  /// recovery dropped stays away.
  bool may_return = false;
};

/// The model of one block, which one client changes, one change at a time.
class BlockModel {
 public:
  explicit BlockModel(std::string name) : name_(std::move(name)) {}

  void begun(const Change& change);
  void ended(Status status, const Rules& rules);
  /// Server and client are gone. Nothing is under way any more: a given-up change has happened by now, or never will.
  void at_rest();
  /// Allows its content before the last acknowledged change in the next check.
  void allow_older() { older_allowed_ = true; }
  /// Compares what was read at rest. From now on the block counts as what was found.
  Finding check(const Found& found, const Rules& rules);

  const std::string& name() const { return name_; }
  bool removed() const;
  /// The last changes and their outcomes, one on a line.
  std::string history() const;

 private:
  struct Event {
    Change change;
    std::optional<Status> outcome;
  };
  std::vector<Content> possible() const;
  bool reads_as(const Found& found, const Content& content) const;
  Finding finding_of(const Found& found) const;

  std::string name_;
  std::vector<Content> base_{Content{}};  ///< what it may hold if none of `given_up_` was applied
  std::vector<Content> previous_;         ///< what it may have held before the last acknowledged change
  bool older_allowed_ = false;
  std::vector<Change> given_up_;  ///< each may have been applied, in any order
  std::optional<Change> under_way_;
  std::vector<Event> events_;
};

}  // namespace memkv::test
