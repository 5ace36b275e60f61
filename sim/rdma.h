#pragma once
/// RDMA of one simulated process: the real Devices over the simulated fabric, with actors for helper threads.

#include <memory>
#include <string>
#include <vector>

#include "sim/fabric.h"
#include "sim/world.h"
#include "transport/rdma/devices.h"

namespace memkv::sim {

/// Thread: the world's.
class ProcessRdma {
 public:
  /// `name` and the clock are the process's. Its host needs a device that is there now, or it has no RDMA all its life.
  ProcessRdma(World& world, Fabric& fabric, uint32_t host, std::string name, uint64_t clock_offset_ns);
  ~ProcessRdma();
  ProcessRdma(const ProcessRdma&) = delete;
  ProcessRdma& operator=(const ProcessRdma&) = delete;

  const std::shared_ptr<transport::rdma::Devices>& devices() const { return devices_; }  ///< null: it has none
  void pause_until(uint64_t ns);
  /// One of its helpers gets no CPU until then.
  void stall_thread(uint64_t pick, uint64_t ns);
  /// Acts like kill -9: nothing runs any more, and no destructor.
  void kill();

 private:
  class HelperActor;
  World& world_;
  Fabric& fabric_;
  const uint32_t host_;
  const std::string name_;
  const uint64_t clock_offset_ns_;
  std::vector<HelperActor*> helpers_;  // owned by the devices
  std::shared_ptr<transport::rdma::Devices> devices_;
};

}  // namespace memkv::sim
