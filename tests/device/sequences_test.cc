// Many sequences on the emulated device, and on two processors.

#include "runtime/cpu/cpu_executor.h"
#include "runtime/cuda/gpu_executor.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "runtime/forward/split_executor.h"
#include "tests/support/many_sequences.h"

namespace pith {
namespace {

std::unique_ptr<Executor> gpu() { return make_gpu_executor(cuda::ops_table(), "emulated"); }
std::unique_ptr<Executor> split() { return make_split_executor(make_cpu_executor(), gpu(), 1); }

TEST(GpuSequences, of_different_lengths_decode_in_one_batch_as_alone) {
  test::ManySequences(gpu, NumberFormat::kF16).different_lengths_in_one_batch();
}
TEST(GpuSequences, that_are_forked_share_pages_until_they_part) {
  test::ManySequences(gpu, {NumberFormat::kInt8, NumberFormat::kE4M3}).forks_share_pages_and_part();
  test::ManySequences(gpu, NumberFormat::kF16, "deepseek_v2").forks_share_pages_and_part();
  test::ManySequences(split, NumberFormat::kF16).forks_share_pages_and_part();
}
TEST(GpuSequences, forget_what_is_truncated) {
  test::ManySequences(gpu, NumberFormat::kInt8).truncated_tokens_are_forgotten();
}
TEST(GpuSequences, wait_where_no_page_is_left) {
  test::ManySequences(gpu, NumberFormat::kF16).running_out_of_pages_is_said_and_mended();
}
TEST(GpuSequences, choose_tokens_together_as_alone) {
  test::ManySequences(gpu, NumberFormat::kF16).next_tokens_of_several_rows();
}

}  // namespace
}  // namespace pith
