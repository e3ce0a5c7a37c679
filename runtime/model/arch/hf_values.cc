#include "runtime/model/arch/hf_values.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "formats/printable.h"
#include "runtime/model/arch/hf_config.h"

namespace pith {
namespace {

enum class Type : uint8_t {
  kSize,  // at least 1
  kSizeOrNone,
  kCount,  // at least 0
  kCountOrNone,
  kPositive,  // a number
  kPositiveOrNone,
  kNotNegative,
  kFlag,
  kText,
  kTexts,   // a list, or none
  kCounts,  // a list, or none
  kIds,     // a number, a list of them, or none: of tokens, any integers
};
const char* description(Type type) {
  constexpr const char* kWords[] = {"a positive integer",
                                    "a positive integer or null",
                                    "an integer of 0 or more",
                                    "an integer of 0 or more or null",
                                    "a positive number",
                                    "a positive number or null",
                                    "a number of 0 or more",
                                    "true or false",
                                    "a string",
                                    "a list of strings",
                                    "a list of integers of 0 or more",
                                    "an integer or a list of them"};
  return kWords[static_cast<size_t>(type)];
}

struct KeyType {
  const char* key;
  Type type;
};
constexpr KeyType kTypes[] = {
    {"vocab_size", Type::kSize},
    {"hidden_size", Type::kSize},
    {"intermediate_size", Type::kSize},
    {"num_hidden_layers", Type::kCount},
    {"num_attention_heads", Type::kSize},
    {"num_key_value_heads", Type::kSizeOrNone},
    {"head_dim", Type::kSizeOrNone},
    {"max_position_embeddings", Type::kSize},
    {"original_max_position_embeddings", Type::kSize},
    {"hidden_act", Type::kText},
    {"hidden_activation", Type::kText},
    {"rms_norm_eps", Type::kNotNegative},
    {"tie_word_embeddings", Type::kFlag},
    {"bos_token_id", Type::kIds},
    {"eos_token_id", Type::kIds},
    {"attention_bias", Type::kFlag},
    {"mlp_bias", Type::kFlag},
    {"qkv_bias", Type::kFlag},
    {"use_qk_norm", Type::kFlag},
    {"use_bidirectional_attention", Type::kFlag},
    {"rope_theta", Type::kPositive},
    {"rope_local_base_freq", Type::kPositive},
    {"rope_interleave", Type::kFlag},
    {"partial_rotary_factor", Type::kNotNegative},
    {"sliding_window", Type::kCountOrNone},
    {"sliding_window_pattern", Type::kSize},
    {"use_sliding_window", Type::kFlag},
    {"max_window_layers", Type::kCount},
    {"layer_types", Type::kTexts},
    {"query_pre_attn_scalar", Type::kPositive},
    {"final_logit_softcapping", Type::kPositiveOrNone},
    {"attn_logit_softcapping", Type::kPositiveOrNone},
    {"swiglu_limit", Type::kPositive},
    {"swiglu_alpha", Type::kPositive},
    {"kv_lora_rank", Type::kSize},
    {"q_lora_rank", Type::kSizeOrNone},
    {"qk_nope_head_dim", Type::kSize},
    {"qk_rope_head_dim", Type::kSize},
    {"v_head_dim", Type::kSize},
    {"num_experts", Type::kCount},
    {"num_local_experts", Type::kSize},
    {"n_routed_experts", Type::kCountOrNone},
    {"n_shared_experts", Type::kCountOrNone},
    {"num_experts_per_tok", Type::kSizeOrNone},
    {"moe_intermediate_size", Type::kSize},
    {"shared_expert_intermediate_size", Type::kCount},
    {"decoder_sparse_step", Type::kSize},
    {"mlp_only_layers", Type::kCounts},
    {"first_k_dense_replace", Type::kCount},
    {"n_group", Type::kSizeOrNone},
    {"topk_group", Type::kSizeOrNone},
    {"topk_method", Type::kText},
    {"norm_topk_prob", Type::kFlag},
    {"routed_scaling_factor", Type::kPositive},
};

bool is_list(const Json& v, bool (*good)(const Json&)) {
  return v.is_null() || (v.is_array() && std::ranges::all_of(v, good));
}
bool has_type(const Json& v, Type type) {
  constexpr auto kAnyInteger = [](const Json& i) { return i.is_number_integer(); };
  switch (type) {
    case Type::kSize:
      return is_integer(v, 1);
    case Type::kSizeOrNone:
      return v.is_null() || is_integer(v, 1);
    case Type::kCount:
      return is_integer(v, 0);
    case Type::kCountOrNone:
      return v.is_null() || is_integer(v, 0);
    case Type::kPositive:
      return is_number(v, false);
    case Type::kPositiveOrNone:
      return v.is_null() || is_number(v, false);
    case Type::kNotNegative:
      return is_number(v, true);
    case Type::kFlag:
      return v.is_boolean();
    case Type::kText:
      return v.is_string();
    case Type::kTexts:
      return is_list(v, [](const Json& i) { return i.is_string(); });
    case Type::kCounts:
      return is_list(v, [](const Json& i) { return is_integer(i, 0); });
    case Type::kIds:
      return v.is_number_integer() || is_list(v, kAnyInteger);
  }
  return false;
}

}  // namespace

// dump() makes null of numbers that are not finite.
std::string shown(const Json& v) {
  if (v.is_number_float() && !std::isfinite(v.get<double>())) {
    const double d = v.get<double>();
    return std::isnan(d) ? "NaN" : d > 0 ? "Infinity" : "-Infinity";
  }
  if (v.is_array()) return v.empty() ? "an empty list" : "a list";
  if (v.is_object()) return "an object";
  return v.is_string() ? printable(v.get<std::string>()) : v.dump();
}
void wrong(const std::string& key, const char* wanted, const Json& v) {
  fail(ErrorKind::kCorrupt, "{}: \"{}\" should be {}, it is {}", kConfig, key, wanted, shown(v));
}

bool is_integer(const Json& v, int64_t least) {
  return v.is_number_unsigned()
             ? v.get<uint64_t>() >= static_cast<uint64_t>(std::max<int64_t>(least, 0))
             : v.is_number_integer() && v.get<int64_t>() >= least;
}
bool is_number(const Json& v, bool zero) {
  if (!v.is_number()) return false;
  const double d = v.get<double>();
  return std::isfinite(d) && (zero ? d >= 0 : d > 0);
}

Json typed(const std::string& key, const Json& value) {
  const auto* const row =
      std::ranges::find_if(kTypes, [&](const KeyType& t) { return key == t.key; });
  if (row == std::end(kTypes)) return value;
  if (row->type == Type::kFlag && value.is_null()) return false;
  if (!has_type(value, row->type)) wrong(key, description(row->type), value);
  const bool size = row->type < Type::kPositive && !value.is_null();
  return size ? Json(value.get<uint64_t>()) : value;
}

Json object_of(const Json& config, const char* key) {
  const Json* const v = json_find(config, key);
  if (v == nullptr) return nullptr;
  if (!v->is_object()) wrong(key, "an object", *v);
  return *v;
}

}  // namespace pith
