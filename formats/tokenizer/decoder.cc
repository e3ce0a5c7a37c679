#include "formats/tokenizer/decoder.h"

#include "formats/tokenizer/byte_level.h"
#include "formats/tokenizer/normalizer.h"
#include "formats/tokenizer/unicode.h"
#include "formats/tokenizer/vocabulary.h"

namespace pith {
namespace {

using Tokens = std::vector<std::string>;

template <class F>
DecoderPtr from(F f) {
  class FromFunction final : public Decoder {
   public:
    explicit FromFunction(F function) : f_(std::move(function)) {}
    Tokens apply(Tokens tokens) const override { return f_(std::move(tokens)); }

   private:
    F f_;
  };
  return std::make_unique<FromFunction>(std::move(f));
}

std::string joined(const Tokens& tokens) {
  std::string out;
  for (const auto& token : tokens) out += token;
  return out;
}

// The blanks that English text does not have before punctuation and contractions.
std::string without_artifacts(std::string text) {
  static constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  for (const auto& [what, with] : kRules) text = replace_all(text, what, with);
  return text;
}

// Runs of "<0xHH>" become their bytes. A run that is not UTF-8 becomes one U+FFFD per byte, unless
// it ends the tokens and only its last character is unfinished.
Tokens fall_back(Tokens tokens) {
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
  return from([parts = std::make_shared<std::vector<DecoderPtr>>(std::move(parts))](Tokens tokens) {
    for (const auto& part : *parts) tokens = part->apply(std::move(tokens));
    return tokens;
  });
}

DecoderPtr decode_byte_level() {
  return from([](Tokens tokens) {
    std::string bytes;
    for (const auto& token : tokens) bytes += from_byte_level(token);
    return Tokens{valid_utf8_or_replaced(bytes, true)};
  });
}

DecoderPtr decode_metaspace(std::string replacement, bool drop_first) {
  return from([replacement = std::move(replacement), drop_first](Tokens tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replace_all(tokens[i], replacement, i == 0 && drop_first ? "" : " ");
    }
    return tokens;
  });
}

DecoderPtr decode_word_piece(std::string prefix, bool cleanup) {
  return from([prefix = std::move(prefix), cleanup](Tokens tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0)
        tokens[i] =
            tokens[i].starts_with(prefix) ? tokens[i].substr(prefix.size()) : " " + tokens[i];
      if (cleanup) tokens[i] = without_artifacts(std::move(tokens[i]));
    }
    return tokens;
  });
}

DecoderPtr decode_bpe(std::string suffix) {
  return from([suffix = std::move(suffix)](Tokens tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = replace_all(tokens[i], suffix, i + 1 == tokens.size() ? "" : " ");
    }
    return tokens;
  });
}

DecoderPtr decode_byte_fallback() { return from(fall_back); }

DecoderPtr decode_fuse() {
  return from([](Tokens tokens) { return Tokens{joined(tokens)}; });
}

DecoderPtr decode_strip(std::string content, uint64_t start, uint64_t stop) {
  return from([=](Tokens tokens) {
    for (auto& token : tokens) {
      if (!content.empty()) strip(token, content, start, stop);
    }
    return tokens;
  });
}

DecoderPtr decode_replace(std::string what, std::string with) {
  return from([what = std::move(what), with = std::move(with)](Tokens tokens) {
    for (auto& token : tokens) token = replace_all(token, what, with);
    return tokens;
  });
}

// Bytes of an unfinished sequence are not shown to the pattern.
DecoderPtr decode_replace(Regex what, std::string with) {
  const std::shared_ptr<const Normalizer> replace =
      normalize_replace(std::move(what), std::move(with));
  return from([replace](Tokens tokens) {
    for (auto& token : tokens) {
      const size_t good = valid_utf8_prefix(token);
      token = replace->apply(std::string_view(token).substr(0, good)) + token.substr(good);
    }
    return tokens;
  });
}

}  // namespace pith
