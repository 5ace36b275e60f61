/// The keys of a listing, and what it costs to read them.

#include <gtest/gtest.h>

#include <list>
#include <set>

#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

/// Begins all puts, then waits for them: the records then share extents.
void put_together(Rig& rig, const std::string& name, int count, size_t size) {
  std::list<PendingPut> puts;
  for (int i = 0; i < count; ++i) puts.emplace_back(rig, name + std::to_string(i), 1, size);
  for (PendingPut& put : puts) {
    while (put.done == 0) rig.any_reactor().run_once(1'000'000);
    ASSERT_EQ(put.op.status, Status::kOk);
  }
}

std::string read_key(Rig& rig, Digest digest) {
  char text[1024];
  Store::KeyOp op;
  op.key = {digest, kNamespace, {}};
  op.key_out = text;
  if (rig.run(op, [&] { rig.store().read_key(op); }) != Status::kOk) return "(not found)";
  return {text, op.key_bytes_out};
}

std::multiset<std::string> list_all(Rig& rig) {
  std::vector<Digest> digests;
  const auto visit = [](void* context, const Store::ListEntry& entry) {
    static_cast<std::vector<Digest>*>(context)->push_back(entry.digest);
  };
  uint64_t cursor = 0;
  do {
    cursor = rig.store().list(kNamespace, cursor, 100, visit, &digests);
  } while (cursor != 0);
  std::multiset<std::string> keys;
  for (const Digest digest : digests) keys.insert(read_key(rig, digest));
  return keys;
}

uint64_t device_reads(Rig& rig, size_t drives) {
  uint64_t reads = 0;
  for (size_t d = 0; d < drives; ++d) reads += rig.device(d).counts().reads;
  return reads;
}

TEST(ReadKey, AListingOfManySmallBlocksCostsAtMostTwoReadsEach) {
  constexpr int kAlone = 3000, kTogether = 1000;
  Rig rig(2, 256 * kMi);
  std::multiset<std::string> expected;
  for (int i = 0; i < kAlone; ++i) {  // an extent each, and many extents in a segment
    const std::string name = "alone" + std::to_string(i);
    ASSERT_EQ(rig.put(name, bytes_of(name, 1, 300)), Status::kOk);
    expected.insert(name);
  }
  for (int from = 0; from < kTogether; from += 200) {
    const std::string name = "batch" + std::to_string(from) + "-";
    put_together(rig, name, 200, 4000);
    for (int i = 0; i < 200; ++i) expected.insert(name + std::to_string(i));
  }
  const uint64_t before = device_reads(rig, 2);
  EXPECT_EQ(list_all(rig), expected);
  const uint64_t reads = device_reads(rig, 2) - before;
  EXPECT_GE(reads, uint64_t{kAlone + kTogether});
  EXPECT_LE(reads, uint64_t{kAlone + 2 * kTogether});
}

TEST(ReadKey, EverySizeOfRecordIsFoundInEveryMode) {
  for (const bool memory : {false, true}) {
    SCOPED_TRACE(memory);
    Rig rig(1, 256 * kMi, memory);
    std::multiset<std::string> expected;
    for (const size_t size : {size_t{0}, size_t{1}, size_t{4096}, size_t{65536}, size_t{65537}, size_t{2} << 20}) {
      const std::string name = "size" + std::to_string(size);
      ASSERT_EQ(rig.put(name, bytes_of(name, 1, size)), Status::kOk);
      expected.insert(name);
    }
    ASSERT_EQ(rig.put_large("large", bytes_of("large", 1, 5 * kMi)), Status::kOk);
    ASSERT_EQ(rig.write("holed", 70'000, bytes_of("holed", 1, 100)), Status::kOk);
    expected.insert({"large", "holed"});
    EXPECT_EQ(list_all(rig), expected);
    if (memory) continue;
    rig.reopen();
    EXPECT_EQ(list_all(rig), expected);
  }
}

TEST(ReadKey, KeyOfAnEmptyRecordIsRead) {
  Rig rig(1, 128 * kMi);
  for (const std::string name : {"empty", "next"}) {
    ASSERT_EQ(rig.put(name, name == "empty" ? "" : "x"), Status::kOk);
    EXPECT_EQ(read_key(rig, rig.key(name).digest), name);
  }
}

TEST(ReadKey, AHeaderThatRotsIsAMiss) {
  Rig rig(1, 128 * kMi);
  ASSERT_EQ(rig.put("rotten", bytes_of("rotten", 1, 5000)), Status::kOk);
  std::byte* image = rig.device(0).durable(0);
  int found = 0;
  for (uint64_t at = 0; at + base::kSectorBytes <= 128 * kMi; at += base::kSectorBytes) {
    uint64_t magic = 0;
    std::memcpy(&magic, image + at, sizeof magic);
    if (magic == format::kExtentMagic) image[at + sizeof(format::ExtentHeader) + 3] ^= std::byte{1}, ++found;
  }
  ASSERT_EQ(found, 1);
  EXPECT_EQ(read_key(rig, rig.key("rotten").digest), "(not found)");
}

TEST(ReadKey, BytesThatLookLikeAHeaderAreNotOne) {
  Rig rig(1, 128 * kMi);
  ASSERT_EQ(rig.put("original", bytes_of("original", 1, 100)), Status::kOk);
  const std::byte* image = rig.device(0).durable(0);
  std::string forged;
  for (uint64_t at = 0; forged.empty(); at += base::kSectorBytes) {
    uint64_t magic = 0;
    std::memcpy(&magic, image + at, sizeof magic);
    if (magic == format::kExtentMagic) forged.assign(reinterpret_cast<const char*>(image + at), base::kSectorBytes);
  }
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += forged;
  ASSERT_EQ(rig.put("copies", bytes), Status::kOk);
  EXPECT_EQ(read_key(rig, rig.key("copies").digest), "copies");
}

}  // namespace
}  // namespace memkv::engine
