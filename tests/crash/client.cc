/// The child's side: a process that changes its own blocks, and reports each change before and after.

#include "tests/crash/client.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>

#include "memkv/client.h"
#include "tests/support/pattern.h"

namespace memkv::test {
namespace {

using Bytes = std::vector<unsigned char>;
using Run = std::function<std::vector<Outcome>(Batch&, Deadline)>;

constexpr uint64_t kSmallSizes[] = {0, 1, 100, 4096, 40'000, 65'536, 65'537};
constexpr uint64_t kLargeSizes[] = {562'176, 1'048'576, 2'097'152, 2'097'153, kBlockBytesMax};
constexpr uint64_t kCheapBytes = 4096;  ///< size of writes once the budget is spent
constexpr int kGivenUpMax = 3;          ///< for each block: the model looks at every order of them
constexpr int kAwayMs = 30;             ///< between two tries while the server is away
constexpr auto kLongDeadline = std::chrono::seconds(10);

void send(int fd, const Report& report) {
  if (write(fd, &report, sizeof report) != static_cast<ssize_t>(sizeof report)) _exit(1);  // the parent is gone
}

bool asked_to_end() {
  pollfd fd{kStopFd, POLLIN, 0};
  return poll(&fd, 1, 0) != 0;
}

/// Makes random changes in batches. A batch never has two changes of one block.
class Changer {
 public:
  Changer(const ClientPlan& plan, Run run)
      : plan_(plan), run_(std::move(run)), random_(mix(plan.seed)), version_(plan.version), budget_(plan.budget) {
    if (!plan.journal.empty()) {
      journal_.reset(open(plan.journal.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    }
  }

  void one_batch() {
    std::vector<Change> changes;
    std::vector<Bytes> bytes;
    const uint64_t count = 1 + below(4);
    for (uint64_t i = 0; i < count; ++i) {
      const std::optional<uint32_t> key = choose(changes);
      if (!key) continue;
      changes.push_back(next_change(*key));
      const Change& change = changes.back();
      bytes.push_back(pattern(block_name(plan_.tenant, plan_.id, *key), change.version,
                              change.kind == ChangeKind::kRemove ? 0 : change.bytes, change.offset));
    }
    if (changes.empty()) return rest();
    submit(changes, bytes);
    if (plan_.verifies && below(4) == 0) read_back(changes.front().key);
  }

 private:
  /// What this process knows of a block from its own changes.
  struct Block {
    std::optional<Change> whole;  ///< the block is as this put left it
    int given_up = 0;             ///< changes whose outcome is unknown
    bool left_alone = false;      ///< it is not changed any more, so that a late change is not covered up
  };

  void tell(Report::Kind kind, const Change& change, Status status = Status::kOk) {
    const Report report{kind, status, change};
    if (journal_) send(journal_.get(), report);
    send(kReportFd, report);
  }

  uint64_t below(uint64_t n) {
    random_ = mix(random_ + 1);
    return random_ % n;
  }

  static void rest(int ms = 1) { usleep(static_cast<useconds_t>(ms) * 1000); }

  /// Chooses a block that the batch does not change yet. Often it takes one with a given-up change, since that may come
  /// late and undo what follows.
  std::optional<uint32_t> choose(const std::vector<Change>& taken) {
    const bool wants_uncertain = gave_up_ || below(2) == 0;
    const auto first = static_cast<uint32_t>(below(kBlocksPerClient));
    std::optional<uint32_t> other;
    for (uint32_t i = 0; i < kBlocksPerClient; ++i) {
      const uint32_t key = (first + i) % kBlocksPerClient;
      const bool is_taken = std::any_of(taken.begin(), taken.end(), [&](const Change& c) { return c.key == key; });
      if (is_taken || blocks_[key].left_alone || blocks_[key].given_up >= kGivenUpMax) continue;
      if (!wants_uncertain || blocks_[key].given_up > 0) return key;
      if (!other) other = key;
    }
    return other;
  }

  Change next_change(uint32_t key) {
    const Block& block = blocks_[key];
    Change change{ChangeKind::kPut, key, ++version_, 0, next_size()};
    const uint64_t kind = below(10);
    if (kind < 2) change.kind = ChangeKind::kRemove;
    if (kind == 2) change.kind = ChangeKind::kPutIfAbsent;
    if (kind == 3 && block.whole && change.bytes > 0) {
      change.kind = ChangeKind::kWrite;
      change.offset = below(block.whole->bytes + 1);
    }
    return change;
  }

  uint64_t next_size() {
    if (budget_ <= 0) return below(kCheapBytes);
    const uint64_t size =
        below(6) == 0 ? kLargeSizes[below(std::size(kLargeSizes))] : kSmallSizes[below(std::size(kSmallSizes))];
    budget_ -= static_cast<int64_t>(size);
    return size;
  }

  void submit(const std::vector<Change>& changes, const std::vector<Bytes>& bytes) {
    if (budget_ <= 0) rest();
    Batch batch;
    for (size_t i = 0; i < changes.size(); ++i) {
      add(batch, changes[i], bytes[i]);
      tell(Report::Kind::kBegun, changes[i]);
    }
    const bool gives_up_soon = is_hasty();
    const Deadline deadline = gives_up_soon ? Deadline(std::chrono::milliseconds(1 + below(60))) : kLongDeadline;
    const std::vector<Outcome> outcomes = run_(batch, deadline);
    gave_up_ = false;
    for (size_t i = 0; i < changes.size(); ++i) {
      tell(Report::Kind::kEnded, changes[i], outcomes[i].status);
      learn(changes[i], outcomes[i].status);
    }
    if (!gives_up_soon && is_failure(outcomes.front().status)) rest(kAwayMs);
  }

  /// In a hurry, deadlines are so short that something is given up. What follows waits until it is acknowledged, so
  /// that a late change has something to undo. Where that is allowed it costs a block until the round ends.
  bool is_hasty() { return plan_.ordered ? !gave_up_ && below(4) != 0 : below(16) == 0; }

  void add(Batch& batch, const Change& change, const Bytes& bytes) const {
    const std::string key = key_text(plan_.id, change.key);
    switch (change.kind) {
      case ChangeKind::kPut:
        batch.put(key, bytes);
        break;
      case ChangeKind::kPutIfAbsent:
        batch.put_if_absent(key, bytes);
        break;
      case ChangeKind::kWrite:
        batch.write(key, bytes, change.offset);
        break;
      case ChangeKind::kRemove:
        batch.remove(key);
        break;
    }
  }

  void learn(const Change& change, Status status) {
    Block& block = blocks_[change.key];
    if (changed_nothing(status)) return;
    const bool is_whole = change.kind == ChangeKind::kPut || change.kind == ChangeKind::kPutIfAbsent;
    block.whole.reset();
    if (!was_done(change, status)) {
      gave_up_ = true;
      ++block.given_up;
      return;
    }
    if (plan_.ordered && block.given_up > 0) leave_alone_some(block);
    if (plan_.ordered) block.given_up = 0;
    if (is_whole && block.given_up == 0) block.whole = change;
  }

  /// From now on leaves half of those blocks alone whose given-up change was followed by an acknowledged one, as long
  /// as others are left to change.
  void leave_alone_some(Block& block) {
    if (left_alone_ >= static_cast<int>(kBlocksPerClient) / 2 || below(2) != 0) return;
    block.left_alone = true;
    ++left_alone_;
  }

  /// Checks a block whose last change was an acknowledged put, with nothing given up since: it must read as that put
  /// left it.
  void read_back(uint32_t key) {
    const std::optional<Change> whole = blocks_[key].whole;
    if (!whole) return;
    Bytes buffer(whole->bytes + 1);
    Batch batch;
    batch.get(key_text(plan_.id, key), buffer);
    const Outcome got = run_(batch, kLongDeadline)[0];
    const uint64_t seed = pattern_seed(block_name(plan_.tenant, plan_.id, key), whole->version);
    const bool wrong = got.status == Status::kOk &&
                       (got.bytes != whole->bytes || first_mismatch(buffer.data(), got.bytes, seed) != -1);
    if (wrong) tell(Report::Kind::kWrongRead, *whole, got.status);
  }

  const ClientPlan& plan_;
  Run run_;
  base::UniqueFd journal_;
  uint64_t random_;
  uint64_t version_;
  int64_t budget_;
  int left_alone_ = 0;
  bool gave_up_ = false;  ///< in the last batch
  Block blocks_[kBlocksPerClient];
};

void work(const ClientPlan& plan, Run run) {
  Changer changer(plan, std::move(run));
  while (!asked_to_end()) changer.one_batch();
}

}  // namespace

int run_client(const ClientPlan& plan) {
  ClientOptions options;
  options.servers = {plan.address};
  options.namespace_key = plan.credential;
  options.shm_dir = plan.shm_dir;
  setenv("MEMKV_TRANSPORT", plan.transport.c_str(), /*overwrite=*/1);  // kAuto in the options would not override it
  if (plan.session) {
    auto session = Session::connect(options);
    if (!session) return 1;
    work(plan, [&](Batch& batch, Deadline deadline) { return session->run(batch, deadline); });
  } else {
    auto client = Client::connect(options);
    if (!client) return 1;
    work(plan, [&](Batch& batch, Deadline deadline) { return client->run(batch, deadline); });
  }
  return 0;
}

}  // namespace memkv::test
