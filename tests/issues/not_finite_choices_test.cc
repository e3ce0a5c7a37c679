// NaN in a router or in the bias of the choice of experts was compared with, and the model
// answered.

#include <gtest/gtest.h>

#include <limits>

#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

TEST(NotFinite, numbers_that_choose_or_scale_are_refused_when_a_model_is_loaded) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinite = std::numeric_limits<float>::infinity();
  const std::string config = test::tiny_latent_config({.layers = 2});
  for (const char* name :
       {"model.layers.1.mlp.gate.weight", "model.layers.1.mlp.gate.e_score_correction_bias",
        "model.layers.0.input_layernorm.weight", "model.norm.weight"}) {
    for (const float bad : {kNan, kInfinite, -kInfinite}) {
      const test::TemporaryFolder folder;
      test::write_tiny_checkpoint(folder.path(), config, DType::kF32,
                                  [&](const std::string& tensor, std::vector<float>& weights) {
                                    if (tensor == name) weights[weights.size() / 2] = bad;
                                  });
      const auto source = open_model(folder.path());
      EXPECT_PITH_ERROR(load_model(*source), ErrorKind::kNumeric, "in the source");
    }
  }
}

}  // namespace
}  // namespace pith
