#include "tools/evaluation.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/utf8.h"
#include "formats/printable.h"
#include "runtime/compress/fingerprint.h"
#include "tools/arguments.h"
#include "tools/terminal.h"

namespace pith::tools {

void TextOptions::add_to(CLI::App& command) {
  command
      .add_option(
          "-f,--text", text,
          "the text, UTF-8, .gz too; - is standard input, pipes are read as well; .jsonl: a "
          "conversation a line, {\"messages\": [...]}, in the model's chat template")
      ->required()
      ->type_name("FILE");
  command
      .add_option("--protocol", protocol,
                  "how the text is taken: text (as it is, every token scored), gptq-2048 "
                  "(WikiText-2's rows), llama-512 (llama.cpp), paragraph; other windows alike: "
                  "text-512 (default: text, windows of 2048 tokens or the model's context)")
      ->group(kTextGroup);
  command
      .add_option("--stride", stride,
                  "protocol text: tokens that a window scores, behind others as context (default: "
                  "all of its window)")
      ->check(in_range(1, 1 << 30))
      ->group(kTextGroup);
  command.add_option("--max-windows,--chunks", max_windows, "only the first windows; -1: all")
      ->check(CLI::Validator(
          [](std::string& given) {
            const bool zero = given.find_first_of("123456789") == std::string::npos;
            return zero ? given + ": must be 1 or more, or -1 for all" : "";
          },
          "", "windows"))
      ->check(in_range(-1, 1 << 30))
      ->group(kTextGroup);
}

std::string EvaluationText::description() const {
  return fmt::format("{}: {}; {}", protocol.name(), protocol.summary(),
                     counted(std::ssize(windows), "window"));
}

EvaluationText read_text(const TextOptions& o) {
  return {.text = read_input_text(o.text), .protocol = {}, .tokenizer = {}, .windows = {}};
}

namespace {

std::vector<Window> conversation_windows(const EvaluationText& t, const ModelSource& source,
                                         int32_t bos) {
  const auto tokens = tokens_of(t.text, source, *t.tokenizer);
  std::span<const int32_t> rest = tokens;
  if (!t.tokenizer->adds_bos()) return text_windows(t.protocol, rest, -1);
  if (rest.front() == bos) rest = rest.subspan(1);  // the template's; the window has its own
  return text_windows(t.protocol, rest, bos);
}

}  // namespace

void make_text_windows(const TextOptions& o, const ModelSource& source, uint64_t context,
                       EvaluationText* to) {
  to->protocol =
      parse_protocol(o.protocol.empty() ? "text" : o.protocol, static_cast<int64_t>(context));
  if (o.stride > 0) {
    if (to->protocol.kind != Protocol::Kind::kText)
      fail(ErrorKind::kUsage, "--stride goes with protocol text, not {}", to->protocol.name());
    to->protocol.stride = o.stride;
  }
  if (!to->text.is_plain() && to->protocol.kind != Protocol::Kind::kText) {
    fail(ErrorKind::kUsage,
         "{}: protocol {} takes a plain text, and these are conversations: --protocol text", o.text,
         to->protocol.name());
  }
  if (to->protocol.kind == Protocol::Kind::kGptq && !looks_like_wikitext(to->text.text)) {
    warn(fmt::format(
        "{} joins the lines by blank lines, as the rows of WikiText-2 are; this text has none of "
        "its headings. --protocol text takes it as it is",
        to->protocol.name()));
  }
  to->tokenizer = load_tokenizer_for(source);
  const int32_t bos = to->tokenizer->bos().value_or(source.spec().bos_token());
  to->windows = to->text.is_plain() ? make_windows(to->protocol, *to->tokenizer, to->text.text, bos)
                                    : conversation_windows(*to, source, bos);
  if (o.max_windows >= 0 && to->windows.size() > static_cast<size_t>(o.max_windows))
    to->windows.resize(static_cast<size_t>(o.max_windows));
  check_windows(to->windows, source.spec().vocab());
}

OpenedModel open_for_evaluation(const ModelOptions& o, const std::string& path) {
  ModelOptions at = o;
  at.model = path;
  return {.path = path, .source = open_model_for(at), .model = {}};
}

double bits_per_weight(const ModelSource& source) {
  uint64_t bytes = 0, weights = 0;
  for (const auto& info : linears_of(source.spec())) {
    bytes += encoded_bytes(source.form(info), info.n, info.k);
    weights += static_cast<uint64_t>(info.n * info.k);
  }
  return weights ? 8 * static_cast<double>(bytes) / static_cast<double>(weights) : 0;
}

uint64_t bytes_on_disk(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    const auto size = fs::file_size(path, error);
    return error ? 0 : size;
  }
  uint64_t total = 0;
  for (const auto& e : fs::directory_iterator(path, error))
    total += e.is_regular_file(error) ? e.file_size(error) : 0;
  return total;
}

namespace {

// The first `bytes` of a text, cut at a whole character.
std::string_view beginning(std::string_view text, size_t bytes) {
  text = text.substr(0, bytes);
  return text.substr(0, valid_utf8_prefix(text));
}

void check_same_tokens(const Tokenizer& base, const OpenedModel& candidate,
                       const EvaluationText& text) {
  const auto other = load_tokenizer(*candidate.source);
  const auto sample = beginning(text.text.text, 1 << 16);
  const auto a = base.encode(sample, {.add_special = false}),
             b = other->encode(sample, {.add_special = false});
  if (a == b) return;
  int32_t differ = 0, first = -1;
  const int32_t n = std::min(base.vocab_size(), other->vocab_size());
  for (int32_t id = 0; id < n; ++id) {
    if (base.decode({{id}}, false) == other->decode({{id}}, false)) continue;
    if (++differ == 1) first = id;
  }
  if (differ > n / 10) {
    fail(ErrorKind::kUsage,
         "{}: its vocabulary is another than the base's: token {} is {} there and {} here",
         candidate.path, first, printable(base.token_text(first)),
         printable(other->token_text(first)));
  }
  const auto at = std::ranges::mismatch(a, b).in1 - a.begin();
  warn(
      fmt::format("{}: its tokenizer splits this text otherwise than the base's, from token {} "
                  "on; all models get the base's tokens",
                  candidate.path, at));
}

}  // namespace

void check_comparable(const ModelSource& base, const OpenedModel& candidate,
                      const EvaluationText& text, bool one_tokenizer) {
  const auto& spec = candidate.source->spec();
  if (spec.vocab() != base.spec().vocab()) {
    fail(ErrorKind::kUsage, "vocabularies of {} and {} tokens cannot be compared: {} and {}",
         base.spec().vocab(), spec.vocab(), base.path(), candidate.path);
  }
  if (!one_tokenizer && !candidate.source->tokenizer().empty())
    check_same_tokens(*text.tokenizer, candidate, text);
}

void warn_exchanged(const ModelSource& base, const OpenedModel& candidate) {
  // A packed file records its source, whatever the bits of that.
  const auto made_from = [](const ModelSource& file, const ModelSource& source) {
    return file.manifest() && file.manifest()->provenance().source_hash() == source.hash();
  };
  if (made_from(*candidate.source, base)) return;
  if (made_from(base, *candidate.source)) {
    warn(fmt::format("the base was made from {}: are they exchanged?", candidate.path));
    return;
  }
  const double of_base = bits_per_weight(base), of_candidate = bits_per_weight(*candidate.source);
  if (of_base < of_candidate - 0.01) {
    warn(
        fmt::format("the base has fewer bits per weight ({:.2f}) than {} ({:.2f}): are they "
                    "exchanged?",
                    of_base, candidate.path, of_candidate));
  }
}

void warn_same_text(const ModelSource& source, uint64_t text_hash) {
  const auto* m = source.manifest();
  if (m == nullptr) return;
  const auto& made = m->provenance();
  if (made.calibration_hash() == text_hash ||
      made.recipe().find(text_hash_of_recipe(text_hash)) != std::string::npos) {
    warn(
        "this is the text that the model was calibrated on: the figures flatter it; another text "
        "tells more");
  }
}

Json json_of(const KlResult& r) {
  return {{"kl_mean", r.kl_mean},
          {"kl_standard_error", r.kl_standard_error},
          {"kl_median", r.kl_median},
          {"kl_p99", r.kl_p99},
          {"kl_p99_standard_error", r.kl_p99_error},
          {"kl_p999", r.kl_p999},
          {"kl_p999_standard_error", r.kl_p999_error},
          {"kl_max", r.kl_max},
          {"same_top", r.same_top},
          {"rms_probability_change", r.rms_probability_change},
          {"perplexity", r.candidate.perplexity},
          {"base_perplexity", r.base.perplexity},
          {"ppl_ratio", r.ppl_ratio},
          {"ppl_ratio_standard_error", r.ppl_ratio_error},
          {"tokens", r.tokens}};
}

}  // namespace pith::tools
