// RoPE of decoder-only families, from rope_parameters and from GGUF metadata.

#include <cmath>

#include "core/bytes.h"
#include "core/error.h"
#include "formats/printable.h"
#include "runtime/model/arch/decoder.h"

namespace pith {
namespace {

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

std::vector<float> factors_of_tensor(const Checkpoint& checkpoint, const char* name,
                                     int64_t count) {
  const TensorInfo& t = checkpoint.require(name);
  if (t.shape.size() != 1 || t.shape[0] != count)
    fail(ErrorKind::kCorrupt, "{}: {} does not hold {} factors", checkpoint.path, name, count);
  OwnedWeight w = allocate_weight(t.encoding, count, 1);
  checkpoint.read(t, 0, count, w.planes[0].bytes);
  std::vector<float> values(static_cast<size_t>(count));
  reference_decode(w.weight, 0, count, values.data());
  return values;
}

}  // namespace

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
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

proto::Rope rope_gguf(const Checkpoint& checkpoint, uint64_t context, uint32_t head_dim) {
  const GgufMetadata& g = checkpoint.gguf;
  const std::string family = g.text("general.architecture");
  const auto key = [&](const char* name) { return family + "." + name; };
  proto::Rope r;
  r.set_dims(checked_cast<uint32_t>(g.uint(key("rope.dimension_count"), head_dim),
                                    "rope.dimension_count"));
  r.set_theta(g.number(key("rope.freq_base"), 1e4));
  // A factor without a type is of the linear scaling, one beside the type "none" does nothing, and
  // 0 is none.
  const std::string type = g.text(key("rope.scaling.type"), "linear");
  const double given =
      g.number(key("rope.scaling.factor"), g.number(key("rope.scale_linear"), 1.0));
  const double factor = given == 0 || type == "none" ? 1 : given;
  const double attention = g.number(key("rope.scaling.attn_factor"), 1.0);
  r.set_original_context(g.uint(key("rope.scaling.original_context_length"), context));
  const auto tensor_factors = [&](const char* name, auto add) {
    for (const float v : factors_of_tensor(checkpoint, name, r.dims() / 2))
      add(static_cast<double>(v));
  };
  if (checkpoint.find("rope_freqs.weight") != nullptr) {
    // Llama 3.1 and later: its scaling, worked out.
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
  return r;
}

}  // namespace pith
