// Llama 1 to 3 and the families that differ from it in a flag: Mistral (sliding window), Qwen2
// (biases of q, k, v; window from a layer on), Qwen3 (norms of queries and keys), llama2.c
// (interleaved rotation); Mixtral and Qwen3-MoE.

#include <set>

#include "core/error.h"
#include "runtime/model/arch/decoder.h"

namespace pith {
namespace {

uint64_t count(const Json& c, const char* key) { return json_uint(c, key, kConfig); }

// Windows in the layers of layer_types, or else in those that the class chooses.
void set_windows(Json c, proto::ModelSpec* spec) {
  if (!json_bool(c, "use_sliding_window", kConfig, true)) c["sliding_window"] = nullptr;
  const std::string& family = spec->family();
  const bool listed = json_find(c, "layer_types") != nullptr;
  if (!listed && json_uint(c, "sliding_window", kConfig, 0) == 0) return;
  using Unlisted = bool (*)(const Json&, uint64_t);
  const Unlisted every = [](const Json&, uint64_t) { return true; },
                 upper = [](const Json&config,
                            uint64_t layer) { return layer >= count(config, "max_window_layers"); },
                 lower = [](const Json&config, uint64_t layer) {
                   return layer % 2 == 0 && layer < count(config, "max_window_layers");
                 };
  const bool dense = family == "qwen2" || family == "qwen3";
  set_windows_hf(c, dense ? upper : family == "qwen2_moe" ? lower : every, spec);
}

void set_moe_hf(const Json& c, const std::string& family, proto::ModelSpec* spec) {
  const bool mixtral = family == "mixtral";
  const uint64_t experts = json_uint(c, mixtral ? "num_local_experts" : "num_experts", kConfig, 0);
  if (experts == 0) return;
  std::set<uint64_t> plain;
  if (const Json* const listed = json_find(c, "mlp_only_layers"))
    for (const Json& layer : *listed) plain.insert(layer.get<uint64_t>());
  const uint64_t step = json_uint(c, "decoder_sparse_step", kConfig, 1),
                 width = count(c, mixtral ? "intermediate_size" : "moe_intermediate_size"),
                 chosen = count(c, "num_experts_per_tok");
  const bool normalized = mixtral || json_bool(c, "norm_topk_prob", kConfig);
  for (int l = 0; l < spec->layers_size(); ++l) {
    const auto layer = static_cast<uint64_t>(l);
    if (!plain.contains(layer) && (layer + 1) % step == 0)
      set_moe(spec, l, width, experts, chosen, normalized);
  }
  if (family != "qwen2_moe") return;
  for_each_moe(spec, [&](int, proto::Moe* m) {
    set_shared_expert(m, count(c, "shared_expert_intermediate_size"), true);
  });
}

}  // namespace

ImportedModel import_llama_hf(const Checkpoint& checkpoint) {
  ImportedModel model;
  const Json c = read_hf_config(checkpoint, &model.notes);
  model.spec = decoder_spec_hf(checkpoint, c);
  auto* spec = &model.spec;
  const std::string family = spec->family();
  for_each_attention(spec, [&](int, proto::Attention* a) {
    a->mutable_rope()->set_interleaved(family == "llama2c");
    if (family == "qwen2") a->set_qkv_bias(true);
    if (family == "qwen2_moe") a->set_qkv_bias(json_bool(c, "qkv_bias", kConfig));
  });
  if (family.starts_with("qwen3")) set_head_norms(spec);
  set_windows(c, spec);
  set_moe_hf(c, family, spec);
  check_spec(*spec, checkpoint.path);  // before its linears are listed
  name_tensors_hf(checkpoint, &model, {.mixtral = family == "mixtral", .shared = "shared_expert"});
  return model;
}

ImportedModel import_llama_gguf(const Checkpoint& checkpoint) {
  ImportedModel model{.spec = decoder_spec_gguf(checkpoint)};
  auto* spec = &model.spec;
  // Converters permute the rows of q and k of Llama so that the rotation works on neighbours; of
  // the others they do not.
  const bool interleaved = spec->family() == "llama";
  for_each_attention(
      spec, [&](int, proto::Attention* a) { a->mutable_rope()->set_interleaved(interleaved); });
  if (spec->family().starts_with("qwen3")) set_head_norms(spec);
  if (spec->family() == "qwen2moe") {
    const GgufMetadata& g = checkpoint.gguf;
    for_each_moe(spec, [&](int, proto::Moe* m) {
      m->set_normalized(g.boolean("qwen2moe.expert_weights_norm", false));
      set_shared_expert(m, g.uint("qwen2moe.expert_shared_feed_forward_length", 0), true);
    });
  }
  check_spec(*spec, checkpoint.path);
  name_tensors_gguf(&model);
  return model;
}

}  // namespace pith
