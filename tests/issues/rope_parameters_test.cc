// Files of transformers 5 were misread: what is in rope_parameters was looked for beside it, and
// the number of experts under one name. Each pair of configurations means the same model.

#include <gtest/gtest.h>

#include <string>

#include "core/json.h"
#include "runtime/model/source.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_model.h"

namespace pith {
namespace {

// The model of a configuration with these members, as text; null leaves a member out.
std::string model_of(const Json& base, const std::string& members) {
  Json config = base;
  config.update(parse_json(members, "members"));
  for (auto it = config.begin(); it != config.end();)
    it = it->is_null() ? config.erase(it) : std::next(it);
  const test::TemporaryFolder folder;
  test::write_tiny_checkpoint(folder.path(), config.dump(), test::tiny_tensors(base));
  return open_model(folder.path())->spec().DebugString();
}

Json base_of(const std::string& family) {
  Json c = parse_json(test::tiny_config({}), "config");
  c["model_type"] = family;
  c["head_dim"] = 16u;
  const bool glm = family == "glm4_moe";
  if (glm || family == "qwen3_moe") {
    c[glm ? "n_routed_experts" : "num_experts"] = 4u;
    c["moe_intermediate_size"] = 40u;
    c["num_experts_per_tok"] = 2u;
  }
  if (glm) c.update({{"n_shared_experts", 1u}, {"first_k_dense_replace", 1u}});
  if (family == "qwen3_moe") c["mlp_only_layers"] = Json::array();
  if (family == "mixtral") c["num_local_experts"] = 4u;
  return c;
}

struct Pair {
  const char *family, *one, *other;
};

TEST(RopeParameters, mean_what_the_older_keys_mean) {
  const Pair kPairs[] = {
      {"phi3", R"({"partial_rotary_factor": 0.75})",
       R"({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
           "partial_rotary_factor": 0.75}})"},
      {"glm4_moe", R"({"partial_rotary_factor": 0.25})",
       R"({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0,
           "partial_rotary_factor": 0.25}})"},
      {"phi3", R"({"partial_rotary_factor": 0.5, "original_max_position_embeddings": 32,
           "rope_scaling": {"type": "su", "short_factor": [1, 1, 1, 1], "long_factor": [1, 2, 3, 4]}})",
       R"({"original_max_position_embeddings": 32, "rope_parameters": {"rope_type": "longrope",
           "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "original_max_position_embeddings": 32,
           "short_factor": [1, 1, 1, 1], "long_factor": [1, 2, 3, 4]}})"},
      // The class decides what is missing: half of a head of GLM-4.5 is rotated.
      {"glm4_moe", R"({"partial_rotary_factor": 0.5})", "{}"},
      // rope_scaling wins over rope_parameters, whose base and part are not its own.
      {"qwen3", R"({"rope_theta": 500.0, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
           "original_max_position_embeddings": 32}})",
       R"({"rope_theta": 500.0, "rope_parameters": {"rope_type": "default", "rope_theta": 7.0},
           "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}})"},
      // Members of rope_parameters win over those beside it.
      {"llama", R"({"rope_theta": 500.0})",
       R"({"rope_theta": 7.0, "rope_parameters": {"rope_theta": 500.0}})"},
      {"llama", R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
           "original_max_position_embeddings": 24}})",
       R"({"original_max_position_embeddings": 24, "rope_parameters": {"rope_type": "yarn",
           "factor": 4.0, "original_max_position_embeddings": 99}})"},
      {"gemma3_text", R"({"rope_theta": 500.0, "rope_local_base_freq": 50.0,
           "rope_scaling": {"rope_type": "linear", "factor": 8.0}})",
       R"({"rope_theta": null, "rope_parameters": {
           "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0},
           "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}}})"},
      {"qwen3_moe", R"({"num_experts": 4})", R"({"num_experts": null, "num_local_experts": 4})"},
      {"mixtral", R"({"num_local_experts": 4})",
       R"({"num_local_experts": null, "num_experts": 4})"},
      {"glm4_moe", R"({"n_routed_experts": 4})",
       R"({"n_routed_experts": null, "num_local_experts": 4})"},
  };
  for (const Pair& p : kPairs) {
    SCOPED_TRACE(std::string(p.family) + " " + p.other);
    const Json base = base_of(p.family);
    EXPECT_EQ(model_of(base, p.one), model_of(base, p.other));
  }
}

TEST(RopeParameters, of_a_part_that_the_family_does_not_have_are_said) {
  const Json base = base_of("llama");
  Json config = base;
  config["rope_parameters"] = {{"partial_rotary_factor", 0.5}};
  const test::TemporaryFolder folder;
  test::write_tiny_checkpoint(folder.path(), config.dump());
  const auto source = open_model(folder.path());
  EXPECT_EQ(source->spec().layers(0).sublayers(0).attention().rope().dims(), 16u);
  ASSERT_EQ(source->notes().size(), 1u);
  EXPECT_NE(source->notes()[0].find("partial_rotary_factor is not used"), std::string::npos);
}

}  // namespace
}  // namespace pith
