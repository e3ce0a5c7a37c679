// What this process may take of the machine: memory and processors, within the limits of its
// containers (cgroups of version 1 and 2, all the way up) and its own (RLIMIT_AS, RLIMIT_DATA).
//
// Reads a few files of /proc and /sys each time; thread-safe. Where the system says nothing, there
// is no limit.
#pragma once

#include <cstdint>
#include <string>

namespace pith {

struct MemoryLimit {
  uint64_t bytes = UINT64_MAX;
  std::string by;  // "RAM and swap", "the limit of the cgroup", ...: for messages
};

// Where the system's files lie; tests have their own.
struct SystemFiles {
  std::string proc = "/proc", cgroups = "/sys/fs/cgroup";
};

// What can be allocated now without anything being swapped out or killed.
MemoryLimit available_memory(const SystemFiles& files = {});
// What can be had at most, with all other processes gone.
MemoryLimit most_memory(const SystemFiles& files = {});

// Processors' worth of time that cgroups give (cpu.max; cpu.cfs_quota_us); 0: no limit.
double cpu_limit(const SystemFiles& files = {});

// Error(kMemory) naming `what`, `bytes`, what there is and `remedy`, where `bytes` exceed
// most_memory().
void require_memory(uint64_t bytes, const std::string& what, const std::string& remedy = "");
// The same as a warning, where they exceed available_memory(); empty where they do not.
std::string memory_warning(uint64_t bytes, const std::string& what);

}  // namespace pith
