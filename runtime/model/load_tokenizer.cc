#include <algorithm>

#include "core/error.h"
#include "formats/printable.h"
#include "runtime/model/source.h"

namespace pith {
namespace {

// A vocabulary below this share of the embedding's rows gets a warning: padding is far less.
constexpr double kSmallVocabulary = 0.75;

// Neither text, nor the chat template, nor what is added around a text makes this token:
// checkpoints name some (a [PAD], an image) that their embedding has no row for. Whoever makes its
// id all the same, by prompts that may hold special tokens, gets an error from the embedding.
bool is_unreachable(const Tokenizer& tokenizer, int32_t id, std::string_view chat_template) {
  const std::string text = tokenizer.token_text(id);
  if (text.empty()) return true;
  const auto in_template = [&](std::string_view t) {
    return chat_template.find(t) != std::string_view::npos;
  };
  if (!tokenizer.is_special(id) || in_template(text)) return false;
  if (id == tokenizer.bos() && in_template("bos_token")) return false;
  if (id == tokenizer.eos() && in_template("eos_token")) return false;
  const auto around = tokenizer.encode("");
  return std::ranges::find(around, id) == around.end();
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const ModelSource& source,
                                          std::vector<std::string>* notes) {
  const TokenizerFiles files = source.tokenizer();
  auto tokenizer = make_tokenizer(files);
  const auto vocab = static_cast<int64_t>(source.spec().vocab());
  int64_t beyond = 0;
  std::string first;
  for (int64_t id = vocab; id < tokenizer->vocab_size(); ++id) {
    const auto i = static_cast<int32_t>(id);
    const std::string text = tokenizer->token_text(i);
    if (!is_unreachable(*tokenizer, i, files.chat_template)) {
      fail(ErrorKind::kCorrupt,
           "{}: the tokenizer makes the id {} ({}), the model has a vocabulary of {}: it is the "
           "tokenizer of another model",
           files.from.empty() ? source.path() : files.from, id, printable(text), vocab);
    }
    if (!text.empty() && beyond++ == 0) first = text;
  }
  if (notes == nullptr) return tokenizer;
  if (beyond > 0) {
    notes->push_back(fmt::format(
        "{} special tokens of the tokenizer, {} the first, are beyond the model's vocabulary of {}",
        beyond, printable(first), vocab));
  }
  if (static_cast<double>(tokenizer->vocab_size()) <
      kSmallVocabulary * static_cast<double>(vocab)) {
    notes->push_back(
        fmt::format("the tokenizer has {} tokens and the model {}: is it the model's own?",
                    tokenizer->vocab_size(), vocab));
  }
  return tokenizer;
}

std::vector<int32_t> stop_tokens(const proto::ModelSpec& spec, const Tokenizer& tokenizer) {
  std::vector<int32_t> all(spec.stop_tokens().begin(), spec.stop_tokens().end());
  all.insert(all.end(), tokenizer.stop_tokens().begin(), tokenizer.stop_tokens().end());
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  std::erase_if(all,
                [&](int32_t id) { return id < 0 || static_cast<uint64_t>(id) >= spec.vocab(); });
  return all;
}

}  // namespace pith
