#include "runtime/model/arch/decoder.h"

#include <algorithm>

#include "core/bytes.h"
#include "core/error.h"
#include "core/utf8.h"
#include "formats/printable.h"

namespace pith {
namespace {

uint32_t small(uint64_t v, const char* what) { return checked_cast<uint32_t>(v, what); }

struct Sizes {
  uint32_t layers, heads, kv_heads, head_dim;
  uint64_t width;
  double eps;
  proto::Activation activation;
};

// Every layer alike: attention, then a gated MLP, each behind an RMS norm. The first is checked
// before there are thousands of it, and before anything is computed with its sizes.
void add_layers(const Sizes& s, const proto::Rope& rope, const std::string& file,
                proto::ModelSpec* spec) {
  const auto rms = [&](proto::Norm* norm) {
    norm->set_kind(proto::NORM_RMS);
    norm->set_eps(s.eps);
  };
  if (s.layers > 4096) fail(ErrorKind::kCorrupt, "{} layers", s.layers);
  rms(spec->mutable_final_norm());
  for (uint32_t l = 0; l < s.layers; ++l) {
    auto* layer = spec->add_layers();
    if (l > 0) {
      *layer = spec->layers(0);
      continue;
    }
    auto* sub = layer->add_sublayers();
    sub->set_name("attention");
    rms(sub->mutable_norm());
    auto* a = sub->mutable_attention();
    a->set_heads(s.heads);
    a->set_kv_heads(s.kv_heads);
    a->set_head_dim(s.head_dim);
    *a->mutable_rope() = rope;
    sub = layer->add_sublayers();
    sub->set_name("mlp");
    rms(sub->mutable_norm());
    auto* m = sub->mutable_mlp();
    m->set_width(s.width);
    m->set_gated(true);
    m->set_activation(s.activation);
    check_spec(*spec, file);
  }
}

}  // namespace

void set_head_norms(proto::ModelSpec* spec) {
  for_each_attention(spec, [&](int, proto::Attention* a) {
    *a->mutable_query_norm() = spec->final_norm();
    *a->mutable_key_norm() = spec->final_norm();
  });
}

void set_shared_expert(proto::Moe* moe, uint64_t width, bool gate) {
  if (width == 0) return;
  *moe->mutable_shared() = moe->expert();
  moe->mutable_shared()->set_width(width);
  moe->set_shared_gate(gate);
}

void set_moe(proto::ModelSpec* spec, int layer, uint64_t width, uint64_t experts, uint64_t chosen,
             bool normalized) {
  for (auto& sub : *spec->mutable_layers(layer)->mutable_sublayers()) {
    if (!sub.has_mlp()) continue;
    proto::Mlp expert = sub.mlp();
    expert.set_width(width);
    proto::Moe* const m = sub.mutable_moe();
    *m->mutable_expert() = expert;
    m->set_experts(small(experts, "the number of experts"));
    m->set_chosen(small(chosen, "the number of experts for a token"));
    m->set_normalized(normalized);
  }
}

proto::Activation activation_named(const std::string& name, const std::string& file) {
  if (name == "silu" || name == "swish") return proto::ACTIVATION_SILU;
  for (const char* const tanh :
       {"gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_python_tanh"}) {
    if (name == tanh) return proto::ACTIVATION_GELU_TANH;
  }
  if (name == "gelu" || name == "gelu_python") return proto::ACTIVATION_GELU;
  fail(ErrorKind::kUnsupported, "{}: activation {} is not supported", file, printable(name));
}

proto::ModelSpec decoder_spec_hf(const Checkpoint& checkpoint, const Json& c) {
  proto::ModelSpec spec;
  spec.set_family(json_string(c, "model_type", kConfig));
  spec.set_vocab(json_uint(c, "vocab_size", kConfig));
  spec.set_hidden(json_uint(c, "hidden_size", kConfig));
  spec.set_context(json_uint(c, "max_position_embeddings", kConfig));
  spec.set_tied_head(json_bool(c, "tie_word_embeddings", kConfig));
  const auto id = [](const Json& v) { return checked_cast<int32_t>(v.get<int64_t>(), "a token"); };
  spec.set_bos_token(id(c["bos_token_id"]));
  for (const Json& stop : c["eos_token_id"]) spec.add_stop_tokens(id(stop));
  Sizes s{};
  s.layers = small(json_uint(c, "num_hidden_layers", kConfig), "num_hidden_layers");
  s.heads = small(json_uint(c, "num_attention_heads", kConfig), "num_attention_heads");
  s.kv_heads = small(json_uint(c, "num_key_value_heads", kConfig, s.heads), "num_key_value_heads");
  s.head_dim = small(json_uint(c, "head_dim", kConfig, spec.hidden() / s.heads), "head_dim");
  s.width = json_uint(c, "intermediate_size", kConfig);
  s.eps = json_number(c, "rms_norm_eps", kConfig);
  s.activation = activation_named(
      json_string(c, c.contains("hidden_activation") ? "hidden_activation" : "hidden_act", kConfig),
      kConfig);
  const Json& rope = c["rope_parameters"];
  add_layers(s,
             rope_hf(rope.contains("full_attention") ? rope["full_attention"] : rope,
                     spec.context(), s.head_dim),
             checkpoint.path, &spec);
  const bool attention_bias = json_bool(c, "attention_bias", kConfig, false);
  const bool mlp_bias = json_bool(c, "mlp_bias", kConfig, false);
  for (auto& layer : *spec.mutable_layers()) {
    for (auto& sub : *layer.mutable_sublayers()) {
      if (sub.has_mlp()) {
        sub.mutable_mlp()->set_bias(mlp_bias);
      } else {
        sub.mutable_attention()->set_qkv_bias(attention_bias);
        sub.mutable_attention()->set_output_bias(attention_bias);
      }
    }
  }
  return spec;
}

void set_windows_hf(const Json& c, bool (*unlisted)(const Json& c, uint64_t layer),
                    proto::ModelSpec* spec) {
  const uint64_t window = json_uint(c, "sliding_window", kConfig, 0);
  const Json* const types = json_find(c, "layer_types");
  for_each_attention(spec, [&](int l, proto::Attention* a) {
    const bool windowed = types != nullptr ? (*types)[static_cast<size_t>(l)] == "sliding_attention"
                                           : unlisted(c, static_cast<uint64_t>(l));
    if (windowed && window == 0)
      fail(ErrorKind::kCorrupt, "{}: layers with a sliding window, and no \"sliding_window\"",
           kConfig);
    if (windowed) a->set_window(window);
  });
}

proto::ModelSpec decoder_spec_gguf(const Checkpoint& checkpoint) {
  const GgufMetadata& g = checkpoint.gguf;
  const std::string family = g.text("general.architecture");
  const auto key = [&](const char* name) { return family + "." + name; };
  proto::ModelSpec spec;
  spec.set_family(family);
  spec.set_name(valid_utf8_or_replaced(g.text("general.name", "")));
  spec.set_hidden(g.uint(key("embedding_length")));
  spec.set_context(g.uint(key("context_length")));
  const TensorInfo& embedding = checkpoint.require("token_embd.weight");
  if (embedding.shape.size() != 2)
    fail(ErrorKind::kCorrupt, "{}: token_embd.weight is not a matrix", checkpoint.path);
  spec.set_vocab(static_cast<uint64_t>(embedding.shape[0]));
  spec.set_tied_head(checkpoint.find("output.weight") == nullptr);
  // An id outside of the vocabulary means that there is none.
  const auto id = [&](const char* name) {
    const uint64_t given = g.has(name) ? g.uint(name) : UINT64_MAX;
    return given < spec.vocab() ? checked_cast<int32_t>(given, name) : -1;
  };
  spec.set_bos_token(id("tokenizer.ggml.bos_token_id"));
  for (const char* name : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                           "tokenizer.ggml.eom_token_id"}) {
    const int32_t stop = id(name);
    const auto& known = spec.stop_tokens();
    if (stop >= 0 && std::find(known.begin(), known.end(), stop) == known.end())
      spec.add_stop_tokens(stop);
  }
  Sizes s{};
  s.layers = small(g.uint(key("block_count")), "block_count");
  // Those behind the others predict further tokens, and are not run.
  const uint64_t further = g.uint(key("nextn_predict_layers"), 0);
  if (further > s.layers)
    fail(ErrorKind::kCorrupt, "{}: {} of {} layers for further tokens", checkpoint.path, further,
         s.layers);
  s.layers -= static_cast<uint32_t>(further);
  // These may differ from layer to layer; here they are those of the first.
  const auto heads_of = [&](size_t l) {
    return small(g.uint_of_layer(key("attention.head_count"), l), "attention.head_count");
  };
  const auto kv_heads_of = [&](size_t l) {
    return small(g.uint_of_layer(key("attention.head_count_kv"), l, heads_of(l)),
                 "attention.head_count_kv");
  };
  const auto width_of = [&](size_t l) { return g.uint_of_layer(key("feed_forward_length"), l); };
  s.heads = heads_of(0);
  s.kv_heads = kv_heads_of(0);
  if (s.heads == 0) fail(ErrorKind::kCorrupt, "{}: attention.head_count is 0", checkpoint.path);
  s.head_dim =
      small(g.uint(key("attention.key_length"), spec.hidden() / s.heads), "attention.key_length");
  const bool latent = g.has(key("attention.kv_lora_rank"));
  if (!latent && g.uint(key("attention.value_length"), s.head_dim) != s.head_dim) {
    fail(ErrorKind::kUnsupported, "{}: keys and values of different sizes", checkpoint.path);
  }
  s.width = width_of(0);
  s.eps = g.number(key("attention.layer_norm_rms_epsilon"));
  s.activation = proto::ACTIVATION_SILU;
  add_layers(s, rope_gguf(checkpoint, spec.context(), s.head_dim), checkpoint.path, &spec);
  const uint64_t window = g.uint(key("attention.sliding_window"), 0);
  for (int l = 0; l < spec.layers_size(); ++l) {
    const auto has = [&](const char* name) {
      return checkpoint.find(fmt::format("blk.{}.{}", l, name)) != nullptr;
    };
    for (auto& sub : *spec.mutable_layers(l)->mutable_sublayers()) {
      const auto layer = static_cast<size_t>(l);
      if (sub.has_mlp()) {
        sub.mutable_mlp()->set_bias(has("ffn_up.bias"));
        sub.mutable_mlp()->set_width(width_of(layer));
        continue;
      }
      sub.mutable_attention()->set_heads(heads_of(layer));
      sub.mutable_attention()->set_kv_heads(kv_heads_of(layer));
      sub.mutable_attention()->set_window(window);
      sub.mutable_attention()->set_qkv_bias(has("attn_q.bias") || has("attn_qkv.bias"));
      sub.mutable_attention()->set_output_bias(has("attn_output.bias"));
    }
    if (has("ffn_gate_inp.weight"))
      set_moe(&spec, l, g.uint(key("expert_feed_forward_length"), s.width),
              g.uint(key("expert_count")), g.uint(key("expert_used_count")), true);
  }
  return spec;
}

}  // namespace pith
