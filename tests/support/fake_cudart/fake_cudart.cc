/// The C names of the stand-in CUDA runtime.

#include "tests/support/fake_cudart/fake_runtime.h"

using namespace memkv::test;

namespace {

Fake& fake() { return Fake::get(); }

}  // namespace

#define ENTER(call, unsafe) \
  if (const int status = fake().enter(call, unsafe)) return status

extern "C" {

int cudaGetDeviceCount(int* count) {
  *count = fake().devices();
  return fake().forced_failure("GetDeviceCount");
}
int cudaGetDevice(int* device) {
  *device = current_device;
  return kSuccess;
}
int cudaSetDevice(int device) {
  if (const int status = fake().forced_failure("SetDevice")) return status;
  if (device < 0 || device >= fake().devices()) return kInvalidDevice;
  fake().context_of(device);  // since version 12
  return kSuccess;
}
int cudaMalloc(void** out, size_t bytes) {
  ENTER("Malloc", true);
  return fake().allocate(out, bytes);
}
int cudaFree(void* device) {
  ENTER("Free", true);
  return fake().release(device);
}
int cudaStreamCreateWithFlags(Stream** out, unsigned flags) {
  ENTER("StreamCreateWithFlags", false);
  if (flags != 1) die("a stream that synchronizes with the default stream");
  *out = fake().make_stream();
  return kSuccess;
}
int cudaStreamDestroy(Stream* stream) {
  ENTER("StreamDestroy", false);
  fake().destroy(stream);
  return kSuccess;
}
int cudaStreamSynchronize(Stream* stream) {
  ENTER("StreamSynchronize", true);
  fake().synchronize(stream);
  return kSuccess;
}
int cudaEventCreateWithFlags(Event** out, unsigned) {
  ENTER("EventCreateWithFlags", false);
  *out = fake().make_event();
  return kSuccess;
}
int cudaEventDestroy(Event* event) {
  ENTER("EventDestroy", false);
  fake().destroy(event);
  return kSuccess;
}
int cudaEventRecord(Event* event, Stream* stream) {
  ENTER("EventRecord", false);
  return fake().record(event, stream);
}
int cudaEventQuery(Event* event) {
  ENTER("EventQuery", true);
  return fake().query(event);
}
int cudaMemcpyAsync(void* to, const void* from, size_t bytes, int kind, Stream* stream) {
  ENTER("MemcpyAsync", false);
  return fake().copy(to, from, bytes, kind, stream);
}
int cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device, size_t bytes, Stream* stream) {
  ENTER("MemcpyPeerAsync", false);
  return fake().copy(to, from, bytes, kDeviceToDevice, stream, to_device, from_device);
}
int cudaHostRegister(void* memory, size_t bytes, unsigned) {
  ENTER("HostRegister", true);
  return fake().pin(memory, bytes);
}
int cudaHostUnregister(void* memory) {
  ENTER("HostUnregister", true);
  return fake().unpin(memory);
}
int cudaPointerGetAttributes(PointerAttributes* out, const void* pointer) {
  ENTER("PointerGetAttributes", true);
  fake().attributes(out, pointer);
  return kSuccess;
}
int cudaThreadExchangeStreamCaptureMode(int* mode) {
  std::swap(capture_mode, *mode);
  return kSuccess;
}
const char* cudaGetErrorString(int status) {
  static const std::map<int, const char*> texts = {{0, "no error"}, {2, "out of memory"}, {100, "no device"}};
  const auto found = texts.find(status);
  return found == texts.end() ? "fake failure" : found->second;
}
int cudaGetLastError() { return kSuccess; }

void fake_cudart_counts(FakeCudartCounts* out) { fake().counts(out); }
void fake_cudart_read(void* to, const void* from, size_t bytes) { std::memcpy(to, fake().hidden(from, bytes), bytes); }
void fake_cudart_write(void* to, const void* from, size_t bytes) { std::memcpy(fake().hidden(to, bytes), from, bytes); }
void fake_cudart_fail(const char* call, int status) { fake().fail(call, status); }
void fake_cudart_delay_us(uint64_t delay) { fake().set_delay(delay); }
void fake_cudart_hold(int on) { fake().hold(on != 0); }
void fake_cudart_let(uint64_t copies) { fake().let(copies); }
void fake_cudart_capturing(int on) { fake().capturing(on != 0); }

}  // extern "C"
