// Measures pruning: the perplexity of a model before and after it, by method. JSON to standard
// output, one object a line.
//
//   prune_quality MODEL CALIB TEXT PROTOCOL WINDOWS STEPS...
//
// CALIB is a text (its first 16 windows of 512 tokens) or "self" (as many that the model writes);
// WINDOWS of TEXT under PROTOCOL are evaluated, 0: all. A step is a run, as words of
// METHOD:SPARSITY[:refine=N][:damping=D][:shrink=S][:within=matrix][:as=sparse|mask], or such a word and
// a type that gptq rounds to behind it: "sparsegpt:2:4:as=mask+int4-g64-2:4".

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "prune/prune_pass.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "runtime/compress/self_text.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"

namespace {

using namespace pith;

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == at) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

Passes passes_of(const std::string& step) {
  const auto steps = split(step, '+');
  auto words = split(steps[0], ':');
  PruneSettings s{.method = &parse_prune_method(words.at(0))};
  size_t next = 2;
  std::string target = words.at(1);
  if (words.size() > 2 && words[2].find('=') == words[2].npos) target += ":" + words[next++];
  s.target = parse_prune_target(target);
  for (; next < words.size(); ++next) {
    const auto setting = split(words[next], '=');
    const std::string &name = setting.at(0), &value = setting.at(1);
    if (name == "refine") s.refine = std::stoi(value);
    if (name == "damping") s.damping.damping = std::stod(value);
    if (name == "shrink") s.damping.shrink = std::stod(value);
    if (name == "within" && value == "matrix") s.within = PruneWithin::kMatrix;
    if (name == "as") s.as = value == "mask" ? PrunedAs::kMask : PrunedAs::kSparse;
  }
  Passes passes;
  passes.push_back(make_prune_pass(s));
  if (steps.size() > 1) {
    passes.push_back(make_quantize_pass(
        {.linears = encoding_for_type(steps[1]), .method = parse_method("gptq")}));
  }
  return passes;
}

void run(int argc, char** argv) {
  if (argc < 7) fail(ErrorKind::kUsage, "MODEL CALIB TEXT PROTOCOL WINDOWS STEPS...");
  const auto source = open_model(argv[1]);
  const auto tokenizer = load_tokenizer(*source);
  const Model base = load_model(*source);
  const auto executor = make_cpu_executor();
  const auto context = static_cast<int64_t>(base.spec.context());
  constexpr int64_t kWindows = 16, kLength = 512;
  std::vector<std::vector<int32_t>> calibration;
  if (std::string(argv[2]) == "self") {
    calibration = write_windows(*executor, base,
                                {.count = kWindows,
                                 .length = std::min(context, kLength),
                                 .stops = stop_tokens(base.spec, *tokenizer),
                                 .openings = {}});
  } else {
    const auto all = make_windows(parse_protocol("gptq-512", context), *tokenizer,
                                  read_text_file(argv[2], 1 << 28), base.spec.bos_token());
    for (const auto& w : all) {
      if (std::ssize(calibration) < kWindows) calibration.push_back(w.tokens);
    }
  }
  auto windows = make_windows(parse_protocol(argv[4], context), *tokenizer,
                              read_text_file(argv[3], 1 << 28), base.spec.bos_token());
  if (const auto count = static_cast<size_t>(std::stoi(argv[5]));
      count > 0 && count < windows.size())
    windows.resize(count);
  const std::string out =
      std::string(std::getenv("TMPDIR") ? std::getenv("TMPDIR") : "/tmp") + "/prune_quality.pith";
  for (int i = 6; i < argc; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const Passes passes = passes_of(argv[i]);
    const CompressReport report = compress(
        *source, passes, {.output = out, .calibration = calibration, .executor = executor.get()});
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const auto result = open_model(out);
    const KlResult r = evaluate_kl(*executor, base, load_model(*result), windows);
    std::printf(
        "{\"step\": \"%s\", \"base\": %.4f, \"perplexity\": %.4f, \"increase\": %.4f, \"kl\": "
        "%.5f, "
        "\"seconds\": %.1f, \"bytes\": %llu}\n",
        argv[i], r.base.perplexity, r.candidate.perplexity,
        r.candidate.perplexity - r.base.perplexity, r.kl_mean, seconds,
        static_cast<unsigned long long>(report.file_bytes));
    std::fflush(stdout);
    remove_file(out);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
  } catch (const pith::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return exit_code(e.kind());
  }
}
