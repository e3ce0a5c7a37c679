// Measures low-rank factors and residuals: perplexity and KL divergence of chains of
// passes, each beside its bytes.
//
//   lowrank_quality MODEL CALIBRATION EVALUATION CHAIN...
//
// A chain is passes joined by "+": svd=SHARE, svd-llm=SHARE (of the parameters), svd-llm=rank:RANK,
// svd-llm=budget:SHARE (of all, ranks by choose_ranks), residual=RANK, residual8=RANK (factors in
// int8-g64), plain-residual=RANK, or a type (w3, int3-g64, ...) by GPTQ. The text for calibration is
// cut into 16 windows of 512 tokens, that for evaluation into windows of 2048, of which 2 are read;
// WINDOWS, LENGTH, READ, DAMPING, SHRINK and CORRECT in the environment change that.

#include <unistd.h>
#include <cstdio>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "core/file.h"
#include "lowrank/factorize_pass.h"
#include "lowrank/residual_pass.h"
#include "lowrank/spectra.h"
#include "quant/quantize_pass.h"
#include "runtime/compress/driver.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/eval/evaluate.h"

namespace pith {
namespace {

double setting(const char* name, double otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtod(text, nullptr);
}

RankOverrides ranks_for(double share, const SpectraRequest& request, Executor& executor) {
  const auto curves = measure_spectra(request, executor);
  double all = 0;
  for (const auto& c : curves) all += static_cast<double>(c.n * c.k);
  return choose_ranks(curves, static_cast<int64_t>(share * all)).ranks;
}

std::unique_ptr<Pass> pass_of(const std::string& text, const SpectraRequest& request,
                              Executor& executor) {
  const size_t equals = text.find('=');
  const std::string name = text.substr(0, equals),
                    value = equals == std::string::npos ? "" : text.substr(equals + 1);
  InputOptions inputs;
  inputs.gram.damping = setting("DAMPING", inputs.gram.damping);
  inputs.gram.shrink = setting("SHRINK", inputs.gram.shrink);
  inputs.correct_inputs = setting("CORRECT", inputs.correct_inputs);
  if (name == "svd" || name == "svd-llm") {
    FactorizeSettings s{.method = parse_factorize_method(name), .inputs = inputs};
    if (value.starts_with("rank:")) {
      s.rank = std::stoll(value.substr(5));
    } else if (value.starts_with("budget:")) {
      s.overrides = ranks_for(std::stod(value.substr(7)), request, executor);
    } else {
      s.keep_params = std::stod(value);
    }
    return make_factorize_pass(s);
  }
  if (name == "residual" || name == "residual8" || name == "plain-residual") {
    ResidualSettings s{
        .rank = std::stoll(value), .whiten = name != "plain-residual", .inputs = inputs};
    if (name == "residual8") s.factors = Encoding::integer(8, 64);
    return make_residual_pass(s);
  }
  QuantizeSettings q{.linears = encoding_for_type(name), .method = parse_method("gptq")};
  const Encoding f16 = Encoding::dense(DType::kF16);
  q.embedding = q.head = f16;
  return make_quantize_pass(q);
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == '+') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

int run(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "lowrank_quality MODEL CALIBRATION EVALUATION CHAIN...\n");
    return 2;
  }
  const auto source = open_model(argv[1]);
  const Model base = load_model(*source);
  const auto tokenizer = make_tokenizer(source->tokenizer());
  const auto executor = make_cpu_executor();
  const auto context = static_cast<int64_t>(source->spec().context());
  auto windows = make_windows(parse_protocol("text", context), *tokenizer,
                              read_text_file(argv[3], uint64_t{1} << 28), base.spec.bos_token());
  windows.resize(std::min(windows.size(), static_cast<size_t>(setting("READ", 2))));
  // Windows for calibration are spread evenly over their text.
  const auto length = static_cast<int64_t>(setting("LENGTH", 512)),
             count = static_cast<int64_t>(setting("WINDOWS", 16));
  const auto all =
      make_windows(parse_protocol("text-" + std::to_string(length), context), *tokenizer,
                   read_text_file(argv[2], uint64_t{1} << 28), base.spec.bos_token());
  std::vector<std::vector<int32_t>> calibration;
  for (int64_t i = 0; i < count; ++i)
    calibration.push_back(all[static_cast<size_t>(i * std::ssize(all) / count)].tokens);
  const std::string output = join_path("/tmp", "lowrank_quality." + std::to_string(getpid()));
  for (int i = 4; i < argc; ++i) {
    Passes passes;
    for (const auto& part : split(argv[i]))
      passes.push_back(pass_of(part, {.source = *source, .windows = calibration}, *executor));
    CompressOptions options;
    options.output = output;
    options.max_fallbacks = 1 << 20;
    options.calibration = calibration;
    const auto report = compress(*source, passes, options);
    const auto packed = open_model(output);
    uint64_t bytes = 0, parameters = 0, dense = 0;
    for (const auto& info : linears_of(packed->spec())) {
      if (info.layer < 0) continue;
      const LinearForm form = packed->form(info);
      bytes += encoded_bytes(form, info.n, info.k);
      dense += static_cast<uint64_t>(info.n * info.k);
      for (const auto& t : form.terms) {
        parameters +=
            static_cast<uint64_t>(t.rank > 0 ? t.rank * (info.n + info.k) : info.n * info.k);
      }
    }
    const KlResult r = evaluate_kl(*executor, base, load_model(*packed), windows);
    std::printf(
        "%-28s ppl %.4f -> %.4f (+%.4f)  KL %.5f  same %.4f  block bytes %llu  parameters %.4f\n",
        argv[i], r.base.perplexity, r.candidate.perplexity,
        r.candidate.perplexity - r.base.perplexity, r.kl_mean, r.same_top,
        static_cast<unsigned long long>(bytes),
        static_cast<double>(parameters) / static_cast<double>(dense));
    for (const auto& f : report.fallbacks) std::printf("  %s\n", f.c_str());
    std::fflush(stdout);
    remove_file(output);
  }
  return 0;
}

}  // namespace
}  // namespace pith

int main(int argc, char** argv) {
  try {
    return pith::run(argc, argv);
  } catch (const pith::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
