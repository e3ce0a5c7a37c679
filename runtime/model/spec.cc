#include "runtime/model/spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace pith {

const char* role_name(LinearRole role) {
  constexpr const char* kNames[] = {"embedding",   "q",          "k",       "v",    "o",
                                    "gate",        "up",         "down",    "head", "router",
                                    "shared_gate", "q_down",     "kv_down", "k_up", "v_up",
                                    "positions",   "token_types"};
  return kNames[static_cast<size_t>(role)];
}

int layer_count(const proto::ModelSpec& spec, StackId stack) {
  return stack == StackId::kEncoder ? spec.encoder().layers_size() : spec.layers_size();
}
const proto::LayerSpec& layer_of(const proto::ModelSpec& spec, int layer, StackId stack) {
  return stack == StackId::kEncoder ? spec.encoder().layers(layer) : spec.layers(layer);
}

std::string sublayer_prefix(const proto::ModelSpec& spec, int layer, int sublayer, StackId stack) {
  return fmt::format("{}layers.{}.{}.", stack == StackId::kEncoder ? "encoder." : "", layer,
                     layer_of(spec, layer, stack).sublayers(sublayer).name());
}

namespace {

// Collects the linears of one layer, in the order of the computation.
class LayerLinears {
 public:
  LayerLinears(const proto::ModelSpec& spec, int layer, StackId stack)
      : spec_(spec), layer_(layer), stack_(stack), hidden_(static_cast<int64_t>(spec.hidden())) {}

  std::vector<LinearInfo> collect() {
    for (const auto& sub : layer_of(spec_, layer_, stack_).sublayers()) {
      prefix_ = sublayer_prefix(spec_, layer_, sublayer_, stack_);
      if (sub.has_attention())
        sub.attention().has_latent() ? add_mla(sub.attention()) : add_attention(sub.attention());
      else if (sub.has_mlp())
        add_mlp(sub.mlp());
      else
        add_moe(sub.moe());
      ++sublayer_;
    }
    return std::move(all_);
  }

 private:
  LinearInfo& add(LinearRole role, int64_t n, int64_t k, bool bias) {
    all_.push_back({prefix_ + role_name(role), role, layer_, sublayer_, n, k, bias});
    all_.back().stack = stack_;
    return all_.back();
  }

  void add_attention(const proto::Attention& a) {
    const int64_t q = int64_t{a.heads()} * a.head_dim(), kv = int64_t{a.kv_heads()} * a.head_dim();
    add(LinearRole::kQuery, q, hidden_, a.qkv_bias());
    add(LinearRole::kKey, kv, hidden_, a.qkv_bias());
    add(LinearRole::kValue, kv, hidden_, a.qkv_bias());
    add(LinearRole::kOutput, hidden_, q, a.output_bias());
  }

  void add_mla(const proto::Attention& a) {
    const int64_t q = int64_t{a.heads()} * a.head_dim();
    const auto rank = static_cast<int64_t>(a.latent().rank()),
               query_rank = static_cast<int64_t>(a.latent().query_rank()),
               value_dim = static_cast<int64_t>(a.latent().value_dim());
    if (query_rank > 0)
      add(LinearRole::kQueryDown, query_rank, hidden_, false);
    else
      add(LinearRole::kQuery, q, hidden_, false);
    add(LinearRole::kKeyValueDown, rank + a.rope().dims(), hidden_, false);
    if (query_rank > 0) add(LinearRole::kQuery, q, query_rank, false);
    add_heads(a, LinearRole::kKeyUp, rank, plain_dims(a));
    add_heads(a, LinearRole::kValueUp, value_dim, rank);
    add(LinearRole::kOutput, hidden_, a.heads() * value_dim, a.output_bias());
  }
  void add_heads(const proto::Attention& a, LinearRole role, int64_t n, int64_t k) {
    for (int h = 0; h < static_cast<int>(a.heads()); ++h) {
      LinearInfo& info = add(role, n, k, false);
      info.name = fmt::format("{}heads.{}.{}", prefix_, h, role_name(role));
      info.head = h;
    }
  }

  void add_mlp(const proto::Mlp& m) {
    const auto width = static_cast<int64_t>(m.width());
    if (m.gated()) add(LinearRole::kGate, width, hidden_, m.bias());
    add(LinearRole::kUp, width, hidden_, m.bias());
    add(LinearRole::kDown, hidden_, width, m.bias());
  }

  void add_moe(const proto::Moe& m) {
    const auto experts = static_cast<int>(m.experts());
    add(LinearRole::kRouter, experts, hidden_, m.router_bias());
    if (m.shared_gate()) add(LinearRole::kSharedGate, 1, hidden_, false);
    if (m.has_shared()) add_expert(m.shared(), "shared", -1);
    for (int e = 0; e < experts; ++e) add_expert(m.expert(), fmt::format("experts.{}", e), e);
  }
  void add_expert(const proto::Mlp& m, const std::string& name, int expert) {
    const size_t first = all_.size();
    add_mlp(m);
    for (size_t i = first; i < all_.size(); ++i) {
      all_[i].name = fmt::format("{}{}.{}", prefix_, name, role_name(all_[i].role));
      all_[i].expert = expert;
    }
  }

  const proto::ModelSpec& spec_;
  const int layer_;
  const StackId stack_;
  const int64_t hidden_;
  int sublayer_ = 0;
  std::string prefix_;
  std::vector<LinearInfo> all_;
};

}  // namespace

std::vector<LinearInfo> linears_of(const proto::ModelSpec& spec, int layer, StackId stack) {
  return LayerLinears(spec, layer, stack).collect();
}

std::vector<LinearInfo> linears_of(const proto::ModelSpec& spec) {
  std::vector<LinearInfo> out;
  const auto v = static_cast<int64_t>(spec.vocab()), hidden = static_cast<int64_t>(spec.hidden());
  const auto add_table = [&](LinearRole role, uint64_t rows) {
    if (rows > 0)
      out.push_back({role_name(role), role, -1, -1, static_cast<int64_t>(rows), hidden, false});
  };
  add_table(LinearRole::kEmbedding, spec.vocab());
  add_table(LinearRole::kPositions, spec.positions());
  add_table(LinearRole::kTokenTypes, spec.token_types());
  for (const StackId stack : {StackId::kEncoder, StackId::kDecoder}) {
    for (int l = 0; l < layer_count(spec, stack); ++l)
      std::ranges::move(linears_of(spec, l, stack), std::back_inserter(out));
  }
  if (!spec.tied_head()) out.push_back({"head", LinearRole::kHead, -1, -1, v, hidden, false});
  return out;
}

namespace {

// A norm's vectors: its weight, and its bias where it has one.
void add_norm(std::vector<VectorInfo>& out, const proto::Norm& norm, VectorInfo weight,
              VectorRole bias) {
  if (norm.kind() == proto::NORM_NONE) return;
  VectorInfo second = weight;
  second.name += "_bias";
  second.role = bias;
  out.push_back(std::move(weight));
  if (norm.bias()) out.push_back(std::move(second));
}

}  // namespace

std::vector<VectorInfo> vectors_of(const proto::ModelSpec& spec, int layer, StackId stack) {
  std::vector<VectorInfo> out;
  const auto hidden = static_cast<int64_t>(spec.hidden());
  const auto& sublayers = layer_of(spec, layer, stack).sublayers();
  for (int s = 0; s < sublayers.size(); ++s) {
    const auto& sub = sublayers[s];
    const std::string prefix = sublayer_prefix(spec, layer, s, stack);
    const auto info = [&](VectorRole role, const char* name, int64_t length) {
      return VectorInfo{prefix + name, role, layer, s, length, stack};
    };
    add_norm(out, sub.norm(), info(VectorRole::kNorm, "norm", hidden), VectorRole::kNormBias);
    add_norm(out, sub.post_norm(), info(VectorRole::kPostNorm, "post_norm", hidden),
             VectorRole::kPostNormBias);
    add_norm(out, sub.output_norm(), info(VectorRole::kOutputNorm, "output_norm", hidden),
             VectorRole::kOutputNormBias);
    if (sub.has_attention()) {
      const auto& a = sub.attention();
      const int64_t d = a.head_dim(), heads = a.heads();
      const bool latent = a.has_latent();
      add_norm(out, a.query_norm(),
               info(VectorRole::kQueryNorm, "query_norm",
                    latent ? static_cast<int64_t>(a.latent().query_rank()) : d),
               VectorRole::kQueryNormBias);
      add_norm(out, a.key_norm(),
               info(VectorRole::kKeyNorm, "key_norm",
                    latent ? static_cast<int64_t>(a.latent().rank()) : d),
               VectorRole::kKeyNormBias);
      if (a.sinks()) out.push_back(info(VectorRole::kSinks, "sinks", heads));
      if (a.has_relative_bias()) {
        out.push_back(info(VectorRole::kRelativeBias, "relative_bias",
                           int64_t{a.relative_bias().buckets()} * heads));
      }
    }
    if (sub.moe().choice_bias())
      out.push_back(info(VectorRole::kChoiceBias, "choice_bias", sub.moe().experts()));
  }
  return out;
}

std::vector<VectorInfo> vectors_of(const proto::ModelSpec& spec) {
  std::vector<VectorInfo> out;
  const auto hidden = static_cast<int64_t>(spec.hidden());
  const auto add = [&](const proto::Norm& norm, const char* name, VectorRole role, VectorRole bias,
                       StackId stack) {
    add_norm(out, norm, {name, role, -1, 0, hidden, stack}, bias);
  };
  add(spec.embedding_norm(), "embedding_norm", VectorRole::kEmbeddingNorm,
      VectorRole::kEmbeddingNormBias, StackId::kDecoder);
  for (const StackId stack : {StackId::kEncoder, StackId::kDecoder}) {
    for (int l = 0; l < layer_count(spec, stack); ++l)
      std::ranges::move(vectors_of(spec, l, stack), std::back_inserter(out));
    if (stack == StackId::kEncoder) {
      add(spec.encoder().final_norm(), "encoder.final_norm", VectorRole::kFinalNorm,
          VectorRole::kFinalNormBias, stack);
    }
  }
  add(spec.final_norm(), "final_norm", VectorRole::kFinalNorm, VectorRole::kFinalNormBias,
      StackId::kDecoder);
  return out;
}

int64_t plain_dims(const proto::Attention& a) { return int64_t{a.head_dim()} - a.rope().dims(); }

int64_t value_dim(const proto::Attention& a) {
  return a.has_latent() ? a.latent().value_dim() : a.head_dim();
}

bool reads_stream(const proto::ModelSpec& spec, const LinearInfo& info) {
  switch (info.role) {
    case LinearRole::kEmbedding:
    case LinearRole::kPositions:
    case LinearRole::kTokenTypes:
    case LinearRole::kOutput:
    case LinearRole::kDown:
    case LinearRole::kKeyUp:
    case LinearRole::kValueUp:
      return false;
    case LinearRole::kQuery:
      return layer_of(spec, info.layer, info.stack)
                 .sublayers(info.sublayer)
                 .attention()
                 .latent()
                 .query_rank() == 0;
    case LinearRole::kKey:
    case LinearRole::kValue:
      return layer_of(spec, info.layer, info.stack).sublayers(info.sublayer).attention().source() ==
             proto::SOURCE_SELF;
    default:
      return true;
  }
}

proto::Attention absorbed_form(const proto::Attention& a) {
  if (!a.has_latent()) return a;
  proto::Attention form = a;
  form.clear_latent();
  form.clear_query_norm();
  form.clear_key_norm();
  form.set_kv_heads(1);
  form.set_head_dim(static_cast<uint32_t>(a.latent().rank()) + a.rope().dims());
  if (a.scale() == 0) form.set_scale(1 / std::sqrt(static_cast<double>(a.head_dim())));
  return form;
}

uint64_t parameter_count(const proto::ModelSpec& spec) {
  uint64_t total = 0;
  for (const auto& l : linears_of(spec))
    total += static_cast<uint64_t>(l.n * l.k + (l.bias ? l.n : 0));
  for (const auto& v : vectors_of(spec)) total += static_cast<uint64_t>(v.length);
  return total;
}

}  // namespace pith
