#include "tools/quantize_options.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <sstream>

#include "core/error.h"
#include "core/file.h"

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
  if (error != std::errc() || end != text.data() + text.size() || g < 0) {
    fail(ErrorKind::kUsage, "--group-size {}: 16, 32, 64, 128 or row", text);
  }
  return g;
}

}  // namespace

uint64_t size_of(const char* option, const std::string& text) {
  if (text.empty()) return 0;
  double v = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  const std::string unit(end, text.data() + text.size());
  const double by = unit.empty()  ? 1
                    : unit == "k" ? 1e3
                    : unit == "M" ? 1e6
                    : unit == "G" ? 1e9
                                  : 0;
  if (error != std::errc() || by == 0 || !(v > 0) || v * by > 1e18)
    fail(ErrorKind::kUsage, "{} {}: a number of bytes, or of k, M or G", option, text);
  return static_cast<uint64_t>(v * by);
}

QuantizeSettings settings_of(const QuantizeCommand& o) {
  QuantizeSettings s;
  s.linears = encoding_for_type(o.type, group_of(o.group), symmetry(o));
  if (o.bf16_scales) s.linears.scale = DType::kBF16;
  if (o.two_level) s.linears.two_level = true;
  s.embedding = encoding_for_type(o.embedding_type);
  s.head = encoding_for_type(o.head_type);
  s.method = o.method;
  s.gptq = {.damping = o.damping,
            .order = !o.no_order,
            .search = !o.no_search,
            .static_groups = o.static_groups,
            .refine = o.refine,
            .correct_inputs = o.correct_inputs};
  s.smooth_alpha = o.smooth_alpha;
  s.input = input_for_type(o.type);
  if (o.static_inputs) {
    if (!s.input.rounds() || s.input.scale == InputScale::kBlock128)
      fail(ErrorKind::kUsage, "--static-inputs: type {} has no scale of inputs to fix", o.type);
    s.input.scale = InputScale::kTensor;
  }
  s.ignore = o.ignore;
  std::vector<std::string> types;
  if (!o.type_file.empty()) {
    std::istringstream lines(read_text_file(o.type_file, 16 << 20));
    for (std::string line; std::getline(lines, line);) {
      if (!line.empty() && line[0] != '#') types.push_back(line);
    }
  }
  types.insert(types.end(), o.tensor_types.begin(), o.tensor_types.end());
  for (const auto& t : types) {
    const size_t eq = t.rfind('=');
    if (eq == std::string::npos || eq == 0)
      fail(ErrorKind::kUsage, "--tensor-type {}: PATTERN=TYPE is expected", t);
    s.overrides.emplace_back(t.substr(0, eq), encoding_for_type(t.substr(eq + 1)));
  }
  return s;
}

CLI::App* add_quantize_options(CLI::App& app, QuantizeCommand& o) {
  std::string types = "TYPE is one of:\n";
  for (const auto& t : type_help()) types += fmt::format("  {:<5} {}\n", t.name, t.summary);
  types +=
      "  or an encoding by name: int4-g32-asym, int3-row-bf16, int4-g32-s8, nf4-g128, "
      "fp8e4m3-128x128, ...\n";
  types +=
      "  or a scheme of compressed-tensors, in capitals, which means what it means there:\n"
      "  W8A16 W4A16 W4A16_ASYM W8A8 W4A8 FP8 FP8_DYNAMIC FP8_BLOCK MXFP4A16 ...\nMethods:\n";
  for (const auto& m : methods()) types += fmt::format("  {:<11} {}\n", m.name, m.summary);
  for (const auto& m : scalings()) types += fmt::format("  {:<11} {}\n", m.name, m.summary);
  auto* c = app.add_subcommand("quantize", "quantize a checkpoint into a packed file");
  c->footer(types);
  o.ModelOptions::add_to(*c, "IN", "an HF folder, a GGUF file, a llama2.c file or a .pith file");
  c->add_option("OUT", o.output, "the .pith file to write")->required()->type_name("FILE");
  c->add_option("TYPE", o.type, "see below (default: w4)");
  c->add_option("--method", o.method, "see below (default: rtn)");
  c->add_option("-g,--group-size", o.group, "weights that share a scale: 16 32 64 128 row")
      ->type_name("N");
  auto* sym = c->add_flag("--sym", o.symmetric, "no zero points");
  c->add_flag("--asym", o.asymmetric, "zero points")->excludes(sym);
  c->add_flag("--bf16-scales", o.bf16_scales, "scales in bf16 rather than f16");
  c->add_flag("--two-level-scales", o.two_level,
              "8-bit scales of groups under one 16-bit scale a row");
  c->add_option("--embedding-type,--token-embedding-type", o.embedding_type,
                "type of the embedding (default: w8)");
  c->add_option("--head-type,--output-tensor-type", o.head_type,
                "type of the output head where it is not tied (default: w8)");
  c->add_option("--ignore", o.ignore,
                "layers that stay as they are: a name, a role (down), a glob or re:REGEX")
      ->type_name("PATTERN");
  c->add_option("--tensor-type", o.tensor_types, "another type for some layers")
      ->type_name("PATTERN=TYPE");
  c->add_option("--calib", o.calibration,
                "text to calibrate on; \"self\": the model writes it (what "
                "gptq and awq do where nothing is said), \"none\"")
      ->type_name("FILE");
  c->add_option("--nsamples", o.nsamples, "calibration windows (default: 64)")
      ->check(CLI::Range(1, 1 << 20));
  c->add_option("--seqlen", o.seqlen, "tokens of a calibration window (default: 1024)")
      ->check(CLI::Range(8, 1 << 20));
  c->add_flag("--rotate", o.rotate,
              "rotate the model first, so that no channel stands out; a tied head is untied");
  c->add_option("--damp-percent", o.damping,
                "gptq: added to the diagonal, as a share of its mean (default: 0.3)")
      ->check(CLI::Range(0.0, 10.0));
  c->add_option("--refine", o.refine, "gptq: rounds of refinement after the sweep (default: 2)")
      ->check(CLI::Range(0, 100));
  c->add_option("--smooth-alpha", o.smooth_alpha,
                "smoothquant: how much of an outlier moves into the weights (default: by search)")
      ->check(CLI::Range(0.0, 1.0));
  c->add_option("--correct-inputs", o.correct_inputs,
                "gptq: make up for errors of earlier layers as far as held-out text says, at most "
                "this share of the way; 0: not (default: 1)")
      ->check(CLI::Range(0.0, 1.0));
  c->add_flag("--static-inputs", o.static_inputs,
              "w8a8, fp8_dynamic: one constant scale of inputs a layer, from the calibration text");
  c->add_option("--target-size", o.target_size,
                "mixed precision: the best file of at most this size (bytes, or with k M G)")
      ->type_name("SIZE");
  c->add_option("--target-bpw", o.target_bpw, "mixed precision: of at most so many bits per weight")
      ->check(CLI::Range(1.0, 16.0));
  c->add_option("--max-kl", o.max_kl,
                "mixed precision: the smallest file whose mean KL divergence is about this")
      ->check(CLI::Range(1e-6, 10.0));
  c->add_option(
       "--candidates", o.candidates,
       "types that mixed precision chooses from (default: w2 to w8 in groups of 64 with and "
       "without zero points, w4 in groups of 32 and 128)")
      ->type_name("TYPE");
  c->add_option("--memory", o.memory,
                "calibration states that would take more go to a file beside the output")
      ->type_name("SIZE");
  c->add_option("--tensor-type-file", o.type_file, "lines PATTERN=TYPE, as --plan-out writes them");
  c->add_option("--plan-out", o.plan_out, "write the chosen types as such lines");
  c->add_option("--costs", o.costs,
                "mixed precision: keep what the choices cost in this file, for the next size")
      ->type_name("FILE");
  c->add_flag("--no-order", o.no_order, "gptq: columns as they come, not by importance");
  c->add_flag("--no-search", o.no_search, "gptq: scales from the range of each group");
  c->add_flag("--static-groups", o.static_groups, "gptq: scales from the original weights");
  c->add_flag("--no-sequential", o.no_sequential,
              "collect the inputs of a sublayer before any of it is compressed");
  c->add_flag("--no-propagate", o.no_propagate, "calibrate on inputs of the uncompressed model");
  c->add_option("--max-fallbacks", o.max_fallbacks,
                "layers that may get less than was asked for (default: 0)")
      ->check(CLI::Range(0, 1 << 20));
  c->add_option(
       "--device", o.device,
       "where the model is run on the calibration text, and where gptq rounds: cpu or cuda "
       "(default: cpu)")
      ->check(CLI::IsMember({"cpu", "cuda"}));
  c->add_option("--seed", o.seed, "recorded; makes random choices the same");
  c->add_flag("--restart", o.restart, "discard what an interrupted run left, and begin anew");
  c->add_flag("--dry-run", o.dry_run,
              "print the plan of every layer, of memory and disk, and stop");
  o.Common::add_to(*c);
  return c;
}

}  // namespace pith::tools
