// Limits on the memory and processors of this process: those of the machine, of its containers
// (cgroups of version 1 and 2, with all their parents) and its own (RLIMIT_AS, RLIMIT_DATA).
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

// Roots of the system's files; tests have their own.
struct SystemFiles {
  std::string proc = "/proc", cgroups = "/sys/fs/cgroup";
};

// Memory that can be allocated now without swapping or killing anything.
MemoryLimit available_memory(const SystemFiles& files = {});
// Memory that this process could have if no other process ran.
MemoryLimit most_memory(const SystemFiles& files = {});

// Memory of this process that no file backs, in RAM or swapped out; 0 where the system does not
// say.
uint64_t memory_in_use(const SystemFiles& files = {});

// The CPU quota of the cgroups, in processors (cpu.max; cpu.cfs_quota_us); 0: no limit.
double cpu_limit(const SystemFiles& files = {});

// Error(kMemory) naming `what`, `bytes`, what there is and `remedy`, where `bytes` exceed
// most_memory().
void require_memory(uint64_t bytes, const std::string& what, const std::string& remedy = "");
// The same as a warning, where they exceed available_memory(); empty where they do not.
std::string memory_warning(uint64_t bytes, const std::string& what);

}  // namespace pith
