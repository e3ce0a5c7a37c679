// Gemma 1 to 3: rows of the embedding times sqrt(hidden), weights of norms stored less 1, GELU with
// tanh. Gemma 2 has norms behind sublayers too, caps of scores and logits, and a window in every
// other layer; Gemma 3 norms of queries and keys instead of caps, five layers of six with a window
// and a rotation of their own. Of checkpoints with images the text model is read.

#include <cmath>

#include "core/error.h"
#include "runtime/model/arch/decoder.h"

namespace pith {
namespace {

// What the three have in common behind decoder_spec.
void set_shared(proto::ModelSpec* spec, proto::Activation activation) {
  spec->set_embedding_scale(std::sqrt(static_cast<double>(spec->hidden())));
  for (auto& layer : *spec->mutable_layers()) {
    for (auto& sub : *layer.mutable_sublayers()) {
      if (sub.has_mlp()) sub.mutable_mlp()->set_activation(activation);
    }
  }
}

void set_post_norms(proto::ModelSpec* spec) {
  for (auto& layer : *spec->mutable_layers()) {
    for (auto& sub : *layer.mutable_sublayers()) *sub.mutable_post_norm() = sub.norm();
  }
}

}  // namespace

ImportedModel import_gemma_hf(const Checkpoint& checkpoint) {
  ImportedModel model;
  const Json c = read_hf_config(checkpoint, &model.notes);
  model.spec = decoder_spec_hf(checkpoint, c);
  auto* const spec = &model.spec;
  const std::string& family = spec->family();
  const bool third = family.starts_with("gemma3");
  if (json_bool(c, "use_bidirectional_attention", kConfig))
    fail(ErrorKind::kUnsupported, "{}: attention to later tokens is not supported", kConfig);
  // The first files say "gelu" and mean the other.
  const proto::Activation activation = spec->layers_size() == 0
                                           ? proto::ACTIVATION_GELU_TANH
                                           : spec->layers(0).sublayers(1).mlp().activation();
  set_shared(spec, family == "gemma" && activation == proto::ACTIVATION_GELU
                       ? proto::ACTIVATION_GELU_TANH
                       : activation);
  TensorNames names{.norms_plus = 1};
  for (const char* prefix : {"model.", "language_model.model.", "model.language_model."}) {
    names.hf_prefix = prefix;
    if (checkpoint.find(names.hf_prefix + "norm.weight") != nullptr) break;
  }
  if (family != "gemma") {
    names.post_norms = true;
    set_post_norms(spec);
    spec->set_logit_cap(json_number(c, "final_logit_softcapping", kConfig, 0));
    const char* const score_cap = "attn_logit_softcapping";
    if (third && !c[score_cap].is_null()) pass_over(score_cap, &model.notes);
    const double cap = third ? 0 : json_number(c, score_cap, kConfig, 0),
                 scale = 1 / std::sqrt(json_number(c, "query_pre_attn_scalar", kConfig));
    set_windows_hf(
        c,
        [](const Json& config, uint64_t layer) {
          return (layer + 1) % json_uint(config, "sliding_window_pattern", kConfig, 2) != 0;
        },
        spec);
    for_each_attention(spec, [&](int, proto::Attention* a) {
      a->set_score_cap(cap);
      a->set_scale(scale);
      if (third && a->window() > 0)
        *a->mutable_rope() =
            rope_hf(c["rope_parameters"]["sliding_attention"], spec->context(), a->head_dim());
    });
  }
  if (third) set_head_norms(spec);
  check_spec(*spec, checkpoint.path);
  name_tensors_hf(checkpoint, &model, names);
  return model;
}

ImportedModel import_gemma_gguf(const Checkpoint& checkpoint) {
  ImportedModel model{.spec = decoder_spec_gguf(checkpoint)};
  auto* const spec = &model.spec;
  set_shared(spec, proto::ACTIVATION_GELU_TANH);
  const std::string& family = spec->family();
  if (family != "gemma") {
    const GgufMetadata& g = checkpoint.gguf;
    const bool third = family == "gemma3";
    set_post_norms(spec);
    spec->set_logit_cap(g.number(family + ".final_logit_softcapping", third ? 0.0 : 30.0));
    const double cap = g.number(family + ".attn_logit_softcapping", third ? 0.0 : 50.0),
                 theta = g.number(family + ".rope.freq_base_swa", 1e4);
    const uint64_t window = g.uint(family + ".attention.sliding_window", third ? 1024 : 4096),
                   pattern = g.uint(family + ".attention.sliding_window_pattern", third ? 6 : 2);
    if (pattern == 0) fail(ErrorKind::kCorrupt, "{}: sliding_window_pattern is 0", checkpoint.path);
    // The files do not say by what scores are divided: it is the size of a head, but in the models
    // of 27 billion the share of a head in the hidden size.
    const bool shares = spec->layers_size() == (third ? 62 : 46);
    for_each_attention(spec, [&](int l, proto::Attention* a) {
      const bool local = static_cast<uint64_t>(l + 1) % pattern != 0;
      a->set_score_cap(cap);
      if (shares) a->set_scale(1 / std::sqrt(static_cast<double>(spec->hidden()) / a->heads()));
      a->set_window(local ? window : 0);
      if (third && local) {
        a->mutable_rope()->set_scaling(proto::ROPE_PLAIN);
        a->mutable_rope()->set_factor(0);
        a->mutable_rope()->set_theta(theta);
      }
    });
    if (third) set_head_norms(spec);
  }
  check_spec(*spec, checkpoint.path);
  name_tensors_gguf(&model);
  return model;
}

}  // namespace pith
