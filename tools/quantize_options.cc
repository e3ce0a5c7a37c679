#include "tools/quantize_options.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <sstream>

#include "core/error.h"
#include "core/utf8.h"
#include "formats/text_input.h"
#include "runtime/model/patterns.h"
#include "tools/arguments.h"
#include "tools/generation.h"
#include "tools/interrupt.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

std::optional<bool> symmetry(const QuantizeCommand& o) {
  if (o.symmetric) return true;
  if (o.asymmetric) return false;
  return {};
}

int64_t group_of(const std::string& text) {
  if (text.empty()) return -1;
  if (text == "row" || text == "channel" || text == "-1") return 0;
  int64_t g = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), g);
  const bool exists = g == 16 || g == 32 || g == 64 || g == 128;
  if (error != std::errc() || end != text.data() + text.size() || !exists)
    fail(ErrorKind::kUsage, "--group-size {}: choose 16, 32, 64, 128 or row", one_line(text));
  return g;
}

// Error(kUsage) naming the option where a regular expression is none, and for bytes that are not
// UTF-8: the pattern becomes a part of the file's recipe.
void check_pattern(const std::string& option, const std::string& pattern) {
  if (valid_utf8_prefix(pattern) != pattern.size())
    fail(ErrorKind::kUsage, "{} {}: the pattern is not UTF-8", option, one_line(pattern));
  try {
    matches_linear(pattern, {});
  } catch (const Error& e) {
    fail(ErrorKind::kUsage, "{} {}: {}", option, one_line(pattern), e.what());
  }
}

// "PATTERN=TYPE"
std::pair<std::string, Encoding> override_of(const std::string& option, const std::string& text) {
  const size_t eq = text.rfind('=');
  if (eq == std::string::npos || eq == 0)
    fail(ErrorKind::kUsage, "{} {}: PATTERN=TYPE is expected", option, one_line(text));
  check_pattern(option, text.substr(0, eq));
  try {
    return {text.substr(0, eq), encoding_for_type(text.substr(eq + 1))};
  } catch (const Error& e) {
    throw Error(e.kind(), fmt::format("{} {}: {}", option, one_line(text), e.what()));
  }
}

// Without blanks around them, and so without the CR of CRLF.
std::vector<std::string> lines_of(const std::string& text) {
  constexpr const char* kBlank = " \t\r\v\f";
  std::vector<std::string> out;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t begin = std::min(line.find_first_not_of(kBlank), line.size());
    out.push_back(line.substr(begin, line.find_last_not_of(kBlank) + 1 - begin));
  }
  return out;
}

}  // namespace

QuantizeSettings settings_of(const QuantizeCommand& o) {
  QuantizeSettings s;
  s.linears = encoding_for_type(o.type, group_of(o.group), symmetry(o));
  if (o.bf16_scales) s.linears.scale = DType::kBF16;
  if (o.two_level) s.linears.two_level = true;
  s.embedding = encoding_for_type(o.embedding_type);
  s.head = encoding_for_type(o.head_type);
  s.method = parse_method(o.method.empty() ? "rtn" : o.method);
  s.gptq = o.gptq;
  s.gptq.order = !o.no_order;
  s.gptq.search = !o.no_search;
  s.smooth_alpha = o.smooth_alpha;
  s.input = input_for_type(o.type);
  if (o.static_inputs) {
    if (!s.input.rounds() || s.input.scale == InputScale::kBlock128)
      fail(ErrorKind::kUsage, "--static-inputs: type {} has no scale of inputs to fix", o.type);
    s.input.scale = InputScale::kTensor;
  }
  s.ignore = o.ignore;
  for (const auto& pattern : s.ignore) check_pattern("--ignore", pattern);
  if (!o.type_file.empty()) {
    int number = 0;
    for (const auto& line : lines_of(read_text_input(o.type_file, 16 << 20, interrupt()))) {
      ++number;
      if (line.empty() || line[0] == '#') continue;
      s.overrides.push_back(
          override_of(fmt::format("--tensor-type-file {}, line {}:", o.type_file, number), line));
    }
  }
  for (const auto& t : o.tensor_types) s.overrides.push_back(override_of("--tensor-type", t));
  return s;
}

CLI::App* add_quantize_options(CLI::App& app, QuantizeCommand& o) {
  std::string types = "TYPE is one of:\n";
  for (const auto& t : type_help()) types += fmt::format("  {:<5} {}\n", t.name, t.summary);
  types +=
      "  or an encoding by name: int4-g32-asym, int3-row-bf16, int4-g32-s8, nf4-g128, "
      "fp8e4m3-128x128, ...\n";
  types +=
      "  or one of these, sparse: bf16-2:4, int4-g64-2:4 (2 of every 4 weights of a row are kept, "
      "the "
      "others become 0), nf4-g64-4:8, int8-g64-bitmap512 (at most 512 of each row), ...\n";
  types +=
      "  or a scheme of compressed-tensors, in capitals, which means what it means there:\n"
      "  W8A16 W4A16 W4A16_ASYM W8A8 W4A8 FP8 FP8_DYNAMIC FP8_BLOCK MXFP4A16 ...\nMethods:\n";
  for (const auto& m : methods()) types += fmt::format("  {:<11} {}\n", m.name, m.summary);
  for (const auto& m : scalings()) types += fmt::format("  {:<11} {}\n", m.name, m.summary);
  auto* c = app.add_subcommand("quantize", "compress a model into a .pith file");
  c->footer(types);
  constexpr const char *kCommon = "Common", *kMixed = "Mixed precision",
                       *kLayers = "Types of single layers", *kMethods = "GPTQ and SmoothQuant";
  add_files(*c, o);
  c->add_option("TYPE", o.type, "type of the linear layers, see below (default: w4)");
  c->add_option(
       "--method", o.method,
       "how weights are rounded, see below (default: for types of up to 5 bits, gptq on a standard "
       "text (--calib), as long as that takes minutes: up to some 600 M weights; rtn on such text "
       "up to some 5 G; else rtn without text)")
      ->group(kCommon);
  c->add_option(
       "-g,--group-size", o.group,
       "weights that share a scale: 16, 32, 64, 128 or row (default: the type's, 64 for w4)")
      ->type_name("N")
      ->group(kCommon);

  add_calibration_options(*c, o);

  c->add_option("--target-size", o.target_size,
                "choose a type for each layer: the best file of at most this size, as 80M, 1.5G or "
                "512MiB")
      ->type_name("SIZE")
      ->group(kMixed);
  c->add_option("--target-bpw", o.target_bpw,
                "the same for at most so many bits per weight (default: none)")
      ->check(in_range(1, 16))
      ->group(kMixed);
  c->add_option("--max-kl,--target-kl", o.max_kl,
                "the smallest file whose mean KL divergence from the model is about this (default: "
                "none)")
      ->check(in_range(1e-6, 10))
      ->group(kMixed);
  c->add_option("--candidates", o.candidates,
                "a type to choose from, repeated for more (default: trellis codes of 2, 3 and 4 "
                "bits, w5 and w6 with and without zero points, and w8)")
      ->type_name("TYPE")
      ->group(kMixed);
  c->add_option("--costs", o.costs, "keep what the choices cost in this file, for the next size")
      ->type_name("FILE")
      ->group(kMixed);
  c->add_option("--plan-out", o.plan_out, "write the chosen types, for --tensor-type-file")
      ->type_name("FILE")
      ->group(kMixed);

  auto* sym = c->add_flag("--sym", o.symmetric, "symmetric: without zero points")->group(kLayers);
  c->add_flag("--asym", o.asymmetric, "asymmetric: with zero points")
      ->excludes(sym)
      ->group(kLayers);
  c->add_flag("--bf16-scales", o.bf16_scales, "scales in bf16 rather than f16")->group(kLayers);
  c->add_flag("--two-level-scales", o.two_level,
              "8-bit scales of groups under one 16-bit scale a row")
      ->group(kLayers);
  c->add_option("--embedding-type,--token-embedding-type", o.embedding_type,
                "type of the embedding")
      ->group(kLayers);
  c->add_option("--head-type,--output-tensor-type", o.head_type,
                "type of the output head (lm_head) where it is not tied to the embedding")
      ->group(kLayers);
  c->add_option("--ignore", o.ignore,
                "layers that are not compressed: a name, a role (down), a glob or re:REGEX")
      ->type_name("PATTERN")
      ->group(kLayers);
  c->add_option("--tensor-type", o.tensor_types, "another type for some layers, as down=w8")
      ->type_name("PATTERN=TYPE")
      ->group(kLayers);
  c->add_option("--tensor-type-file", o.type_file, "lines PATTERN=TYPE, as --plan-out writes them")
      ->type_name("FILE")
      ->group(kLayers);
  c->add_flag("--static-inputs", o.static_inputs,
              "w8a8, fp8_dynamic: one constant activation scale per layer, from the calibration "
              "text (default: one scale per token)")
      ->group(kLayers);

  c->add_flag("--rotate", o.rotate,
              "rotate the model first (QuaRot), so that no channel stands out; a tied head becomes "
              "a weight of its own")
      ->group(kMethods);
  c->add_option("--damp-percent", o.gptq.damping,
                "gptq: added to the diagonal of the Hessian, as a share of its mean: 0.3 is 30 %")
      ->check(in_range(0, 10))
      ->group(kMethods);
  c->add_option(
       "--shrink", o.gptq.shrink,
       "gptq: how far the Hessian is moved towards its diagonal: correlations carry over to "
       "other text less than sizes; 0: not")
      ->check(in_range(0, 1))
      ->group(kMethods);
  c->add_option("--refine", o.gptq.refine, "gptq: rounds of refinement after the sweep")
      ->check(in_range(0, 100))
      ->group(kMethods);
  c->add_option("--correct-inputs", o.gptq.correct_inputs,
                "gptq: make up for errors of earlier layers as far as held-out text says, at most "
                "this share of the way; 0: not")
      ->check(in_range(0, 1))
      ->group(kMethods);
  c->add_flag("--no-order", o.no_order,
              "gptq: columns in their order, not by activation (no desc_act)")
      ->group(kMethods);
  c->add_flag("--no-search", o.no_search,
              "gptq: scales from the range of each group, not by search for the least error")
      ->group(kMethods);
  c->add_flag("--static-groups", o.gptq.static_groups, "gptq: scales from the original weights")
      ->group(kMethods);
  c->add_option("--smooth-alpha", o.smooth_alpha,
                "smoothquant: how much of an outlier moves into the weights (default: by search)")
      ->check(in_range(0, 1))
      ->group(kMethods);
  add_output_options(*c, o);
  return c;
}

}  // namespace pith::tools
