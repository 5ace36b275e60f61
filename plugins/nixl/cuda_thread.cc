#include "cuda_thread.h"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>

#include "base/thread.h"

namespace memkv::nixl {
namespace {

/// Between two looks at copies under way: well under the time of a window, and no load on the machine.
constexpr std::chrono::microseconds kLookEvery{10};

bool on_device(const Place& place) { return place.kind == MemoryKind::kCuda; }

uint32_t device_of_copy(const Copy& copy) { return on_device(copy.to) ? copy.to.device : copy.from.device; }

CudaCopyKind kind_of(const Copy& copy) {
  if (!on_device(copy.to)) return CudaCopyKind::kDeviceToHost;
  return on_device(copy.from) ? CudaCopyKind::kDeviceToDevice : CudaCopyKind::kHostToDevice;
}

}  // namespace

Result<std::unique_ptr<CudaThread>, Message> CudaThread::start() {
  auto runtime = load_cuda_runtime();
  if (!runtime) return runtime.error();
  std::unique_ptr<CudaThread> made(new CudaThread(**runtime));
  auto thread = base::start_thread("memkv-cuda", [made = made.get()] { made->run(); });
  if (!thread) return Message{Status::kIo, std::string("for CUDA, ") + thread.error().what};
  made->thread_ = std::move(*thread);
  return made;
}

CudaThread::CudaThread(const CudaRuntime& cuda) : cuda_(cuda) {}

CudaThread::~CudaThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();  // else it could not be made
}

Result<uint32_t, Message> CudaThread::device_of(uintptr_t memory, uint64_t device_hint) {
  CudaPointerAttributes attributes;
  CudaStatus status = kCudaSuccess;
  int count = 0;
  call([&] {
    status = cuda_.GetDeviceCount(&count);
    if (status != kCudaSuccess || device_hint >= static_cast<uint64_t>(count)) return;
    if (!use(static_cast<uint32_t>(device_hint), &status)) return;
    status = cuda_.PointerGetAttributes(&attributes, reinterpret_cast<const void*>(memory));
  });
  if (status != kCudaSuccess) return failure("VRAM cannot be looked up", status);
  if (device_hint >= static_cast<uint64_t>(count)) return Message{Status::kInvalid, "there is no such CUDA device"};
  if (attributes.type != CudaMemoryType::kDevice && attributes.type != CudaMemoryType::kManaged)
    return Message{Status::kInvalid, "the memory given as VRAM is not on a CUDA device"};
  return static_cast<uint32_t>(attributes.device);
}

Result<void, Message> CudaThread::pin(void* memory, size_t bytes, uint32_t device) {
  CudaStatus status = kCudaSuccess;
  call([&] {
    if (use(device, &status)) status = cuda_.HostRegister(memory, bytes, kCudaHostRegisterPortable);
  });
  if (status != kCudaSuccess) return failure("staging memory cannot be pinned", status);
  return {};
}

void CudaThread::unpin(void* memory) {
  call([&] { cuda_.HostUnregister(memory); });
}

void CudaThread::submit(CopyJob& job) {
  {
    const std::lock_guard lock(mutex_);
    arrived_.push(job);
  }
  wake_.notify_one();
}

void CudaThread::call(const std::function<void()>& call) {
  bool returned = false;
  std::unique_lock lock(mutex_);
  calls_.emplace_back([&] {
    call();
    const std::lock_guard done(mutex_);
    returned = true;
    called_.notify_all();
  });
  wake_.notify_one();
  called_.wait(lock, [&] { return returned; });
}

Message CudaThread::failure(const char* what, CudaStatus status) const {
  return {Status::kIo, std::string(what) + ": CUDA says " + cuda_.GetErrorString(status)};
}

void CudaThread::run() {
  prctl(PR_SET_TIMERSLACK, 1000UL);  // ns: or kLookEvery is 60 us
  std::unique_lock lock(mutex_);
  for (;;) {
    wait_for_news(lock);
    take_arrivals(lock);
    if (running_.empty() && stopping_) break;
    lock.unlock();
    advance_all();
    lock.lock();
  }
  lock.unlock();
  give_back_all();
}

void CudaThread::wait_for_news(std::unique_lock<std::mutex>& lock) {
  const auto news = [this] { return !arrived_.empty() || !calls_.empty(); };
  if (running_.empty())
    wake_.wait(lock, [&] { return stopping_ || news(); });
  else
    wake_.wait_for(lock, kLookEvery, news);
}

void CudaThread::take_arrivals(std::unique_lock<std::mutex>& lock) {
  while (!arrived_.empty()) running_.push_back({.job = &arrived_.pop()});
  while (!calls_.empty()) {
    const std::function<void()> next = std::move(calls_.front());
    calls_.erase(calls_.begin());
    lock.unlock();
    next();
    lock.lock();
  }
}

void CudaThread::advance_all() {
  std::erase_if(running_, [this](Running& running) { return !advance(running); });
}

bool CudaThread::advance(Running& running) {
  if (window_is_out(running)) return true;
  CopyJob& job = *running.job;
  const auto rest = job.copies.subspan(running.copy);
  const bool more = std::any_of(rest.begin(), rest.end(), [](auto& copy) { return !on_host(copy) && copy.length > 0; });
  if (!more || job.canceled() || job.error_) {
    job.leave_and_tell();
    return false;
  }
  ask_window(running);
  return true;
}

bool CudaThread::window_is_out(Running& running) {
  if (!running.event) return false;
  Device& device = devices_[running.device];
  CudaStatus status = kCudaSuccess;
  if (use(running.device, &status)) status = cuda_.EventQuery(running.event);
  if (status == kCudaNotReady) return true;
  if (status != kCudaSuccess) fail_quietly(running, device, status);
  device.free_events.push_back(running.event);
  running.event = nullptr;
  return false;
}

void CudaThread::ask_window(Running& running) {
  const auto& copies = running.job->copies;
  while (on_host(copies[running.copy]) || copies[running.copy].length == 0) ++running.copy;
  running.device = device_of_copy(copies[running.copy]);
  CudaStatus status = kCudaSuccess;
  Device* device = use(running.device, &status);
  running.event = device ? take_event(*device, &status) : nullptr;
  if (!running.event) return fail(running, status);
  ask_copies(running, device->stream);
  // Also when a copy was refused: those before it are under way.
  status = cuda_.EventRecord(running.event, device->stream);
  if (status != kCudaSuccess) fail_quietly(running, *device, status);
}

void CudaThread::ask_copies(Running& running, CudaStream stream) {
  const auto& copies = running.job->copies;
  for (uint32_t asked = 0; asked < kWindowCopies && running.copy < copies.size(); ++asked) {
    const Copy& copy = copies[running.copy];
    if (on_host(copy) || device_of_copy(copy) != running.device) return;
    const uint64_t bytes = std::min(kCopyPieceBytesMax, copy.length - running.offset);
    const CudaStatus status = bytes ? ask_piece(copy, running.offset, bytes, stream) : kCudaSuccess;
    if (status != kCudaSuccess) return fail(running, status);
    running.offset += bytes;
    if (running.offset < copy.length) continue;
    running.offset = 0;
    ++running.copy;
  }
}

CudaStatus CudaThread::ask_piece(const Copy& copy, uint64_t offset, uint64_t bytes, CudaStream stream) {
  void* to = reinterpret_cast<void*>(copy.to.address + offset);
  const void* from = reinterpret_cast<const void*>(copy.from.address + offset);
  const CudaCopyKind kind = kind_of(copy);
  if (kind == CudaCopyKind::kDeviceToDevice && copy.to.device != copy.from.device)
    return cuda_.MemcpyPeerAsync(to, static_cast<int>(copy.to.device), from, static_cast<int>(copy.from.device), bytes,
                                 stream);
  return cuda_.MemcpyAsync(to, from, bytes, kind, stream);
}

CudaThread::Device* CudaThread::use(uint32_t number, CudaStatus* status) {
  if (current_ != number) {
    *status = cuda_.SetDevice(static_cast<int>(number));
    if (*status != kCudaSuccess) return nullptr;
    current_ = number;
  }
  Device& device = devices_[number];
  if (device.stream) return &device;
  CudaCaptureMode mode = CudaCaptureMode::kRelaxed;
  cuda_.ThreadExchangeStreamCaptureMode(&mode);
  *status = cuda_.StreamCreateWithFlags(&device.stream, kCudaStreamNonBlocking);
  return *status == kCudaSuccess ? &device : nullptr;
}

CudaEvent CudaThread::take_event(Device& device, CudaStatus* status) {
  CudaEvent event = nullptr;
  if (!device.free_events.empty()) {
    event = device.free_events.back();
    device.free_events.pop_back();
    return event;
  }
  *status = cuda_.EventCreateWithFlags(&event, kCudaEventDisableTiming);
  return *status == kCudaSuccess ? event : nullptr;
}

void CudaThread::fail(Running& running, CudaStatus status) {
  if (!running.job->error_) running.job->error_ = cuda_.GetErrorString(status);
}

void CudaThread::fail_quietly(Running& running, Device& device, CudaStatus status) {
  fail(running, status);
  cuda_.StreamSynchronize(device.stream);
}

void CudaThread::give_back_all() {
  for (auto& [number, device] : devices_) {
    CudaStatus status = kCudaSuccess;
    if (!device.stream || !use(number, &status)) continue;
    for (CudaEvent event : device.free_events) cuda_.EventDestroy(event);
    cuda_.StreamDestroy(device.stream);
  }
}

}  // namespace memkv::nixl
