#include "tests/crash/model.h"

#include <algorithm>
#include <utility>

#include "tests/support/pattern.h"

namespace memkv::test {
namespace {

constexpr size_t kHistoryLines = 40;

void add_once(std::vector<Content>& contents, Content content) {
  if (std::find(contents.begin(), contents.end(), content) == contents.end()) contents.push_back(std::move(content));
}

void append(std::vector<Content::Part>& parts, uint64_t end, uint64_t version) {
  const uint64_t begin = parts.empty() ? 0 : parts.back().end;
  if (end <= begin) return;
  if (!parts.empty() && parts.back().version == version) parts.pop_back();
  parts.push_back({end, version});
}

Content overwritten(const Change& change, const Content& before) {
  Content result;
  result.present = true;
  for (const Content::Part& part : before.parts) append(result.parts, std::min(part.end, change.offset), part.version);
  append(result.parts, change.offset, 0);
  append(result.parts, change.offset + change.bytes, change.version);
  for (const Content::Part& part : before.parts) append(result.parts, part.end, part.version);
  return result;
}

}  // namespace

bool Content::has_hole() const {
  return std::any_of(parts.begin(), parts.end(), [](const Part& part) { return part.version == 0; });
}

Content after(const Change& change, const Content& before) {
  switch (change.kind) {
    case ChangeKind::kRemove:
      return {};
    case ChangeKind::kWrite:
      return overwritten(change, before);
    case ChangeKind::kPutIfAbsent:
      if (before.present) return before;
      [[fallthrough]];
    case ChangeKind::kPut:
      return overwritten(change, {});
  }
  return before;
}

bool was_done(const Change& change, Status status) {
  return status == Status::kOk || (status == Status::kMiss && change.kind == ChangeKind::kRemove);
}

bool changed_nothing(Status status) {
  return status == Status::kRefused || status == Status::kExists || status == Status::kUnavailable;
}

const char* name_of(Finding finding) {
  constexpr const char* kNames[] = {"as it should be", "an acknowledged block is gone",
                                    "an older version than the acknowledged one", "a removed block is back",
                                    "bytes that nobody wrote there"};
  return kNames[static_cast<int>(finding)];
}

void BlockModel::begun(const Change& change) {
  under_way_ = change;
  events_.push_back({change, std::nullopt});
}

void BlockModel::ended(Status status, const Rules& rules) {
  if (!under_way_) return;
  const Change change = *under_way_;
  under_way_.reset();
  events_.back().outcome = status;
  if (changed_nothing(status)) return;
  if (!was_done(change, status)) {
    given_up_.push_back(change);
    return;
  }
  std::vector<Content> before = possible();
  if (rules.may_miss) add_once(before, {});
  previous_ = before;
  base_.clear();
  for (const Content& content : before) {
    // A client that was told that put_if_absent stored the block knows that it was absent.
    add_once(base_, after(change, change.kind == ChangeKind::kPutIfAbsent ? Content{} : content));
  }
  if (rules.ordered) given_up_.clear();
}

void BlockModel::at_rest() {
  if (under_way_) given_up_.push_back(*under_way_);
  under_way_.reset();
  base_ = possible();
  given_up_.clear();
}

/// All contents that the base can become when any of the given-up changes are applied in any order.
std::vector<Content> BlockModel::possible() const {
  struct State {
    Content content;
    uint32_t applied;
  };
  std::vector<State> states;
  for (const Content& content : base_) states.push_back({content, 0});
  for (size_t next = 0; next < states.size(); ++next) {
    for (size_t i = 0; i < given_up_.size(); ++i) {
      const uint32_t bit = uint32_t{1} << i;
      if ((states[next].applied & bit) != 0) continue;
      State state{after(given_up_[i], states[next].content), states[next].applied | bit};
      const bool known = std::any_of(states.begin(), states.end(), [&](const State& other) {
        return other.applied == state.applied && other.content == state.content;
      });
      if (!known) states.push_back(std::move(state));
    }
  }
  std::vector<Content> contents;
  for (State& state : states) add_once(contents, std::move(state.content));
  return contents;
}

bool BlockModel::reads_as(const Found& found, const Content& content) const {
  if (!found.hit) return !content.present || content.has_hole();
  if (!content.present || content.has_hole() || content.bytes() != found.bytes) return false;
  uint64_t at = 0;
  for (const Content::Part& part : content.parts) {
    if (first_mismatch(found.data + at, part.end - at, pattern_seed(name_, part.version), at) != -1) return false;
    at = part.end;
  }
  return true;
}

Finding BlockModel::check(const Found& found, const Rules& rules) {
  const bool older_allowed = std::exchange(older_allowed_, false);
  const std::vector<Content> previous = std::exchange(previous_, {});
  if (!found.hit && rules.may_miss) {
    if (!rules.may_return) base_.clear();
    add_once(base_, {});
    return Finding::kAllowed;
  }
  std::vector<Content> candidates = base_;
  for (const Content& content : previous) {
    if (older_allowed) add_once(candidates, content);
  }
  std::erase_if(candidates, [&](const Content& content) { return !reads_as(found, content); });
  if (candidates.empty()) return found.hit ? finding_of(found) : Finding::kLost;
  base_ = std::move(candidates);
  return Finding::kAllowed;
}

/// Judges bytes that should not be there: did some version of this block write the first of them?
Finding BlockModel::finding_of(const Found& found) const {
  const uint64_t length = std::min<uint64_t>(found.bytes, 64);
  const bool known = std::any_of(events_.begin(), events_.end(), [&](const Event& event) {
    if (event.change.kind == ChangeKind::kRemove || event.change.offset != 0) return false;
    const uint64_t compared = std::min(length, event.change.bytes);
    return first_mismatch(found.data, compared, pattern_seed(name_, event.change.version)) == -1;
  });
  if (!known) return Finding::kWrong;
  return removed() ? Finding::kRevived : Finding::kOld;
}

bool BlockModel::removed() const {
  for (size_t i = events_.size(); i-- > 0;) {
    const Event& event = events_[i];
    if (event.outcome == Status::kOk || event.outcome == Status::kMiss) return event.change.kind == ChangeKind::kRemove;
  }
  return true;
}

std::string BlockModel::history() const {
  constexpr const char* kKinds[] = {"put", "put_if_absent", "write", "remove"};
  std::string text;
  const size_t first = events_.size() > kHistoryLines ? events_.size() - kHistoryLines : 0;
  for (size_t i = first; i < events_.size(); ++i) {
    const auto& [change, outcome] = events_[i];
    text += "  " + std::string(kKinds[static_cast<int>(change.kind)]) + " version " + std::to_string(change.version) +
            ", " + std::to_string(change.bytes) + " bytes at " + std::to_string(change.offset) + ": " +
            (outcome ? std::string(to_string(*outcome)) : "no outcome") + "\n";
  }
  return text;
}

}  // namespace memkv::test
