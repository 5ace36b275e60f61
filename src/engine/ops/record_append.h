#pragma once
/// Records of ops on their way into a log.

#include <span>
#include <vector>

#include "engine/parts.h"

namespace memkv::engine {

/// The record of a put or a chunk: it goes to a log that is chosen for it, and to another drive's when that one leaves.
///
/// Owns the append. Part of an op. Thread: worker.
class RecordAppend {
 public:
  explicit RecordAppend(Parts& parts) : parts_(parts) {}

  /// What the record says. The key's text, the payload and its sums stay until the append is done.
  void describe(const BlockKey& key, format::RecordKind kind, uint32_t chunk, const PayloadIn& payload,
                uint64_t deadline_ns);
  void call_when_done(Append::Fn on_done, void* context);
  /// Chooses a log and appends. Where no drive is left, on_done runs inside.
  void submit();
  /// After a `status` that is its drive's fault: appends to another drive. False: it was not, or all were tried.
  bool try_elsewhere(Status status);
  /// What became of the append, as of now.
  Status status() const { return parts_.drives.status_unless_drive_left(append_); }

  Append& append() { return append_; }
  Digest digest() const { return {append_.header.digest[0], append_.header.digest[1]}; }
  RecordRef ref() const;

 private:
  Log* choose_log();

  Parts& parts_;
  Append append_;
  size_t attempts_ = 0;  // drives that did not take it
};

/// A record as its append left it.
RecordRef ref_of(const Append& append);

/// A head record: which chunks a block consists of. The payload is made in `data`, of format::head_payload_bytes(), and
/// its grain sums in `sums`; both stay until the append is done, and so does the key's text.
void describe_head(Append& append, const BlockKey& key, uint64_t sequence, uint64_t block_bytes,
                   std::span<const uint64_t> sequences, std::span<std::byte> data, std::vector<uint64_t>& sums);

}  // namespace memkv::engine
