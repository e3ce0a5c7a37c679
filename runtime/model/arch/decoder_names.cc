// Where checkpoints of decoder-only families have each linear and vector of a spec.

#include <charconv>

#include "core/error.h"
#include "formats/printable.h"
#include "runtime/model/arch/decoder.h"

namespace pith {
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

TensorSlice slice_of_head(const proto::Attention& a, const LinearInfo& info) {
  const int64_t plain = plain_dims(a), first = info.head * (plain + a.latent().value_dim());
  TensorSlice slice;
  slice.row = info.role == LinearRole::kValueUp ? first + plain : first;
  slice.transposed = info.role == LinearRole::kKeyUp;
  return slice;
}

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
