// The compute devices of this machine, and executors for them. The CUDA backend is a shared object
// beside the program that is opened when it is asked for, so that a machine without a driver, or
// without the backend, runs everything else.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/cpu/cpu_executor.h"
#include "runtime/forward/executor.h"

namespace pith {

struct Device {
  std::string backend;  // "cpu", "cuda"
  std::string name;
  std::string level;  // instruction level or compute capability
  uint64_t memory_bytes = 0;
};

struct DeviceList {
  std::vector<Device> devices;  // the processor first
  std::string cuda_note;        // why there is no CUDA device, where there is none
};

DeviceList list_devices();

struct ExecutorChoice {
  bool cuda = false;
  CpuInputs inputs = CpuInputs::kInt8;
  int64_t gpu_layers = -1;       // the last so many on the GPU, the others on the CPU; -1: all
  bool batch_invariant = false;  // of the GPU: runtime/cuda/gpu_executor.h
};
// Error(kUsage) saying why where a GPU is asked for and there is none.
std::unique_ptr<Executor> make_executor(const ExecutorChoice& choice);

}  // namespace pith
