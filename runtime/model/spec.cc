#include "runtime/model/spec.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "core/error.h"
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
    if (spec_.layers_size() > kMaxLayers) refuse("{} layers", spec_.layers_size());
    norm(spec_.final_norm());
    if (spec_.embedding_scale() != 0 && !is_positive(spec_.embedding_scale()))
      refuse("an embedding scale of {}", spec_.embedding_scale());
    cap(spec_.logit_cap());
    uint64_t experts = 0, heads = 0;
    for (const auto& layer : spec_.layers()) {
      if (layer.sublayers_size() > kMaxSublayers)
        refuse("{} sublayers in a layer", layer.sublayers_size());
      std::set<std::string> names;
      for (const auto& s : layer.sublayers()) {
        if (s.name().empty() || s.name().size() > kMaxSublayerName ||
            !names.insert(s.name()).second)
          refuse("sublayer name {}", printable(s.name()));
        norm(s.norm());
        norm(s.post_norm());
        if (s.has_attention())
          attention(s.attention());
        else if (s.has_mlp())
          mlp(s.mlp());
        else if (s.has_moe())
          moe(s);
        else
          refuse("sublayer {} of an unknown kind", printable(s.name()));
        experts += s.moe().experts();
        if (experts > kMaxAllExperts) refuse("more than {} experts", kMaxAllExperts);
        if (s.attention().has_latent()) heads += s.attention().heads();
        if (heads > kMaxLatentHeads) refuse("more than {} latent heads", kMaxLatentHeads);
      }
    }
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
  static bool is_positive(double v) { return v > 0 && std::isfinite(v); }
  void size(const char* what, uint64_t v) const {
    if (v == 0 || v > kMaxSize) refuse("a {} of {}", what, v);
  }
  bool is_token(int32_t id) const { return id >= 0 && static_cast<uint64_t>(id) < spec_.vocab(); }
  void norm(const proto::Norm& n) const {
    if (!proto::NormKind_IsValid(n.kind())) refuse("norm kind {}", static_cast<int>(n.kind()));
    if (!(n.eps() >= 0 && n.eps() < 1)) refuse("a norm epsilon of {}", n.eps());
  }
  void cap(double v) const {
    if (v != 0 && !(v > 1e-3 && v < 1e6)) refuse("a cap of {}", v);
  }
  void attention(const proto::Attention& a) const {
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
    if (s.post_norm().kind() != proto::NORM_NONE) refuse("a norm behind a mixture");
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
  constexpr const char* kNames[] = {"embedding",   "q",      "k",       "v",    "o",
                                    "gate",        "up",     "down",    "head", "router",
                                    "shared_gate", "q_down", "kv_down", "k_up", "v_up"};
  return kNames[static_cast<size_t>(role)];
}

void check_spec(const proto::ModelSpec& spec, const std::string& name) {
  Checker(spec, name).run();
}

std::string sublayer_prefix(const proto::ModelSpec& spec, int layer, int sublayer) {
  return fmt::format("layers.{}.{}.", layer, spec.layers(layer).sublayers(sublayer).name());
}

std::vector<LinearInfo> linears_of(const proto::ModelSpec& spec, int layer) {
  std::vector<LinearInfo> out;
  const auto hidden = static_cast<int64_t>(spec.hidden());
  for (int s = 0; s < spec.layers(layer).sublayers_size(); ++s) {
    const auto& sub = spec.layers(layer).sublayers(s);
    const std::string prefix = sublayer_prefix(spec, layer, s);
    const auto add = [&](LinearRole role, int64_t n, int64_t k, bool bias) {
      out.push_back({prefix + role_name(role), role, layer, s, n, k, bias});
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
  out.push_back({"embedding", LinearRole::kEmbedding, -1, -1, v, hidden, false});
  for (int l = 0; l < spec.layers_size(); ++l)
    std::ranges::move(linears_of(spec, l), std::back_inserter(out));
  if (!spec.tied_head()) out.push_back({"head", LinearRole::kHead, -1, -1, v, hidden, false});
  return out;
}

std::vector<VectorInfo> vectors_of(const proto::ModelSpec& spec, int layer) {
  std::vector<VectorInfo> out;
  const auto hidden = static_cast<int64_t>(spec.hidden());
  for (int s = 0; s < spec.layers(layer).sublayers_size(); ++s) {
    const auto& sub = spec.layers(layer).sublayers(s);
    const std::string prefix = sublayer_prefix(spec, layer, s);
    const auto add = [&](bool there, VectorRole role, const char* name, int64_t length) {
      if (there) out.push_back({prefix + name, role, layer, s, length});
    };
    const auto add_norm = [&](const proto::Norm& norm, VectorRole role, const char* name,
                              int64_t length) {
      add(norm.kind() != proto::NORM_NONE, role, name, length);
    };
    add_norm(sub.norm(), VectorRole::kNorm, "norm", hidden);
    add_norm(sub.post_norm(), VectorRole::kPostNorm, "post_norm", hidden);
    if (sub.has_attention()) {
      const auto& a = sub.attention();
      const int64_t d = a.head_dim();
      add_norm(a.query_norm(), VectorRole::kQueryNorm, "query_norm",
               a.has_latent() ? static_cast<int64_t>(a.latent().query_rank()) : d);
      add_norm(a.key_norm(), VectorRole::kKeyNorm, "key_norm",
               a.has_latent() ? static_cast<int64_t>(a.latent().rank()) : d);
      add(a.sinks(), VectorRole::kSinks, "sinks", a.heads());
    }
    add(sub.moe().choice_bias(), VectorRole::kChoiceBias, "choice_bias", sub.moe().experts());
  }
  return out;
}

std::vector<VectorInfo> vectors_of(const proto::ModelSpec& spec) {
  std::vector<VectorInfo> out;
  for (int l = 0; l < spec.layers_size(); ++l)
    std::ranges::move(vectors_of(spec, l), std::back_inserter(out));
  if (spec.final_norm().kind() != proto::NORM_NONE)
    out.push_back(
        {"final_norm", VectorRole::kFinalNorm, -1, 0, static_cast<int64_t>(spec.hidden())});
  return out;
}

int64_t plain_dims(const proto::Attention& a) { return int64_t{a.head_dim()} - a.rope().dims(); }

int64_t value_dim(const proto::Attention& a) {
  return a.has_latent() ? a.latent().value_dim() : a.head_dim();
}

bool reads_stream(const proto::ModelSpec& spec, const LinearInfo& info) {
  switch (info.role) {
    case LinearRole::kEmbedding:
    case LinearRole::kOutput:
    case LinearRole::kDown:
    case LinearRole::kKeyUp:
    case LinearRole::kValueUp:
      return false;
    case LinearRole::kQuery:
      return spec.layers(info.layer).sublayers(info.sublayer).attention().latent().query_rank() ==
             0;
    default:
      return true;
  }
}

proto::Attention cached_form(const proto::Attention& a) {
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
