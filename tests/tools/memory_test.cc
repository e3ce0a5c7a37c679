// Quantizing streams: the program gets no more memory than its plan says.

#include <gtest/gtest.h>

#include <filesystem>

#include "core/file.h"
#include "core/json.h"
#include "tests/support/process.h"
#include "tests/support/sanitized.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

// The limit is on private writable memory, all of it, threads' stacks and the allocator's reserves
// included: what the process may have beside the plan is a constant.
TEST(Memory, quantizing_stays_within_the_plan) {
  const test::TemporaryFolder folder;
  test::write_tiny_checkpoint(
      folder.file("in"),
      test::tiny_config(
          {.hidden = 1024, .ffn = 5632, .layers = 4, .heads = 8, .kv_heads = 4, .vocab = 4000}),
      DType::kF16);
  const auto source_bytes = std::filesystem::file_size(folder.file("in/model.safetensors"));
  const std::string quantize = std::string(PITH_PROGRAM) + " quantize " + folder.file("in") + " " +
                               folder.file("out.pith") + " w4 --method rtn -t 2 -q";
  const auto plan = test::run_process({"/bin/sh", "-c", quantize + " --dry-run --json -"});
  ASSERT_EQ(plan.exit_code, 0) << plan.err;
  const auto planned = parse_json(plan.out, "plan")["planned_memory_bytes"].get<uint64_t>();
  constexpr uint64_t kProgram = 8 << 20;
  EXPECT_LT(planned + kProgram, source_bytes);  // or this proves nothing
  const auto r = test::run_process(
      {"/bin/sh", "-c",
       "ulimit -d " + std::to_string((planned + kProgram) / 1024) + " && exec " + quantize});
  if (test::kSanitized) GTEST_SKIP() << "sanitizers need memory of their own";
  EXPECT_EQ(r.exit_code, 0) << r.err;
  // And the limit is one that would be felt.
  const auto too_little =
      test::run_process({"/bin/sh", "-c", "ulimit -d 8192 && exec " + quantize});
  EXPECT_NE(too_little.exit_code, 0);
  EXPECT_EQ(too_little.signal, 0) << "a process that runs out of memory says so";
}

}  // namespace
}  // namespace pith
