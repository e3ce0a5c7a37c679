// Whole models on the emulated device against the CPU's executor.

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/json.h"
#include "formats/encodings/encoding.h"
#include "runtime/cuda/device/device.h"
#include "runtime/cuda/table.h"
#include "runtime/eval/evaluate.h"
#include "runtime/forward.h"
#include "runtime/gpu/gpu_executor.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

std::unique_ptr<Executor> emulated() { return make_gpu_executor(cuda::ops_table(), "emulated"); }

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0, largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return 1e9;
    worst = std::max(worst, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    largest = std::max(largest, std::fabs(static_cast<double>(b[i])));
  }
  return worst / largest;
}

std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& e : std::filesystem::directory_iterator(test::fixture("golden/arch")))
    names.push_back(e.path().filename());
  std::ranges::sort(names);
  return names;
}

class GpuExecutor : public testing::TestWithParam<std::string> {};

TEST_P(GpuExecutor, gives_the_logits_of_the_cpu) {
  const std::string folder = test::fixture("golden/arch/" + GetParam());
  const Json golden = parse_json(read_text_file(folder + "/logits.json", 1 << 20), "logits.json");
  const std::vector<int32_t> tokens = golden["tokens"];
  const test::TemporaryFolder temporary;
  test::write_tiny_checkpoint(temporary.path(), read_text_file(folder + "/config.json", 1 << 20),
                              DType::kBF16);
  const auto source = open_model(temporary.path());
  const Model model = load_model(*source);
  const auto cpu = make_cpu_executor(), gpu = emulated();
  gpu->prepare(model);
  const auto n = static_cast<int64_t>(tokens.size());
  const Window window{tokens, n - 3};
  EXPECT_LT(distance(window_logits(*gpu, model, window), window_logits(*cpu, model, window)), 2e-3);
}

INSTANTIATE_TEST_SUITE_P(Families, GpuExecutor, testing::ValuesIn(families()),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace pith
