#pragma once
/// RDMA in one process: its devices as numbered rails, its registered memory, and the two threads for all that blocks.

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "io/mailbox.h"
#include "io/reactor.h"
#include "transport/rdma/device.h"
#include "transport/rdma/memory.h"
#include "transport/rdma/queue_pair.h"

namespace memkv::transport::rdma {

class Devices;

/// Something that blocks, done in a helper thread. Owned by who asked, untouched by it until on_done.
struct BlockingJob {
  void (*run)(BlockingJob& job) = nullptr;  ///< Thread: helper
  void (*deliver)(BlockingJob& job,
                  void* deliver_to) = nullptr;  ///< Thread: helper; gives it back to its owner's thread
  void* deliver_to = nullptr;
  void (*on_done)(BlockingJob& job) = nullptr;  ///< Thread: the owner's
  void* context = nullptr;
  bool pending = false;  ///< Thread: the owner's
};

/// Runs jobs one after another, and looks at something regularly. Thread: any pushes.
class Helper {
 public:
  using Look = void (*)(void* context);
  virtual ~Helper() = default;  ///< when no job is under way
  virtual void push(BlockingJob& job) = 0;
};

/// A helper that has a thread.
class HelperThread final : public Helper {
 public:
  /// Null: no event loop or no thread can be had.
  static std::unique_ptr<Helper> make(const char* name, Look look, void* context);
  ~HelperThread() override;
  void push(BlockingJob& job) override;

 private:
  HelperThread(Look look, void* context, std::unique_ptr<io::Reactor> reactor);
  void loop();

  const Look look_;
  void* const context_;
  std::unique_ptr<io::Reactor> reactor_;
  io::Mailbox<BlockingJob*> jobs_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

/// Bytes and troubles of a rail. Thread: any.
struct RailCounters {
  std::atomic<uint64_t> bytes_in{0}, bytes_out{0}, links{0}, links_total{0}, failures{0}, retry_errors{0},
      rnr_errors{0}, access_errors{0};
  std::atomic<uint64_t> ops{0}, switches{0};  ///< of a client: units of ops sent; times that its ops went another way
};

/// One device of this host, and its place in the list. The device is replaced when it went and came back.
struct Rail {
  std::string name;
  std::atomic<std::shared_ptr<Device>> device;  ///< null: not there now
  RailCounters counters;
};

/// What RDMA stands on in a process: libibverbs and threads, or what a simulator has in their place.
struct DevicesBase {
  const Verbs& verbs;
  std::function<std::unique_ptr<Helper>(const char* name, Helper::Look look, void* context)> make_helper;
};

/// Made once per process that has something to do with RDMA. Thread: any, but for what says otherwise.
class Devices {
 public:
  /// Empty `names`: all usable devices. Fails with a sentence that says why there is no RDMA here; a named device that
  /// cannot be opened now is taken when it comes. Blocks.
  static Result<std::unique_ptr<Devices>, Message> open(std::vector<std::string> names);
  static Result<std::unique_ptr<Devices>, Message> open(const DevicesBase& base, std::vector<std::string> names);
  ~Devices();

  size_t rail_count() const { return rails_.size(); }
  Rail& rail(size_t index) { return *rails_[index]; }
  /// Chooses the device for a peer's address: one in the same network. Without one, the device that the client's number
  /// of the rail picks (modulo the number of devices), or the next one that is there. Null: none is there.
  std::shared_ptr<Device> device_for(const wire::RdmaEnd& peer, size_t& rail) const;

  MemoryTable& memory() { return memory_; }
  /// On all devices that are there. Blocks: pins the pages. kNoSpace: the limit of locked memory, mostly.
  Result<std::shared_ptr<Registration>> add_memory(void* data, size_t size, Access access);
  /// Memory of a CUDA device, on all devices that take it: at least one, else kUnsupported with each one's reason.
  /// Blocks. It must not be freed before it is removed.
  Result<std::shared_ptr<Registration>, Message> add_gpu_memory(void* data, size_t size, int cuda_device);
  /// Waits until nothing is in flight on it; `wait` runs between looks (a Session drives its own loop there).
  void remove_memory(std::shared_ptr<Registration> registration, void (*wait)(void* context), void* context);

  void set_up(BlockingJob& job) { set_up_->push(job); }        ///< opening and connecting queue pairs
  void tear_down(BlockingJob& job) { tear_down_->push(job); }  ///< ending them: never waits behind a set-up

 private:
  explicit Devices(const Verbs& verbs) : verbs_(verbs) {}
  struct Refusal {
    size_t rail;
    Error error;
  };
  std::vector<Refusal> add_to_rails(Registration& registration);
  void look();
  void open_rail(Rail& rail, size_t index);
  void close_rail(Rail& rail, size_t index);

  const Verbs& verbs_;
  std::vector<std::unique_ptr<Rail>> rails_;
  MemoryTable memory_;
  std::unique_ptr<Helper> set_up_, tear_down_;
  uint64_t next_try_ns_ = 0;  // Thread: set-up
};

}  // namespace memkv::transport::rdma
