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

// Runs `quantize` under a limit on private writable memory, all of it, threads' stacks and the
// allocator's reserves included: what the process may have beside the plan is a constant. Returns
// the plan.
uint64_t expect_within_plan(const std::string& quantize) {
  constexpr uint64_t kProgram = 8 << 20;
  const auto plan = test::run_process({"/bin/sh", "-c", quantize + " --dry-run --json -"});
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  const auto planned = parse_json(plan.out, "plan")["planned_memory_bytes"].get<uint64_t>();
  if (test::kSanitized) return planned;  // sanitizers need memory of their own
  const auto within = [&](uint64_t bytes) {
    return test::run_process(
        {"/bin/sh", "-c", "ulimit -d " + std::to_string(bytes / 1024) + " && exec " + quantize});
  };
  const auto r = within(planned + kProgram);
  EXPECT_EQ(r.exit_code, 0) << r.err;
  // And the limit is one that would be felt.
  const auto too_little = within(kProgram);
  EXPECT_NE(too_little.exit_code, 0);
  EXPECT_EQ(too_little.signal, 0) << "a process that runs out of memory says so";
  return planned;
}

TEST(Memory, quantizing_stays_within_the_plan) {
  const test::TemporaryFolder folder;
  test::write_tiny_checkpoint(
      folder.file("in"),
      test::tiny_config(
          {.hidden = 1024, .ffn = 5632, .layers = 4, .heads = 8, .kv_heads = 4, .vocab = 4000}),
      DType::kF16);
  const auto source_bytes = std::filesystem::file_size(folder.file("in/model.safetensors"));
  EXPECT_LT(expect_within_plan(std::string(PITH_PROGRAM) + " quantize " + folder.file("in") + " " +
                               folder.file("out.pith") + " w4 --method rtn -t 2 -q") +
                (8 << 20),
            source_bytes);  // or this proves nothing
}

// A large vocabulary: logits are most of what it takes.
TEST(Memory, writing_a_text_and_measuring_on_it_stay_within_the_plan) {
  const test::TemporaryFolder folder;
  test::write_tiny_checkpoint(
      folder.file("in"),
      test::tiny_config(
          {.hidden = 128, .ffn = 384, .layers = 4, .heads = 4, .kv_heads = 2, .vocab = 20000}),
      DType::kF16);
  const std::string quantize = std::string(PITH_PROGRAM) + " quantize " + folder.file("in") + " " +
                               folder.file("out.pith") +
                               " w4 --calib self --nsamples 4 --seqlen 128 -t 2 -q";
  const uint64_t rtn = expect_within_plan(quantize + " --method rtn");
  const uint64_t mixed =
      expect_within_plan(quantize + " --method rtn --target-bpw 5 --candidates w4 --candidates w6");
  // The logits of 195 rows and of 64 twice, and not three times the former.
  EXPECT_LT(mixed, rtn + 2 * 195 * 20000 * sizeof(float));
}

}  // namespace
}  // namespace pith
