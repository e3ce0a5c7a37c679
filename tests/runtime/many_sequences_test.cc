#include "tests/support/many_sequences.h"
#include "runtime/cpu/cpu_executor.h"

namespace pith {
namespace {

class CpuSequences : public testing::TestWithParam<KvTypes> {
 protected:
  const test::ManySequences many_{[] { return make_cpu_executor(); }, GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Types, CpuSequences,
                         testing::Values(KvTypes(NumberFormat::kF16),
                                         KvTypes(NumberFormat::kInt8, NumberFormat::kInt4)));

TEST_P(CpuSequences, of_different_lengths_decode_in_one_batch_as_alone) {
  many_.different_lengths_in_one_batch();
}
TEST_P(CpuSequences, that_are_forked_share_pages_until_they_part) {
  many_.forks_share_pages_and_part();
}
TEST_P(CpuSequences, forget_what_is_truncated) { many_.truncated_tokens_are_forgotten(); }
TEST_P(CpuSequences, wait_where_no_page_is_left) {
  many_.running_out_of_pages_is_said_and_mended();
}
TEST_P(CpuSequences, choose_tokens_together_as_alone) { many_.next_tokens_of_several_rows(); }

}  // namespace
}  // namespace pith
