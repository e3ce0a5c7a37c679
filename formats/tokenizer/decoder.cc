#include "formats/tokenizer/decoder.h"

#include "core/utf8.h"
#include "formats/tokenizer/byte_level.h"
#include "formats/tokenizer/normalizer.h"
#include "formats/tokenizer/vocabulary.h"

namespace pith {
namespace {

using Tokens = std::vector<std::string>;

size_t bytes_of(const Tokens& tokens) {
  size_t bytes = tokens.size();
  for (const auto& token : tokens) bytes += token.size();
  return bytes;
}

template <class F>
DecoderPtr from(const char* name, F f) {
  class FromFunction final : public Decoder {
   public:
    FromFunction(const char* n, F function) : name_(n), f_(std::move(function)) {}
    Tokens apply(Tokens tokens, TextBudget& budget) const override {
      const size_t in = bytes_of(tokens);
      Tokens out = f_(std::move(tokens), budget);
      budget.charge_bytes(in, bytes_of(out), name_);
      return out;
    }

   private:
    const char* name_;
    F f_;
  };
  return std::make_unique<FromFunction>(name, std::move(f));
}

class DecoderSequence final : public Decoder {
 public:
  explicit DecoderSequence(std::vector<DecoderPtr> parts) : parts_(std::move(parts)) {}
  Tokens apply(Tokens tokens, TextBudget& budget) const override {
    for (const auto& part : parts_) tokens = part->apply(std::move(tokens), budget);
    return tokens;
  }

 private:
  std::vector<DecoderPtr> parts_;
};

// Decodes each token by itself; the output of earlier tokens counts for the budget.
template <class Replace>
Tokens replaced(Tokens tokens, TextBudget& budget, const Replace& replace) {
  size_t made = 0;
  for (auto& token : tokens) {
    token = replace(token);
    made += token.size();
    budget.check_size(made, "Replace");
  }
  return tokens;
}

std::string joined(const Tokens& tokens) {
  std::string out;
  for (const auto& token : tokens) out += token;
  return out;
}

// The blanks that English text does not have before punctuation and contractions.
std::string without_artifacts(std::string text, const TextBudget& budget) {
  static constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  for (const auto& [what, with] : kRules) text = replace_all(text, what, with, budget);
  return text;
}

// Runs of "<0xHH>" become their bytes. A run that is not UTF-8 becomes one U+FFFD per byte, unless
// it ends the tokens and only its last character is unfinished.
Tokens fall_back(Tokens tokens, const TextBudget&) {
  Tokens out;
  std::string run;
  const auto flush = [&](bool last) {
    if (run.empty()) return;
    const size_t good = valid_utf8_prefix(run);
    if (good == run.size() || (last && is_incomplete_utf8(std::string_view(run).substr(good)))) {
      out.push_back(run);
    } else {
      for (size_t i = 0; i < run.size(); ++i) out.push_back("\xef\xbf\xbd");
    }
    run.clear();
  };
  for (auto& token : tokens) {
    if (const auto byte = byte_of_token(token)) {
      run.push_back(static_cast<char>(*byte));
    } else {
      flush(false);
      out.push_back(std::move(token));
    }
  }
  flush(true);
  return out;
}

void strip(std::string& token, std::string_view content, uint64_t start, uint64_t stop) {
  std::string_view rest = token;
  for (; start > 0 && rest.starts_with(content); --start) rest.remove_prefix(content.size());
  for (; stop > 0 && rest.ends_with(content); --stop) rest.remove_suffix(content.size());
  token = std::string(rest);
}

}  // namespace

DecoderPtr decode_sequence(std::vector<DecoderPtr> parts) {
  return std::make_unique<DecoderSequence>(std::move(parts));
}

DecoderPtr decode_byte_level() {
  return from("ByteLevel", [](const Tokens& tokens, TextBudget&) {
    std::string bytes;
    for (const auto& token : tokens) bytes += from_byte_level(token);
    return Tokens{valid_utf8_or_replaced(bytes, true)};
  });
}

DecoderPtr decode_metaspace(std::string replacement, bool drop_first) {
  return from("Metaspace", [replacement = std::move(replacement), drop_first](Tokens tokens,
                                                                              TextBudget& budget) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replace_all(tokens[i], replacement, i == 0 && drop_first ? "" : " ", budget);
    }
    return tokens;
  });
}

DecoderPtr decode_word_piece(std::string prefix, bool cleanup) {
  return from(
      "WordPiece", [prefix = std::move(prefix), cleanup](Tokens tokens, TextBudget& budget) {
        for (size_t i = 0; i < tokens.size(); ++i) {
          if (i > 0)
            tokens[i] =
                tokens[i].starts_with(prefix) ? tokens[i].substr(prefix.size()) : " " + tokens[i];
          if (cleanup) tokens[i] = without_artifacts(std::move(tokens[i]), budget);
        }
        return tokens;
      });
}

DecoderPtr decode_bpe(std::string suffix) {
  return from("BPEDecoder", [suffix = std::move(suffix)](Tokens tokens, TextBudget& budget) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replace_all(tokens[i], suffix, i + 1 == tokens.size() ? "" : " ", budget);
    }
    return tokens;
  });
}

DecoderPtr decode_byte_fallback() { return from("ByteFallback", fall_back); }

DecoderPtr decode_fuse() {
  return from("Fuse", [](const Tokens& tokens, TextBudget&) { return Tokens{joined(tokens)}; });
}

DecoderPtr decode_strip(std::string content, uint64_t start, uint64_t stop) {
  return from("Strip", [=](Tokens tokens, TextBudget&) {
    for (auto& token : tokens) {
      if (!content.empty()) strip(token, content, start, stop);
    }
    return tokens;
  });
}

DecoderPtr decode_replace(std::string what, std::string with) {
  return from("Replace",
              [what = std::move(what), with = std::move(with)](Tokens tokens, TextBudget& budget) {
                return replaced(std::move(tokens), budget, [&](std::string_view token) {
                  return replace_all(token, what, with, budget);
                });
              });
}

// Bytes of an unfinished sequence are not shown to the pattern.
DecoderPtr decode_replace(Regex what, std::string with) {
  return from("Replace", [what = std::make_shared<Regex>(std::move(what)), with = std::move(with)](
                             Tokens tokens, TextBudget& budget) {
    return replaced(std::move(tokens), budget, [&](std::string_view token) {
      const size_t good = valid_utf8_prefix(token);
      std::string out = replace_all(token.substr(0, good), *what, with, budget);
      return out.append(token.substr(good));
    });
  });
}

}  // namespace pith
