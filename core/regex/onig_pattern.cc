#include "core/regex/onig_pattern.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/regex/character_set.h"
#include "core/regex/onig_syntax.h"

namespace pith {
namespace {

using onig::Kind;
using onig::Node;

std::string of_characters(const std::u32string& characters) {
  if (characters.size() == 1) return escaped(characters[0]);
  std::string text = "[";
  for (const char32_t c : characters) text += escaped(c);
  return text + "]";
}

std::string of_variants(std::u32string_view text) {
  std::string out;
  for (const char32_t c : text) out += of_characters(case_variants(c));
  return out;
}

// Writes a syntax tree as a PCRE2 pattern. Capturing groups are kept only where something refers
// to them.
class Writer {
 public:
  explicit Writer(const onig::Syntax& syntax) : numbers_(syntax.referenced.size(), 0) {
    int next = 0;
    for (size_t i = 0; i < numbers_.size(); ++i) {
      if (syntax.referenced[i]) numbers_[i] = ++next;
    }
  }

  std::string write(const Node& node, bool in_look_behind = false) const {
    switch (node.kind) {
      case Kind::kEmpty:
        return "";
      case Kind::kLiteral:
      case Kind::kConcat:
        return concat(node, in_look_behind);
      case Kind::kText:
        return node.text;
      case Kind::kSet:
        return set(node, in_look_behind);
      case Kind::kAlternate: {
        std::string out;
        for (size_t i = 0; i < node.parts.size(); ++i) {
          out += (i > 0 ? "|" : "") + write(node.parts[i], in_look_behind);
        }
        return out;
      }
      case Kind::kGroup: {
        const bool captures = numbers_[node.group] != 0;
        return (captures ? "(" : "(?:") + write(node.parts[0], in_look_behind) + ")";
      }
      case Kind::kPrefixed:
        return node.text + write(node.parts[0], in_look_behind || node.text.starts_with("(?<")) +
               ")";
      case Kind::kRepeat:
        return unit(node.parts[0], in_look_behind) + quantifier(node);
      case Kind::kBackreference:
        return fmt::format("\\g{{{}}}", numbers_[node.group]);
      case Kind::kCall:
        return node.whole ? "(?R)" : fmt::format("(?{})", numbers_[node.group]);
      case Kind::kIf: {
        std::string out = fmt::format("(?({})", numbers_[node.group]);
        if (node.parts.empty()) return out + "|(?!))";
        out += "(?:" + write(node.parts[0], in_look_behind) + ")";
        if (node.parts.size() > 1) out += "|(?:" + write(node.parts[1], in_look_behind) + ")";
        return out + ")";
      }
    }
    return "";
  }

 private:
  static std::string quantifier(const Node& node) {
    std::string text;
    if (node.high == onig::kInfinite) {
      text = node.low == 0 ? "*" : node.low == 1 ? "+" : fmt::format("{{{},}}", node.low);
    } else if (node.low == node.high) {
      return fmt::format("{{{}}}", node.low);
    } else {
      text = node.low == 0 && node.high == 1 ? "?" : fmt::format("{{{},{}}}", node.low, node.high);
    }
    return node.greedy ? text : text + "?";
  }

  // One that a quantifier can follow.
  std::string unit(const Node& node, bool in_look_behind) const {
    std::string text = write(node, in_look_behind);
    const bool is_unit = node.kind != Kind::kConcat && node.kind != Kind::kAlternate &&
                         node.kind != Kind::kEmpty && node.kind != Kind::kRepeat &&
                         (node.kind != Kind::kText || node.unit);
    return is_unit ? text : "(?:" + text + ")";
  }

  std::string set(const Node& node, bool in_look_behind) const {
    if (!node.fold) return node.set.pattern();
    const CharacterSet all = with_case_variants(node.set);
    if (node.negated) return (~all).pattern();
    const auto multiple = multiple_folds(node.set);
    if (multiple.empty()) return all.pattern();
    if (in_look_behind) {
      fail(ErrorKind::kUnsupported, "a class that ignores case in a look-behind");
    }
    std::string out = "(?:" + all.pattern();
    for (const auto& text : multiple) out += "|" + of_variants(text);
    return out + ")";
  }

  // Letters that ignore case are folded as a run, since several may fold with one.
  std::string concat(const Node& node, bool in_look_behind) const {
    std::string out;
    std::u32string run;
    const auto flush = [&] {
      for (size_t at = 0; at < run.size();) {
        const std::u32string_view rest = std::u32string_view(run).substr(at);
        const auto multiple = in_look_behind ? MultipleFold() : multiple_fold_at(rest);
        if (multiple.length > 0) {
          out += "(?:" + of_variants(rest.substr(0, multiple.length)) + "|" +
                 of_characters(multiple.singles) + ")";
          at += multiple.length;
          continue;
        }
        const auto folds_to = in_look_behind ? std::u32string_view() : multiple_fold(rest[0]);
        const std::string one = of_characters(case_variants(rest[0]));
        out += folds_to.empty() ? one : "(?:" + one + "|" + of_variants(folds_to) + ")";
        ++at;
      }
      run.clear();
    };
    const auto add = [&](const Node& part) {
      if (part.kind == Kind::kLiteral && part.fold) {
        run += part.character;
        return;
      }
      flush();
      if (part.kind == Kind::kLiteral) {
        out += escaped(part.character);
      } else if (part.kind == Kind::kAlternate) {
        out += "(?:" + write(part, in_look_behind) + ")";
      } else {
        out += write(part, in_look_behind);
      }
    };
    if (node.kind == Kind::kLiteral) add(node);
    for (const Node& part : node.parts) add(part);
    flush();
    return out;
  }

  std::vector<int> numbers_;  // of the groups in the translation, 0: does not capture
};

}  // namespace

OnigPattern translate_oniguruma(std::string_view pattern, const std::string& what) {
  const onig::Syntax syntax = onig::parse(pattern, what);
  try {
    return {Writer(syntax).write(syntax.root), syntax.search_start, syntax.calls};
  } catch (const Error& e) {
    fail(e.kind(), "{}: pattern {}: {} is not supported", what, pattern.substr(0, 200), e.what());
  }
}

}  // namespace pith
