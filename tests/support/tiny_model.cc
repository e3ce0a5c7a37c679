#include "tests/support/tiny_model.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/bytes.h"
#include "core/error.h"
#include "core/file.h"
#include "formats/safetensors.h"

namespace pith::test {
namespace {

uint64_t fnv1a64(std::string_view s) {
  uint64_t h = 0xCBF29CE484222325;
  for (const char c : s) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  return h;
}

double uniform(uint64_t seed, uint64_t i) {
  const uint64_t x = seed + i * 0x9E3779B97F4A7C15;
  uint64_t z = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
  z ^= z >> 31;
  return static_cast<double>(z >> 40) * 0x1p-24 * 2 - 1;
}

class TensorList {
 public:
  void matrix(const std::string& name, int64_t n, int64_t k, bool bias) {
    list.push_back({name + ".weight", {n, k}});
    if (bias) list.push_back({name + ".bias", {n}});
  }
  void norm(const std::string& name, int64_t n) { list.push_back({name + ".weight", {n}}); }

  std::vector<TinyTensor> list;
};

constexpr float kMxCodes[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
int mx_exponent_at(size_t i) { return -5 - static_cast<int>(i / 32 % 3); }
// The nearest to a magnitude.
int mx_code(float v) {
  const auto* const nearest = std::ranges::min_element(
      kMxCodes, {}, [&](float code) { return std::fabs(std::fabs(v) - code); });
  return static_cast<int>(nearest - kMxCodes);
}

}  // namespace

std::vector<TinyTensor> tiny_tensors(const Json& config) {
  const auto size = [&](const char* key, std::optional<uint64_t> missing = {}) {
    return checked_cast<int64_t>(json_uint(config, key, "config", missing), key);
  };
  const std::string type = json_string(config, "model_type", "config");
  const bool phi3 = type == "phi3", qwen2 = type.starts_with("qwen2"),
             qwen3 = type.starts_with("qwen3"), mixtral = type == "mixtral",
             qwen3_moe = type == "qwen3_moe", gemma = type.starts_with("gemma"),
             gemma3 = type == "gemma3_text", post_norms = gemma3 || type == "gemma2",
             gpt_oss = type == "gpt_oss", qwen2_moe = type == "qwen2_moe",
             latent = type.starts_with("deepseek_v"), glm = type == "glm4_moe",
             deep = latent || glm;  // with the mixtures of DeepSeek
  if (!qwen2_moe && !deep && !phi3 && !qwen2 && !qwen3 && !mixtral && !gemma && !gpt_oss &&
      type != "llama" && type != "mistral") {
    fail(ErrorKind::kUsage, "no tiny model of type {}", type);
  }
  const int64_t hidden = size("hidden_size"), ffn = size("intermediate_size"),
                vocab = size("vocab_size");
  const int64_t heads = size("num_attention_heads");
  const int64_t kv_heads = size("num_key_value_heads", static_cast<uint64_t>(heads));
  const int64_t head = size("head_dim", static_cast<uint64_t>(hidden / heads));
  const int64_t q = heads * head, kv = kv_heads * head;
  const bool attention_bias = (type == "llama" || qwen3 || gpt_oss || glm) &&
                              json_bool(config, "attention_bias", "config", false);
  const bool mlp_bias = type == "llama" && json_bool(config, "mlp_bias", "config", false);

  TensorList t;
  t.matrix("model.embed_tokens", vocab, hidden, false);
  for (int64_t i = 0; i < size("num_hidden_layers"); ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i), attention = layer + "self_attn.",
                      mlp = layer + "mlp.";
    if (latent) {
      const Json* const query = json_find(config, "q_lora_rank");
      const int64_t rank = size("kv_lora_rank"), rotated = size("qk_rope_head_dim"),
                    plain = size("qk_nope_head_dim"), value = size("v_head_dim");
      if (query != nullptr) {
        const int64_t query_rank = size("q_lora_rank");
        t.matrix(attention + "q_a_proj", query_rank, hidden, false);
        t.norm(attention + "q_a_layernorm", query_rank);
        t.matrix(attention + "q_b_proj", heads * (plain + rotated), query_rank, false);
      } else {
        t.matrix(attention + "q_proj", heads * (plain + rotated), hidden, false);
      }
      t.matrix(attention + "kv_a_proj_with_mqa", rank + rotated, hidden, false);
      t.norm(attention + "kv_a_layernorm", rank);
      t.matrix(attention + "kv_b_proj", heads * (plain + value), rank, false);
      t.matrix(attention + "o_proj", hidden, heads * value, false);
    } else if (phi3) {
      t.matrix(attention + "qkv_proj", q + 2 * kv, hidden, false);
    } else {
      t.matrix(attention + "q_proj", q, hidden, attention_bias || qwen2);
      t.matrix(attention + "k_proj", kv, hidden, attention_bias || qwen2);
      t.matrix(attention + "v_proj", kv, hidden, attention_bias || qwen2);
    }
    if (!latent) t.matrix(attention + "o_proj", hidden, q, attention_bias && !glm);
    if (qwen3 || gemma3 || (glm && json_bool(config, "use_qk_norm", "config", false))) {
      t.norm(attention + "q_norm", head);
      t.norm(attention + "k_norm", head);
    }
    const Json* const plain =
        qwen3_moe || qwen2_moe ? json_find(config, "mlp_only_layers") : nullptr;
    const bool moe = mixtral || (deep && i >= size("first_k_dense_replace")) ||
                     (plain != nullptr && std::ranges::find(*plain, Json(i)) == plain->end());
    if (gpt_oss) {
      t.list.push_back({attention + "sinks", {heads}});
      const int64_t experts = size("num_local_experts");
      t.matrix(mlp + "router", experts, hidden, true);
      t.list.push_back({mlp + "experts.gate_up_proj", {experts, 2 * ffn, hidden}});
      t.list.push_back({mlp + "experts.gate_up_proj_bias", {experts, 2 * ffn}});
      t.list.push_back({mlp + "experts.down_proj", {experts, hidden, ffn}});
      t.list.push_back({mlp + "experts.down_proj_bias", {experts, hidden}});
    } else if (moe) {
      const std::string where = mixtral ? layer + "block_sparse_moe." : mlp;
      const int64_t experts = size(mixtral ? "num_local_experts"
                                   : deep  ? "n_routed_experts"
                                           : "num_experts"),
                    width = mixtral ? ffn : size("moe_intermediate_size");
      t.matrix(where + "gate", experts, hidden, false);
      if (type == "deepseek_v3" || glm)
        t.list.push_back({where + "gate.e_score_correction_bias", {experts}});
      if (deep || qwen2_moe) {
        const std::string shared = where + (deep ? "shared_experts." : "shared_expert.");
        const int64_t of_shared =
            deep ? width * size("n_shared_experts") : size("shared_expert_intermediate_size");
        t.matrix(shared + "gate_proj", of_shared, hidden, false);
        t.matrix(shared + "up_proj", of_shared, hidden, false);
        t.matrix(shared + "down_proj", hidden, of_shared, false);
      }
      if (qwen2_moe) t.matrix(where + "shared_expert_gate", 1, hidden, false);
      for (int64_t e = 0; e < experts; ++e) {
        const std::string expert = fmt::format("{}experts.{}.", where, e);
        t.matrix(expert + (mixtral ? "w1" : "gate_proj"), width, hidden, false);
        t.matrix(expert + (mixtral ? "w3" : "up_proj"), width, hidden, false);
        t.matrix(expert + (mixtral ? "w2" : "down_proj"), hidden, width, false);
      }
    } else if (phi3) {
      t.matrix(mlp + "gate_up_proj", 2 * ffn, hidden, false);
      t.matrix(mlp + "down_proj", hidden, ffn, false);
    } else {
      t.matrix(mlp + "gate_proj", ffn, hidden, mlp_bias);
      t.matrix(mlp + "up_proj", ffn, hidden, mlp_bias);
      t.matrix(mlp + "down_proj", hidden, ffn, mlp_bias);
    }
    t.norm(layer + "input_layernorm", hidden);
    t.norm(layer + "post_attention_layernorm", hidden);
    if (post_norms) {
      t.norm(layer + "pre_feedforward_layernorm", hidden);
      t.norm(layer + "post_feedforward_layernorm", hidden);
    }
  }
  t.norm("model.norm", hidden);
  if (!json_bool(config, "tie_word_embeddings", "config", gemma))
    t.matrix("lm_head", vocab, hidden, false);
  return std::move(t.list);
}

std::vector<float> tiny_weights(const TinyTensor& tensor) {
  const bool vector = tensor.shape.size() == 1 || tensor.name.ends_with("down_proj_bias");
  const bool norm = vector && tensor.name.ends_with("norm.weight");
  const bool embedding = tensor.name == "model.embed_tokens.weight";
  const double scale = tensor.name.ends_with("gate_up_proj_bias") ? 8.0
                       : tensor.name.ends_with(".sinks")          ? 2.0
                       : vector                                   ? 0.1
                       : embedding                                ? 1.0
                                   : std::sqrt(3.0 / static_cast<double>(tensor.shape.back()));
  int64_t n = 1;
  for (const int64_t d : tensor.shape) n *= d;
  const uint64_t seed = fnv1a64(tensor.name);
  std::vector<float> out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>((norm ? 1.0 : 0.0) + scale * uniform(seed, i));
  }
  for (size_t i = 0; i < out.size() && tensor.shape.size() == 3; ++i) {
    const int exponent = mx_exponent_at(i);
    const float kept = std::ldexp(kMxCodes[mx_code(std::ldexp(out[i], -exponent))], exponent);
    out[i] = out[i] < 0 ? -kept : kept;
  }
  return out;
}

TinyMx tiny_mx(const TinyTensor& tensor) {
  const std::vector<float> w = tiny_weights(tensor);
  TinyMx out;
  for (size_t i = 0; i < w.size(); ++i) {
    const int exponent = mx_exponent_at(i);
    if (i % 32 == 0) out.scales.push_back(static_cast<uint8_t>(127 + exponent));
    const int code = mx_code(std::ldexp(w[i], -exponent));
    out.codes.push_back(static_cast<uint8_t>(code | (w[i] < 0 ? 8 : 0)));
  }
  return out;
}

std::string tiny_config(const TinySizes& s) {
  const Json j = {{"architectures", {"LlamaForCausalLM"}},
                  {"model_type", "llama"},
                  {"vocab_size", s.vocab},
                  {"hidden_size", s.hidden},
                  {"intermediate_size", s.ffn},
                  {"num_hidden_layers", s.layers},
                  {"num_attention_heads", s.heads},
                  {"num_key_value_heads", s.kv_heads},
                  {"hidden_act", "silu"},
                  {"max_position_embeddings", 128},
                  {"rms_norm_eps", 1e-5},
                  {"rope_theta", 10000.0},
                  {"tie_word_embeddings", s.tied},
                  {"bos_token_id", 1},
                  {"eos_token_id", 2}};
  return j.dump(2);
}

std::string tiny_gemma_config(const TinySizes& s) {
  Json j = parse_json(tiny_config(s), "config");
  j["model_type"] = "gemma2";
  j["head_dim"] = static_cast<unsigned>(s.hidden / s.heads);
  j["query_pre_attn_scalar"] = 2;
  j["sliding_window"] = 7u;
  j["attn_logit_softcapping"] = 2.5;
  j["final_logit_softcapping"] = 6;
  return j.dump(2);
}

std::string tiny_moe_config(const TinySizes& s, int experts, int chosen) {
  Json j = parse_json(tiny_config(s), "config");
  j["model_type"] = "mixtral";
  j["num_local_experts"] = experts;
  j["num_experts_per_tok"] = chosen;
  return j.dump(2);
}

std::string tiny_latent_config(const TinySizes& s, const TinyLatent& latent) {
  Json j = parse_json(tiny_config(s), "config");
  j["model_type"] = "deepseek_v3";
  j["kv_lora_rank"] = latent.rank;
  j["q_lora_rank"] = latent.query_rank > 0 ? Json(latent.query_rank) : Json();
  j["qk_nope_head_dim"] = latent.plain;
  j["qk_rope_head_dim"] = latent.rotated;
  j["v_head_dim"] = latent.value;
  j["n_routed_experts"] = 6;
  j["num_experts_per_tok"] = 2;
  j["n_shared_experts"] = 1;
  j["n_group"] = 3;
  j["topk_group"] = 2;
  j["norm_topk_prob"] = true;
  j["routed_scaling_factor"] = 2.5;
  j["moe_intermediate_size"] = s.ffn / 2;
  j["first_k_dense_replace"] = 1;
  return j.dump(2);
}

void write_tiny_checkpoint(const std::string& folder, const std::string& config, DType dtype,
                           const ChangeWeights& change) {
  write_tiny_checkpoint(folder, config, tiny_tensors(parse_json(config, "config")), dtype, change);
}

void write_tiny_checkpoint(const std::string& folder, const std::string& config,
                           std::vector<TinyTensor> tensors, DType dtype,
                           const ChangeWeights& change) {
  std::filesystem::create_directories(folder);
  std::vector<std::vector<std::byte>> contents;
  std::vector<TensorData> data;
  const bool in_mx = parse_json(config, "config").contains("quantization_config");
  for (auto& t : tensors) {
    if (t.shape.size() == 3 && !in_mx) {  // transposed, as transformers has them
      const auto weights = tiny_weights(t);
      const auto n = static_cast<size_t>(t.shape[1]), k = static_cast<size_t>(t.shape[2]);
      std::vector<float> turned(weights.size());
      for (size_t i = 0; i < weights.size(); ++i)
        turned[i / (n * k) * n * k + i % k * n + i / k % n] = weights[i];
      std::vector<std::byte> bytes(turned.size() * info(dtype).bytes);
      from_f32(dtype, turned.data(), bytes.data(), turned.size());
      contents.push_back(std::move(bytes));
      data.push_back({t.name, dtype, {t.shape[0], t.shape[2], t.shape[1]}, contents.back()});
      continue;
    }
    if (t.shape.size() == 3) {
      const TinyMx mx = tiny_mx(t);
      std::vector<std::byte> codes(mx.codes.size() / 2), scales(mx.scales.size());
      for (size_t i = 0; i < codes.size(); ++i)
        codes[i] = std::byte(mx.codes[2 * i] | mx.codes[2 * i + 1] << 4);
      std::ranges::transform(mx.scales, scales.begin(), [](uint8_t v) { return std::byte(v); });
      contents.push_back(std::move(codes));
      const int64_t groups = t.shape[2] / 32;
      data.push_back(
          {t.name + "_blocks", DType::kU8, {t.shape[0], t.shape[1], groups, 16}, contents.back()});
      contents.push_back(std::move(scales));
      data.push_back(
          {t.name + "_scales", DType::kU8, {t.shape[0], t.shape[1], groups}, contents.back()});
      continue;
    }
    auto weights = tiny_weights(t);
    if (change) change(t.name, weights);
    std::vector<std::byte> bytes(weights.size() * info(dtype).bytes);
    from_f32(dtype, weights.data(), bytes.data(), weights.size());
    contents.push_back(std::move(bytes));  // moving keeps where the bytes are
    data.push_back({std::move(t.name), dtype, std::move(t.shape), contents.back()});
  }
  write_safetensors(join_path(folder, "model.safetensors"), std::move(data), {{"format", "pt"}});
  write_file(join_path(folder, "config.json"), as_bytes(config));
}

}  // namespace pith::test
