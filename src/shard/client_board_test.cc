/// The list of connected clients as other threads see it.

#include "shard/client_board.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>

namespace memkv::shard {
namespace {

std::vector<std::string> names(const ClientBoard& board, uint64_t namespace_id) {
  std::vector<ClientBoard::Entry> entries;
  board.collect(namespace_id, entries);
  std::vector<std::string> told;
  for (const auto& entry : entries) told.emplace_back(entry.name.view());
  std::sort(told.begin(), told.end());
  return told;
}

TEST(ClientName, is_printable_and_short) {
  EXPECT_EQ(ClientName::of("vllm-loads").view(), "vllm-loads");
  EXPECT_EQ(ClientName::of("").view(), "");
  EXPECT_EQ(ClientName::of("a\x1b[2Jb\n\xc3\xbc").view(), "a?[2Jb???");
  EXPECT_EQ(ClientName::of(std::string(256, 'x')).view(), std::string(63, 'x'));
}

TEST(ClientBoard, a_namespace_sees_its_own_as_long_as_they_are_there) {
  ClientBoard board(3);
  EXPECT_EQ(names(board, 1), std::vector<std::string>());
  const uint32_t a = board.add({.namespace_id = 1, .client = {1}, .name = ClientName::of("a")});
  const uint32_t b = board.add({.namespace_id = 2, .client = {2}, .name = ClientName::of("b")});
  const uint32_t c = board.add({.namespace_id = 1, .client = {3}, .name = ClientName::of("c")});
  EXPECT_EQ(names(board, 1), (std::vector<std::string>{"a", "c"}));
  EXPECT_EQ(names(board, 2), std::vector<std::string>{"b"});
  EXPECT_EQ(board.in_use(), 3u);
  board.remove(a);
  EXPECT_EQ(names(board, 1), std::vector<std::string>{"c"});
  EXPECT_EQ(board.add({.namespace_id = 2, .name = ClientName::of("d")}), a) << "its place is free again";
  EXPECT_EQ(names(board, 2), (std::vector<std::string>{"b", "d"}));
  for (const uint32_t place : {a, b, c}) board.remove(place);
  EXPECT_EQ(board.in_use(), 0u);
}

TEST(ClientBoardThreads, an_entry_is_read_whole_or_not_at_all) {
  ClientBoard board(2);
  const auto entry_of = [](char letter) {
    return ClientBoard::Entry{
        .namespace_id = 1, .client = {static_cast<uint8_t>(letter)}, .name = ClientName::of(std::string(63, letter))};
  };
  std::atomic<bool> over{false};
  std::thread worker([&] {
    for (int i = 0; i < 20000; i++) board.remove(board.add(entry_of(static_cast<char>('a' + i % 26))));
    over = true;
  });
  std::vector<ClientBoard::Entry> entries;
  while (!over) {
    entries.clear();
    board.collect(1, entries);
    for (const auto& entry : entries) {
      ASSERT_EQ(entry.name.view(), std::string(63, static_cast<char>(entry.client[0])));
    }
  }
  worker.join();
}

}  // namespace
}  // namespace memkv::shard
