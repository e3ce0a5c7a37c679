// gpt-oss: MoE with biases and a clamped activation, attention with sinks, a window
// in every other layer. Experts are stacked, in MXFP4 or, where transformers saved them in another
// type, transposed; rows of gate and up alternate.

#include "core/error.h"
#include "runtime/model/arch/decoder.h"

namespace pith {
namespace {

void set_shared(proto::ModelSpec* spec) {
  for (int l = 0; l < spec->layers_size(); ++l) {
    for (auto& sub : *spec->mutable_layers(l)->mutable_sublayers()) {
      if (sub.has_attention()) {
        sub.mutable_attention()->set_sinks(true);
      } else {
        sub.mutable_moe()->set_router_bias(true);
        sub.mutable_moe()->mutable_expert()->set_bias(true);
        sub.mutable_moe()->mutable_expert()->set_activation(proto::ACTIVATION_SILU_CLAMPED);
      }
    }
  }
}

void name_sinks(ImportedModel* model, const char* format) {
  for (int l = 0; l < model->spec.layers_size(); ++l)
    model->tensors[sublayer_prefix(model->spec, l, 0) + "sinks"] = {
        fmt::format(fmt::runtime(format), l)};
}

}  // namespace

ImportedModel import_gpt_oss_hf(const Checkpoint& checkpoint) {
  ImportedModel model;
  Json c = read_hf_config(checkpoint, &model.notes);
  c["hidden_act"] = "silu";  // whatever it says: the clamped one is always taken
  model.spec = decoder_spec_hf(checkpoint, c);
  auto* const spec = &model.spec;
  // The numbers of ACTIVATION_SILU_CLAMPED.
  if (json_number(c, "swiglu_limit", kConfig) != 7 ||
      json_number(c, "swiglu_alpha", kConfig) != 1.702)
    fail(ErrorKind::kUnsupported, "{}: a swiglu_limit other than 7, or swiglu_alpha than 1.702",
         kConfig);
  for (int l = 0; l < spec->layers_size(); ++l) {
    set_moe(spec, l, json_uint(c, "intermediate_size", kConfig),
            json_uint(c, "num_local_experts", kConfig),
            json_uint(c, "num_experts_per_tok", kConfig), true);
  }
  set_shared(spec);
  set_windows_hf(
      c, [](const Json&, uint64_t layer) { return layer % 2 == 0; }, spec);
  check_spec(*spec, checkpoint.path);  // before its linears are listed
  name_tensors_hf(checkpoint, &model);
  name_sinks(&model, "model.layers.{}.self_attn.sinks");
  for (const auto& info : linears_of(*spec)) {
    const std::string mlp = fmt::format("model.layers.{}.mlp.", info.layer);
    if (info.role == LinearRole::kRouter) {
      model.tensors[info.name] = {mlp + "router.weight"};
      model.tensors[info.name + ".bias"] = {mlp + "router.bias"};
    }
    if (info.expert < 0) continue;
    const bool down = info.role == LinearRole::kDown;
    const std::string tensor = mlp + (down ? "experts.down_proj" : "experts.gate_up_proj");
    const bool dense = checkpoint.find(tensor) != nullptr;
    const int64_t first = info.role == LinearRole::kUp ? 1 : 0;
    TensorSlice slice{dense ? tensor : tensor + "_blocks"};
    slice.transposed = dense;
    if (dense) {  // [experts, in, out]
      slice.row = info.expert * info.k;
      slice.column = first;
      slice.column_step = down ? 1 : 2;
    } else {
      slice.step = down ? 1 : 2;
      slice.row = info.expert * info.n * slice.step + first;
      slice.scales = tensor + "_scales";
    }
    model.tensors[info.name] = slice;
    slice = {};
    slice.step = down ? 1 : 2;
    slice.row = info.expert * info.n * slice.step + first;
    slice.tensor = tensor + "_bias";
    model.tensors[info.name + ".bias"] = slice;
  }
  return model;
}

ImportedModel import_gpt_oss_gguf(const Checkpoint& checkpoint) {
  ImportedModel model{.spec = decoder_spec_gguf(checkpoint)};
  auto* const spec = &model.spec;
  for (int l = 0; l < spec->layers_size(); ++l) {
    if (!spec->layers(l).sublayers(1).has_moe())
      fail(ErrorKind::kCorrupt, "{}: blk.{}.ffn_gate_inp.weight is missing", checkpoint.path, l);
  }
  set_shared(spec);
  const uint64_t window = checkpoint.gguf.uint("gpt-oss.attention.sliding_window");
  for_each_attention(spec, [&](int l, proto::Attention* a) {
    a->set_window(l % 2 == 0 ? window : 0);
    a->mutable_rope()->set_truncate(false);  // the files do not say it
  });
  check_spec(*spec, checkpoint.path);
  name_tensors_gguf(&model, {.gguf_mlp_norm = "post_attention_norm"});
  name_sinks(&model, "blk.{}.attn_sinks.weight");
  return model;
}

}  // namespace pith
