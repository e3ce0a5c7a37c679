#include "tools/default_method.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "quant/gptq.h"
#include "tools/calibration_text.h"

namespace pith::tools {
namespace {

// About twelve minutes of two cores with AVX-512, and models of up to some 600 M weights.
constexpr double kMaxOperations = 6e13;

bool gains_from_gptq(const QuantizeCommand& o) {
  Encoding e = encoding_for_type(o.type);
  if (o.two_level) e.two_level = true;
  return gains_from_gptq(e);
}

// The share of its text, where it takes one, that the model writes.
double share_written(const QuantizeCommand& o) {
  return written_share(calibration_inputs(o.calibration.empty() ? o.standard_text : o.calibration));
}
bool writes_text(const QuantizeCommand& o) { return share_written(o) > 0; }

double operations_of(const QuantizeCommand& o, const proto::ModelSpec& spec, bool gptq,
                     TextSize text) {
  text.length = std::min(text.length, static_cast<int64_t>(spec.context()));
  const bool paths = encoding_for_type(o.type).kind == EncodingKind::kTcq;
  return operations_of(spec, {.gptq = gptq, .paths = paths}, text, share_written(o));
}

}  // namespace

void choose_method(QuantizeCommand& o, const proto::ModelSpec& spec, bool fits) {
  if (!o.method.empty()) return;
  o.method = "rtn";
  o.method_is_chosen = true;
  const bool no_text = !o.calibration.empty() && calibration_inputs(o.calibration).empty();
  if (o.mixed() || no_text || !gains_from_gptq(o)) return;
  const bool open = o.calibration.empty();
  if (writes_text(o) && !fits) {
    if (!open || o.standard_text.size() < 2) return;
    o.calibration = {"builtin"};
  }
  const TextSize given = {o.nsamples, o.seqlen};
  const auto take = [&](bool gptq, TextSize text) {
    text.length = std::min(text.length, static_cast<int64_t>(spec.context()));
    if (o.windows_given) text = given;
    if (operations_of(o, spec, gptq, text) > kMaxOperations) return false;
    o.nsamples = text.windows;
    o.seqlen = text.length;
    return true;
  };
  if (take(true, kGptqText)) {
    o.method = "gptq";
    // An expert that no token came to is rounded without data, and reported: nobody asked for gptq.
    o.max_fallbacks = std::numeric_limits<int>::max();
  } else if ((open || writes_text(o)) && take(false, kRtnText)) {
    if (o.calibration.empty()) o.calibration = o.standard_text;
  } else if (open) {
    o.calibration.clear();
  }
}

std::string how_to_get_closer(const QuantizeCommand& o, const proto::ModelSpec& spec) {
  if (!o.method_is_chosen) return "";
  if (o.mixed()) return "to get closer at this size: --method gptq";
  if (!gains_from_gptq(o) || o.windows_given) return "";
  const QuantizeCommand usual;
  const TextSize text = o.method == "gptq" ? TextSize{usual.nsamples, usual.seqlen} : kGptqText;
  const double seconds = seconds_for(operations_of(o, spec, true, text));
  return fmt::format("to get closer: --method gptq --nsamples {} --seqlen {}{}", text.windows,
                     text.length, o.executor().cuda ? "" : ", " + about_time(seconds));
}

}  // namespace pith::tools
