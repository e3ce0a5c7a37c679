// What no model may say: bounds of a spec, packed files that do not hold what their spec needs, and
// config.json files of models that nobody could have.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "core/json.h"
#include "runtime/model/arch/arch.h"
#include "runtime/model/source.h"
#include "runtime/model/spec.h"
#include "tests/support/packed_bytes.h"
#include "tests/support/test_data.h"
#include "tests/support/tiny_packed.h"

namespace pith {
namespace {

using proto::Attention;
using proto::Manifest;
using proto::ModelSpec;
using proto::Rope;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr ErrorKind kCorrupt = ErrorKind::kCorrupt;

Attention& attention(ModelSpec& s) {
  return *s.mutable_layers(0)->mutable_sublayers(0)->mutable_attention();
}
proto::Mlp& mlp(ModelSpec& s) { return *s.mutable_layers(0)->mutable_sublayers(1)->mutable_mlp(); }

using ChangeSpec = std::function<void(ModelSpec&)>;

// A mixture that is right, then changed.
template <class Change>
ChangeSpec moe(Change change) {
  return [=](ModelSpec& s) {
    const proto::Mlp expert = mlp(s);
    auto& m = *s.mutable_layers(0)->mutable_sublayers(1)->mutable_moe();
    *m.mutable_expert() = expert;
    m.set_experts(8);
    m.set_chosen(2);
    change(m);
  };
}

// Latent attention that is right, then changed.
template <class Change>
ChangeSpec latent(Change change) {
  return [=](ModelSpec& s) {
    Attention& a = attention(s);
    a.set_kv_heads(a.heads());
    a.set_qkv_bias(false);
    a.clear_query_norm();
    a.mutable_rope()->set_dims(a.head_dim() / 2);
    a.mutable_latent()->set_rank(16);
    a.mutable_latent()->set_value_dim(8);
    change(a);
  };
}

// A RoPE of this scaling that is right, then changed.
template <class Change>
ChangeSpec rope(proto::RopeScaling scaling, Change change) {
  return [=](ModelSpec& s) {
    Rope& r = *attention(s).mutable_rope();
    r.set_scaling(scaling);
    r.set_factor(4);
    r.set_original_context(32);
    r.set_low_freq_factor(1);
    r.set_high_freq_factor(4);
    r.set_beta_fast(32);
    r.set_beta_slow(1);
    r.set_attention_factor(1.2);
    for (int i = 0; i < 4; ++i) {
      r.add_short_factor(1);
      r.add_long_factor(1 + i);
    }
    change(r);
  };
}

// An encoder, and cross attention to it that is right, then changed.
template <class Change>
ChangeSpec cross(Change change) {
  return [=](ModelSpec& s) {
    *s.mutable_encoder()->add_layers() = s.layers(0);
    Attention& a = attention(s);
    a.clear_rope();
    a.set_source(proto::SOURCE_CROSS);
    change(s, a);
  };
}

struct SpecCase {
  const char* name;
  ChangeSpec change;
  const char* text;
};

const SpecCase kCases[] = {
    {"empty", [](ModelSpec& s) { s.Clear(); }, "a vocabulary of 0"},
    {"vocabulary_0", [](ModelSpec& s) { s.set_vocab(0); }, "a vocabulary of 0"},
    {"vocabulary_too_large", [](ModelSpec& s) { s.set_vocab((1 << 24) + 1); },
     "a vocabulary of 16777217"},
    {"vocabulary_2_63", [](ModelSpec& s) { s.set_vocab(uint64_t{1} << 63); },
     "a vocabulary of 9223372036854775808"},
    {"hidden_0", [](ModelSpec& s) { s.set_hidden(0); }, "a hidden size of 0"},
    {"hidden_too_large", [](ModelSpec& s) { s.set_hidden((1 << 24) + 1); },
     "a hidden size of 16777217"},
    {"context_0", [](ModelSpec& s) { s.set_context(0); }, "context of 0"},
    {"context_too_long", [](ModelSpec& s) { s.set_context((1 << 30) + 1); },
     "context of 1073741825"},
    {"norm_bias_without_norm",
     [](ModelSpec& s) {
       s.mutable_final_norm()->set_kind(proto::NORM_NONE);
       s.mutable_final_norm()->set_bias(true);
     },
     "a bias of a norm that is not there"},
    {"parallel_with_output_norm",
     [](ModelSpec& s) {
       s.mutable_layers(0)->set_parallel(true);
       s.mutable_layers(0)->mutable_sublayers(1)->mutable_output_norm()->set_kind(
           proto::NORM_LAYER);
     },
     "parallel sublayers"},
    {"positions_too_many", [](ModelSpec& s) { s.set_positions((1 << 24) + 1); },
     "16777217 positions"},
    {"token_types_too_many", [](ModelSpec& s) { s.set_token_types(1 << 25); },
     "33554432 token types"},
    {"relative_bias_without_buckets", [](ModelSpec& s) { attention(s).mutable_relative_bias(); },
     "0 buckets of distances up to 0"},
    {"relative_bias_that_ends_at_once",
     [](ModelSpec& s) {
       attention(s).mutable_relative_bias()->set_buckets(32);
       attention(s).mutable_relative_bias()->set_max_distance(16);
     },
     "32 buckets of distances up to 16"},
    {"two_biases_by_distance",
     [](ModelSpec& s) {
       attention(s).mutable_relative_bias()->set_buckets(32);
       attention(s).mutable_relative_bias()->set_max_distance(128);
       attention(s).set_alibi(true);
     },
     "two biases by distance"},
    {"attention_source_7",
     [](ModelSpec& s) { attention(s).set_source(static_cast<proto::AttentionSource>(7)); },
     "attention source 7"},
    {"cross_attention_to_nothing", cross([](ModelSpec& s, Attention&) { s.clear_encoder(); }),
     "without an encoder"},
    {"cross_attention_of_an_encoder",
     cross([](ModelSpec& s, Attention&) { *s.mutable_encoder()->add_layers() = s.layers(0); }),
     "without an encoder"},
    {"cross_attention_with_rope", cross([](ModelSpec&, Attention& a) {
       a.mutable_rope()->set_dims(8);
       a.mutable_rope()->set_theta(1e4);
     }),
     "cross attention that has positions"},
    {"cross_attention_with_a_window", cross([](ModelSpec&, Attention& a) { a.set_window(8); }),
     "cross attention that has positions"},
    {"encoder_layers_4097",
     [](ModelSpec& s) {
       while (s.encoder().layers_size() < 4097) *s.mutable_encoder()->add_layers() = s.layers(0);
     },
     "4097 layers"},
    {"latent_with_alibi", latent([](Attention& a) { a.set_alibi(true); }),
     "latent attention across stacks"},
    {"layers_4097",
     [](ModelSpec& s) {
       while (s.layers_size() < 4097) *s.add_layers() = s.layers(0);
     },
     "4097 layers"},
    {"stop_token_negative", [](ModelSpec& s) { s.set_stop_tokens(0, -1); }, "stop token -1"},
    {"stop_token_beyond_the_vocabulary", [](ModelSpec& s) { s.add_stop_tokens(24); },
     "stop token 24"},
    {"stop_tokens_without_end",
     [](ModelSpec& s) {
       for (int i = 0; i < 1024; ++i) s.add_stop_tokens(3);
     },
     "1025 stop tokens"},
    {"first_token_beyond_the_vocabulary", [](ModelSpec& s) { s.set_bos_token(24); },
     "first token 24"},
    {"first_token_negative", [](ModelSpec& s) { s.set_bos_token(-2); }, "first token -2"},

    // Sublayers.
    {"sublayer_without_a_name",
     [](ModelSpec& s) { s.mutable_layers(0)->mutable_sublayers(0)->clear_name(); },
     "sublayer name \"\""},
    {"sublayers_of_one_name",
     [](ModelSpec& s) { s.mutable_layers(0)->mutable_sublayers(0)->set_name("mlp"); },
     "sublayer name \"mlp\""},
    {"sublayer_with_a_long_name",
     [](ModelSpec& s) {
       s.mutable_layers(0)->mutable_sublayers(0)->set_name(std::string(65, 'x'));
     },
     "sublayer name \"xxxx"},
    {"sublayers_17",
     [](ModelSpec& s) {
       auto* layer = s.mutable_layers(0);
       while (layer->sublayers_size() < 17) {
         *layer->add_sublayers() = layer->sublayers(1);
         layer->mutable_sublayers(layer->sublayers_size() - 1)
             ->set_name(std::to_string(layer->sublayers_size()));
       }
     },
     "17 sublayers"},
    {"experts_none", moe([](proto::Moe& m) { m.set_experts(0); }), "0 experts"},
    {"experts_too_many", moe([](proto::Moe& m) { m.set_experts(1025); }), "1025 experts"},
    {"experts_without_end",
     [](ModelSpec& s) {
       moe([](proto::Moe& m) { m.set_experts(1024); })(s);
       while (s.layers_size() < 33) *s.add_layers() = s.layers(0);
     },
     "more than 32768 experts"},
    {"experts_chosen_none", moe([](proto::Moe& m) { m.set_chosen(0); }), "0 of 8 experts chosen"},
    {"experts_chosen_more_than_there_are", moe([](proto::Moe& m) { m.set_chosen(9); }),
     "9 of 8 experts chosen"},
    {"experts_of_no_width", moe([](proto::Moe& m) { m.mutable_expert()->set_width(0); }),
     "a feed-forward width of 0"},
    {"experts_with_a_norm_behind",
     [](ModelSpec& s) {
       moe([](proto::Moe&) {})(s);
       s.mutable_layers(0)->mutable_sublayers(1)->mutable_post_norm()->set_kind(proto::NORM_RMS);
     },
     "a norm behind a MoE"},
    {"groups_of_experts_not_alike", moe([](proto::Moe& m) {
       m.set_groups(3);
       m.set_chosen_groups(1);
     }),
     "from 1 of 3 groups"},
    {"groups_of_experts_none_chosen", moe([](proto::Moe& m) { m.set_groups(4); }),
     "from 0 of 4 groups"},
    {"groups_of_experts_too_few", moe([](proto::Moe& m) {
       m.set_groups(8);
       m.set_chosen_groups(1);
     }),
     "2 experts chosen from 1 of 8 groups"},
    {"groups_of_experts_chosen_more_than_there_are", moe([](proto::Moe& m) {
       m.set_groups(2);
       m.set_chosen_groups(3);
     }),
     "from 3 of 2 groups"},
    {"experts_scaled_by_nan", moe([](proto::Moe& m) { m.set_scale(kNaN); }),
     "weights of experts times nan"},
    {"experts_chosen_by_softmax_and_bias", moe([](proto::Moe& m) { m.set_choice_bias(true); }),
     "by softmax and a bias"},
    {"shared_expert_of_no_width", moe([](proto::Moe& m) { m.mutable_shared(); }),
     "a feed-forward width of 0"},
    {"shared_gate_alone", moe([](proto::Moe& m) { m.set_shared_gate(true); }),
     "a shared expert that is not there"},
    {"activation_of_gate_and_up_without_a_gate",
     [](ModelSpec& s) {
       mlp(s).set_gated(false);
       mlp(s).set_activation(proto::ACTIVATION_SILU_CLAMPED);
     },
     "an activation of gate and up"},
    {"embedding_scale_negative", [](ModelSpec& s) { s.set_embedding_scale(-2); },
     "an embedding scale of -2"},
    {"embedding_scale_nan", [](ModelSpec& s) { s.set_embedding_scale(kNaN); },
     "an embedding scale of nan"},
    {"logit_cap_negative", [](ModelSpec& s) { s.set_logit_cap(-30); }, "a cap of -30"},
    {"score_cap_infinite", [](ModelSpec& s) { attention(s).set_score_cap(kInfinity); },
     "a cap of inf"},
    {"sublayer_of_no_kind",
     [](ModelSpec& s) { s.mutable_layers(0)->mutable_sublayers(0)->clear_attention(); },
     "sublayer \"attention\" of an unknown kind"},

    // Norms.
    {"norm_of_an_unknown_kind",
     [](ModelSpec& s) { s.mutable_final_norm()->set_kind(static_cast<proto::NormKind>(9)); },
     "norm kind 9"},
    {"norm_epsilon_negative", [](ModelSpec& s) { s.mutable_final_norm()->set_eps(-1e-6); },
     "a norm epsilon of -1e-06"},
    {"norm_epsilon_1", [](ModelSpec& s) { s.mutable_final_norm()->set_eps(1); },
     "a norm epsilon of 1"},
    {"norm_epsilon_nan", [](ModelSpec& s) { s.mutable_final_norm()->set_eps(kNaN); },
     "a norm epsilon of nan"},
    {"norm_of_a_sublayer",
     [](ModelSpec& s) { s.mutable_layers(0)->mutable_sublayers(1)->mutable_norm()->set_eps(7); },
     "a norm epsilon of 7"},
    {"norm_behind_a_sublayer",
     [](ModelSpec& s) {
       s.mutable_layers(0)->mutable_sublayers(1)->mutable_post_norm()->set_eps(6);
     },
     "a norm epsilon of 6"},
    {"norm_of_queries", [](ModelSpec& s) { attention(s).mutable_query_norm()->set_eps(8); },
     "a norm epsilon of 8"},
    {"norm_of_keys", [](ModelSpec& s) { attention(s).mutable_key_norm()->set_eps(9); },
     "a norm epsilon of 9"},

    // Attention.
    {"latent_rank_0", latent([](Attention& a) { a.mutable_latent()->set_rank(0); }),
     "a latent vector of 0"},
    {"latent_rank_2_63",
     latent([](Attention& a) { a.mutable_latent()->set_rank(uint64_t{1} << 63); }),
     "a latent vector of 9223372036854775808"},
    {"latent_rank_4096", latent([](Attention& a) { a.mutable_latent()->set_rank(4096); }),
     "over a latent vector of 4096"},
    {"latent_query_too_large",
     latent([](Attention& a) { a.mutable_latent()->set_query_rank(1 << 25); }),
     "a latent query of 33554432"},
    {"latent_value_0", latent([](Attention& a) { a.mutable_latent()->set_value_dim(0); }),
     "values of size 0"},
    {"latent_value_too_large",
     latent([](Attention& a) { a.mutable_latent()->set_value_dim(5000); }), "values of size 5000"},
    {"latent_heads_rotated_whole",
     latent([](Attention& a) { a.mutable_rope()->set_dims(a.head_dim()); }), "latent heads with"},
    {"latent_heads_not_rotated", latent([](Attention& a) { a.mutable_rope()->set_dims(0); }),
     "latent heads with 0 rotated"},
    {"latent_heads_that_share_keys", latent([](Attention& a) { a.set_kv_heads(2); }),
     "latent attention with shared keys"},
    {"latent_norm_of_no_query",
     latent([](Attention& a) { a.mutable_query_norm()->set_kind(proto::NORM_RMS); }),
     "a norm of a latent query that is not there"},
    {"latent_heads_without_end",
     [](ModelSpec& s) {
       latent([](Attention& a) {
         a.set_heads(1024);
         a.set_kv_heads(1024);
       })(s);
       while (s.layers_size() < 65) *s.add_layers() = s.layers(0);
     },
     "more than 65536 latent heads"},
    {"heads_0", [](ModelSpec& s) { attention(s).set_heads(0); }, "0 heads over 2"},
    {"heads_65537",
     [](ModelSpec& s) {
       attention(s).set_heads(65537);
       attention(s).set_kv_heads(1);
     },
     "65537 heads"},
    {"key_heads_0", [](ModelSpec& s) { attention(s).set_kv_heads(0); }, "4 heads over 0"},
    {"heads_not_divisible", [](ModelSpec& s) { attention(s).set_kv_heads(3); }, "4 heads over 3"},
    {"key_heads_more_than_heads", [](ModelSpec& s) { attention(s).set_kv_heads(8); },
     "4 heads over 8"},
    {"head_size_0", [](ModelSpec& s) { attention(s).set_head_dim(0); }, "4 heads of size 0"},
    {"head_size_4097", [](ModelSpec& s) { attention(s).set_head_dim(4097); }, "heads of size 4097"},
    {"heads_times_size_too_large",
     [](ModelSpec& s) {
       attention(s).set_heads(65536);
       attention(s).set_head_dim(4096);
     },
     "65536 heads of size 4096"},
    {"scale_nan", [](ModelSpec& s) { attention(s).set_scale(kNaN); }, "an attention scale of nan"},
    {"scale_infinite", [](ModelSpec& s) { attention(s).set_scale(-kInfinity); },
     "an attention scale of -inf"},
    {"window_2_63", [](ModelSpec& s) { attention(s).set_window(uint64_t{1} << 63); },
     "a window of 9223372036854775808"},

    // RoPE.
    {"rotated_more_than_there_is", [](ModelSpec& s) { attention(s).mutable_rope()->set_dims(10); },
     "10 rotated of 8"},
    {"rotated_odd", [](ModelSpec& s) { attention(s).mutable_rope()->set_dims(7); },
     "7 rotated of 8"},
    {"theta_0", [](ModelSpec& s) { attention(s).mutable_rope()->set_theta(0); },
     "a RoPE base of 0"},
    {"theta_negative", [](ModelSpec& s) { attention(s).mutable_rope()->set_theta(-1e4); },
     "a RoPE base of -10000"},
    {"theta_infinite", [](ModelSpec& s) { attention(s).mutable_rope()->set_theta(kInfinity); },
     "a RoPE base of inf"},
    {"theta_nan", [](ModelSpec& s) { attention(s).mutable_rope()->set_theta(kNaN); },
     "a RoPE base of nan"},
    {"scaling_unknown", rope(static_cast<proto::RopeScaling>(6), [](Rope&) {}), "RoPE scaling 6"},
    {"scaling_negative", rope(static_cast<proto::RopeScaling>(-1), [](Rope&) {}),
     "RoPE scaling -1"},
    {"factor_below_1", rope(proto::ROPE_LINEAR, [](Rope& r) { r.set_factor(0.5); }),
     "a RoPE factor of 0.5"},
    {"factor_missing", rope(proto::ROPE_DYNAMIC, [](Rope& r) { r.clear_factor(); }),
     "a RoPE factor of 0"},
    {"factor_too_large", rope(proto::ROPE_YARN, [](Rope& r) { r.set_factor(1e6); }),
     "a RoPE factor of 1000000"},
    {"factor_nan", rope(proto::ROPE_LLAMA3, [](Rope& r) { r.set_factor(kNaN); }),
     "a RoPE factor of nan"},
    {"dynamic_without_its_context",
     rope(proto::ROPE_DYNAMIC, [](Rope& r) { r.clear_original_context(); }),
     "without an original context"},
    {"yarn_without_its_context",
     rope(proto::ROPE_YARN, [](Rope& r) { r.clear_original_context(); }),
     "without an original context"},
    {"llama3_without_its_context",
     rope(proto::ROPE_LLAMA3, [](Rope& r) { r.clear_original_context(); }),
     "without an original context"},
    {"longrope_without_its_context",
     rope(proto::ROPE_LONGROPE, [](Rope& r) { r.clear_original_context(); }),
     "without an original context"},
    {"longrope_short_factor_too_many",
     rope(proto::ROPE_LONGROPE, [](Rope& r) { r.add_short_factor(1); }),
     "5 and 4 RoPE factors for 4 frequencies"},
    {"longrope_long_factor_too_few",
     rope(proto::ROPE_LONGROPE, [](Rope& r) { r.mutable_long_factor()->RemoveLast(); }),
     "4 and 3 RoPE factors for 4 frequencies"},
    {"longrope_factor_0", rope(proto::ROPE_LONGROPE, [](Rope& r) { r.set_short_factor(3, 0); }),
     "a RoPE frequency factor of 0"},
    {"longrope_factor_negative",
     rope(proto::ROPE_LONGROPE, [](Rope& r) { r.set_long_factor(0, -2); }),
     "a RoPE frequency factor of -2"},
    {"longrope_factor_nan", rope(proto::ROPE_LONGROPE, [](Rope& r) { r.set_long_factor(1, kNaN); }),
     "a RoPE frequency factor of nan"},
    {"longrope_attention_factor_infinite",
     rope(proto::ROPE_LONGROPE, [](Rope& r) { r.set_attention_factor(kInfinity); }),
     "a RoPE attention factor of inf"},
    {"yarn_attention_factor_0", rope(proto::ROPE_YARN, [](Rope& r) { r.set_attention_factor(0); }),
     "a RoPE attention factor of 0"},
    {"yarn_attention_factor_nan",
     rope(proto::ROPE_YARN, [](Rope& r) { r.set_attention_factor(kNaN); }),
     "a RoPE attention factor of nan"},
    {"llama3_low_factor_0", rope(proto::ROPE_LLAMA3, [](Rope& r) { r.set_low_freq_factor(0); }),
     "RoPE frequency factors 0 and 4"},
    {"llama3_factors_the_same",
     rope(proto::ROPE_LLAMA3, [](Rope& r) { r.set_high_freq_factor(1); }),
     "RoPE frequency factors 1 and 1"},
    {"llama3_high_factor_nan",
     rope(proto::ROPE_LLAMA3, [](Rope& r) { r.set_high_freq_factor(kNaN); }),
     "RoPE frequency factors 1 and nan"},
    {"yarn_beta_fast_0", rope(proto::ROPE_YARN, [](Rope& r) { r.set_beta_fast(0); }),
     "YaRN betas 0 and 1"},
    {"yarn_beta_slow_negative", rope(proto::ROPE_YARN, [](Rope& r) { r.set_beta_slow(-1); }),
     "YaRN betas 32 and -1"},

    // Feed-forward.
    {"width_0", [](ModelSpec& s) { mlp(s).set_width(0); }, "a feed-forward width of 0"},
    {"width_too_large", [](ModelSpec& s) { mlp(s).set_width((1 << 24) + 1); },
     "a feed-forward width of 16777217"},
    {"activation_unknown",
     [](ModelSpec& s) { mlp(s).set_activation(static_cast<proto::Activation>(5)); },
     "activation 5"},
};

class CorruptSpec : public testing::TestWithParam<SpecCase> {};

TEST_P(CorruptSpec, is_refused_with_a_reason) {
  ModelSpec spec = test::tiny_spec();
  GetParam().change(spec);
  EXPECT_PITH_ERROR(check_spec(spec, "x.pith"), kCorrupt, GetParam().text);
  EXPECT_PITH_ERROR(check_spec(spec, "x.pith"), kCorrupt, "x.pith: model with");
}
INSTANTIATE_TEST_SUITE_P(All, CorruptSpec, testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Spec, every_rope_that_the_cases_change_is_right) {
  for (const auto scaling : {proto::ROPE_PLAIN, proto::ROPE_LINEAR, proto::ROPE_DYNAMIC,
                             proto::ROPE_LLAMA3, proto::ROPE_YARN, proto::ROPE_LONGROPE}) {
    ModelSpec spec = test::tiny_spec();
    rope(scaling, [](Rope&) {})(spec);
    EXPECT_NO_THROW(check_spec(spec, "x.pith")) << scaling;
  }
}

TEST(Spec, the_largest_sizes_are_allowed) {
  ModelSpec spec = test::tiny_spec();
  spec.set_vocab(1 << 24);
  spec.set_hidden(1 << 24);
  spec.set_context(1 << 30);
  attention(spec).set_heads(4096);
  attention(spec).set_kv_heads(4096);
  attention(spec).set_head_dim(4096);
  mlp(spec).set_width(1 << 24);
  while (spec.layers_size() < 4096) *spec.add_layers() = spec.layers(0);
  EXPECT_NO_THROW(check_spec(spec, "x.pith"));
  EXPECT_EQ(linears_of(spec).size(), 2u + 4096 * 7);
  EXPECT_GT(parameter_count(spec), uint64_t{1} << 60);
}

TEST(Spec, a_model_without_layers_biases_or_head_is_allowed) {
  ModelSpec spec = test::tiny_spec();
  spec.clear_layers();
  spec.clear_final_norm();
  spec.set_tied_head(true);
  spec.set_bos_token(-1);
  spec.clear_stop_tokens();
  EXPECT_NO_THROW(check_spec(spec, "x.pith"));
  EXPECT_EQ(linears_of(spec).size(), 1u);
  EXPECT_EQ(vectors_of(spec).size(), 0u);
}

// ---- Packed files that do not hold their model ----

std::unique_ptr<ModelSource> open_bytes(const std::string& bytes) {
  const test::TemporaryFolder folder;  // a mapped file outlives its name
  write_file(folder.file("x.pith"), as_bytes(bytes));
  return open_model(folder.file("x.pith"));
}

int find(const Manifest& m, const std::string& name) {
  for (int i = 0; i < m.linears_size(); ++i) {
    if (m.linears(i).name() == name) return i;
  }
  return -1;
}

struct SourceCase {
  const char* name;
  std::function<void(Manifest&)> change;
  const char* text;
};

const SourceCase kSourceCases[] = {
    {"no_model", [](Manifest& m) { m.clear_model(); }, "a vocabulary of 0"},
    {"a_spec_out_of_bounds", [](Manifest& m) { m.mutable_model()->set_context(0); },
     "context of 0"},
    {"another_vocabulary", [](Manifest& m) { m.mutable_model()->set_vocab(25); },
     "embedding is 24 x 32, the model needs 25 x 32"},
    {"another_hidden_size", [](Manifest& m) { m.mutable_model()->set_hidden(64); },
     "embedding is 24 x 32, the model needs 24 x 64"},
    {"another_width", [](Manifest& m) { mlp(*m.mutable_model()).set_width(47); },
     "layers.0.mlp.gate is 48 x 32, the model needs 47 x 32"},
    {"other_heads", [](Manifest& m) { attention(*m.mutable_model()).set_kv_heads(4); },
     "layers.0.attention.k is 16 x 32, the model needs 32 x 32"},
    {"another_head_size", [](Manifest& m) { attention(*m.mutable_model()).set_head_dim(16); },
     "layers.0.attention.q is 32 x 32, the model needs 64 x 32"},
    {"one_layer_more", [](Manifest& m) { *m.mutable_model()->add_layers() = m.model().layers(0); },
     "layers.1.attention.q is missing"},
    {"a_sublayer_of_another_name",
     [](Manifest& m) {
       m.mutable_model()->mutable_layers(0)->mutable_sublayers(1)->set_name("ffn");
     },
     "layers.0.ffn.gate is missing"},
    {"embedding_missing",
     [](Manifest& m) { m.mutable_linears(find(m, "embedding"))->set_name("embedding2"); },
     "embedding is missing"},
    {"head_missing", [](Manifest& m) { m.mutable_linears(find(m, "head"))->set_name("other"); },
     "head is missing"},
    {"linear_of_a_layer_missing",
     [](Manifest& m) { m.mutable_linears(find(m, "layers.0.mlp.up"))->set_name("x"); },
     "layers.0.mlp.up is missing"},
    {"linears_swapped",
     [](Manifest& m) {
       m.mutable_linears(find(m, "layers.0.mlp.up"))->set_name("x");
       m.mutable_linears(find(m, "layers.0.mlp.down"))->set_name("layers.0.mlp.up");
       m.mutable_linears(find(m, "x"))->set_name("layers.0.mlp.down");
     },
     "layers.0.mlp.up is 32 x 48, the model needs 48 x 32"},
    {"bias_where_none_belongs",
     [](Manifest& m) { attention(*m.mutable_model()).set_qkv_bias(false); },
     "layers.0.attention.q is 32 x 32, the model needs 32 x 32"},
    {"bias_missing", [](Manifest& m) { mlp(*m.mutable_model()).set_bias(true); },
     "layers.0.mlp.gate is 48 x 32, the model needs 48 x 32 and a bias"},
    {"vector_missing",
     [](Manifest& m) {
       for (auto& v : *m.mutable_vectors()) {
         if (v.name() == "final_norm") v.set_name("x");
       }
     },
     "final_norm is missing"},
    {"query_norm_missing",
     [](Manifest& m) {
       for (auto& v : *m.mutable_vectors()) {
         if (v.name() == "layers.0.attention.query_norm") v.set_name("x");
       }
     },
     "layers.0.attention.query_norm is missing"},
    {"vectors_swapped",
     [](Manifest& m) {
       for (auto& v : *m.mutable_vectors()) {
         if (v.name() == "final_norm") {
           v.set_name("layers.0.attention.query_norm");
         } else if (v.name() == "layers.0.attention.query_norm") {
           v.set_name("final_norm");
         }
       }
     },
     "layers.0.attention.query_norm has length 32, not 8"},
    {"vector_for_a_linear",
     [](Manifest& m) {
       m.mutable_linears(find(m, "head"))->set_name("x");
       m.mutable_vectors(0)->set_name("head");
     },
     "head is missing"},
};

class CorruptSource : public testing::TestWithParam<SourceCase> {};

TEST_P(CorruptSource, is_refused_with_a_reason) {
  const std::string file = test::tiny_packed();
  Manifest m = test::packed_manifest(file);
  GetParam().change(m);
  EXPECT_PITH_ERROR(open_bytes(test::with_manifest(file, m)), kCorrupt, GetParam().text);
  EXPECT_PITH_ERROR(open_bytes(test::with_manifest(file, m)), kCorrupt, "x.pith");
}
INSTANTIATE_TEST_SUITE_P(All, CorruptSource, testing::ValuesIn(kSourceCases),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(PackedSource, reads_every_linear_bias_and_vector_of_its_model) {
  const auto source = open_bytes(test::tiny_packed());
  EXPECT_EQ(source->kind(), "pith");
  for (const auto& info : linears_of(source->spec())) {
    const Linear linear = source->linear(info);
    std::vector<float> whole(static_cast<size_t>(info.n * info.k)),
        row(static_cast<size_t>(info.k));
    reference_decode(linear, 0, info.n, whole.data());
    for (int64_t r = 0; r < info.n; ++r) {
      source->rows(info, r, 1, row.data());
      EXPECT_TRUE(std::equal(row.begin(), row.end(), whole.begin() + r * info.k)) << info.name;
    }
    EXPECT_EQ(linear.bias.size(), info.bias ? static_cast<size_t>(info.n) : 0u) << info.name;
    EXPECT_EQ(source->form(info), form_of(linear));
  }
  for (const auto& info : vectors_of(source->spec()))
    EXPECT_EQ(source->vector(info).size(), static_cast<size_t>(info.length));
  const Model model = load_model(*source);
  EXPECT_EQ(model.blocks.size(), 1u);
  EXPECT_EQ(model.blocks[0].sublayers[1].mlp->down.terms.size(), 2u);
  EXPECT_GT(source->tensor_bytes(), model.bytes() / 2);
}

TEST(PackedSource, damaged_planes_are_found_on_opening_unless_asked_not_to) {
  std::string file = test::tiny_packed();
  file[256] = static_cast<char>(file[256] ^ 1);
  EXPECT_PITH_ERROR(open_bytes(file), kCorrupt, "checksum");
  const test::TemporaryFolder folder;
  write_file(folder.file("x.pith"), as_bytes(file));
  EXPECT_NO_THROW(open_model(folder.file("x.pith"), "", false));
}

TEST(PackedSource, a_file_with_records_that_the_model_does_not_need_is_read) {
  const std::string file = test::tiny_packed();
  Manifest m = test::packed_manifest(file);
  m.mutable_model()->set_tied_head(true);
  EXPECT_NO_THROW(open_bytes(test::with_manifest(file, m)));
}

// ---- config.json ----

Checkpoint checkpoint(const std::string& changes) {
  Checkpoint c;
  c.path = "x";
  c.config = parse_json(R"({"model_type": "llama", "vocab_size": 24, "hidden_size": 32,
      "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
      "max_position_embeddings": 64})",
                        "config.json");
  c.config.update(parse_json(changes, "changes"));
  return c;
}

struct ConfigCase {
  const char* name;
  std::string changes;
  ErrorKind kind;
  const char* text;
};

std::string longrope(int factors) {
  const Json list = std::vector<double>(static_cast<size_t>(factors), 1.5);
  return Json({{"num_hidden_layers", 4096},
               {"rope_scaling",
                {{"type", "longrope"}, {"short_factor", list}, {"long_factor", list}}}})
      .dump();
}
std::string stop_tokens(int count) {
  Json ids = Json::array();
  for (int i = 0; i < count; ++i) ids.push_back(i);
  return Json({{"eos_token_id", ids}}).dump();
}

const ConfigCase kConfigCases[] = {
    {"right_but_for_its_tensors", "{}", kCorrupt,
     "tensor \"model.embed_tokens.weight\" is missing"},
    {"no_family", R"({"model_type": null})", kCorrupt, "\"model_type\" is missing"},
    {"unknown_family", R"({"model_type": "gpt5"})", ErrorKind::kUnsupported,
     "architecture \"gpt5\" is not supported"},
    {"already_quantized", R"({"quantization_config": {}})", ErrorKind::kUnsupported,
     "already quantized"},
    {"already_quantized_by_name", R"({"quantization_config": {"quant_method": "awq"}})",
     ErrorKind::kUnsupported, "already quantized by \"awq\"; give the original checkpoint"},
    {"already_quantized_in_a_format",
     R"({"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized",
         "config_groups": {"group_0": {"weights": {"type": "int", "num_bits": 4}}}}})",
     ErrorKind::kUnsupported, "by \"compressed-tensors\" (\"pack-quantized\")"},
    {"architecture_with_an_escape", R"({"model_type": "a\u001b]0;b"})", ErrorKind::kUnsupported,
     "architecture \"a\\x1b]0;b\" is not"},
    {"negative_size", R"({"hidden_size": -32})", kCorrupt, "\"hidden_size\" should be"},
    {"size_with_a_fraction", R"({"hidden_size": 32.5})", kCorrupt, "\"hidden_size\" should be"},
    {"layers_4097", R"({"num_hidden_layers": 4097})", kCorrupt, "4097 layers"},
    {"layers_2_32", R"({"num_hidden_layers": 4294967296})", kCorrupt, "out of range"},
    {"heads_0", R"({"num_attention_heads": 0})", kCorrupt,
     "\"num_attention_heads\" should be a positive integer, it is 0"},
    {"key_heads_0", R"({"num_key_value_heads": 0})", kCorrupt, "\"num_key_value_heads\" should be"},
    {"more_heads_than_hidden", R"({"num_attention_heads": 64})", kCorrupt, "64 heads of size 0"},
    {"heads_times_size_overflows", R"({"num_attention_heads": 4294967295, "head_dim": 4294967295})",
     kCorrupt, "4294967295 heads"},
    {"fused_heads_times_size_overflows",
     R"({"model_type": "phi3", "num_attention_heads": 4294967295, "head_dim": 4294967295})",
     kCorrupt, "4294967295 heads"},
    {"width_2_64_less_1", R"({"intermediate_size": 18446744073709551615})", kCorrupt,
     "a feed-forward width of"},
    {"rotated_more_than_there_is", R"({"model_type": "phi3", "partial_rotary_factor": 1.5})",
     kCorrupt, "partial_rotary_factor is 1.5"},
    {"epsilon_negative", R"({"rms_norm_eps": -1})", kCorrupt, "\"rms_norm_eps\" should be"},
    {"activation_unknown", R"({"hidden_act": "relu"})", ErrorKind::kUnsupported,
     "activation \"relu\""},
    {"stop_token_of_text", R"({"eos_token_id": ["a"]})", kCorrupt,
     "\"eos_token_id\" should be an integer or a list of them, it is a list"},
    {"stop_tokens_without_end", stop_tokens(200'000), kCorrupt, "more than 1024 ids"},
    {"rope_scaling_unknown", R"({"rope_scaling": {"type": "ntk", "factor": 2}})",
     ErrorKind::kUnsupported, "RoPE scaling \"ntk\""},
    {"rope_factor_missing", R"({"rope_scaling": {"type": "linear"}})", kCorrupt,
     "\"factor\" is missing"},
    {"rope_factors_without_end", longrope(100'000), kCorrupt,
     "100000 and 100000 RoPE factors for 4 frequencies"},
    {"rope_context_0",
     R"({"rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 0}})",
     kCorrupt, "\"original_max_position_embeddings\" should be"},
    {"rope_attention_factor_0",
     R"({"rope_scaling": {"type": "yarn", "factor": 4, "attention_factor": 0}})", kCorrupt,
     "a RoPE attention factor of 0"},
    {"gemma_scores_divided_by_0",
     R"({"model_type": "gemma2", "query_pre_attn_scalar": 0, "head_dim": 8})", kCorrupt,
     "\"query_pre_attn_scalar\" should be"},
    {"gemma_cap_of_text", R"({"model_type": "gemma2", "attn_logit_softcapping": "50"})", kCorrupt,
     "\"attn_logit_softcapping\" should be"},
    {"gemma_window_in_no_layer", R"({"model_type": "gemma3_text", "sliding_window_pattern": 0})",
     kCorrupt, "\"sliding_window_pattern\" should be"},
    {"gemma_sees_later_tokens",
     R"({"model_type": "gemma3_text", "use_bidirectional_attention": true})",
     ErrorKind::kUnsupported, "attention to later tokens"},
    {"gemma_text_of_another_family",
     R"({"model_type": "gemma3", "text_config": {"model_type": "qwen2"}})", kCorrupt,
     "\"qwen2\" as the text model of gemma3"},
};

class CorruptConfig : public testing::TestWithParam<ConfigCase> {};

TEST_P(CorruptConfig, is_refused_with_a_reason) {
  EXPECT_PITH_ERROR(import_model(checkpoint(GetParam().changes)), GetParam().kind, GetParam().text);
}
INSTANTIATE_TEST_SUITE_P(All, CorruptConfig, testing::ValuesIn(kConfigCases),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace pith
