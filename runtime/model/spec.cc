#include "runtime/model/spec.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "core/error.h"
#include "formats/features.h"
#include "formats/printable.h"

namespace pith {
namespace {

constexpr uint64_t kMaxSize = 1 << 24;  // of a hidden width, an ffn width, a vocabulary
constexpr int kMaxLayers = 4096;
constexpr int kMaxSublayers = 16;  // of a layer
constexpr size_t kMaxSublayerName = 64;
constexpr uint64_t kMaxExperts = 1024;       // of a sublayer
constexpr uint64_t kMaxAllExperts = 32768;   // of a model
constexpr uint64_t kMaxLatentHeads = 65536;  // of a model
constexpr uint64_t kMaxWindow = uint64_t{1} << 62;

class Checker {
 public:
  Checker(const proto::ModelSpec& spec, const std::string& name) : spec_(spec), name_(name) {}

  void run() const {
    size("vocabulary", spec_.vocab());
    size("hidden size", spec_.hidden());
    if (spec_.context() == 0 || spec_.context() > (1u << 30))
      refuse("context of {} tokens", spec_.context());
    for (const auto& [what, rows] : {std::pair("positions", spec_.positions()),
                                     std::pair("token types", spec_.token_types())}) {
      if (rows > kMaxSize) refuse("{} {}", rows, what);
    }
    norm(spec_.embedding_norm());
    norm(spec_.final_norm());
    norm(spec_.encoder().final_norm());
    if (spec_.embedding_scale() != 0 && !is_positive(spec_.embedding_scale()))
      refuse("an embedding scale of {}", spec_.embedding_scale());
    cap(spec_.logit_cap());
    Totals totals;
    stack(spec_.layers(), StackId::kDecoder, totals);
    stack(spec_.encoder().layers(), StackId::kEncoder, totals);
    if (spec_.stop_tokens_size() > kMaxStopTokens)
      refuse("{} stop tokens", spec_.stop_tokens_size());
    for (const int32_t id : spec_.stop_tokens()) {
      if (!is_token(id)) refuse("stop token {}", id);
    }
    if (spec_.bos_token() != -1 && !is_token(spec_.bos_token()))
      refuse("first token {}", spec_.bos_token());
  }

 private:
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::kCorrupt, "{}: model with {}", name_,
         fmt::format(format, std::forward<Args>(args)...));
  }
  struct Totals {
    uint64_t experts = 0, latent_heads = 0;
  };
  void stack(const google::protobuf::RepeatedPtrField<proto::LayerSpec>& layers, StackId id,
             Totals& totals) const {
    if (layers.size() > kMaxLayers) refuse("{} layers", layers.size());
    for (const auto& l : layers) layer(l, id, totals);
  }
  void layer(const proto::LayerSpec& layer, StackId id, Totals& totals) const {
    if (layer.sublayers_size() > kMaxSublayers)
      refuse("{} sublayers in a layer", layer.sublayers_size());
    std::set<std::string> names;
    for (const auto& s : layer.sublayers()) {
      if (s.name().empty() || s.name().size() > kMaxSublayerName || !names.insert(s.name()).second)
        refuse("sublayer name {}", printable(s.name()));
      norm(s.norm());
      norm(s.post_norm());
      norm(s.output_norm());
      if (layer.parallel() && s.output_norm().kind() != proto::NORM_NONE)
        refuse("a norm of the output of one of several parallel sublayers");
      if (s.has_attention())
        attention(s.attention(), id);
      else if (s.has_mlp())
        mlp(s.mlp());
      else if (s.has_moe())
        moe(s);
      else
        refuse("sublayer {} of an unknown kind", printable(s.name()));
      totals.experts += s.moe().experts();
      if (totals.experts > kMaxAllExperts) refuse("more than {} experts", kMaxAllExperts);
      if (s.attention().has_latent()) totals.latent_heads += s.attention().heads();
      if (totals.latent_heads > kMaxLatentHeads)
        refuse("more than {} latent heads", kMaxLatentHeads);
    }
  }
  static bool is_positive(double v) { return v > 0 && std::isfinite(v); }
  void size(const char* what, uint64_t v) const {
    if (v == 0 || v > kMaxSize) refuse("a {} of {}", what, v);
  }
  bool is_token(int32_t id) const { return id >= 0 && static_cast<uint64_t>(id) < spec_.vocab(); }
  void norm(const proto::Norm& n) const {
    if (!proto::NormKind_IsValid(n.kind())) refuse("norm kind {}", static_cast<int>(n.kind()));
    if (!(n.eps() >= 0 && n.eps() < 1)) refuse("a norm epsilon of {}", n.eps());
    if (n.bias() && n.kind() == proto::NORM_NONE) refuse("a bias of a norm that is not there");
  }
  void cap(double v) const {
    if (v != 0 && !(v > 1e-3 && v < 1e6)) refuse("a cap of {}", v);
  }
  void attention(const proto::Attention& a, StackId stack) const {
    if (a.heads() == 0 || a.heads() > 65536 || a.kv_heads() == 0 || a.heads() % a.kv_heads() != 0) {
      refuse("{} heads over {} key heads", a.heads(), a.kv_heads());
    }
    if (a.head_dim() == 0 || a.head_dim() > 4096 || uint64_t{a.heads()} * a.head_dim() > kMaxSize) {
      refuse("{} heads of size {}", a.heads(), a.head_dim());
    }
    if (!std::isfinite(a.scale())) refuse("an attention scale of {}", a.scale());
    cap(a.score_cap());
    if (a.window() > kMaxWindow) refuse("a window of {} tokens", a.window());
    norm(a.query_norm());
    norm(a.key_norm());
    if (a.rope().dims() > a.head_dim() || a.rope().dims() % 2 != 0)
      refuse("{} rotated of {} dimensions", a.rope().dims(), a.head_dim());
    rope(a.rope());
    if (a.has_latent()) latent(a);
    positions(a);
    if (!proto::AttentionSource_IsValid(a.source()))
      refuse("attention source {}", static_cast<int>(a.source()));
    if (a.source() == proto::SOURCE_CROSS) cross(a, stack);
  }
  void positions(const proto::Attention& a) const {
    if (!a.has_relative_bias()) return;
    const proto::RelativeBias& r = a.relative_bias();
    if (r.buckets() < 2 || r.buckets() > 4096 || r.max_distance() <= r.buckets() / 2)
      refuse("{} buckets of distances up to {}", r.buckets(), r.max_distance());
    if (a.alibi()) refuse("two biases by distance");
  }
  void cross(const proto::Attention& a, StackId stack) const {
    if (stack == StackId::kEncoder || !spec_.has_encoder())
      refuse("cross attention without an encoder to read");
    if (a.window() > 0 || a.rope().dims() > 0 || a.alibi() || a.has_relative_bias() ||
        a.bidirectional())
      refuse("cross attention that has positions");
  }
  void latent(const proto::Attention& a) const {
    const proto::Latent& l = a.latent();
    size("latent vector", l.rank());
    if (l.query_rank() > kMaxSize) refuse("a latent query of {}", l.query_rank());
    if (a.rope().dims() == 0 || a.rope().dims() == a.head_dim())
      refuse("latent heads with {} rotated of {} dimensions", a.rope().dims(), a.head_dim());
    if (l.value_dim() == 0 || l.value_dim() > 4096) refuse("values of size {}", l.value_dim());
    const uint64_t key = l.rank() + a.rope().dims();
    if (key > 4096 || uint64_t{a.heads()} * std::max<uint64_t>(key, l.value_dim()) > kMaxSize)
      refuse("{} heads over a latent vector of {}", a.heads(), l.rank());
    if (a.kv_heads() != a.heads() || a.qkv_bias() || a.sinks())
      refuse("latent attention with shared keys, biases or sinks");
    if (a.source() != proto::SOURCE_SELF || a.alibi() || a.has_relative_bias())
      refuse("latent attention across stacks or with a bias by distance");
    if (l.query_rank() == 0 && a.query_norm().kind() != proto::NORM_NONE)
      refuse("a norm of a latent query that is not there");
  }
  void rope(const proto::Rope& r) const {
    if (r.dims() > 0 && !is_positive(r.theta())) refuse("a RoPE base of {}", r.theta());
    if (!proto::RopeScaling_IsValid(r.scaling()))
      refuse("RoPE scaling {}", static_cast<int>(r.scaling()));
    const bool has_factor = r.scaling() != proto::ROPE_PLAIN && r.scaling() != proto::ROPE_LONGROPE;
    if (has_factor && !(r.factor() >= 1 && r.factor() < 1e6))
      refuse("a RoPE factor of {}", r.factor());
    if (r.scaling() != proto::ROPE_PLAIN && r.scaling() != proto::ROPE_LINEAR &&
        r.original_context() == 0) {
      refuse("RoPE scaling without an original context");
    }
    if (r.scaling() == proto::ROPE_LONGROPE) {
      const int half = static_cast<int>(r.dims() / 2);
      if (r.short_factor_size() != half || r.long_factor_size() != half) {
        refuse("{} and {} RoPE factors for {} frequencies", r.short_factor_size(),
               r.long_factor_size(), half);
      }
      for (const auto* factors : {&r.short_factor(), &r.long_factor()}) {
        for (const double f : *factors) {
          if (!is_positive(f)) refuse("a RoPE frequency factor of {}", f);
        }
      }
    }
    if (r.scaling() == proto::ROPE_LLAMA3 &&
        !(r.low_freq_factor() > 0 && r.high_freq_factor() > r.low_freq_factor())) {
      refuse("RoPE frequency factors {} and {}", r.low_freq_factor(), r.high_freq_factor());
    }
    if (r.scaling() == proto::ROPE_YARN && !(r.beta_fast() > 0 && r.beta_slow() > 0)) {
      refuse("YaRN betas {} and {}", r.beta_fast(), r.beta_slow());
    }
    if ((r.scaling() == proto::ROPE_YARN || r.scaling() == proto::ROPE_LONGROPE) &&
        !is_positive(r.attention_factor())) {
      refuse("a RoPE attention factor of {}", r.attention_factor());
    }
  }
  void mlp(const proto::Mlp& m) const {
    size("feed-forward width", m.width());
    if (!proto::Activation_IsValid(m.activation()))
      refuse("activation {}", static_cast<int>(m.activation()));
    if (m.activation() == proto::ACTIVATION_SILU_CLAMPED && !m.gated())
      refuse("an activation of gate and up, and no gate");
  }
  void moe(const proto::Sublayer& s) const {
    const proto::Moe& m = s.moe();
    if (s.post_norm().kind() != proto::NORM_NONE) refuse("a norm behind a MoE");
    if (m.experts() == 0 || m.experts() > kMaxExperts) refuse("{} experts", m.experts());
    if (m.chosen() == 0 || m.chosen() > m.experts())
      refuse("{} of {} experts chosen for a token", m.chosen(), m.experts());
    if (m.groups() > 0) {
      const bool fits =
          m.experts() % m.groups() == 0 && m.chosen_groups() > 0 && m.chosen_groups() <= m.groups();
      if (!fits || m.chosen() > m.experts() / m.groups() * m.chosen_groups())
        refuse("{} experts chosen from {} of {} groups", m.chosen(), m.chosen_groups(), m.groups());
    }
    if (m.scale() != 0 && !is_positive(m.scale())) refuse("weights of experts times {}", m.scale());
    if (m.choice_bias() && !m.sigmoid()) refuse("a choice of experts by softmax and a bias");
    mlp(m.expert());
    if (m.has_shared()) mlp(m.shared());
    if (m.shared_gate() && !m.has_shared()) refuse("a gate of a shared expert that is not there");
  }

  const proto::ModelSpec& spec_;
  const std::string& name_;
};

}  // namespace

const char* role_name(LinearRole role) {
  constexpr const char* kNames[] = {"embedding",   "q",          "k",       "v",    "o",
                                    "gate",        "up",         "down",    "head", "router",
                                    "shared_gate", "q_down",     "kv_down", "k_up", "v_up",
                                    "positions",   "token_types"};
  return kNames[static_cast<size_t>(role)];
}

void check_spec(const proto::ModelSpec& spec, const std::string& name) {
  Checker(spec, name).run();
}

void check_runs(const proto::ModelSpec& spec, const std::string& name) {
  for (const auto& feature : features_of(spec)) {
    fail(ErrorKind::kUnsupported, "{}: the model has {}, which can be stored and not yet computed",
         name, find_feature(feature)->meaning);
  }
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

std::vector<LinearInfo> linears_of(const proto::ModelSpec& spec, int layer, StackId stack) {
  std::vector<LinearInfo> out;
  const auto hidden = static_cast<int64_t>(spec.hidden());
  const auto& sublayers = layer_of(spec, layer, stack).sublayers();
  for (int s = 0; s < sublayers.size(); ++s) {
    const auto& sub = sublayers[s];
    const std::string prefix = sublayer_prefix(spec, layer, s, stack);
    const auto add = [&](LinearRole role, int64_t n, int64_t k, bool bias) {
      out.push_back({prefix + role_name(role), role, layer, s, n, k, bias});
      out.back().stack = stack;
    };
    if (sub.has_attention()) {
      const auto& a = sub.attention();
      const int64_t q = int64_t{a.heads()} * a.head_dim(),
                    kv = int64_t{a.kv_heads()} * a.head_dim();
      if (a.has_latent()) {
        const auto rank = static_cast<int64_t>(a.latent().rank()),
                   query_rank = static_cast<int64_t>(a.latent().query_rank()),
                   value_dim = static_cast<int64_t>(a.latent().value_dim());
        if (query_rank > 0)
          add(LinearRole::kQueryDown, query_rank, hidden, false);
        else
          add(LinearRole::kQuery, q, hidden, false);
        add(LinearRole::kKeyValueDown, rank + a.rope().dims(), hidden, false);
        if (query_rank > 0) add(LinearRole::kQuery, q, query_rank, false);
        const auto add_heads = [&](LinearRole role, int64_t n, int64_t k) {
          for (int h = 0; h < static_cast<int>(a.heads()); ++h) {
            add(role, n, k, false);
            out.back().name = fmt::format("{}heads.{}.{}", prefix, h, role_name(role));
            out.back().head = h;
          }
        };
        add_heads(LinearRole::kKeyUp, rank, plain_dims(a));
        add_heads(LinearRole::kValueUp, value_dim, rank);
        add(LinearRole::kOutput, hidden, a.heads() * value_dim, a.output_bias());
        continue;
      }
      add(LinearRole::kQuery, q, hidden, a.qkv_bias());
      add(LinearRole::kKey, kv, hidden, a.qkv_bias());
      add(LinearRole::kValue, kv, hidden, a.qkv_bias());
      add(LinearRole::kOutput, hidden, q, a.output_bias());
      continue;
    }
    const auto add_mlp = [&](const proto::Mlp& m) {
      const auto width = static_cast<int64_t>(m.width());
      if (m.gated()) add(LinearRole::kGate, width, hidden, m.bias());
      add(LinearRole::kUp, width, hidden, m.bias());
      add(LinearRole::kDown, hidden, width, m.bias());
    };
    if (sub.has_mlp()) {
      add_mlp(sub.mlp());
      continue;
    }
    const auto experts = static_cast<int>(sub.moe().experts());
    add(LinearRole::kRouter, experts, hidden, sub.moe().router_bias());
    const auto add_expert = [&](const proto::Mlp& m, const std::string& name, int expert) {
      const size_t first = out.size();
      add_mlp(m);
      for (size_t i = first; i < out.size(); ++i) {
        out[i].name = fmt::format("{}{}.{}", prefix, name, role_name(out[i].role));
        out[i].expert = expert;
      }
    };
    if (sub.moe().shared_gate()) add(LinearRole::kSharedGate, 1, hidden, false);
    if (sub.moe().has_shared()) add_expert(sub.moe().shared(), "shared", -1);
    for (int e = 0; e < experts; ++e)
      add_expert(sub.moe().expert(), fmt::format("experts.{}", e), e);
  }
  return out;
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
