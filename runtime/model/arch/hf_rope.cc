// The parameters of RoPE in one form, whether a file has rope_theta and rope_scaling or
// rope_parameters.

#include "core/error.h"
#include "runtime/model/arch/hf_config.h"
#include "runtime/model/arch/hf_values.h"

namespace pith {
namespace {

constexpr const char* kLayerTypes[] = {"full_attention", "sliding_attention"};

// Completes the parameters of one kind of layer. `beside` may replace
// original_max_position_embeddings.
void complete_rope(const Json& beside, const Json& known, Json* p) {
  Json type = p->contains("rope_type") ? (*p)["rope_type"] : p->value("type", Json("default"));
  if (!type.is_string()) wrong("rope_type", "a string", type);
  // Phi-3 called its own scaling so before it had a name.
  if (known["model_type"] == "phi3" && (type == "su" || type == "yarn")) type = "longrope";
  (*p)["rope_type"] = type;
  (*p)["rope_theta"] = typed("rope_theta", (*p)["rope_theta"]);
  if (type != "yarn" && type != "llama3" && type != "longrope") return;
  const char* const key = "original_max_position_embeddings";
  if (!p->contains(key)) (*p)[key] = known["max_position_embeddings"];
  if (json_find(beside, key) != nullptr) (*p)[key] = beside[key];
  (*p)[key] = typed(key, (*p)[key]);
}

// The part of a head that RoPE rotates, for families whose class reads it; other families rotate
// the whole head, and transformers fails where there is a scaling as well.
void complete_part(const Json& config, const Json& known, Json* p,
                   std::vector<std::string>* notes) {
  const char* const key = "partial_rotary_factor";
  const bool read = known.contains(key);
  Json part = p->contains(key)       ? (*p)[key]
              : config.contains(key) ? config[key]
                                     : known.value(key, Json());
  if (part.is_null() && read && p->contains(key)) typed(key, part);
  p->erase(key);
  if (part.is_null()) return;
  part = typed(key, part);
  if (read) {
    (*p)[key] = part;
  } else if (part != 1) {
    if ((*p)["rope_type"] != "default")
      fail(ErrorKind::kUnsupported, "{}: \"{}\" is {}: that is not supported in this family",
           kConfig, key, shown(part));
    pass_over(key, notes);
  }
}

// RoPE by type of layer: before transformers 5, layers with windows had rope_local_base_freq and no
// scaling.
Json rope_by_type(const Json& config, const Json& known, std::vector<std::string>* notes) {
  const Json parameters = object_of(config, "rope_parameters"),
             scaling = object_of(config, "rope_scaling");
  Json out;
  for (const char* const type : kLayerTypes) {
    Json own = parameters.is_object() ? object_of(parameters, type) : Json();
    if (own.is_null()) own = Json::object();
    const bool local = type == kLayerTypes[1];
    if (!local && scaling.is_object()) own.update(scaling);
    if (!own.contains("rope_theta"))
      own["rope_theta"] = known[local ? "rope_local_base_freq" : "rope_theta"];
    own.erase("truncate");  // looked for one level above, where it is not
    complete_rope(Json::object(), known, &own);
    complete_part(config, known, &own, notes);
    out[type] = own;
  }
  return out;
}

// rope_scaling replaces rope_parameters as a whole; members that are missing in it come from the
// configuration.
Json rope_of(const Json& config, const Json& known, std::vector<std::string>* notes) {
  Json p = object_of(config, "rope_parameters");
  if (p.is_null()) p = known.value("rope_parameters", Json::object());
  if (const Json scaling = object_of(config, "rope_scaling");
      scaling.is_object() && !scaling.empty())
    p = scaling;
  for (const char* const type : kLayerTypes) {
    if (p.contains(type))
      fail(ErrorKind::kUnsupported, "{}: rope_parameters by type of layer in this family", kConfig);
  }
  if (!p.contains("rope_theta")) p["rope_theta"] = known["rope_theta"];
  const char* const original = "original_max_position_embeddings";
  complete_rope(config.contains(original) ? config : known, known, &p);
  complete_part(config, known, &p, notes);
  return p;
}

}  // namespace

Json rope_parameters(const Json& config, const Json& known, std::vector<std::string>* notes) {
  return known.contains("rope_local_base_freq") ? rope_by_type(config, known, notes)
                                                : rope_of(config, known, notes);
}

const Json* rope_number(const Json& parameters, const char* key) {
  const Json* const v = json_find(parameters, key);
  if (v != nullptr && !is_number(*v, true)) wrong(key, "a number of 0 or more", *v);
  return v;
}

}  // namespace pith
