#include "columns.h"

#include <string>

#include "sized.h"

namespace memkv::c {
namespace {

/// No machine has memory for a larger sum of sizes.
constexpr uint64_t kBytesMax = INT64_MAX;

bool has_pieces(uint32_t kind) {
  return kind == MEMKV_OP_GET || kind == MEMKV_OP_PUT || kind == MEMKV_OP_PUT_IF_ABSENT || kind == MEMKV_OP_WRITE;
}

uint32_t kind_of(const memkv_batch& batch, size_t op) { return batch.op_kinds ? batch.op_kinds[op] : batch.kind; }

uint32_t flags_of(const memkv_batch& batch, size_t op) {
  return batch.flags | (batch.op_flags ? batch.op_flags[op] : 0u);
}

size_t pieces_of(const memkv_batch& batch, size_t op) {
  return batch.op_piece_counts ? batch.op_piece_counts[op] : has_pieces(kind_of(batch, op));
}

Message wrong(size_t op, const std::string& what) { return invalid("op " + std::to_string(op) + ": " + what); }

Checked check_op(const memkv_batch& batch, size_t op) {
  const uint32_t kind = kind_of(batch, op), flags = flags_of(batch, op);
  if (kind < MEMKV_OP_GET || kind > MEMKV_OP_PREFETCH) {
    return wrong(op, "its kind is " + std::to_string(kind) + "; kinds are MEMKV_OP_GET to MEMKV_OP_PREFETCH");
  }
  if ((flags & ~uint32_t{MEMKV_FLAG_CHAINED | MEMKV_FLAG_TOUCH}) != 0) {
    return wrong(op, "its flags are " + std::to_string(flags) + ", of which this library does not know all");
  }
  if ((flags & MEMKV_FLAG_CHAINED) != 0 && op == 0) return wrong(op, "it is chained, and no op is before it");
  if ((flags & MEMKV_FLAG_TOUCH) != 0 && kind != MEMKV_OP_EXISTS) {
    return wrong(op, "MEMKV_FLAG_TOUCH is for MEMKV_OP_EXISTS");
  }
  if (batch.keys[op] == nullptr && batch.key_sizes[op] > 0) return wrong(op, "its key is NULL");
  if (!has_pieces(kind) && pieces_of(batch, op) > 0) return wrong(op, "it has pieces, and takes none");
  return {};
}

Checked check_pieces(const memkv_batch& batch, size_t op, size_t first, size_t count) {
  uint64_t bytes = 0;
  for (size_t i = first; i < first + count; i++) {
    if (batch.pieces[i] == nullptr && batch.piece_sizes[i] > 0) {
      return wrong(op, "its piece " + std::to_string(i - first) + " is NULL");
    }
    if (batch.piece_sizes[i] > kBytesMax - bytes) return wrong(op, "its pieces are larger than any memory");
    bytes += batch.piece_sizes[i];
  }
  return {};
}

/// The pieces of one op, as C++ takes them.
template <typename P>
std::span<const P> gathered(const memkv_batch& batch, size_t first, size_t count, std::vector<P>& room) {
  room.clear();
  for (size_t i = first; i < first + count; i++) room.push_back({batch.pieces[i], batch.piece_sizes[i]});
  return room;
}

}  // namespace

Checked read_batch(const memkv_batch* from, memkv_batch& to) {
  if (auto read = read_sized("memkv_batch", from, sizeof(memkv_batch), to); !read) return read;
  if (to.op_count == 0) return {};
  if (to.op_count > MEMKV_BATCH_OPS_MAX) {
    return invalid("a batch of " + std::to_string(to.op_count) + " ops: at most " +
                   std::to_string(MEMKV_BATCH_OPS_MAX) + " go in one");
  }
  if (to.piece_count > UINT32_MAX) return invalid("more pieces than go in one batch");
  if (!to.keys || !to.key_sizes) return invalid("memkv_batch: keys or key_sizes is NULL");
  if (to.piece_count > 0 && (!to.pieces || !to.piece_sizes)) {
    return invalid("memkv_batch: piece_count is set, and pieces or piece_sizes is NULL");
  }
  if (to.timeout_ns < 0) return invalid("memkv_batch: timeout_ns is negative");
  size_t pieces = 0;
  for (size_t op = 0; op < to.op_count; op++) {
    if (auto checked = check_op(to, op); !checked) return checked;
    const size_t count = pieces_of(to, op);
    if (count > to.piece_count - pieces) return wrong(op, "its pieces end after piece_count");
    if (auto checked = check_pieces(to, op, pieces, count); !checked) return checked;
    pieces += count;
  }
  if (pieces == to.piece_count) return {};
  return invalid("memkv_batch: the ops have " + std::to_string(pieces) + " pieces, and piece_count is " +
                 std::to_string(to.piece_count));
}

void fill(const memkv_batch& from, Batch& to) {
  thread_local std::vector<Piece> pieces;
  thread_local std::vector<ConstPiece> const_pieces;
  size_t first = 0;
  for (size_t op = 0; op < from.op_count; op++) {
    const std::string_view key(static_cast<const char*>(from.keys[op]), from.key_sizes[op]);
    const size_t count = pieces_of(from, op);
    const uint64_t offset = from.offsets ? from.offsets[op] : 0;
    const auto source = [&] { return Gather(gathered(from, first, count, const_pieces)); };
    switch (kind_of(from, op)) {
      case MEMKV_OP_GET:
        to.get(key, Scatter(gathered(from, first, count, pieces)), offset, from.generations ? from.generations[op] : 0);
        break;
      case MEMKV_OP_PUT:
        to.put(key, source());
        break;
      case MEMKV_OP_PUT_IF_ABSENT:
        to.put_if_absent(key, source());
        break;
      case MEMKV_OP_WRITE:
        to.write(key, source(), offset);
        break;
      case MEMKV_OP_EXISTS:
        to.exists(key, (flags_of(from, op) & MEMKV_FLAG_TOUCH) != 0);
        break;
      case MEMKV_OP_REMOVE:
        to.remove(key);
        break;
      case MEMKV_OP_TOUCH:
        to.touch(key);
        break;
      case MEMKV_OP_PREFETCH:
        to.prefetch(key);
        break;
      default:
        to.stat(key);
    }
    if ((flags_of(from, op) & MEMKV_FLAG_CHAINED) != 0) to.chained();
    first += count;
  }
}

Checked read_results(const memkv_results* from, memkv_results& to) {
  to = {};
  return from ? read_sized("memkv_results", from, sizeof(memkv_results), to) : Checked();
}

void write(std::span<const Outcome> outcomes, const memkv_results& to) {
  for (size_t i = 0; i < outcomes.size(); i++) {
    const Outcome& outcome = outcomes[i];
    if (to.statuses) to.statuses[i] = static_cast<int32_t>(outcome.status);
    if (to.bytes) to.bytes[i] = outcome.bytes;
    if (to.block_bytes) to.block_bytes[i] = outcome.block_bytes;
    if (to.generations) to.generations[i] = outcome.generation;
    if (to.exists) to.exists[i] = outcome.exists;
    if (to.unreachable) to.unreachable[i] = outcome.unreachable;
  }
}

}  // namespace memkv::c
