#include "runtime/model/synthetic.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "runtime/model/arch/arch.h"

namespace pith {
namespace {

struct Shape {
  const char* name;
  unsigned hidden, layers, width, heads, kv_heads, head_dim, vocab;
  bool tied;
  unsigned experts = 0, chosen = 0;  // of a MoE; `width` is theirs
  bool latent = false;  // DeepSeek-V2-Lite's attention, shared experts and dense first layer
};
constexpr Shape kShapes[] = {
    {"smollm2-135m", 576, 30, 1536, 9, 3, 64, 49152, true},
    {"llama-850m", 2048, 16, 5632, 32, 8, 64, 32000, false},
    {"llama-1b", 2048, 16, 8192, 32, 8, 64, 128256, true},
    {"llama-8b", 4096, 32, 14336, 32, 8, 128, 128256, false},
    {"qwen3-30b-a3b", 2048, 48, 768, 32, 4, 128, 151936, false, 128, 8},
    {"deepseek-v2-lite", 2048, 27, 1408, 16, 16, 128, 102400, false, 64, 6, true},
};

Checkpoint checkpoint_of(const Shape& s) {
  Checkpoint c;
  c.path = s.name;
  c.config = {{"model_type", "llama"},
              {"hidden_size", s.hidden},
              {"num_hidden_layers", s.layers},
              {"intermediate_size", s.width},
              {"num_attention_heads", s.heads},
              {"num_key_value_heads", s.kv_heads},
              {"head_dim", s.head_dim},
              {"vocab_size", s.vocab},
              {"max_position_embeddings", 1u << 17},
              {"rms_norm_eps", 1e-5},
              {"rope_theta", 500000.0},
              {"hidden_act", "silu"},
              {"tie_word_embeddings", s.tied}};
  const auto set = [&](std::initializer_list<std::pair<const char*, Json>> values) {
    for (const auto& [key, value] : values) c.config[key] = value;
  };
  if (s.latent) {
    set({{"model_type", "deepseek_v2"},
         {"intermediate_size", 10944u},
         {"kv_lora_rank", 512u},
         {"q_lora_rank", nullptr},
         {"qk_nope_head_dim", 128u},
         {"qk_rope_head_dim", 64u},
         {"v_head_dim", 128u},
         {"n_routed_experts", s.experts},
         {"num_experts_per_tok", s.chosen},
         {"n_shared_experts", 2u},
         {"moe_intermediate_size", s.width},
         {"first_k_dense_replace", 1u}});
  } else if (s.experts > 0) {
    set({{"model_type", "mixtral"},
         {"num_local_experts", s.experts},
         {"num_experts_per_tok", s.chosen}});
  }
  return c;
}

proto::ModelSpec spec_of(const Shape& s) {
  const Checkpoint c = checkpoint_of(s);
  const std::string family = c.config["model_type"];
  const auto row = std::ranges::find_if(architectures(), [&](const Architecture& a) {
    return a.container == Checkpoint::Kind::kSafetensors && family == a.name;
  });
  return row->import(c).spec;
}

// Some rows encoded, and these over and over.
Weight random_weight(const Encoding& e, int64_t n, int64_t k) {
  const int64_t rows = std::min(n, std::lcm(row_unit(e, 128, k), int64_t{128}));
  std::vector<float> values(static_cast<size_t>(rows * k));
  const Rng rng(static_cast<uint64_t>(n * k));
  const double width = std::sqrt(12 / static_cast<double>(k));  // of variance 1 / k
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>((rng.uniform_at(i) - 0.5) * width);
  const Weight some = encode(e, rows, k, values.data());
  OwnedWeight out = allocate_weight(e, n, k);
  const auto layouts = plane_layouts(e, n, k);
  for (size_t p = 0; p < layouts.size(); ++p) {
    const auto from = some.planes[p].bytes;
    const auto to = out.planes[p].bytes;
    constexpr uint64_t kPiece = 1 << 20;
    parallel_for(static_cast<int64_t>(ceil_div(to.size(), kPiece)), [&](int64_t i) {
      uint64_t at = static_cast<uint64_t>(i) * kPiece;
      const uint64_t end = std::min<uint64_t>(to.size(), at + kPiece);
      while (at < end) {
        const uint64_t place = at % from.size(), count = std::min(end - at, from.size() - place);
        std::memcpy(to.data() + at, from.data() + place, count);
        at += count;
      }
    });
  }
  return std::move(out.weight);
}

class SyntheticSource final : public ModelSource {
 public:
  SyntheticSource(const Shape& shape, const SyntheticTypes& types)
      : name_(shape.name), spec_(spec_of(shape)), types_(types) {}

  const proto::ModelSpec& spec() const override { return spec_; }
  std::string path() const override { return name_; }
  std::string kind() const override { return "synthetic"; }
  TokenizerFiles tokenizer() const override { return {}; }
  uint64_t hash() const override { return 0; }
  uint64_t tensor_bytes() const override {
    uint64_t total = 0;
    for (const auto& l : linears_of(spec_)) total += encoded_bytes(form(l), l.n, l.k);
    return total;
  }
  bool reads(const std::string&) const override { return false; }

  Linear linear(const LinearInfo& info) const override {
    Linear l{.name = info.name, .n = info.n, .k = info.k, .terms = {}, .bias = {}};
    const LinearForm f = form(info);
    l.terms.push_back({.w = random_weight(f.terms[0].weight, info.n, info.k), .up = {}});
    l.input = f.input;
    return l;
  }
  LinearForm form(const LinearInfo& info) const override {
    if (is_gate(info.role)) return plain_form(Encoding::dense(DType::kBF16));
    if (info.layer < 0) return plain_form(types_.tables);
    return plain_form(types_.linears, types_.input);
  }
  std::vector<float> bias(const LinearInfo& info) const override {
    return std::vector<float>(info.bias ? static_cast<size_t>(info.n) : 0);
  }
  std::vector<float> vector(const VectorInfo& info) const override {
    return std::vector<float>(static_cast<size_t>(info.length), 1.0f);
  }

 private:
  std::string name_;
  proto::ModelSpec spec_;
  SyntheticTypes types_;
};

}  // namespace

std::vector<std::string> synthetic_shapes() {
  std::vector<std::string> names;
  for (const auto& s : kShapes) names.emplace_back(s.name);
  return names;
}

std::unique_ptr<ModelSource> make_synthetic(const std::string& shape, const SyntheticTypes& types) {
  for (const auto& s : kShapes)
    if (shape == s.name) return std::make_unique<SyntheticSource>(s, types);
  fail(ErrorKind::kUsage, "no shape \"{}\": {}", shape, fmt::join(synthetic_shapes(), " "));
}

}  // namespace pith
