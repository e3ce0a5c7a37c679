#include "formats/tokenizer/normalizer.h"

#include <type_traits>

#include "formats/tokenizer/byte_level.h"

namespace pith {
namespace {

// A normalizer from a function of the text, or of the text and the budget that its loops look at.
template <class F>
NormalizerPtr from(const char* name, F f) {
  class FromFunction final : public Normalizer {
   public:
    FromFunction(const char* n, F function) : name_(n), f_(std::move(function)) {}
    std::string apply(std::string_view text, TextBudget& budget) const override {
      std::string out = call(text, budget);
      budget.charge_bytes(text.size(), out.size(), name_);
      return out;
    }

   private:
    std::string call(std::string_view text, TextBudget& budget) const {
      if constexpr (std::is_invocable_v<const F&, std::string_view, TextBudget&>) {
        return f_(text, budget);
      } else {
        return f_(text);
      }
    }
    const char* name_;
    F f_;
  };
  return std::make_unique<FromFunction>(name, std::move(f));
}

// A normalizer from what becomes of each character.
template <class F>
NormalizerPtr per_character(const char* name, F f) {
  return from(name, [f](std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (size_t at = 0; at < text.size();) f(out, next_code_point(text, at));
    return out;
  });
}

class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<NormalizerPtr> parts) : parts_(std::move(parts)) {}
  std::string apply(std::string_view text, TextBudget& budget) const override {
    std::string out(text);
    for (const auto& part : parts_) out = part->apply(out, budget);
    return out;
  }

 private:
  std::vector<NormalizerPtr> parts_;
};

std::string stripped(std::string_view text, bool left, bool right) {
  size_t begin = 0, end = 0;  // end: behind the last character that is not blank
  bool leading = true;
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    if (is_white_space(next_code_point(text, at))) continue;
    if (leading) begin = here;
    leading = false;
    end = at;
  }
  if (leading) return left || right ? "" : std::string(text);
  if (!left) begin = 0;
  if (!right) end = text.size();
  return std::string(text.substr(begin, end - begin));
}

bool is_cjk_ideograph(char32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
         (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b81f) ||
         (c >= 0x2b920 && c <= 0x2ceaf) || (c >= 0xf900 && c <= 0xfaff) ||
         (c >= 0x2f800 && c <= 0x2fa1f);
}

void clean_bert(std::string& out, char32_t c, const BertCleaning& options) {
  const bool blank = is_white_space(c);
  if (options.clean_text) {
    const bool line = c == '\t' || c == '\n' || c == '\r';
    if (c == 0 || c == 0xfffd || (!line && is_control_or_format(c))) return;
    if (blank) c = ' ';
  }
  if (options.handle_chinese && is_cjk_ideograph(c)) {
    out += ' ';
    append_utf8(out, c);
    out += ' ';
  } else {
    append_utf8(out, c);
  }
}

// What training pipelines of translation models drop or turn into blanks.
void clean_nmt(std::string& out, char32_t c) {
  if ((c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f ||
      c == 0x9f)
    return;
  const bool blank = c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 ||
                     (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                     c == 0xfeff || c == 0xfffd;
  append_utf8(out, blank ? U' ' : c);
}

std::string map_graphemes(std::string_view text, const Charsmap& map, const TextBudget& budget) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    budget.check_size(out.size(), "the character map");
    const size_t end = grapheme_end(text, at);
    if (end - at < 6) {
      // The first, that is the shortest, match stands for the whole grapheme: so were these models
      // trained.
      if (const auto whole = map.shortest(text.substr(at, end - at))) {
        out += *whole;
        at = end;
        continue;
      }
    }
    while (at < end) {
      budget.check_size(out.size(), "the character map");
      const std::string_view character = text.substr(at, std::min(utf8_length(text[at]), end - at));
      const auto mapped = map.shortest(character);
      out += mapped ? *mapped : character;
      at += character.size();
    }
  }
  return out;
}

std::string map_sentencepiece(std::string_view text, const Charsmap& map,
                              const ByteTrie& user_defined, const SentencePieceSpacing& spacing,
                              const TextBudget& budget) {
  const std::string_view blank = spacing.escape ? kMetaspace : std::string_view(" ");
  std::string out;
  out.reserve(text.size() + blank.size());
  if (!text.empty() && spacing.add_dummy_prefix && !spacing.suffix) out += blank;
  bool after_blank = spacing.remove_extra;  // blanks that come now are extra
  bool any = false;
  const auto append = [&](std::string_view piece) {
    for (const char c : piece) {
      if (c != ' ') {
        out += c;
      } else if (!(spacing.remove_extra && after_blank)) {
        out += blank;
      }
      after_blank = c == ' ';
      any = any || !after_blank;
    }
  };
  for (size_t at = 0; at < text.size();) {
    budget.check_size(out.size(), "the character map");
    const std::string_view rest = text.substr(at);
    if (const size_t kept = user_defined.longest(rest).first; kept > 0) {
      append(rest.substr(0, kept));
      at += kept;
    } else if (const auto mapped = map.longest(rest); mapped.length > 0) {
      append(mapped.text);
      at += mapped.length;
    } else {
      const size_t length = std::min(utf8_length(rest[0]), rest.size());
      append(rest.substr(0, length));
      at += length;
    }
  }
  if (spacing.remove_extra) {
    if (!any) return "";
    while (std::string_view(out).ends_with(blank)) out.resize(out.size() - blank.size());
  }
  if (!out.empty() && spacing.add_dummy_prefix && spacing.suffix) out += blank;
  return out;
}

}  // namespace

std::string replace_all(std::string_view text, std::string_view what, std::string_view with,
                        const TextBudget& budget) {
  std::string out;
  out.reserve(text.size());
  size_t at = 0;
  if (!what.empty()) {
    for (size_t found; (found = text.find(what, at)) != std::string_view::npos;
         at = found + what.size()) {
      budget.check_size(out.size() + with.size(), "Replace");
      out.append(text.substr(at, found - at)).append(with);
    }
  }
  return out.append(text.substr(at));
}

std::string replace_all(std::string_view text, const Regex& what, std::string_view with,
                        TextBudget& budget) {
  std::string out;
  size_t at = 0;
  what.for_each_match(text, budget, [&](size_t begin, size_t end) {
    budget.check_size(out.size() + with.size(), "Replace");
    out.append(text.substr(at, begin - at)).append(with);
    at = end;
  });
  return out.append(text.substr(at));
}

NormalizerPtr normalize_sequence(std::vector<NormalizerPtr> parts) {
  return std::make_unique<NormalizerSequence>(std::move(parts));
}
NormalizerPtr normalize_form(NormalForm form) {
  return from("a normal form", [form](std::string_view text, TextBudget& budget) {
    return normal_form(text, form, [&](size_t n) { budget.check_size(n, "a normal form"); });
  });
}
NormalizerPtr normalize_lowercase() { return per_character("Lowercase", append_lower); }
NormalizerPtr normalize_strip(bool left, bool right) {
  return from("Strip", [=](std::string_view text) { return stripped(text, left, right); });
}
NormalizerPtr normalize_strip_accents() {
  return per_character("StripAccents", [](std::string& out, char32_t c) {
    if (!is_mark(c)) append_utf8(out, c);
  });
}
NormalizerPtr normalize_replace(std::string what, std::string with) {
  return from("Replace", [what = std::move(what), with = std::move(with)](std::string_view text,
                                                                          TextBudget& budget) {
    return replace_all(text, what, with, budget);
  });
}
NormalizerPtr normalize_replace(Regex what, std::string with) {
  return from("Replace", [what = std::make_shared<Regex>(std::move(what)), with = std::move(with)](
                             std::string_view text, TextBudget& budget) {
    return replace_all(text, *what, with, budget);
  });
}
NormalizerPtr normalize_prepend(std::string prefix) {
  return from("Prepend", [prefix = std::move(prefix)](std::string_view text, TextBudget& budget) {
    budget.check_size(prefix.size(), "Prepend");
    return text.empty() ? std::string() : prefix + std::string(text);
  });
}
NormalizerPtr normalize_nmt() { return per_character("Nmt", clean_nmt); }
NormalizerPtr normalize_byte_level() {
  return from("ByteLevel", [](std::string_view text) {
    std::string out;
    append_byte_level(out, text);
    return out;
  });
}

NormalizerPtr normalize_bert(const BertCleaning& options) {
  std::vector<NormalizerPtr> parts;
  parts.push_back(per_character(
      "BertNormalizer", [options](std::string& out, char32_t c) { clean_bert(out, c, options); }));
  if (options.strip_accents) {
    parts.push_back(normalize_form(NormalForm::kNfd));
    parts.push_back(per_character("BertNormalizer", [](std::string& out, char32_t c) {
      if (!is_nonspacing_mark(c)) append_utf8(out, c);
    }));
  }
  if (options.lowercase) parts.push_back(normalize_lowercase());
  return normalize_sequence(std::move(parts));
}

NormalizerPtr normalize_charsmap(Charsmap map) {
  return from("Precompiled", [map = std::move(map)](std::string_view text, TextBudget& budget) {
    return map_graphemes(text, map, budget);
  });
}
NormalizerPtr normalize_sentencepiece(Charsmap map, ByteTrie user_defined,
                                      const SentencePieceSpacing& spacing) {
  return from("SentencePiece", [map = std::move(map), user_defined = std::move(user_defined),
                                spacing](std::string_view text, TextBudget& budget) {
    return map_sentencepiece(text, map, user_defined, spacing, budget);
  });
}

}  // namespace pith
