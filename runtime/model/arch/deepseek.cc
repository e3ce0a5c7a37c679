// DeepSeek-V2 and V3 (and what has their form: Moonlight, Kimi K2): latent attention, MoE with
// experts that every token takes and a choice among groups. GLM-4.5: the MoE of V3 behind
// plain attention.

#include <cmath>

#include "core/bytes.h"
#include "core/error.h"
#include "formats/printable.h"
#include "runtime/model/arch/decoder.h"

namespace pith {
namespace {

struct LatentSizes {
  uint64_t rank, query_rank, plain, rotated, value_dim;
  double eps;  // of the norms of latent vectors
};
// `mscale`: what YaRN multiplies the parts of scores by.
void set_latent(const LatentSizes& s, double mscale, proto::ModelSpec* spec) {
  for_each_attention(spec, [&](int, proto::Attention* a) {
    const uint64_t d = s.plain + s.rotated;
    if (s.plain == 0 || s.rotated == 0 || s.rotated > 4096 || d > 4096 || s.value_dim > 4096)
      fail(ErrorKind::kCorrupt, "heads of {} and {} numbers, values of {}", s.plain, s.rotated,
           s.value_dim);
    a->set_kv_heads(a->heads());
    a->set_head_dim(static_cast<uint32_t>(d));
    a->mutable_latent()->set_rank(s.rank);
    a->mutable_latent()->set_query_rank(s.query_rank);
    a->mutable_latent()->set_value_dim(static_cast<uint32_t>(s.value_dim));
    a->mutable_rope()->set_interleaved(true);
    if (mscale != 1) a->set_scale(mscale * mscale / std::sqrt(static_cast<double>(d)));
    const auto rms = [&](proto::Norm* norm) {
      norm->set_kind(proto::NORM_RMS);
      norm->set_eps(s.eps);
    };
    rms(a->mutable_key_norm());
    if (s.query_rank > 0) rms(a->mutable_query_norm());
  });
}

// How experts are chosen, whatever file says it; `groups` below 2: from all.
struct Choosing {
  bool sigmoid, bias, normalized;
  uint64_t groups, chosen_groups, shared;
  double scale;
};
void set_choosing(const Choosing& c, proto::Moe* m) {
  m->set_sigmoid(c.sigmoid);
  m->set_choice_bias(c.bias);
  m->set_normalized(c.normalized);
  if (c.groups > 1) {
    m->set_groups(checked_cast<uint32_t>(c.groups, "the number of groups of experts"));
    m->set_chosen_groups(
        checked_cast<uint32_t>(c.chosen_groups, "the number of groups for a token"));
  }
  // Weights of V2 that are normalized are not scaled.
  if (c.sigmoid || !c.normalized) m->set_scale(c.scale);
  const uint64_t width = m->expert().width();
  if (c.shared > 1024 || width > (1 << 24))
    fail(ErrorKind::kCorrupt, "{} experts {} wide", c.shared, width);
  set_shared_expert(m, c.shared * width, false);
}

// A word of the configuration that transformers' class does not have, and that says otherwise than
// the class does: it is not for us to choose between them.
void check_word(const Checkpoint& checkpoint, const char* key, const char* expected) {
  const std::string word = json_string(checkpoint.config, key, kConfig, expected);
  if (word != expected)
    fail(ErrorKind::kUnsupported, "{}: {} {} is not supported in this family", kConfig, key,
         printable(word));
}

// The MoE of layers from first_k_dense_replace on.
void set_moe_hf(const Json& c, bool sigmoid, proto::ModelSpec* spec) {
  const uint64_t experts = json_uint(c, "n_routed_experts", kConfig, 0);
  if (experts == 0) return;
  const uint64_t first = json_uint(c, "first_k_dense_replace", kConfig),
                 width = json_uint(c, "moe_intermediate_size", kConfig),
                 chosen = json_uint(c, "num_experts_per_tok", kConfig);
  const bool normalized = json_bool(c, "norm_topk_prob", kConfig, false);
  const std::string method = json_string(c, "topk_method", kConfig, "noaux_tc");
  const bool greedy = method == "greedy";
  if (sigmoid != (method == "noaux_tc") ||
      (!sigmoid && !greedy && method != "group_limited_greedy"))
    fail(ErrorKind::kUnsupported, "{}: topk_method {} is not supported", kConfig,
         printable(method));
  const Choosing choosing{sigmoid,
                          sigmoid,
                          normalized,
                          greedy ? 1 : json_uint(c, "n_group", kConfig),
                          greedy ? 1 : json_uint(c, "topk_group", kConfig),
                          json_uint(c, "n_shared_experts", kConfig, 0),
                          json_number(c, "routed_scaling_factor", kConfig)};
  for (int l = 0; l < spec->layers_size(); ++l) {
    if (static_cast<uint64_t>(l) >= first) set_moe(spec, l, width, experts, chosen, normalized);
  }
  for_each_moe(spec, [&](int, proto::Moe* m) { set_choosing(choosing, m); });
}

// `scores`: 1 softmax, 2 sigmoids, where the file does not say.
void set_moe_gguf(const Checkpoint& checkpoint, uint64_t scores, proto::ModelSpec* spec) {
  const GgufMetadata& g = checkpoint.gguf;
  const std::string family = spec->family();
  const auto key = [&](const char* name) { return family + "." + name; };
  const uint64_t said = g.uint(key("expert_gating_func"), 0);  // 0: it does not say
  if (said != 0) scores = said;
  if (scores != 1 && scores != 2)
    fail(ErrorKind::kUnsupported, "{}: expert_gating_func {} is not supported", checkpoint.path,
         scores);
  const uint64_t groups = g.uint(key("expert_group_count"), 0);
  Choosing choosing{scores == 2,
                    false,
                    g.boolean(key("expert_weights_norm"), false),
                    groups,
                    groups > 1 ? g.uint(key("expert_group_used_count")) : 0,
                    g.uint(key("expert_shared_count"), 0),
                    g.number(key("expert_weights_scale"), 1.0)};
  for_each_moe(spec, [&](int l, proto::Moe* m) {
    choosing.bias = checkpoint.find(fmt::format("blk.{}.exp_probs_b.bias", l)) != nullptr;
    set_choosing(choosing, m);
  });
}

}  // namespace

ImportedModel import_deepseek_hf(const Checkpoint& checkpoint) {
  ImportedModel model;
  Json c = read_hf_config(checkpoint, &model.notes);
  const bool v2 = c["model_type"] == "deepseek_v2";
  check_word(checkpoint, "scoring_func", v2 ? "softmax" : "sigmoid");
  if (!v2) check_word(checkpoint, "topk_method", "noaux_tc");
  const LatentSizes sizes{
      json_uint(c, "kv_lora_rank", kConfig),     json_uint(c, "q_lora_rank", kConfig, 0),
      json_uint(c, "qk_nope_head_dim", kConfig), json_uint(c, "qk_rope_head_dim", kConfig),
      json_uint(c, "v_head_dim", kConfig),       1e-6 /* whatever the other norms have */};
  for (const char* const biases : {"attention_bias", "mlp_bias"}) {
    if (json_bool(c, biases, kConfig, false))
      fail(ErrorKind::kUnsupported, "{}: {} is not supported in this family", kConfig, biases);
  }
  c["head_dim"] = sizes.rotated;  // what rotations know of heads
  c["num_key_value_heads"] = nullptr;
  model.spec = decoder_spec_hf(checkpoint, c);
  auto* const spec = &model.spec;
  const Json& rope = c["rope_parameters"];
  const Json* const all = rope_number(rope, "mscale_all_dim");
  double mscale = 1;
  if (all != nullptr && *all != 0 && rope["rope_type"] != "default") {
    const double context = static_cast<double>(spec->context());
    const Json* const factor = rope_number(rope, "factor");
    mscale = yarn_mscale(
        factor != nullptr
            ? factor->get<double>()
            : context / json_number(rope, "original_max_position_embeddings", kConfig, context),
        all->get<double>());
  }
  set_latent(sizes, mscale, spec);
  const bool interleaved = json_bool(c, "rope_interleave", kConfig, true);
  for_each_attention(
      spec, [&](int, proto::Attention* a) { a->mutable_rope()->set_interleaved(interleaved); });
  set_moe_hf(c, !v2, spec);
  check_spec(*spec, checkpoint.path);  // before its linears are listed
  name_tensors_hf(checkpoint, &model);
  return model;
}

ImportedModel import_deepseek_gguf(const Checkpoint& checkpoint) {
  const GgufMetadata& g = checkpoint.gguf;
  ImportedModel model{.spec = decoder_spec_gguf(checkpoint)};
  auto* const spec = &model.spec;
  if (!g.has("deepseek2.attention.kv_lora_rank"))
    fail(ErrorKind::kUnsupported, "{}: a deepseek2 without latent attention", checkpoint.path);
  if (g.number("deepseek2.attention.temperature_scale", 0.0) != 0)
    fail(ErrorKind::kUnsupported, "{}: scores that depend on the position are not supported",
         checkpoint.path);
  const uint64_t rotated = g.uint("deepseek2.rope.dimension_count"),
                 size = g.uint("deepseek2.attention.key_length_mla",
                               g.uint("deepseek2.attention.key_length", 0)),
                 value = g.uint("deepseek2.attention.value_length_mla",
                                g.uint("deepseek2.attention.value_length", 0));
  if (size <= rotated)
    fail(ErrorKind::kCorrupt, "{}: {} rotated of {} dimensions", checkpoint.path, rotated, size);
  // Scores are scaled, sines and cosines are not.
  double mscale = 1;
  for_each_attention(spec, [&](int, proto::Attention* a) {
    if (a->rope().scaling() != proto::ROPE_YARN) return;
    a->mutable_rope()->set_attention_factor(1);
    mscale = 1 + g.number("deepseek2.rope.scaling.yarn_log_multiplier", 0.0) *
                     std::log(a->rope().factor());
  });
  set_latent(
      {g.uint("deepseek2.attention.kv_lora_rank"), g.uint("deepseek2.attention.q_lora_rank", 0),
       size - rotated, rotated, value, spec->final_norm().eps()},
      mscale, spec);
  set_moe_gguf(checkpoint, 1, spec);
  check_spec(*spec, checkpoint.path);
  name_tensors_gguf(&model);
  // Files from before 2025 have one tensor for keys and values, as Hugging Face does.
  for (const auto& info : linears_of(*spec)) {
    const std::string both = fmt::format("blk.{}.attn_kv_b.weight", info.layer);
    if (info.head < 0 || checkpoint.find(both) == nullptr) continue;
    const auto& a = spec->layers(info.layer).sublayers(info.sublayer).attention();
    TensorSlice slice = slice_of_head(a, info);
    slice.tensor = both;
    model.tensors[info.name] = slice;
  }
  return model;
}

ImportedModel import_glm4_moe_hf(const Checkpoint& checkpoint) {
  ImportedModel model;
  const Json c = read_hf_config(checkpoint, &model.notes);
  model.spec = decoder_spec_hf(checkpoint, c);
  auto* const spec = &model.spec;
  if (json_bool(c, "use_qk_norm", kConfig)) set_head_norms(spec);
  for_each_attention(spec, [](int, proto::Attention* a) { a->set_output_bias(false); });
  set_moe_hf(c, true, spec);
  check_spec(*spec, checkpoint.path);
  name_tensors_hf(checkpoint, &model);
  return model;
}

ImportedModel import_glm4_moe_gguf(const Checkpoint& checkpoint) {
  ImportedModel model{.spec = decoder_spec_gguf(checkpoint)};
  auto* const spec = &model.spec;
  if (checkpoint.find("blk.0.attn_q_norm.weight") != nullptr) set_head_norms(spec);
  set_moe_gguf(checkpoint, 2, spec);
  check_spec(*spec, checkpoint.path);
  name_tensors_gguf(&model, {.gguf_mlp_norm = "post_attention_norm"});
  return model;
}

}  // namespace pith
