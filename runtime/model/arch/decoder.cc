#include "runtime/model/arch/decoder.h"

#include <algorithm>
#include <charconv>
#include <cmath>

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

void add_factors(const Json& scaling, const char* key,
                 google::protobuf::RepeatedField<double>* to) {
  const Json& list = json_member(scaling, key, kConfig);
  if (!list.is_array()) fail(ErrorKind::kCorrupt, "{}: \"{}\" should be a list", kConfig, key);
  for (const auto& v : list) {
    if (!v.is_number())
      fail(ErrorKind::kCorrupt, "{}: \"{}\" holds something that is no number", kConfig, key);
    to->Add(v.get<double>());
  }
}

double longrope_attention(double factor, double original) {
  return factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
}

}  // namespace

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

void set_head_norms(proto::ModelSpec* spec) {
  for_each_attention(spec, [&](int, proto::Attention* a) {
    *a->mutable_query_norm() = spec->final_norm();
    *a->mutable_key_norm() = spec->final_norm();
  });
}

TensorSlice slice_of_head(const proto::Attention& a, const LinearInfo& info) {
  const int64_t plain = plain_dims(a), first = info.head * (plain + a.latent().value_dim());
  TensorSlice slice;
  slice.row = info.role == LinearRole::kValueUp ? first + plain : first;
  slice.transposed = info.role == LinearRole::kKeyUp;
  return slice;
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

proto::Rope rope_hf(const Json& p, uint64_t context, uint32_t head_dim) {
  const auto number = [&](const char* key, double missing) {
    const Json* const v = rope_number(p, key);
    return v == nullptr ? missing : v->get<double>();
  };
  const auto required = [&](const char* key) {
    json_member(p, key, kConfig);
    return number(key, 0);
  };
  proto::Rope r;
  const double part = number("partial_rotary_factor", 1);
  if (part > 1)
    fail(ErrorKind::kCorrupt, "{}: partial_rotary_factor is {}, above 1", kConfig, part);
  r.set_dims(static_cast<uint32_t>(part * head_dim));
  r.set_theta(required("rope_theta"));
  const std::string type = json_string(p, "rope_type", kConfig);
  // An odd part of a head is rotated as if it were one dimension larger, at the same frequencies.
  if (r.dims() % 2 != 0 && r.dims() < head_dim && (type == "default" || type == "linear")) {
    r.set_theta(std::pow(r.theta(), (r.dims() + 1.0) / r.dims()));
    r.set_dims(r.dims() + 1);
  }
  if (type == "default" || type == "mrope") return r;
  const uint64_t original = json_uint(p, "original_max_position_embeddings", kConfig, context);
  r.set_original_context(original);
  const double stretch =
      number("factor", static_cast<double>(context) / static_cast<double>(original));
  if (type == "longrope") {
    r.set_scaling(proto::ROPE_LONGROPE);
    add_factors(p, "short_factor", r.mutable_short_factor());
    add_factors(p, "long_factor", r.mutable_long_factor());
    r.set_attention_factor(
        number("attention_factor", longrope_attention(stretch, static_cast<double>(original))));
    return r;
  }
  if (type == "linear") {
    r.set_scaling(proto::ROPE_LINEAR);
    r.set_factor(required("factor"));
  } else if (type == "dynamic") {
    r.set_scaling(proto::ROPE_DYNAMIC);
    r.set_factor(required("factor"));
    r.set_original_context(context);
  } else if (type == "llama3") {
    r.set_scaling(proto::ROPE_LLAMA3);
    r.set_factor(required("factor"));
    r.set_low_freq_factor(required("low_freq_factor"));
    r.set_high_freq_factor(required("high_freq_factor"));
  } else if (type == "yarn") {
    r.set_scaling(proto::ROPE_YARN);
    if (!p.contains("factor")) required("factor");
    r.set_factor(stretch);
    const auto beta = [&](const char* key, double missing) {  // 0 is none
      const double b = number(key, 0);
      return b == 0 ? missing : b;
    };
    r.set_beta_fast(beta("beta_fast", 32));
    r.set_beta_slow(beta("beta_slow", 1));
    r.set_truncate(!p.contains("truncate") || json_bool(p, "truncate", kConfig, false));
    const double mscale = number("mscale", 0), all = number("mscale_all_dim", 0);
    const bool both = mscale != 0 && all != 0;
    r.set_attention_factor(
        number("attention_factor", both ? yarn_mscale(stretch, mscale) / yarn_mscale(stretch, all)
                                        : yarn_mscale(stretch, 1)));
  } else {
    fail(ErrorKind::kUnsupported, "{}: RoPE scaling {} is not supported", kConfig, printable(type));
  }
  return r;
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

  proto::Rope r;
  r.set_dims(small(g.uint(key("rope.dimension_count"), s.head_dim), "rope.dimension_count"));
  r.set_theta(g.number(key("rope.freq_base"), 1e4));
  // A factor without a type is of the linear scaling, one beside the type "none" does nothing, and
  // 0 is none.
  const std::string type = g.text(key("rope.scaling.type"), "linear");
  const double given =
      g.number(key("rope.scaling.factor"), g.number(key("rope.scale_linear"), 1.0));
  const double factor = given == 0 || type == "none" ? 1 : given;
  const double attention = g.number(key("rope.scaling.attn_factor"), 1.0);
  r.set_original_context(g.uint(key("rope.scaling.original_context_length"), spec.context()));
  const auto tensor_factors = [&](const char* name, auto add) {
    const TensorInfo& t = checkpoint.require(name);
    if (t.shape.size() != 1 || t.shape[0] != r.dims() / 2) {
      fail(ErrorKind::kCorrupt, "{}: {} does not hold {} factors", checkpoint.path, name,
           r.dims() / 2);
    }
    OwnedWeight w = allocate_weight(t.encoding, t.shape[0], 1);
    checkpoint.read(t, 0, t.shape[0], w.planes[0].bytes);
    std::vector<float> values(static_cast<size_t>(t.shape[0]));
    reference_decode(w.weight, 0, t.shape[0], values.data());
    for (const float v : values) add(static_cast<double>(v));
  };
  if (checkpoint.find("rope_freqs.weight") !=
      nullptr) {  // Llama 3.1 and later: its scaling, worked out
    r.set_scaling(proto::ROPE_LONGROPE);
    r.set_attention_factor(1);
    const double all = type == "linear" ? factor : 1;
    tensor_factors("rope_freqs.weight", [&](double f) {
      r.add_short_factor(f * all);
      r.add_long_factor(f * all);
    });
  } else if (checkpoint.find("rope_factors_long.weight") != nullptr) {
    r.set_scaling(proto::ROPE_LONGROPE);
    r.set_attention_factor(attention);
    tensor_factors("rope_factors_short.weight", [&](double f) { r.add_short_factor(f); });
    tensor_factors("rope_factors_long.weight", [&](double f) { r.add_long_factor(f); });
  } else if (type == "yarn") {
    r.set_scaling(proto::ROPE_YARN);
    r.set_factor(factor);
    r.set_beta_fast(g.number(key("rope.scaling.yarn_beta_fast"), 32.0));
    r.set_beta_slow(g.number(key("rope.scaling.yarn_beta_slow"), 1.0));
    r.set_truncate(true);
    r.set_attention_factor(attention * yarn_mscale(factor, 1));
  } else if (type == "linear" && factor != 1) {
    r.set_scaling(proto::ROPE_LINEAR);
    r.set_factor(factor);
  } else if (type != "linear" && type != "none") {
    fail(ErrorKind::kUnsupported, "{}: RoPE scaling {} is not supported", checkpoint.path,
         printable(type));
  }
  add_layers(s, r, checkpoint.path, &spec);
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

namespace {

// Where one linear of a layer lies: names of both worlds, by role.
struct Naming {
  const char* hf[15];
  const char* gguf[15];
};
constexpr Naming kNames = {
    {"", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
     "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "", "", "mlp.shared_expert_gate",
     "self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa", "self_attn.kv_b_proj",
     "self_attn.kv_b_proj"},
    {"", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "",
     "ffn_gate_inp", "ffn_gate_inp_shexp", "attn_q_a", "attn_kv_a_mqa", "attn_k_b", "attn_v_b"}};

// The projection of queries has another name where it is the second of two.
bool is_second_query(const proto::Sublayer& sub, LinearRole role) {
  return role == LinearRole::kQuery && sub.attention().latent().query_rank() > 0;
}
bool is_shared(const proto::Sublayer& sub, const LinearInfo& info) {
  return sub.has_moe() && info.expert < 0 && info.role != LinearRole::kRouter &&
         info.role != LinearRole::kSharedGate;
}
const char* role_of_expert_hf(LinearRole role, bool mixtral) {
  switch (role) {
    case LinearRole::kGate:
      return mixtral ? "w1" : "gate_proj";
    case LinearRole::kUp:
      return mixtral ? "w3" : "up_proj";
    default:
      return mixtral ? "w2" : "down_proj";
  }
}

// `tensor(info, fused name or null)` gives the full name without ".weight". Experts are stacked in
// one tensor where `stacked`.
template <class TensorName>
void name_linears(ImportedModel* model, const TensorNames& names, const char* fused_qkv,
                  const char* fused_gate_up, bool stacked, TensorName tensor) {
  const auto& spec = model->spec;
  for (const auto& info : linears_of(spec)) {
    if (info.layer < 0) continue;
    const auto& sub = spec.layers(info.layer).sublayers(info.sublayer);
    const bool qkv = info.role == LinearRole::kQuery || info.role == LinearRole::kKey ||
                     info.role == LinearRole::kValue;
    const bool gate_up =
        sub.has_mlp() && (info.role == LinearRole::kGate || info.role == LinearRole::kUp);
    TensorSlice slice;
    const char* fused_name = nullptr;
    if (names.fused_qkv && qkv) {
      fused_name = fused_qkv;
      const auto& a = sub.attention();
      if (info.role != LinearRole::kQuery) slice.row += int64_t{a.heads()} * a.head_dim();
      if (info.role == LinearRole::kValue) slice.row += int64_t{a.kv_heads()} * a.head_dim();
    }
    if (names.fused_gate_up && gate_up) {
      fused_name = fused_gate_up;
      if (info.role == LinearRole::kUp) slice.row = static_cast<int64_t>(sub.mlp().width());
    }
    if (info.head >= 0 && !stacked) slice = slice_of_head(sub.attention(), info);
    if (info.part() >= 0 && stacked) slice.row = info.part() * info.n;
    const std::string name = tensor(info, fused_name);
    slice.tensor = name + ".weight";
    model->tensors[info.name] = slice;
    if (info.bias) {
      slice.tensor = name + ".bias";
      model->tensors[info.name + ".bias"] = slice;
    }
  }
}

struct NormNames {
  const char *attention, *mlp, *query, *key, *post_attention, *post_mlp, *latent_query, *latent_key;
  const char* choice_bias;  // the whole name in its layer
};
void name_norms(ImportedModel* model, const std::string& layer_format, const NormNames& names,
                const std::string& final_norm, float plus) {
  const auto& spec = model->spec;
  model->tensors["final_norm"] = {final_norm, 0, plus};
  for (int l = 0; l < spec.layers_size(); ++l) {
    for (int s = 0; s < spec.layers(l).sublayers_size(); ++s) {
      const std::string prefix = sublayer_prefix(spec, l, s);
      const std::string layer = fmt::format(fmt::runtime(layer_format), l);
      const auto& sub = spec.layers(l).sublayers(s);
      const bool attention = sub.has_attention(), latent = sub.attention().has_latent();
      const auto add = [&](const char* vector, const char* name) {
        model->tensors[prefix + vector] = {layer + name + ".weight", 0, plus};
      };
      add("norm", attention ? names.attention : names.mlp);
      add("post_norm", attention ? names.post_attention : names.post_mlp);
      add("query_norm", latent ? names.latent_query : names.query);
      add("key_norm", latent ? names.latent_key : names.key);
      model->tensors[prefix + "choice_bias"] = {layer + names.choice_bias};
    }
  }
}

// Notes layers beyond those that the configuration counts; layers of multi-token prediction are
// expected there.
void note_unused_layers(const Checkpoint& checkpoint, const std::string& prefix,
                        ImportedModel* model) {
  const int layers = model->spec.layers_size();
  const Json* const further = json_find(checkpoint.config, "num_nextn_predict_layers");
  const bool known = further != nullptr && further->is_number_unsigned();
  const uint64_t used = static_cast<uint64_t>(layers) + (known ? further->get<uint64_t>() : 0);
  uint64_t unused = 0;
  for (const TensorInfo& t : checkpoint.tensors) {
    if (!t.name.starts_with(prefix)) continue;
    const std::string_view rest = std::string_view(t.name).substr(prefix.size());
    uint64_t layer = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
    if (error == std::errc() && end != rest.data() + rest.size() && *end == '.' && layer >= used)
      ++unused;
  }
  if (unused == 0) return;
  if (layers == 0)
    fail(ErrorKind::kCorrupt, "{}: \"num_hidden_layers\" is 0, and there are {} tensors of layers",
         kConfig, unused);
  model->notes.push_back(fmt::format(
      "{} tensors of further layers are not used: num_hidden_layers is {}", unused, layers));
}

}  // namespace

void name_tensors_hf(const Checkpoint& checkpoint, ImportedModel* model, const TensorNames& names) {
  // Some checkpoints store a tied matrix only under the name of the head.
  const std::string& at = names.hf_prefix;
  note_unused_layers(checkpoint, at + "layers.", model);
  const std::string embedding = at + "embed_tokens.weight";
  const bool only_head = model->spec.tied_head() && checkpoint.find(embedding) == nullptr;
  model->tensors["embedding"] = {only_head ? "lm_head.weight" : embedding};
  model->tensors["head"] = {"lm_head.weight"};
  name_linears(model, names, "self_attn.qkv_proj", "mlp.gate_up_proj", false,
               [&](const LinearInfo& info, const char* fused_name) {
                 const char* const moe = names.mixtral ? "block_sparse_moe" : "mlp";
                 const std::string layer = fmt::format("{}layers.{}.", at, info.layer);
                 if (info.expert >= 0)
                   return fmt::format("{}{}.experts.{}.{}", layer, moe, info.expert,
                                      role_of_expert_hf(info.role, names.mixtral));
                 if (info.role == LinearRole::kRouter) return fmt::format("{}{}.gate", layer, moe);
                 const auto& sub = model->spec.layers(info.layer).sublayers(info.sublayer);
                 if (is_second_query(sub, info.role)) return layer + "self_attn.q_b_proj";
                 if (is_shared(sub, info))
                   return fmt::format("{}{}.{}.{}", layer, moe, names.shared,
                                      role_of_expert_hf(info.role, false));
                 return layer +
                        (fused_name ? fused_name : kNames.hf[static_cast<size_t>(info.role)]);
               });
  NormNames norms{"input_layernorm",
                  "post_attention_layernorm",
                  "self_attn.q_norm",
                  "self_attn.k_norm",
                  "",
                  "",
                  "self_attn.q_a_layernorm",
                  "self_attn.kv_a_layernorm",
                  "mlp.gate.e_score_correction_bias"};
  if (names.post_norms) {
    norms.mlp = "pre_feedforward_layernorm";
    norms.post_attention = "post_attention_layernorm";
    norms.post_mlp = "post_feedforward_layernorm";
  }
  name_norms(model, at + "layers.{}.", norms, at + "norm.weight", names.norms_plus);
}

void name_tensors_gguf(ImportedModel* model, const TensorNames& names) {
  model->tensors["embedding"] = {"token_embd.weight"};
  model->tensors["head"] = {"output.weight"};
  name_linears(model, names, "attn_qkv", "ffn_up", true,
               [&](const LinearInfo& info, const char* fused_name) {
                 const auto& sub = model->spec.layers(info.layer).sublayers(info.sublayer);
                 const char* const name = fused_name ? fused_name
                                          : is_second_query(sub, info.role)
                                              ? "attn_q_b"
                                              : kNames.gguf[static_cast<size_t>(info.role)];
                 const char* const of_which = info.expert >= 0       ? "_exps"
                                              : is_shared(sub, info) ? "_shexp"
                                                                     : "";
                 return fmt::format("blk.{}.{}{}", info.layer, name, of_which);
               });
  name_norms(model, "blk.{}.",
             {"attn_norm", names.gguf_mlp_norm, "attn_q_norm", "attn_k_norm", "post_attention_norm",
              "post_ffw_norm", "attn_q_a_norm", "attn_kv_a_norm", "exp_probs_b.bias"},
             "output_norm.weight", names.norms_plus);
}

}  // namespace pith
