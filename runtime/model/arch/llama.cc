// Llama 1 to 3 and the families that differ from it in a flag: Mistral (sliding window), Qwen2
// (biases of q, k, v; window from a layer on), Qwen3 (norms of queries and keys), llama2.c
// (interleaved rotation); Mixtral and Qwen3-MoE (mixtures of experts).

#include <algorithm>

#include "core/error.h"
#include "runtime/model/arch/decoder.h"

namespace pith {
namespace {

constexpr const char* kConfig = "config.json";

void set_windows_hf(const Json& c, const std::string& family, proto::ModelSpec* spec) {
  const uint64_t window = json_uint(c, "sliding_window", kConfig, 0);
  if (window == 0) return;
  const bool qwen = family.starts_with("qwen");
  if (family == "llama" || (qwen && !json_bool(c, "use_sliding_window", kConfig, false))) return;
  const uint64_t first = qwen ? json_uint(c, "max_window_layers", kConfig, 0) : 0;
  for_each_attention(spec, [&](int l, proto::Attention* a) {
    if (has_window(c, l, static_cast<uint64_t>(l) >= first)) a->set_window(window);
  });
}

void set_mixtures_hf(const Json& c, const std::string& family, proto::ModelSpec* spec) {
  if (family == "mixtral") {
    for (int l = 0; l < spec->layers_size(); ++l) {
      set_mixture(spec, l, json_uint(c, "intermediate_size", kConfig),
                  json_uint(c, "num_local_experts", kConfig, 8),
                  json_uint(c, "num_experts_per_tok", kConfig, 2), true);
    }
  }
  if (family != "qwen2_moe" && family != "qwen3_moe") return;
  const Json* const plain = json_find(c, "mlp_only_layers");
  const uint64_t step = json_uint(c, "decoder_sparse_step", kConfig, 1);
  if (step == 0) fail(ErrorKind::kCorrupt, "{}: decoder_sparse_step is 0", kConfig);
  for (int l = 0; l < spec->layers_size(); ++l) {
    const bool listed = plain != nullptr && plain->is_array() &&
                        std::ranges::any_of(*plain, [&](const Json& i) { return i == l; });
    if (listed || static_cast<uint64_t>(l + 1) % step != 0) continue;
    set_mixture(spec, l, json_uint(c, "moe_intermediate_size", kConfig),
                json_uint(c, "num_experts", kConfig), json_uint(c, "num_experts_per_tok", kConfig),
                json_bool(c, "norm_topk_prob", kConfig, false));
  }
  if (family != "qwen2_moe") return;
  for_each_mixture(spec, [&](int, proto::Mixture* m) {
    set_shared_expert(m, json_uint(c, "shared_expert_intermediate_size", kConfig), true);
  });
}

}  // namespace

ImportedModel import_llama_hf(const Checkpoint& checkpoint) {
  ImportedModel model{.spec = decoder_spec_hf(checkpoint), .tensors = {}};
  auto* spec = &model.spec;
  const std::string family = spec->family();
  for_each_attention(spec, [&](int, proto::Attention* a) {
    a->mutable_rope()->set_interleaved(family == "llama2c");
    const bool qwen2 = family.starts_with("qwen2");
    if (qwen2) a->set_qkv_bias(true);
    if (qwen2 || family == "mistral" || family == "mixtral") a->set_output_bias(false);
  });
  if (family.starts_with("qwen3")) set_head_norms(spec);
  set_windows_hf(checkpoint.config, family, spec);
  set_mixtures_hf(checkpoint.config, family, spec);
  check_spec(*spec, checkpoint.path);  // before its linears are listed
  name_tensors_hf(checkpoint, &model, {.mixtral = family == "mixtral", .shared = "shared_expert"});
  return model;
}

ImportedModel import_llama_gguf(const Checkpoint& checkpoint) {
  ImportedModel model{.spec = decoder_spec_gguf(checkpoint), .tensors = {}};
  auto* spec = &model.spec;
  // Converters permute the rows of q and k of Llama so that the rotation works on neighbours; of
  // the others they do not.
  const bool interleaved = spec->family() == "llama";
  for_each_attention(
      spec, [&](int, proto::Attention* a) { a->mutable_rope()->set_interleaved(interleaved); });
  if (spec->family().starts_with("qwen3")) set_head_norms(spec);
  if (spec->family() == "qwen2moe") {
    const GgufMetadata& g = checkpoint.gguf;
    for_each_mixture(spec, [&](int, proto::Mixture* m) {
      m->set_normalized(g.boolean("qwen2moe.expert_weights_norm", false));
      set_shared_expert(m, g.uint("qwen2moe.expert_shared_feed_forward_length", 0), true);
    });
  }
  check_spec(*spec, checkpoint.path);
  name_tensors_gguf(&model);
  return model;
}

}  // namespace pith
