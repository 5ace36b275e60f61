#pragma once
/// The inside of the stand-in CUDA runtime: memory, streams and events of its devices, and its checks. The C names are
/// in fake_cudart.cc.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdarg>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/fake_cudart/fake_cudart.h"

namespace memkv::test {

// As in the real headers; written down once more here, so that a slip in the plugin's own declarations shows.
enum Status { kSuccess = 0, kInvalidValue = 1, kInvalidDevice = 101, kInvalidHandle = 400, kNotReady = 600 };
enum Kind { kHostToHost, kHostToDevice, kDeviceToHost, kDeviceToDevice, kDefault };
constexpr int kAlreadyRegistered = 712, kNotRegistered = 713, kCaptureUnsupported = 900;
struct PointerAttributes {
  int type;
  int device;
  void* device_pointer;
  void* host_pointer;
  long reserved[8];
};
static_assert(sizeof(PointerAttributes) == 88);

[[noreturn]] __attribute__((format(printf, 1, 2))) inline void die(const char* format, ...) {
  va_list args;
  va_start(args, format);
  std::fputs("libcudart_fake: ", stderr);
  std::vfprintf(stderr, format, args);
  std::fputs("\n", stderr);
  va_end(args);
  std::abort();
}

inline int from_environment(const char* name, int fallback) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : fallback;
}

struct Allocation {
  size_t bytes;
  std::byte* hidden;
  int device;
  int fd;  ///< holds the memory
};

struct Event {
  int device;
  uint64_t recorded = 0;
  uint64_t reached = 0;
};

/// A copy, or the mark of an event (event != nullptr).
struct Step {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  size_t bytes = 0;
  std::vector<std::byte> staged;  ///< of pageable memory: its bytes when the copy was asked for
  Event* event = nullptr;
};

struct Stream {
  int device;
  std::deque<Step> steps;
};

inline thread_local int current_device = 0;
inline thread_local int capture_mode = 0;
constexpr int kRelaxed = 2;

/// All state of the fake, under one lock. The bytes of a copy move outside of it.
class Fake {
 public:
  static Fake& get() {
    static Fake* fake = new Fake;  // never destroyed, since its thread runs to the end
    return *fake;
  }

  int devices() const { return devices_; }

  /// Returns the status to fail with, or 0. Makes the context of the current device.
  int enter(const char* call, bool unsafe_in_capture) {
    const std::lock_guard lock(mutex_);
    if (const int status = forced(call)) return status;
    if (unsafe_in_capture && capturing_ && capture_mode != kRelaxed) {
      ++counts_.captures_broken;
      return kCaptureUnsupported;
    }
    make_context();
    return 0;
  }
  int forced_failure(const char* call) {
    const std::lock_guard lock(mutex_);
    return forced(call);
  }
  void context_of(int device) {
    const std::lock_guard lock(mutex_);
    current_device = device;
    make_context();
  }

  int allocate(void** out, size_t bytes) {
    if (bytes == 0) return kInvalidValue;
    const int fd = memfd_create("fake-device-memory", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) die("memfd failed");
    void* hidden = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    void* shown = mmap(nullptr, bytes, PROT_NONE, MAP_SHARED, fd, 0);
    if (hidden == MAP_FAILED || shown == MAP_FAILED) die("mmap failed");
    const std::lock_guard lock(mutex_);
    allocations_[static_cast<std::byte*>(shown)] = {bytes, static_cast<std::byte*>(hidden), current_device, fd};
    counts_.device_bytes += bytes;
    *out = shown;
    return kSuccess;
  }
  int release(void* device) {
    if (!device) return kSuccess;
    const std::lock_guard lock(mutex_);
    const auto found = allocations_.find(static_cast<std::byte*>(device));
    if (found == allocations_.end()) die("cudaFree of %p, which was not allocated", device);
    check_quiet(found->second.hidden, found->second.bytes, "cudaFree");
    counts_.device_bytes -= found->second.bytes;
    munmap(found->second.hidden, found->second.bytes);
    munmap(device, found->second.bytes);
    close(found->second.fd);
    allocations_.erase(found);
    return kSuccess;
  }

  int pin(void* memory, size_t bytes) {
    const std::lock_guard lock(mutex_);
    auto* at = static_cast<std::byte*>(memory);
    if (registered(at, 1) || registered(at + bytes - 1, 1)) return kAlreadyRegistered;
    registered_[at] = bytes;
    counts_.registered_bytes += bytes;
    return kSuccess;
  }
  int unpin(void* memory) {
    const std::lock_guard lock(mutex_);
    const auto found = registered_.find(static_cast<std::byte*>(memory));
    if (found == registered_.end()) return kNotRegistered;
    check_quiet(found->first, found->second, "cudaHostUnregister");
    counts_.registered_bytes -= found->second;
    registered_.erase(found);
    return kSuccess;
  }

  Stream* make_stream() {
    const std::lock_guard lock(mutex_);
    if (!started_) std::thread([this] { run(); }).detach();
    started_ = true;
    auto* stream = new Stream{current_device, {}};
    streams_.insert(stream);
    return stream;
  }
  void destroy(Stream* stream) {
    std::unique_lock lock(mutex_);
    check(stream);
    done_.wait(lock, [stream] { return stream->steps.empty(); });
    streams_.erase(stream);
    delete stream;
  }
  void synchronize(Stream* stream) {
    std::unique_lock lock(mutex_);
    check(stream);
    done_.wait(lock, [stream] { return stream->steps.empty(); });
  }
  Event* make_event() {
    const std::lock_guard lock(mutex_);
    auto* event = new Event{current_device};
    events_.insert(event);
    return event;
  }
  void destroy(Event* event) {
    const std::lock_guard lock(mutex_);
    check(event);
    if (event->reached != event->recorded) die("cudaEventDestroy of an event not yet reached");
    events_.erase(event);
    delete event;
  }
  int record(Event* event, Stream* stream) {
    const std::lock_guard lock(mutex_);
    check(event);
    check(stream);
    if (event->device != stream->device)
      die("cudaEventRecord: event of device %d on a stream of device %d", event->device, stream->device);
    ++event->recorded;
    push(*stream, {.event = event});
    return kSuccess;
  }
  int query(Event* event) {
    const std::lock_guard lock(mutex_);
    check(event);
    return event->reached == event->recorded ? kSuccess : kNotReady;
  }

  /// `to_device` and `from_device` are -1, except for a peer copy.
  int copy(void* to, const void* from, size_t bytes, int kind, Stream* stream, int to_device = -1,
           int from_device = -1) {
    std::unique_lock lock(mutex_);
    check(stream);
    ++counts_.copies;
    counts_.bytes += bytes;
    counts_.largest_copy_bytes = std::max<uint64_t>(counts_.largest_copy_bytes, bytes);
    if (bytes == 0) return kSuccess;
    const Side target = side(to, bytes, to_device);
    const Side source = side(from, bytes, from_device);
    check_kind(kind, target, source, to, from);
    Step step{target.bytes, source.bytes, bytes, {}, nullptr};
    if (source.pageable) stage(step);
    push(*stream, std::move(step));
    // Into pageable memory the real call returns when the bytes are there.
    if (target.pageable) done_.wait(lock, [stream] { return stream->steps.empty(); });
    if (target.pageable || source.pageable) ++counts_.pageable_copies;
    return kSuccess;
  }

  /// A descriptor of an allocation whose range begins where it does; -1: the range is none of that kind. The real
  /// driver gives one for any range of whole pages.
  int export_range(const void* device, size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = allocations_.find(static_cast<std::byte*>(const_cast<void*>(device)));
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    if (bytes % page != 0) die("cuMemGetHandleForAddressRange of %zu bytes, no whole pages", bytes);
    if (found == allocations_.end() || bytes > (found->second.bytes + page - 1) / page * page) return -1;
    return fcntl(found->second.fd, F_DUPFD_CLOEXEC, 0);
  }

  void attributes(PointerAttributes* out, const void* pointer) {
    const std::lock_guard lock(mutex_);
    *out = {};  // all 88 bytes, as the real one does
    out->device = -1;
    out->host_pointer = const_cast<void*>(pointer);
    if (const auto* allocation = holder(pointer, 1)) {
      *out = {2, allocation->second.device, const_cast<void*>(pointer), nullptr, {}};
    } else if (registered(static_cast<const std::byte*>(pointer), 1)) {
      *out = {1, 0, const_cast<void*>(pointer), const_cast<void*>(pointer), {}};
    }
  }

  void counts(FakeCudartCounts* out) {
    const std::lock_guard lock(mutex_);
    *out = counts_;
    out->streams = streams_.size();
    out->events = events_.size();
    for (const Stream* stream : streams_) {
      for (const Step& step : stream->steps) out->queued += step.event == nullptr;
    }
  }
  std::byte* hidden(const void* device, size_t bytes) {
    const std::lock_guard lock(mutex_);
    const Side found = side(device, bytes, -1);
    if (!found.device) die("%p is no device memory", device);
    return found.bytes;
  }
  void fail(const char* call, int status) {
    const std::lock_guard lock(mutex_);
    failures_[call] = status;
  }
  void set_delay(uint64_t us) {
    const std::lock_guard lock(mutex_);
    delay_us_ = us;
  }
  void hold(bool on) {
    const std::lock_guard lock(mutex_);
    held_ = on;
    let_ = 0;
    work_.notify_all();
  }
  void let(uint64_t copies) {
    const std::lock_guard lock(mutex_);
    let_ += copies;
    work_.notify_all();
  }
  void capturing(bool on) {
    const std::lock_guard lock(mutex_);
    capturing_ = on;
  }

 private:
  using Allocations = std::map<std::byte*, Allocation>;
  /// One end of a copy.
  struct Side {
    std::byte* bytes;  ///< where the bytes really are
    bool device;
    bool pageable;
  };

  Fake() {
    devices_ = from_environment("FAKE_CUDART_DEVICES", 2);
    delay_us_ = static_cast<uint64_t>(from_environment("FAKE_CUDART_DELAY_US", 0));
    if (const char* text = std::getenv("FAKE_CUDART_FAIL")) {
      const std::string all = text;
      const size_t equals = all.find('=');
      if (equals == std::string::npos) die("FAKE_CUDART_FAIL is CALL=STATUS");
      failures_[all.substr(0, equals)] = std::atoi(all.c_str() + equals + 1);
    }
  }

  int forced(const char* call) const {
    const auto found = failures_.find(call);
    return found == failures_.end() ? 0 : found->second;
  }
  void make_context() {
    if (!contexts_.insert(current_device).second) return;
    ++counts_.contexts[current_device];
  }
  void check(Stream* stream) const {
    if (!streams_.count(stream)) die("%p is no stream", static_cast<void*>(stream));
  }
  void check(Event* event) const {
    if (!events_.count(event)) die("%p is no event", static_cast<void*>(event));
  }

  const Allocations::value_type* holder(const void* pointer, size_t bytes) const {
    auto* at = static_cast<std::byte*>(const_cast<void*>(pointer));
    auto next = allocations_.upper_bound(at);
    if (next == allocations_.begin()) return nullptr;
    const auto& found = *--next;
    if (at >= found.first + found.second.bytes) return nullptr;
    if (at + bytes > found.first + found.second.bytes) die("%p + %zu runs out of its allocation", pointer, bytes);
    return &found;
  }
  bool registered(const std::byte* at, size_t bytes) const {
    auto next = registered_.upper_bound(const_cast<std::byte*>(at));
    if (next == registered_.begin()) return false;
    --next;
    return at + bytes <= next->first + next->second;
  }
  Side side(const void* pointer, size_t bytes, int device) const {
    auto* at = static_cast<std::byte*>(const_cast<void*>(pointer));
    if (const auto* found = holder(pointer, bytes)) {
      if (device >= 0 && found->second.device != device) die("%p is not on device %d", pointer, device);
      return {found->second.hidden + (at - found->first), true, false};
    }
    if (device >= 0) die("%p is no device memory", pointer);
    return {at, false, !registered(at, bytes)};
  }
  static void check_kind(int kind, const Side& to, const Side& from, const void* shown_to, const void* shown_from) {
    if (kind == kDefault) return;
    const bool to_device = kind == kHostToDevice || kind == kDeviceToDevice;
    const bool from_device = kind == kDeviceToHost || kind == kDeviceToDevice;
    if (to.device != to_device) die("copy kind %d, but the destination %p is not so", kind, shown_to);
    if (from.device != from_device) die("copy kind %d, but the source %p is not so", kind, shown_from);
  }
  static void stage(Step& step) {
    step.staged.assign(step.from, step.from + step.bytes);
    step.from = step.staged.data();
  }
  void check_quiet(const std::byte* memory, size_t bytes, const char* call) const {
    const auto touches = [=](const std::byte* at, size_t size) { return at < memory + bytes && memory < at + size; };
    for (const Stream* stream : streams_) {
      for (const Step& step : stream->steps) {
        if (!step.event && (touches(step.to, step.bytes) || touches(step.from, step.bytes)))
          die("%s of memory that a copy under way uses", call);
      }
    }
  }

  void push(Stream& stream, Step step) {
    stream.steps.push_back(std::move(step));
    // A vector's move keeps its bytes where they are, so step.from stays right.
    work_.notify_all();
  }
  Stream* next_busy() const {
    for (Stream* stream : streams_) {
      if (stream->steps.empty()) continue;
      if (!held_ || let_ > 0 || stream->steps.front().event) return stream;
    }
    return nullptr;
  }
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      Stream* stream = nullptr;
      work_.wait(lock, [&] { return (stream = next_busy()) != nullptr; });
      run_first(*stream, lock);
      done_.notify_all();
    }
  }
  void run_first(Stream& stream, std::unique_lock<std::mutex>& lock) {
    Step& step = stream.steps.front();  // a deque's elements stay put while others are pushed
    if (step.event) {
      ++step.event->reached;
    } else {
      const uint64_t delay = delay_us_;
      if (let_ > 0) --let_;
      lock.unlock();
      if (delay) std::this_thread::sleep_for(std::chrono::microseconds(delay));
      std::memmove(step.to, step.from, step.bytes);
      lock.lock();
    }
    stream.steps.pop_front();
  }

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  int devices_ = 0;
  uint64_t delay_us_ = 0;
  bool held_ = false;
  uint64_t let_ = 0;  ///< copies that run although streams are held
  bool capturing_ = false;
  bool started_ = false;
  Allocations allocations_;
  std::map<std::byte*, size_t> registered_;
  std::set<Stream*> streams_;
  std::set<Event*> events_;
  std::set<int> contexts_;
  std::map<std::string, int> failures_;
  FakeCudartCounts counts_{};
};

}  // namespace memkv::test
