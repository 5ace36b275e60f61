/// The simulated network: bytes arrive in order, windows fill, and each fault does what it says.

#include <gtest/gtest.h>

#include <unistd.h>

#include <cerrno>
#include <string>

#include "sim/loop.h"
#include "sim/network.h"

namespace memkv::sim {
namespace {

/// A connection between hosts 1 and 2. Both ends are on one loop, which an actor drives.
class SimulatedNetwork : public testing::Test, public Actor {
 protected:
  struct Op {
    io::IoOp op;
    iovec piece{};
    int32_t result = 1 << 30;
    bool done() const { return result != 1 << 30; }
  };
  SimulatedNetwork() : Actor("test") { world_.add(*this); }
  ~SimulatedNetwork() override { world_.remove(*this); }
  bool runnable() const override { return loop_.runnable(); }
  uint64_t next_ns() const override { return loop_.next_ns(); }
  void turn() override { loop_.run_once(kSecond); }

  void prepare(Op& op) {
    op.result = 1 << 30;
    op.op.context = &op;
    op.op.on_done = [](io::IoOp& done, int32_t result) { static_cast<Op*>(done.context)->result = result; };
  }
  int32_t finish(Op& op, uint64_t ns = kSecond) {
    world_.run_until(world_.now_ns() + ns, [&] { return op.done(); });
    return op.result;
  }
  void connect() {
    listener_ = network_.make_listener(1, 9900);
    client_ = network_.make_socket(2);
    prepare(accept_);
    prepare(connect_);
    const sockaddr_in to = Network::address(1, 9900);
    ASSERT_TRUE(loop_.accept(accept_.op, listener_).ok());
    ASSERT_TRUE(loop_.connect(connect_.op, client_, reinterpret_cast<const sockaddr*>(&to), sizeof to).ok());
    ASSERT_EQ(finish(connect_), 0);
    server_ = finish(accept_);
    ASSERT_GE(server_, Network::kFirstFd);
  }
  void send(int fd, std::string& text) {
    prepare(send_);
    send_.piece = {text.data(), text.size()};
    ASSERT_TRUE(loop_.send(send_.op, fd, {&send_.piece, 1}).ok());
  }
  void receive(int fd, std::string& room) {
    prepare(receive_);
    receive_.piece = {room.data(), room.size()};
    ASSERT_TRUE(loop_.recv(receive_.op, fd, {&receive_.piece, 1}).ok());
  }

  World world_{3};
  Network network_{world_};
  SimLoop loop_{world_, network_, SimLoop::Likeness::kEpoll, 0};
  int listener_ = -1, client_ = -1, server_ = -1;
  Op accept_, connect_, send_, receive_;
};

TEST_F(SimulatedNetwork, bytes_arrive_in_order_and_later) {
  connect();
  std::string text = "hello, server", room(64, '.');
  receive(server_, room);
  send(client_, text);
  EXPECT_EQ(finish(send_), 13);
  EXPECT_FALSE(receive_.done()) << "not yet there";
  EXPECT_EQ(finish(receive_), 13);
  EXPECT_EQ(room.substr(0, 13), text);
}

TEST_F(SimulatedNetwork, a_reader_that_does_not_read_stops_the_writer) {
  network_.plan().window_bytes = 1000;
  connect();
  std::string text(3000, 'x'), room(600, '.');
  send(client_, text);
  EXPECT_EQ(finish(send_), 1000);
  send(client_, text);
  EXPECT_NE(finish(send_), 1000) << "the window is full";
  EXPECT_FALSE(send_.done());
  receive(server_, room);
  EXPECT_EQ(finish(receive_), 600);
  EXPECT_EQ(finish(send_), 600);
}

TEST_F(SimulatedNetwork, what_was_sent_before_the_end_is_read_before_it) {
  connect();
  std::string text = "last words", room(64, '.');
  send(client_, text);
  finish(send_);
  ::shutdown(client_, SHUT_RDWR);
  ::close(client_);
  receive(server_, room);
  EXPECT_EQ(finish(receive_), 10);
  receive(server_, room);
  EXPECT_EQ(finish(receive_), 0);
}

TEST_F(SimulatedNetwork, a_canceled_receive_of_a_client_writes_nothing) {
  connect();
  std::string text = "late", room(64, '.');
  receive(client_, room);
  send(server_, text);
  finish(send_);
  loop_.cancel(receive_.op);
  EXPECT_EQ(finish(receive_), -ECANCELED);
  world_.run_for(kSecond);
  EXPECT_EQ(room, std::string(64, '.'));
}

TEST_F(SimulatedNetwork, a_host_without_power_never_answers_and_a_killed_process_is_told) {
  connect();
  std::string text = "anyone?", room(64, '.');
  network_.cut_power(1);
  receive(client_, room);
  send(client_, text);
  finish(send_);
  EXPECT_EQ(finish(receive_), 1 << 30);
  network_.power_on(1);
  send(client_, text);
  finish(send_);
  EXPECT_EQ(finish(receive_), -ECONNRESET);
}

TEST_F(SimulatedNetwork, a_half_open_connection_takes_bytes_that_arrive_nowhere) {
  connect();
  network_.make_half_open(2, 0);
  std::string text = "lost", room(64, '.');
  receive(server_, room);
  send(client_, text);
  EXPECT_EQ(finish(send_), 4);
  EXPECT_EQ(finish(receive_), 1 << 30);
  loop_.cancel(receive_.op);
  finish(receive_);
}

TEST_F(SimulatedNetwork, what_a_black_hole_swallows_is_sent_again) {
  connect();
  network_.blackhole_until(2, world_.now_ns() + kSecond);
  std::string text = "patience", room(64, '.');
  receive(server_, room);
  send(client_, text);
  EXPECT_EQ(finish(receive_, kSecond / 2), 1 << 30);
  EXPECT_EQ(finish(receive_, kSecond), 8);
}

}  // namespace
}  // namespace memkv::sim
