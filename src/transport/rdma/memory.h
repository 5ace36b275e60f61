#pragma once
/// Memory that NICs may read and write: registered once per process and device, looked up by address on the data path.

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "memkv/error.h"
#include "transport/rdma/device.h"
#include "transport/rdma/dmabuf.h"

namespace memkv::transport::rdma {

inline constexpr size_t kRailsMax = 8;

/// Who may touch registered memory: the own NIC only (the server's slots), or the peer as well (a client's regions).
enum class Access : uint8_t { kLocal, kRemote };

/// Keys of one piece on one device.
struct MemoryKeys {
  uint32_t local = 0;
  uint32_t remote = 0;
};

/// A range of memory and its registration on each device. `users` counts what is in flight on it: deregister waits for
/// that. Thread: any.
class Registration {
 public:
  Registration(void* data, size_t size, Access access)
      : data_(static_cast<std::byte*>(data)), size_(size), access_(access) {}
  /// GPU memory, for the peer to read and write; the CPU cannot touch it.
  Registration(void* data, size_t size, DmaBuf dmabuf)
      : data_(static_cast<std::byte*>(data)), size_(size), access_(Access::kRemote), dmabuf_(std::move(dmabuf)) {}
  ~Registration();
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  Access access() const { return access_; }
  bool gpu() const { return dmabuf_.has_value(); }
  bool covers(const void* at, size_t bytes) const {
    const auto* begin = static_cast<const std::byte*>(at);
    return begin >= data_ && bytes <= size_ && begin - data_ <= static_cast<ptrdiff_t>(size_ - bytes);
  }

  /// Registers it on `device`, in place of the device that the rail had before; on the same device the keys that are
  /// there stay. Blocks: pins the pages. kUnsupported: the device does not take GPU memory.
  Result<void> add(size_t rail, std::shared_ptr<Device> device);
  /// Forgets the registration on a device that is gone.
  void drop(size_t rail);
  /// On whatever device is there for that rail.
  bool is_on(size_t rail) const { return on_[rail].load(std::memory_order_acquire) != nullptr; }
  /// Null: not registered on this very device.
  const MemoryKeys* keys(size_t rail, const Device& device) const;

  /// False: it is being deregistered, and must not be used any more.
  [[nodiscard]] bool use();
  void unuse() { users_.fetch_sub(1); }
  /// After retire(): takes it from all devices and closes the dma-buf, so that its owner may free it now. Readers'
  /// views keep the object for a while. Blocks: unpins the pages.
  void let_go();
  /// No new use from here on; true once nothing is in flight.
  bool retire() {
    retired_.store(true);
    return users_.load() == 0;
  }

 private:
  struct OnDevice {
    const Device* identity = nullptr;
    MemoryKeys keys;
    std::shared_ptr<Device> device;  ///< null once dropped; who adds and drops touches it
    ibv_mr* mr = nullptr;
    OnDevice* next = nullptr;  ///< of those that were replaced or dropped: kept, since a reader may be looking
  };
  void bury(OnDevice* on);
  Result<ibv_mr*> register_on(const Device& device) const;

  std::byte* const data_;
  const size_t size_;
  const Access access_;
  std::optional<DmaBuf> dmabuf_;
  std::array<std::atomic<OnDevice*>, kRailsMax> on_{};
  std::atomic<OnDevice*> buried_{nullptr};
  std::atomic<uint32_t> users_{0};
  std::atomic<bool> retired_{false};
};

/// All registrations of a process. Thread: any; readers look through a MemoryView of their own.
class MemoryTable {
 public:
  using Snapshot = std::vector<std::shared_ptr<Registration>>;  ///< by start
  MemoryTable();
  void add(std::shared_ptr<Registration> registration);
  void remove(const Registration& registration);
  std::shared_ptr<const Snapshot> snapshot() const { return snapshot_.load(); }
  uint64_t version() const { return version_.load(std::memory_order_acquire); }
  /// Any of it is GPU memory.
  bool any_gpu() const { return gpu_.load(std::memory_order_acquire) > 0; }

 private:
  template <typename Change>
  void change(Change&& apply);

  std::atomic<std::shared_ptr<const Snapshot>> snapshot_;
  std::atomic<uint64_t> version_{1};
  std::atomic<uint32_t> gpu_{0};
};

/// One thread's view of the table: a lookup takes no lock and writes nothing that is shared.
class MemoryView {
 public:
  explicit MemoryView(const MemoryTable& table) : table_(table) {}
  /// Null: not all of it lies in one registration. Valid until the next find().
  Registration* find(const void* at, size_t bytes);
  bool any_gpu() const { return table_.any_gpu(); }

 private:
  const MemoryTable& table_;
  uint64_t version_ = 0;
  std::shared_ptr<const MemoryTable::Snapshot> snapshot_;
};

}  // namespace memkv::transport::rdma
