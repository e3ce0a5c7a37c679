// Weights on a device are found by what they are, and failures of a device are named.

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "formats/encodings/encoding.h"
#include "runtime/cuda/device_memory.h"
#include "runtime/cuda/gpu_executor.h"
#include "runtime/cuda_kernels/ops_table.h"
#include "runtime/cuda_kernels/status.h"
#include "runtime/eval/evaluate.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_runtime.h"

namespace pith {
namespace {

std::unique_ptr<Executor> emulated() { return make_gpu_executor(cuda::ops_table(), "emulated"); }

const Window kWindow{{1, 40, 7, 93, 22}, 0};

class GpuWeightsOf : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, GpuWeightsOf,
                         testing::Values("llama", "gpt_oss", "mixtral", "deepseek_v2"));

// Other contents at the same addresses, as when a model is freed and another is loaded.
void put_another(Model& model) {
  const auto replace = [](Linear& l) {
    std::vector<float> w(static_cast<size_t>(l.n * l.k));
    reference_decode(l, 0, l.n, w.data());
    for (float& v : w) v *= -0.75f;
    l.terms[0].w = encode(Encoding::dense(DType::kF16), l.n, l.k, w.data());
    if (!l.bias.empty()) l.bias.edit()[0] += 1;
  };
  replace(model.embedding);
  for (Block& b : model.blocks) {
    for (auto& s : b.sublayers) {
      for (const Linear* l : s.linears()) replace(const_cast<Linear&>(*l));
      for (float& v : s.norm.weight.edit()) v *= 0.5f;
      if (s.attention && !s.attention->sinks.empty()) s.attention->sinks.edit()[0] += 3;
    }
  }
  if (model.own_head) replace(*model.own_head);
}

TEST_P(GpuWeightsOf, models_that_are_gone_are_not_taken_for_others_at_their_address) {
  const test::TinyRuntime tiny(GetParam());
  for (const bool scope : {false, true}) {
    const auto gpu = emulated();
    Model model = tiny.model();
    const auto first = window_logits(*gpu, model, kWindow);
    std::optional<WeightCacheScope> open;
    scope ? (void)open.emplace(*gpu) : (void)gpu->prepare(model);
    EXPECT_EQ(window_logits(*gpu, model, kWindow), first);
    put_another(model);
    const auto fresh = emulated();
    const auto expected = window_logits(*fresh, model, kWindow);
    EXPECT_NE(expected, first);
    EXPECT_EQ(window_logits(*gpu, model, kWindow), expected);
  }
}

TEST(GpuWeights, a_copy_of_a_model_finds_the_weights_of_the_original) {
  static int allocations;
  cuda::Ops counting = cuda::ops_table();
  counting.allocate = [](uint64_t bytes, void** to) {
    ++allocations;
    return cuda::ops_table().allocate(bytes, to);
  };
  const test::TinyRuntime tiny;
  const Model model = tiny.model(), copy = model, reloaded = tiny.model();
  const auto gpu = make_gpu_executor(counting, "counting");
  gpu->prepare(model);
  const auto expected = window_logits(*gpu, model, kWindow);
  const auto allocated_by = [&](const Model& m) {
    const int before = allocations;
    EXPECT_EQ(window_logits(*gpu, m, kWindow), expected);
    return allocations - before;
  };
  const int of_activations = allocated_by(model);
  EXPECT_EQ(allocated_by(copy), of_activations);
  EXPECT_GT(allocated_by(reloaded), of_activations) << "its contents could be others";
}

TEST(FloatVector, has_another_id_once_it_was_edited) {
  FloatVector v(std::vector<float>{1, 2});
  FloatVector copy = v;
  EXPECT_EQ(copy.id(), v.id());
  copy.edit()[0] = 3;
  EXPECT_FALSE(copy.id() == v.id());
  EXPECT_EQ(v[0], 1);
  EXPECT_FALSE(FloatVector().id() == FloatVector().id());
}

// ---- Failures ----

TEST(GpuErrors, name_the_operation_its_shape_and_what_the_device_said) {
  cuda::Ops broken = cuda::ops_table();
  broken.norm = [](const cuda::Norm&, cuda::Stream) {
    return cuda::Status("an illegal memory access was encountered");
  };
  broken.download = [](void*, const void*, uint64_t, cuda::Stream) {
    return cuda::Status("unspecified launch failure");
  };
  GpuDevice device(broken);
  cuda::Norm norm{};
  norm.m = 3;
  norm.n = 64;
  EXPECT_PITH_ERROR(device.run(&cuda::Ops::norm, norm), ErrorKind::kDevice,
                    "CUDA: Norm m=3 n=64: an illegal memory access was encountered");
  EXPECT_PITH_ERROR(device.download(nullptr, nullptr, 40), ErrorKind::kDevice,
                    "CUDA: download of 40 bytes: unspecified launch failure");
  EXPECT_EQ(exit_code(ErrorKind::kDevice), 9);
}

TEST(GpuErrors, only_an_allocation_runs_out_of_memory) {
  cuda::Ops full = cuda::ops_table();
  full.allocate = [](uint64_t, void**) { return cuda::Status(cuda::kOutOfMemory); };
  full.memory = [](uint64_t* free, uint64_t* total) {
    *free = *total = 1234;
    return cuda::Status(nullptr);
  };
  GpuDevice device(full);
  EXPECT_PITH_ERROR(GpuBuffer(device, 5000), ErrorKind::kMemory,
                    "the GPU cannot allocate 5000 bytes: 1234 are free");
  full.allocate = [](uint64_t, void**) { return cuda::Status("no CUDA-capable device"); };
  EXPECT_PITH_ERROR(GpuBuffer(device, 5000), ErrorKind::kDevice, "allocation of 5000 bytes: no");
}

}  // namespace
}  // namespace pith
