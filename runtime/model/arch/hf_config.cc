#include "runtime/model/arch/hf_config.h"

#include <algorithm>

#include "core/error.h"
#include "formats/printable.h"
#include "runtime/model/arch/hf_values.h"
#include "runtime/model/spec.h"

namespace pith {
namespace {

// ---- Keys that each class reads, and their defaults -------------------------------------------

struct Family {
  const char* name;
  const char* defaults;  // beside those of kEvery
  // A name that the class maps to one of the above, and which wins where both are there.
  const char* alias = nullptr;
  const char* aliased = nullptr;
};

constexpr const char* kEvery = R"({
  "num_key_value_heads": null, "head_dim": null, "hidden_act": "silu", "rms_norm_eps": 1e-6,
  "tie_word_embeddings": false, "rope_theta": 10000.0, "bos_token_id": null, "eos_token_id": null})";

constexpr const char* kDeepseekV3 = R"({
  "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61,
  "num_attention_heads": 128, "max_position_embeddings": 4096, "bos_token_id": 0,
  "eos_token_id": 1, "attention_bias": false, "rope_interleave": true, "kv_lora_rank": 512,
  "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
  "moe_intermediate_size": 2048, "n_shared_experts": 1, "n_routed_experts": 256, "n_group": 8,
  "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "norm_topk_prob": true,
  "routed_scaling_factor": 2.5})";

constexpr const char* kGemma3 = R"({
  "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
  "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
  "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 131072, "bos_token_id": 2,
  "eos_token_id": 1, "tie_word_embeddings": true, "attention_bias": false,
  "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6,
  "layer_types": null, "final_logit_softcapping": null, "attn_logit_softcapping": null,
  "use_bidirectional_attention": false, "rope_theta": 1000000.0,
  "rope_local_base_freq": 10000.0})";

constexpr const char* kMistral = R"({
  "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
  "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
  "bos_token_id": 1, "eos_token_id": 2, "sliding_window": 4096, "layer_types": null})";

constexpr Family kFamilies[] = {
    {"llama", R"({
  "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
  "num_attention_heads": 32, "max_position_embeddings": 2048, "bos_token_id": 1,
  "eos_token_id": 2, "attention_bias": false, "mlp_bias": false})"},
    {"llama2c", R"({
  "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
  "num_attention_heads": 32, "max_position_embeddings": 2048})"},
    {"mistral", kMistral},
    {"ministral", kMistral},
    {"mixtral", R"({
  "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
  "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
  "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "sliding_window": null,
  "num_experts_per_tok": 2, "num_local_experts": 8, "rope_theta": 1000000.0})",
     "num_experts", "num_local_experts"},
    {"qwen2", R"({
  "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
  "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 32768,
  "use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 28,
  "layer_types": null})"},
    {"qwen3", R"({
  "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
  "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128,
  "max_position_embeddings": 32768, "attention_bias": false, "use_sliding_window": false,
  "sliding_window": 4096, "max_window_layers": 28, "layer_types": null})"},
    {"qwen2_moe", R"({
  "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24,
  "num_attention_heads": 16, "num_key_value_heads": 16, "max_position_embeddings": 32768,
  "use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 28,
  "layer_types": null, "qkv_bias": true, "decoder_sparse_step": 1, "moe_intermediate_size": 1408,
  "shared_expert_intermediate_size": 5632, "num_experts_per_tok": 4, "num_experts": 60,
  "norm_topk_prob": false, "mlp_only_layers": null})"},
    {"qwen3_moe", R"({
  "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 24,
  "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 32768,
  "attention_bias": false, "use_sliding_window": false, "sliding_window": 4096,
  "decoder_sparse_step": 1, "moe_intermediate_size": 768, "num_experts_per_tok": 8,
  "num_experts": 128, "norm_topk_prob": false, "mlp_only_layers": null})",
     "num_local_experts", "num_experts"},
    {"phi3", R"({
  "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
  "num_attention_heads": 32, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
  "bos_token_id": 1, "eos_token_id": 32000, "sliding_window": null,
  "original_max_position_embeddings": 4096, "partial_rotary_factor": 1.0})"},
    {"gemma", R"({
  "vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28,
  "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256,
  "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 8192, "bos_token_id": 2,
  "eos_token_id": 1, "tie_word_embeddings": true, "attention_bias": false,
  "use_bidirectional_attention": false})"},
    {"gemma2", R"({
  "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
  "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
  "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 8192, "bos_token_id": 2,
  "eos_token_id": 1, "tie_word_embeddings": true, "attention_bias": false,
  "query_pre_attn_scalar": 256, "sliding_window": 4096, "layer_types": null,
  "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0,
  "use_bidirectional_attention": false})"},
    {"gemma3_text", kGemma3},
    {"gemma3", kGemma3},
    {"gpt_oss", R"({
  "vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 36,
  "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
  "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "attention_bias": true,
  "sliding_window": 128, "layer_types": null, "num_local_experts": 128, "num_experts_per_tok": 4,
  "swiglu_limit": 7.0, "swiglu_alpha": 1.702, "rope_theta": 150000.0,
  "rope_parameters": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                      "truncate": false, "original_max_position_embeddings": 4096}})",
     "num_experts", "num_local_experts"},
    {"deepseek_v2", R"({
  "vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
  "num_attention_heads": 32, "max_position_embeddings": 2048, "bos_token_id": 1,
  "eos_token_id": 2, "attention_bias": false, "mlp_bias": false, "kv_lora_rank": 512,
  "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
  "moe_intermediate_size": 1407, "n_shared_experts": 2, "n_routed_experts": 64, "n_group": null,
  "topk_group": null, "topk_method": "greedy", "num_experts_per_tok": null,
  "first_k_dense_replace": 0, "routed_scaling_factor": 1.0})",
     "num_experts", "n_routed_experts"},
    {"deepseek_v3", kDeepseekV3, "num_local_experts", "n_routed_experts"},
    {"kimi_k2", kDeepseekV3, "num_local_experts", "n_routed_experts"},
    {"glm4_moe", R"({
  "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 10944, "num_hidden_layers": 46,
  "num_attention_heads": 96, "num_key_value_heads": 8, "max_position_embeddings": 131072,
  "rms_norm_eps": 1e-5, "attention_bias": false, "use_qk_norm": false,
  "partial_rotary_factor": 0.5, "moe_intermediate_size": 1408, "n_shared_experts": 1,
  "n_routed_experts": 128, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 8,
  "first_k_dense_replace": 1, "norm_topk_prob": true, "routed_scaling_factor": 1.0})",
     "num_local_experts", "n_routed_experts"},
};

// Keys whose types depend on which of them are used (hf_rope.cc).
constexpr std::string_view kRopeKeys[] = {"rope_parameters", "rope_theta", "rope_local_base_freq",
                                          "partial_rotary_factor",
                                          "original_max_position_embeddings"};

// ---- Keys that no class of ours reads ---------------------------------------------------------

// Keys that change the model where a class reads them, and the value with which they do nothing:
// none, false or 0, for a factor 1.
struct Foreign {
  const char* key;
  bool factor = false;
};
constexpr Foreign kForeign[] = {
    {"attn_logit_softcapping"},
    {"final_logit_softcapping"},
    {"query_pre_attn_scalar"},
    {"use_bidirectional_attention"},
    {"use_qk_norm"},
    {"qk_norm"},
    {"qk_layernorm"},
    {"clip_qkv"},
    {"lm_head_bias"},
    {"swiglu_limit"},
    {"attention_chunk_size"},
    {"attn_temperature_tuning"},
    {"no_rope_layers"},
    {"alibi"},
    {"index_topk"},
    {"cross_attention_layers"},
    {"per_layer_config"},
    {"mlp_layer_types"},
    {"parallel_attn"},
    {"use_parallel_residual"},
    {"hidden_size_per_layer_input"},
    {"num_kv_shared_layers"},
    {"embedding_multiplier", true},
    {"residual_multiplier", true},
    {"attention_multiplier", true},
    {"logits_scaling", true},
    {"logit_scale", true},
    {"scale_emb", true},
    {"full_attn_mod", true},
    {"interpolate_factor", true},
};
// Keys that transformers ignores in files of a family whose class does not have them.
constexpr const char* kPassedOver[] = {"attention_bias", "mlp_bias", "norm_topk_prob"};

bool does_nothing(const Json& v, bool factor) {
  if (v.is_number()) return v == 0 || (factor && v == 1);
  return v.is_null() || v == false || v.empty();
}

void check_foreign(const Json& config, const Json& known, std::vector<std::string>* notes) {
  for (const Foreign& f : kForeign) {
    if (known.contains(f.key) || !config.contains(f.key)) continue;
    if (!does_nothing(config[f.key], f.factor))
      fail(ErrorKind::kUnsupported, "{}: \"{}\" is {}: that is not supported in this family",
           kConfig, f.key, shown(config[f.key]));
  }
  for (const char* const key : kPassedOver) {
    if (!known.contains(key) && config.contains(key) && config[key] == true) pass_over(key, notes);
  }
}

void check_layer_types(const Json& config, const Json& known, std::vector<std::string>* notes) {
  if (!config.contains("layer_types")) return;
  const Json types = typed("layer_types", config["layer_types"]);
  if (types.is_null()) return;
  if (types.size() != known["num_hidden_layers"].get<uint64_t>())
    fail(ErrorKind::kCorrupt, "{}: {} layer_types for {} layers", kConfig, types.size(),
         known["num_hidden_layers"].get<uint64_t>());
  bool windows = false;
  for (const Json& t : types) {
    windows = windows || t == "sliding_attention";
    if (t != "full_attention" && t != "sliding_attention")
      fail(ErrorKind::kUnsupported, "{}: layers of type {} are not supported", kConfig,
           printable(t.get<std::string>()));
  }
  if (windows && !known.contains("layer_types")) pass_over("layer_types", notes);
}

// ---- Tokens -----------------------------------------------------------------------------------

class Tokens {
 public:
  Tokens(uint64_t vocab, std::vector<std::string>* notes) : vocab_(vocab), notes_(notes) {}

  bool is_token(const char* key, const Json& id) {
    if (is_integer(id, 0) && id.get<uint64_t>() < vocab_) return true;
    notes_->push_back(fmt::format("{}: {} {} is not in the vocabulary of {}: ignored", kConfig, key,
                                  shown(id), vocab_));
    return false;
  }
  void add_stops(const Json& ids, Json* to) {
    if (ids.is_array()) {
      if (ids.size() > kMaxStopTokens)
        fail(ErrorKind::kCorrupt, "{}: more than {} ids in eos_token_id", kConfig, kMaxStopTokens);
      for (const Json& id : ids) add_stops(id, to);
    } else if (!ids.is_null() && is_token("eos_token_id", ids) &&
               std::ranges::find(*to, ids) == to->end()) {
      to->push_back(ids);
    }
  }

 private:
  uint64_t vocab_;
  std::vector<std::string>* notes_;
};

// The text model's part of a multimodal configuration. The EOS tokens and whether the head is tied
// come from outside of it.
Json text_part(const Json& config, const std::string& whole) {
  const bool images = whole == "gemma3";
  if (images ? !config.contains("text_config") : json_find(config, "text_config") == nullptr)
    return config;
  if (!images)
    fail(ErrorKind::kUnsupported, "{}: a text_config in a model of type {}", kConfig, whole);
  Json text = object_of(config, "text_config");
  if (text.is_null()) text = Json::object();
  const std::string family = json_string(text, "model_type", kConfig, "gemma3_text");
  if (!family.starts_with(whole))
    fail(ErrorKind::kCorrupt, "{}: {} as the text model of {}", kConfig, printable(family), whole);
  for (const char* const key : {"bos_token_id", "eos_token_id"}) {
    if (json_find(config, key) != nullptr) text[key] = config[key];
  }
  text["model_type"] = family;
  text["tie_word_embeddings"] =
      config.contains("tie_word_embeddings") ? config["tie_word_embeddings"] : Json(true);
  return text;
}

}  // namespace

void pass_over(const char* key, std::vector<std::string>* notes) {
  std::string note =
      fmt::format("{}: {} is not used, as in transformers' class of this family", kConfig, key);
  if (std::ranges::find(*notes, note) == notes->end()) notes->push_back(std::move(note));
}

Json read_hf_config(const Checkpoint& checkpoint, std::vector<std::string>* notes) {
  const Json config =
      text_part(checkpoint.config, json_string(checkpoint.config, "model_type", kConfig));
  const std::string family = json_string(config, "model_type", kConfig);
  const auto* const row =
      std::ranges::find_if(kFamilies, [&](const Family& f) { return family == f.name; });
  if (row == std::end(kFamilies))
    fail(ErrorKind::kUnsupported, "{}: nothing is known of models of type {}", kConfig,
         printable(family));
  Json known = Json::parse(kEvery);
  known.update(Json::parse(row->defaults));
  known["model_type"] = family;
  for (const auto& item : known.items()) {
    const std::string& key = item.key();
    if (std::ranges::find(kRopeKeys, key) != std::end(kRopeKeys)) {
      if (key != "rope_parameters" && config.contains(key)) item.value() = config[key];
      continue;  // of which type they must be depends on which of them are used
    }
    const bool by_alias =
        row->alias != nullptr && key == row->aliased && config.contains(row->alias);
    if (key == "max_position_embeddings" && json_find(config, key.c_str()) == nullptr) {
      notes->push_back(fmt::format("{}: no {}: {}, as in transformers' class of this family",
                                   kConfig, key, item.value().dump()));
      continue;
    }
    if (by_alias || config.contains(key))
      item.value() = typed(key, config[by_alias ? row->alias : key]);
  }
  check_foreign(config, known, notes);
  check_layer_types(config, known, notes);
  known["rope_parameters"] = rope_parameters(config, known, notes);
  if (known.value("sliding_window", Json()) == 0 && known.value("use_sliding_window", true))
    notes->push_back(fmt::format("{}: a sliding_window of 0 is taken for none", kConfig));
  Tokens tokens(known["vocab_size"], notes);
  Json& bos = known["bos_token_id"];
  if (bos.is_array()) wrong("bos_token_id", "an integer", bos);
  if (bos.is_null() || !tokens.is_token("bos_token_id", bos)) bos = -1;
  Json stops = Json::array();
  tokens.add_stops(known["eos_token_id"], &stops);
  if (checkpoint.generation_config.is_object() &&
      checkpoint.generation_config.contains("eos_token_id")) {
    tokens.add_stops(typed("eos_token_id", checkpoint.generation_config["eos_token_id"]), &stops);
  }
  known["eos_token_id"] = stops;
  return known;
}

}  // namespace pith
