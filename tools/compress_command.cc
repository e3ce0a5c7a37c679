#include "tools/compress_command.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "core/error.h"
#include "tools/arguments.h"
#include "tools/generation.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

constexpr const char *kCommon = "Common", *kCalibration = "Calibration", *kOutput = "Output";

}  // namespace

void add_files(CLI::App& command, CompressCommand& o) {
  auto* c = &command;
  c->add_option("IN", o.model, kModelHelp)->required()->type_name("MODEL");
  c->add_option("OUT", o.output, "the .pith file to write")->required()->type_name("FILE");
  c->add_flag("--dry-run", o.dry_run,
              "print the plan of every layer, of memory, disk and time, and stop")
      ->group(kCommon);
}

void add_calibration_options(CLI::App& command, CompressCommand& o) {
  auto* c = &command;
  c->add_option("--calib", o.calibration,
                "text to calibrate on, .jsonl: conversations; self: the model writes it; "
                "builtin: a text that comes with the program; none; "
                "repeated for several, which share the windows by weight (chat.jsonl=2) (default: "
                "self and builtin where the method needs a text, else none)")
      ->type_name("FILE[=WEIGHT]")
      ->group(kCalibration);
  c->add_option("--nsamples", o.nsamples, "calibration windows of all texts")
      ->check(in_range(1, 1 << 20))
      ->group(kCalibration);
  c->add_option("--seqlen", o.seqlen, "tokens of a calibration window")
      ->check(in_range(8, 1 << 20))
      ->group(kCalibration);
  c->add_option("--memory", o.memory,
                "keep at most so much of the activations in memory, the rest in a file beside the "
                "output (default: all)")
      ->type_name("SIZE")
      ->group(kCalibration);
  c->add_flag("--no-sequential", o.no_sequential,
              "collect the activations of a sublayer before any of it is compressed")
      ->group(kCalibration);
  c->add_flag("--no-propagate", o.no_propagate,
              "calibrate on activations of the uncompressed model")
      ->group(kCalibration);
  c->add_option(
       "--device", o.device,
       "where the model is run on the calibration text, and where gptq rounds: cpu or cuda")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->group(kCalibration);
}

void add_output_options(CLI::App& command, CompressCommand& o) {
  auto* c = &command;
  c->add_option("--max-fallbacks", o.max_fallbacks,
                "layers that may be rounded with more damping, or by rtn, where gptq fails "
                "numerically")
      ->check(in_range(0, 1 << 20))
      ->group(kOutput);
  c->add_flag("--restart", o.restart, "discard what an interrupted run left, and begin anew")
      ->group(kOutput);
  c->add_option_function<std::string>(
       "--seed", [&o](const std::string& text) { o.seed = parse_seed(text, &o.random_seed); },
       "of all that is drawn by chance, recorded in the file; -1: another each time, and the same "
       "where an interrupted run goes on (default: 0)")
      ->type_name("N")
      ->group(kOutput);
  c->add_option("--tokenizer", o.tokenizer,
                "tokenizer file (default: the one in the model or beside it)")
      ->type_name("FILE")
      ->group(kOutput);
  c->add_flag("--no-verify", o.no_verify,
              "do not check the checksums of a packed file while loading")
      ->group(kOutput);
  o.Common::add_to(*c);
}

uint64_t size_of(const char* option, const std::string& text) {
  if (text.empty()) return 0;
  double v = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  std::string unit(end, text.data() + text.size());
  while (unit.starts_with(" ")) unit.erase(0, 1);
  double by = 0;
  constexpr std::string_view kLetters = "kmgt";
  const char letter =
      unit.empty() ? '\0' : static_cast<char>(std::tolower(static_cast<unsigned char>(unit[0])));
  if (const size_t power = kLetters.find(letter); letter != '\0' && power < kLetters.size()) {
    const bool binary = unit.size() > 1 && unit[1] == 'i';  // MiB
    by = std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(power + 1));
    unit.erase(0, binary ? 2 : 1);
  }
  if (unit == "B" || unit == "b") unit.clear();
  if (by == 0) by = 1;
  if (error != std::errc() || !unit.empty() || !(v > 0) || !(v * by <= 1e18)) {
    fail(ErrorKind::kUsage, "{} {}: expected a size such as 80M, 1.5G, 512MiB or 80000000", option,
         one_line(text));
  }
  return static_cast<uint64_t>(v * by);
}

}  // namespace pith::tools
