#include "tools/quantize_warnings.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/file.h"
#include "quant/scaling.h"
#include "runtime/model/patterns.h"
#include "tools/evaluation.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

bool is_method(const std::string& name) {
  const auto is = [&](const auto& m) { return name == m.name; };
  return std::ranges::any_of(methods(), is) || std::ranges::any_of(scalings(), is);
}

bool rounds_by_gptq(const QuantizeSettings& s) { return s.method.rounding->stage != nullptr; }

struct Useless {
  bool given;
  const char* option;
  const char* why;
};

}  // namespace

void require_no_type_as_output(const std::string& output) {
  if (output.find_first_of("/.") != std::string::npos) return;
  if (!is_type_name(output) && !is_method(output)) return;
  fail(ErrorKind::kUsage,
       "OUT is \"{}\", the name of a {}: pith quantize IN OUT TYPE (./{} writes a file of that "
       "name)",
       output, is_method(output) ? "method" : "type", output);
}

void require_one_target(const QuantizeCommand& o) {
  const int targets = !o.target_size.empty() + (o.target_bpw > 0) + (o.max_kl > 0);
  if (targets > 1) {
    fail(ErrorKind::kUsage,
         "--target-size, --target-bpw and --max-kl are different goals: give one of them");
  }
  const auto require_weights_only = [&](const char* option, const std::string& type) {
    if (input_for_type(type).rounds() && input_for_type(type) != input_for_type(o.type)) {
      fail(ErrorKind::kUsage, "{} {}: a type that rounds inputs is the TYPE of all layers, or none",
           option, type);
    }
  };
  require_weights_only("--embedding-type", o.embedding_type);
  require_weights_only("--head-type", o.head_type);
  for (const auto& t : o.candidates) require_weights_only("--candidates", t);
  for (const auto& t : o.tensor_types)
    require_weights_only("--tensor-type", t.substr(t.rfind('=') + 1));
}

void warn_of_method(const MethodChoice& asked, const QuantizeSettings& settings, bool has_text) {
  const std::string now = settings.method.name();
  if (now == asked.name()) return;
  std::vector<Encoding> types = {settings.linears};
  for (const auto& o : settings.overrides) types.push_back(o.second);
  const auto type =
      std::ranges::find_if(types, [](const Encoding& e) { return e.kind != EncodingKind::kDense; });
  if (type == types.end()) {
    warn(fmt::format("{} changes nothing for {}: plain rounding{}", asked.name(),
                     to_string(settings.linears), has_text ? "" : ", without a calibration text"));
    return;
  }
  const Method& rounding = *settings.method.rounding;
  const std::string alone = row_method(rounding, *type, has_text);
  const bool could_weigh = row_method(rounding, *type, true) != alone;
  warn(
      fmt::format("gptq does not round {}: {} instead of {}{}", to_string(*type),
                  settings.method.scaling != nullptr ? now : alone, asked.name(),
                  could_weigh && settings.method.scaling == nullptr
                      ? "; it weighs by inputs where there is a text: --calib FILE, or --calib self"
                      : ""));
}

void warn_of_useless_options(const QuantizeCommand& o, const MethodChoice& asked,
                             const QuantizeSettings& settings, const ModelSource& source,
                             bool has_text) {
  const QuantizeCommand unchanged;
  const bool gptq = rounds_by_gptq(settings);
  const auto is_smoothquant = [](const MethodChoice& m) {
    return m.scaling != nullptr && std::string_view(m.scaling->name) == "smoothquant";
  };
  const bool smooths = is_smoothquant(settings.method);
  const bool scales = settings.linears.has_group_scales();
  const char* const not_gptq =
      asked.rounding->stage != nullptr ? "gptq does not round this type" : "the method is not gptq";
  const char* const no_text = "no calibration text is read";
  const char* const not_smoothquant = is_smoothquant(asked)
                                          ? "smoothquant changes nothing for this type"
                                          : "the method is not smoothquant";
  const Useless all[] = {
      {!gptq && o.gptq.damping != unchanged.gptq.damping, "--damp-percent", not_gptq},
      {!gptq && o.gptq.shrink != unchanged.gptq.shrink, "--shrink", not_gptq},
      {!gptq && o.gptq.refine != unchanged.gptq.refine, "--refine", not_gptq},
      {!gptq && o.gptq.correct_inputs != unchanged.gptq.correct_inputs, "--correct-inputs",
       not_gptq},
      {!gptq && o.no_order, "--no-order", not_gptq},
      {!gptq && o.no_search, "--no-search", not_gptq},
      {!gptq && o.gptq.static_groups, "--static-groups", not_gptq},
      {!gptq && o.max_fallbacks != unchanged.max_fallbacks, "--max-fallbacks", not_gptq},
      {o.mixed() && o.type != unchanged.type && !input_for_type(o.type).rounds(), "TYPE",
       "the target chooses the types, among --candidates"},
      {!smooths && o.smooth_alpha != 0, "--smooth-alpha", not_smoothquant},
      {!o.mixed() && !o.candidates.empty(), "--candidates", "no target is given"},
      {!o.mixed() && !o.costs.empty(), "--costs", "no target is given"},
      {source.spec().tied_head() && o.head_type != unchanged.head_type, "--head-type",
       "the head is tied to the embedding: --embedding-type"},
      {!has_text && o.nsamples != unchanged.nsamples, "--nsamples", no_text},
      {!has_text && o.seqlen != unchanged.seqlen, "--seqlen", no_text},
      {!has_text && !o.memory.empty(), "--memory", no_text},
      {!has_text && o.no_sequential, "--no-sequential", no_text},
      {!has_text && o.no_propagate, "--no-propagate", no_text},
      {!has_text && o.device != unchanged.device, "--device", no_text},
      {settings.linears.value_kind() != EncodingKind::kInt && o.symmetric, "--sym",
       "only integers have zero points"},
      {!scales && o.bf16_scales, "--bf16-scales", "the type has no such scales"},
      {!scales && o.two_level, "--two-level-scales", "the type has no such scales"},
  };
  for (const auto& u : all) {
    if (u.given) warn(fmt::format("{} has no effect: {}", u.option, u.why));
  }
  const auto context = static_cast<int64_t>(source.spec().context());
  if (has_text && o.seqlen > context && o.seqlen != unchanged.seqlen)
    warn(fmt::format("--seqlen {} is cut to the model's context of {}", o.seqlen, context));
  const auto infos = linears_of(source.spec());
  const auto matches_none = [&](const std::string& pattern) {
    return pattern != "lm_head" && std::ranges::none_of(infos, [&](const LinearInfo& i) {
             return matches_linear(pattern, i);
           });
  };
  for (const auto& pattern : o.ignore) {
    if (matches_none(pattern))
      warn(fmt::format("--ignore {} matches no layer: pith inspect --tensors lists them", pattern));
  }
  for (const auto& [pattern, e] : settings.overrides) {
    if (matches_none(pattern))
      warn(fmt::format("--tensor-type {}={} matches no layer: pith inspect --tensors lists them",
                       pattern, to_string(e)));
  }
}

void warn_of_choices(const QuantizeCommand& o, const QuantizeSettings& settings,
                     const ModelSource& source, const CompressPlan& plan) {
  // Whoever asks for dense numbers has the model decoded, and means it.
  const bool decodes = settings.linears.kind == EncodingKind::kDense;
  if (const uint64_t input = bytes_on_disk(o.model); plan.output_bytes > input && !decodes) {
    warn(fmt::format("the output ({}) is larger than the input ({}): a narrower TYPE is smaller",
                     human_bytes(plan.output_bytes), human_bytes(input)));
  }
  // A model published in 4 or 8 bits counts as the original: its own source is not available.
  if (!decodes && (source.kind() == "pith" || source.kind() == "gguf")) {
    std::map<std::string, uint64_t> by_type;
    uint64_t narrow = 0, all = 0;
    for (const auto& l : plan.linears) {
      if (l.info.layer < 0) continue;  // tables are often kept in 8 bits
      const auto n = static_cast<uint64_t>(l.info.n * l.info.k);
      all += n;
      if (!l.from.compressed() || l.from.terms == l.to.terms) continue;
      narrow += n;
      by_type[to_string(l.from)] += n;
    }
    if (2 * narrow > all) {
      const auto most =
          std::ranges::max_element(by_type, {}, [](const auto& t) { return t.second; });
      warn(
          fmt::format("{} is quantized already ({}): quantizing it again adds to its error; the "
                      "original checkpoint gives a better file",
                      o.model, most->first));
    }
  }
  if (settings.linears.value_kind() == EncodingKind::kInt && settings.linears.bits == 2 &&
      !rounds_by_gptq(settings)) {
    warn(fmt::format("2 bits with {} lose most of a model: --method gptq keeps more",
                     settings.method.name()));
  }
  for (const char* ending : {".gguf", ".safetensors", ".bin"}) {
    if (o.output.ends_with(ending))
      warn(fmt::format("{} will be a file of pith, whatever its name says", o.output));
  }
}

}  // namespace pith::tools
