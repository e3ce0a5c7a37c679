// Gemma 1 to 3: rows of the embedding times sqrt(hidden), weights of norms stored less 1, GELU with
// tanh. Gemma 2 has norms behind sublayers too, caps of scores and logits, and a window in every
// other layer; Gemma 3 norms of queries and keys instead of caps, five layers of six with a window
// and a rotation of their own. Of checkpoints with images the text model is read.

#include <cmath>

#include "core/error.h"
#include "runtime/model/arch/decoder.h"

namespace pith {
namespace {

constexpr const char* kConfig = "config.json";

// What the three have in common behind decoder_spec.
void set_shared(proto::ModelSpec* spec) {
  spec->set_embedding_scale(std::sqrt(static_cast<double>(spec->hidden())));
  for (auto& layer : *spec->mutable_layers()) {
    for (auto& sub : *layer.mutable_sublayers()) {
      if (sub.has_mlp()) sub.mutable_mlp()->set_activation(proto::ACTIVATION_GELU_TANH);
    }
  }
}

void set_post_norms(proto::ModelSpec* spec) {
  for (auto& layer : *spec->mutable_layers()) {
    for (auto& sub : *layer.mutable_sublayers()) *sub.mutable_post_norm() = sub.norm();
  }
}

// Of checkpoints with images the part that says what the text model is; what it leaves to
// transformers' defaults is filled in.
Json text_config(const Json& config) {
  Json c = config;
  const Json* const text = json_find(config, "text_config");
  if (text != nullptr && text->is_object()) c.update(*text);
  const std::string family = json_string(c, "model_type", kConfig),
                    whole = json_string(config, "model_type", kConfig);
  if (!family.starts_with(whole))
    fail(ErrorKind::kCorrupt, "{}: \"{}\" as the text model of {}", kConfig, family, whole);
  const auto by_default = [&](const char* key, Json value) {
    if (json_find(c, key) == nullptr) c[key] = std::move(value);
  };
  by_default("tie_word_embeddings", true);
  by_default("head_dim", 256u);
  if (family == "gemma2") by_default("sliding_window", 4096u);
  if (family.starts_with("gemma3")) {
    by_default("vocab_size", 262208u);
    by_default("num_attention_heads", 8u);
    by_default("num_key_value_heads", 4u);
    by_default("max_position_embeddings", 131072u);
    by_default("sliding_window", 4096u);
    if (json_find(c, "rope_parameters") == nullptr) by_default("rope_theta", 1e6);
  }
  return c;
}

// The rotation of layers of one kind: rope_parameters names it since transformers 5; before, layers
// with a window had rope_local_base_freq and no scaling.
proto::Rope rope_of(const Json& config, const char* kind, bool local, uint32_t dims) {
  Json c = config;
  const Json* const parameters = json_find(config, "rope_parameters");
  const Json* const own = parameters != nullptr ? json_find(*parameters, kind) : nullptr;
  if (own != nullptr) {
    c["rope_parameters"] = *own;
    c.erase("rope_theta");
  } else if (local) {
    c.erase("rope_parameters");
    c.erase("rope_scaling");
    c["rope_theta"] = json_number(config, "rope_local_base_freq", kConfig, 1e4);
  }
  return rope_hf(c, dims);
}

// null: none, which is not the default.
double cap_of(const Json& c, const char* key, double by_default) {
  return c.contains(key) && c[key].is_null() ? 0 : json_number(c, key, kConfig, by_default);
}

}  // namespace

ImportedModel import_gemma_hf(const Checkpoint& checkpoint) {
  const Json c = text_config(checkpoint.config);
  const std::string family = json_string(c, "model_type", kConfig);
  Json plain = c;  // rotations are told apart below
  const bool third = family.starts_with("gemma3");
  if (third) plain.erase("rope_parameters");
  ImportedModel model{.spec = decoder_spec_hf(checkpoint, plain), .tensors = {}};
  auto* const spec = &model.spec;
  set_shared(spec);
  TensorNames names{.norms_plus = 1};
  for (const char* prefix : {"model.", "language_model.model.", "model.language_model."}) {
    names.hf_prefix = prefix;
    if (checkpoint.find(names.hf_prefix + "norm.weight") != nullptr) break;
  }
  if (family != "gemma") {
    if (json_bool(c, "use_bidirectional_attention", kConfig, false))
      fail(ErrorKind::kUnsupported, "{}: attention to later tokens is not supported", kConfig);
    names.post_norms = true;
    set_post_norms(spec);
    spec->set_logit_cap(cap_of(c, "final_logit_softcapping", third ? 0 : 30));
    const double cap = cap_of(c, "attn_logit_softcapping", third ? 0 : 50),
                 scale = 1 / std::sqrt(json_number(c, "query_pre_attn_scalar", kConfig, 256));
    const uint64_t window = json_uint(c, "sliding_window", kConfig),
                   pattern = third ? json_uint(c, "sliding_window_pattern", kConfig, 6) : 2;
    if (pattern == 0) fail(ErrorKind::kCorrupt, "{}: sliding_window_pattern is 0", kConfig);
    for_each_attention(spec, [&](int l, proto::Attention* a) {
      const bool local = has_window(c, l, static_cast<uint64_t>(l + 1) % pattern != 0);
      a->set_score_cap(cap);
      a->set_scale(scale);
      if (local) a->set_window(window);
      if (third)
        *a->mutable_rope() =
            rope_of(c, local ? "sliding_attention" : "full_attention", local, a->rope().dims());
    });
  }
  if (third) set_head_norms(spec);
  check_spec(*spec, checkpoint.path);
  name_tensors_hf(checkpoint, &model, names);
  return model;
}

ImportedModel import_gemma_gguf(const Checkpoint& checkpoint) {
  ImportedModel model{.spec = decoder_spec_gguf(checkpoint), .tensors = {}};
  auto* const spec = &model.spec;
  set_shared(spec);
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
