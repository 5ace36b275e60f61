#include "tools/bench/bare.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <thread>
#include <vector>

#include "io/huge_memory.h"
#include "io/socket.h"

namespace memkv::bench {
namespace {

constexpr size_t kPageBytes = 4096;

/// Two ends of a connection over loopback; both block.
struct Ends {
  base::UniqueFd sender, receiver;
};
Ends connected() {
  const auto listener = io::listen_tcp("127.0.0.1", 0, {});
  const auto addresses = io::resolve("127.0.0.1", io::local_port(listener->get()));
  base::UniqueFd sender(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(sender.get(), addresses->front().get(), addresses->front().length), 0);
  return {std::move(sender), base::UniqueFd(accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC))};
}

TEST(PagePipe, SendsHeadAndBlockOfEverySize) {
  auto pipe = PagePipe::make();
  ASSERT_TRUE(pipe);
  const Ends ends = connected();
  auto memory = io::HugeMemory::make(5 << 20, true);
  ASSERT_TRUE(memory);
  for (size_t i = 0; i < memory->size(); i++) memory->data()[i] = static_cast<std::byte>(i % 251);
  const std::string head = "head of a block";
  for (const size_t bytes : {size_t{1}, kPageBytes, size_t{65536} + 5, size_t{5} << 20}) {
    std::thread sends([&] {
      EXPECT_TRUE(pipe->send(ends.sender.get(), base::as_bytes(head), {memory->data(), bytes}));
    });
    std::vector<std::byte> got(head.size() + bytes);
    iovec piece{got.data(), got.size()};
    EXPECT_TRUE(receive_all(ends.receiver.get(), {&piece, 1}));
    sends.join();
    EXPECT_EQ(std::memcmp(got.data(), head.data(), head.size()), 0);
    EXPECT_EQ(std::memcmp(got.data() + head.size(), memory->data(), bytes), 0) << bytes;
  }
}

/// The ceiling would be one of two copies if it did not.
TEST(PagePipe, LendsThePagesThemselves) {
  auto pipe = PagePipe::make();
  ASSERT_TRUE(pipe);
  const Ends ends = connected();
  auto memory = io::HugeMemory::make(kPageBytes, true);
  ASSERT_TRUE(memory);
  memory->data()[0] = std::byte{1};
  ASSERT_TRUE(pipe->send(ends.sender.get(), base::as_bytes(std::string_view("h")), {memory->data(), kPageBytes}));
  memory->data()[0] = std::byte{2};
  std::vector<std::byte> got(1 + kPageBytes);
  iovec piece{got.data(), got.size()};
  ASSERT_TRUE(receive_all(ends.receiver.get(), {&piece, 1}));
  EXPECT_EQ(got[1], std::byte{2});
}

TEST(PagePipe, TellsThatThePeerIsGone) {
  auto pipe = PagePipe::make();
  ASSERT_TRUE(pipe);
  Ends ends = connected();
  ends.receiver = {};
  auto memory = io::HugeMemory::make(1 << 20, true);
  ASSERT_TRUE(memory);
  bool sent = true;
  for (int i = 0; i < 100 && sent; i++)
    sent = pipe->send(ends.sender.get(), base::as_bytes(std::string_view("h")), memory->bytes());
  EXPECT_FALSE(sent);
}

}  // namespace
}  // namespace memkv::bench
