// Whether a specification is sound, and whether it can be computed.

#include <cmath>
#include <set>

#include "core/error.h"
#include "formats/features.h"
#include "formats/printable.h"
#include "runtime/model/spec.h"

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

void check_spec(const proto::ModelSpec& spec, const std::string& name) {
  Checker(spec, name).run();
}

void check_runs(const proto::ModelSpec& spec, const std::string& name) {
  for (const auto& feature : features_of(spec)) {
    fail(ErrorKind::kUnsupported, "{}: the model has {}, which can be stored and not yet computed",
         name, find_feature(feature)->meaning);
  }
}

}  // namespace pith
