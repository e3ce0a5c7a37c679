#include "tools/generation.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "tools/arguments.h"
#include "tools/terminal.h"

namespace pith::tools {
namespace {

constexpr const char *kText = "Text", *kSampling = "Sampling";

}  // namespace

std::vector<Setting> settings_of(GenerateOptions& o) {
  auto& s = o.sampling;
  constexpr double kMany = 1 << 30;
  return {
      {"-n,--n-predict,--max-tokens", "tokens at most; -1: until the context is full", kText, -1,
       kMany, false, &o.max_tokens},
      {"--temp,--temperature", "temperature; 0: the likeliest token always", kSampling, 0, 100,
       false, &s.temperature},
      {"--top-k", "only the k likeliest tokens; 0: all", kSampling, -1, kMany, false, &s.top_k},
      {"--top-p", "only the likeliest tokens that have this share together", kSampling, 0, 1, true,
       &s.top_p},
      {"--min-p", "only tokens with this share of the likeliest", kSampling, 0, 1, false, &s.min_p},
      {"--repeat-penalty", "above 1: against repetition", kSampling, 0.01, 100, false,
       &s.repetition_penalty},
  };
}

std::string Setting::name() const {
  const std::string_view all = names;
  const size_t begin = all.find("--") + 2;
  return std::string(all.substr(begin, all.find(',', begin) - begin));
}

bool Setting::has_name(const std::string& word) const {
  return !word.empty() &&
         ("," + std::string(names) + ",").find("-" + word + ",") != std::string::npos;
}

std::string Setting::text() const {
  return std::visit([](const auto* v) { return fmt::format("{}", *v); }, value);
}

CLI::Validator Setting::range() const {
  const CLI::Validator inside = in_range(low, high);
  return {[*this, inside](std::string& text) {
            std::string wrong = inside(text);
            // 0.00 and 0e5 have no digit but 0.
            const std::string_view mantissa =
                std::string_view(text).substr(0, text.find_first_of("eE"));
            if (above && (!wrong.empty() || mantissa.find_first_of("123456789") == text.npos))
              wrong = fmt::format("{}: must be above {:.10g} and at most {:.10g}", text, low, high);
            return wrong;
          },
          "", "range"};
}

void GenerationOptions::add_to(CLI::App& c) {
  ModelOptions::add_to(c, "MODEL", kModelHelp);
  for (const auto& setting : settings_of(generate)) {
    std::visit(
        [&](auto* value) {
          c.add_option(setting.names, *value, setting.help)
              ->check(setting.range())
              ->group(setting.group);
        },
        setting.value);
  }
  c.add_option("-s,--seed", seed, "the same seed gives the same text; -1: another each time")
      ->type_name("N")
      ->group(kSampling);
  c.add_option("-r,--stop", generate.stop, "text that ends the answer and is not shown")
      ->type_name("TEXT")
      ->group(kText);
  c.add_flag("--ignore-eos", generate.ignore_stop_tokens, "go on after tokens that end an answer")
      ->group(kText);
  c.add_option("-c,--ctx-size", engine.context,
               "tokens of context (default: the model's, at most 4096)")
      ->check(in_range(8, 1 << 24))
      ->group(kModelGroup);
  c.add_option("--kv,--cache-type", cache, kCacheHelp)->type_name("TYPE")->group(kModelGroup);
  ExecutorOptions::add_to(c);
  Common::add_to(c);
}

void GenerationOptions::prepare(const CLI::App& command) {
  apply();
  auto& s = generate.sampling;
  for (const auto& stop : generate.stop) {
    if (stop.empty()) fail(ErrorKind::kUsage, "--stop: an empty text ends nothing");
  }
  for (const char* name : {"--top-k", "--top-p", "--min-p", "--seed"}) {
    if (s.temperature == 0 && command.count(name) > 0) {
      warn(
          fmt::format("{} has no effect at temperature 0, where the likeliest token is taken: "
                      "--temp",
                      name));
    }
  }
  s.top_k = std::max<int64_t>(0, s.top_k);
  s.seed = parse_seed(seed, &random_seed);
  check_sampling(s);
  engine.executor = executor();
  if (!cache.empty()) engine.cache = parse_kv_types(cache, engine.cache);
}

int64_t GenerationOptions::context_of(const ModelSource& source) const {
  const auto own = static_cast<int64_t>(source.spec().context());
  if (engine.context > own) {
    warn(
        fmt::format("--ctx-size {}: the model was made for {} tokens; what it writes beyond them "
                    "can be nonsense",
                    engine.context, own));
  }
  return engine.context > 0 ? engine.context : std::min<int64_t>(own, 4096);
}

uint64_t parse_seed(const std::string& text, bool* random) {
  *random = text == "-1";
  uint64_t seed = 0;
  if (*random) {
    uint32_t drawn = 0;
    if (::getrandom(&drawn, sizeof(drawn), 0) != sizeof(drawn))
      fail(ErrorKind::kIo, "the system gives no random numbers");
    return drawn;
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc() || end != text.data() + text.size()) {
    fail(ErrorKind::kUsage, "--seed {}: must be a whole number{}, or -1 for a random one",
         one_line(text),
         error == std::errc::result_out_of_range ? fmt::format(" of at most {}", UINT64_MAX) : "");
  }
  return seed;
}

void check_prompt_length(size_t tokens, int64_t context, const ModelSource& source) {
  if (static_cast<int64_t>(tokens) <= context) return;
  const auto own = static_cast<int64_t>(source.spec().context());
  const std::string remedy =
      own > context
          ? fmt::format("raise it with --ctx-size (the model was made for {}), or shorten the text",
                        own)
          : "shorten the text";
  fail(ErrorKind::kUsage, "the prompt has {} tokens, the context {}: {}", tokens, context, remedy);
}

namespace {

// Tokens per second; the first generated token comes from the prefill.
double prefill_rate(const GenerateResult& r) {
  return r.prefill_seconds > 0 ? static_cast<double>(r.prefill_tokens) / r.prefill_seconds : 0.0;
}
double decode_rate(const GenerateResult& r) {
  const auto decoded = std::max<size_t>(1, r.tokens.size()) - 1;
  return r.decode_seconds > 0 ? static_cast<double>(decoded) / r.decode_seconds : 0.0;
}

}  // namespace

Json to_json(const GenerationOptions& o, const GenerateResult& r) {
  return {{"model", o.model},
          {"text", r.text},
          {"finish", r.finish},
          {"seed", o.generate.sampling.seed},
          {"prompt_tokens", r.prefill_tokens},
          {"generated_tokens", r.tokens.size()},
          {"prefill_tokens_per_s", prefill_rate(r)},
          {"decode_tokens_per_s", decode_rate(r)}};
}

std::string statistics(const GenerateResult& r) {
  return fmt::format("{} prompt tokens at {:.1f}/s, {} generated at {:.1f}/s, ended by {}",
                     r.prefill_tokens, prefill_rate(r), r.tokens.size(), decode_rate(r), r.finish);
}

ChatFormat chat_format_of(const ModelSource& source, const Tokenizer& tokenizer) {
  const std::string& text = source.tokenizer().chat_template;
  if (text.empty()) {
    fail(ErrorKind::kUsage, "{}: no chat template; use pith run without --chat",
         one_line(source.path()));
  }
  return {text, tokenizer};
}

}  // namespace pith::tools
