#include "core/limits.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>

#include "core/bytes.h"
#include "core/file.h"
#include "tests/support/test_data.h"

namespace pith {
namespace {

// A made-up /proc and /sys/fs/cgroup.
class Limits : public testing::Test {
 protected:
  Limits() {
    put("proc/meminfo",
        "MemTotal:       8000 kB\nMemFree:  100 kB\nMemAvailable:   5000 kB\nSwapTotal: 2000 kB\n");
  }
  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(folder_of(folder_.file(path)));
    write_file(folder_.file(path), as_bytes(text));
  }
  SystemFiles files() const { return {folder_.file("proc"), folder_.file("cgroup")}; }

  test::TemporaryFolder folder_;
};

TEST_F(Limits, are_those_of_the_machine_where_there_is_no_cgroup) {
  EXPECT_EQ(available_memory(files()).bytes, 5000u << 10);
  EXPECT_EQ(most_memory(files()).bytes, 10000u << 10);
  EXPECT_EQ(cpu_limit(files()), 0);
}

TEST_F(Limits, count_what_is_in_use_in_ram_and_swap) {
  EXPECT_EQ(memory_in_use(files()), 0u);
  put("proc/self/status", "VmRSS:\t  900 kB\nRssAnon:\t  300 kB\nVmSwap:\t  50 kB\n");
  EXPECT_EQ(memory_in_use(files()), 350u << 10);
  EXPECT_GT(memory_in_use(), 0u);
}

TEST_F(Limits, of_version_2_count_in_every_group_up_to_the_root) {
  put("proc/self/cgroup", "0::/a/b\n");
  put("cgroup/a/b/memory.max", "max\n");
  put("cgroup/a/b/cpu.max", "max 100000\n");
  put("cgroup/a/memory.max", "3000000\n");
  put("cgroup/a/memory.high", "2000000\n");
  put("cgroup/a/memory.current", "1500000\n");
  put("cgroup/a/memory.stat", "anon 5\nfile 900000\ninactive_file 700000\n");
  put("cgroup/a/cpu.max", "150000 100000\n");
  EXPECT_EQ(most_memory(files()).bytes, 3000000u);
  EXPECT_EQ(available_memory(files()).bytes, 1200000u);
  EXPECT_NE(available_memory(files()).by.find("cgroup"), std::string::npos);
  EXPECT_EQ(cpu_limit(files()), 1.5);
}

TEST_F(Limits, of_version_1_are_read_too) {
  put("proc/self/cgroup", "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n");
  put("cgroup/memory/job/memory.limit_in_bytes", "4000000\n");
  put("cgroup/memory/job/memory.usage_in_bytes", "1000000\n");
  put("cgroup/memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 250000\n");
  put("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "50000\n");
  put("cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  put("cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  put("cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(most_memory(files()).bytes, 4000000u);
  EXPECT_EQ(available_memory(files()).bytes, 3250000u);
  EXPECT_EQ(cpu_limit(files()), 0.5);
}

TEST_F(Limits, of_a_container_that_shows_the_path_of_its_host_are_those_of_the_root) {
  put("proc/self/cgroup", "4:memory:/docker/123\n");
  put("cgroup/memory/memory.limit_in_bytes", "1000000\n");
  EXPECT_EQ(most_memory(files()).bytes, 1000000u);
}

TEST(RequireMemory, says_what_is_needed_and_what_there_is) {
  EXPECT_NO_THROW(require_memory(1, "this"));
  EXPECT_EQ(memory_warning(1, "this"), "");
  EXPECT_PITH_ERROR(require_memory(uint64_t{1} << 60, "this", "try --memory"), ErrorKind::kMemory,
                    "this takes 1152921504.61 GB of memory, and there are");
  EXPECT_NE(memory_warning(uint64_t{1} << 60, "this"), "");
}

}  // namespace
}  // namespace pith
