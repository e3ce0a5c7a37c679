// The tests of the device on a GPU; exit code 77, skipped, where there is none.

#include <gtest/gtest.h>

#include <cstdio>

#include "runtime/cuda_kernels/ops_table.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  uint64_t free = 0, total = 0;
  if (const char* why = pith::cuda::ops_table().memory(&free, &total)) {
    std::printf("Skipped: no GPU (%s)\n", why);
    return 77;
  }
  return RUN_ALL_TESTS();
}
