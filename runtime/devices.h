// What this machine can compute on. The CUDA backend is a shared object beside the program that is
// opened when it is asked for, so that a machine without a driver, or without the backend, runs
// everything else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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

}  // namespace pith
