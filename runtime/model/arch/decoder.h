// What decoder-only families share when they are imported: sizes from config.json or GGUF metadata,
// RoPE and its scalings, and tensor names. A family starts from these and changes what it does
// differently.
#pragma once

#include "runtime/model/arch/arch.h"
#include "runtime/model/arch/hf_config.h"

namespace pith {

// `config`: the result of read_hf_config, perhaps changed by the family. All layers are alike:
// attention, then a gated MLP, each after an RMS norm.
proto::ModelSpec decoder_spec_hf(const Checkpoint& checkpoint, const Json& config);

// The same from GGUF metadata ("llama.embedding_length", ...).
proto::ModelSpec decoder_spec_gguf(const Checkpoint& checkpoint);

// `parameters`: complete rope_parameters (read_hf_config) of a model for `context` tokens.
proto::Rope rope_hf(const Json& parameters, uint64_t context, uint32_t head_dim);
// The same from GGUF metadata ("llama.rope.freq_base", ...) and tensors of factors.
proto::Rope rope_gguf(const Checkpoint& checkpoint, uint64_t context, uint32_t head_dim);
// What YaRN multiplies scores by, or their parts, for a context `factor` times as long.
double yarn_mscale(double factor, double mscale);
proto::Activation activation_named(const std::string& name, const std::string& file);

// Sets attention windows of sliding_window in the layers that layer_types names; without
// layer_types in those for which `unlisted` is true.
void set_windows_hf(const Json& config, bool (*unlisted)(const Json& config, uint64_t layer),
                    proto::ModelSpec* spec);

// Names of every linear and vector of the spec. A fused or stacked tensor's parts get their rows.
struct TensorNames {
  bool fused_qkv = false;      // self_attn.qkv_proj, attn_qkv
  bool fused_gate_up = false;  // mlp.gate_up_proj; GGUF: ffn_up holds both
  bool mixtral = false;        // block_sparse_moe.experts.3.w1 for mlp.experts.3.gate_proj
  bool post_norms = false;     // Hugging Face: post_attention_layernorm is one
  const char* shared = "shared_experts";  // the shared expert of a MoE, which every token takes
  float norms_plus = 0;                   // what is added to the weights of norms
  const char* gguf_mlp_norm = "ffn_norm";
  std::string hf_prefix = "model.";
};
void name_tensors_hf(const Checkpoint& checkpoint, ImportedModel* model,
                     const TensorNames& names = {});
void name_tensors_gguf(ImportedModel* model, const TensorNames& names = {});

// Makes the MLP of a layer a MoE, whose experts are `width` wide.
void set_moe(proto::ModelSpec* spec, int layer, uint64_t width, uint64_t experts, uint64_t chosen,
             bool normalized);
// Width of the shared expert of a MoE, which every token takes; 0: none.
void set_shared_expert(proto::Moe* moe, uint64_t width, bool gate);

// Norms of queries and keys by head, like the last one.
void set_head_norms(proto::ModelSpec* spec);
// The slice of one head of MLA in kv_b_proj, which holds keys and values: by head, the
// rows that make its keys, then those that make its values. The tensor's name is left.
TensorSlice slice_of_head(const proto::Attention& a, const LinearInfo& info);

// Calls f(layer, it) on every attention of the spec, or every MoE.
template <class F>
void for_each_attention(proto::ModelSpec* spec, F f) {
  for (int l = 0; l < spec->layers_size(); ++l) {
    for (auto& s : *spec->mutable_layers(l)->mutable_sublayers()) {
      if (s.has_attention()) f(l, s.mutable_attention());
    }
  }
}
template <class F>
void for_each_moe(proto::ModelSpec* spec, F f) {
  for (int l = 0; l < spec->layers_size(); ++l) {
    for (auto& s : *spec->mutable_layers(l)->mutable_sublayers()) {
      if (s.has_moe()) f(l, s.mutable_moe());
    }
  }
}

}  // namespace pith
