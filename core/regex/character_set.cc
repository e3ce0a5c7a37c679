#include "core/regex/character_set.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>
#include <map>
#include <memory>
#include <unordered_map>

#include "core/error.h"
#include "core/utf8.h"

namespace pith {
namespace {

constexpr std::string_view kAny = "(?s:.)";
constexpr std::string_view kNone = "[^\\x{0}-\\x{10ffff}]";

struct PosixClass {
  std::string_view name, items, ascii;
  bool negated = false;  // of `items`
};
constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
constexpr PosixClass kPosix[] = {
    {"alnum", "\\p{Alphabetic}\\p{Nd}", "0-9A-Za-z"},
    {"alpha", "\\p{Alphabetic}", "A-Za-z"},
    {"ascii", "\\x{0}-\\x{7f}", "\\x{0}-\\x{7f}"},
    {"blank", "\\p{Zs}\\x{9}", "\\x{9}\\x{20}"},
    {"cntrl", "\\p{Cc}", "\\x{0}-\\x{1f}\\x{7f}"},
    {"digit", "\\p{Nd}", "0-9"},
    {"graph", "\\p{White_Space}\\p{Cc}\\p{Cn}\\p{Cs}", "\\x{21}-\\x{7e}", true},
    {"lower", "\\p{Lowercase}", "a-z"},
    {"print", "\\p{Zl}\\p{Zp}\\p{Cc}\\p{Cn}\\p{Cs}", "\\x{20}-\\x{7e}", true},
    {"punct", "\\p{P}\\p{S}", "\\x{21}-\\x{2f}\\x{3a}-\\x{40}\\x{5b}-\\x{60}\\x{7b}-\\x{7e}"},
    {"space", "\\p{White_Space}", "\\x{9}-\\x{d}\\x{20}"},
    {"upper", "\\p{Uppercase}", "A-Z"},
    {"word", kWord, "0-9A-Za-z\\x{5f}"},
    {"xdigit", "0-9A-Fa-f", "0-9A-Fa-f"},
};

struct Category {
  std::string_view name, items;
};
constexpr Category kCategories[] = {
    {"any", "\\p{Any}"},
    {"punct", "\\p{P}"},  // not [[:punct:]]
    {"assigned", "\\P{Cn}"},
    {"casedletter", "\\p{Lu}\\p{Ll}\\p{Lt}"},
    {"lc", "\\p{Lu}\\p{Ll}\\p{Lt}"},
    {"letter", "\\p{L}"},
    {"uppercaseletter", "\\p{Lu}"},
    {"lowercaseletter", "\\p{Ll}"},
    {"titlecaseletter", "\\p{Lt}"},
    {"modifierletter", "\\p{Lm}"},
    {"otherletter", "\\p{Lo}"},
    {"mark", "\\p{M}"},
    {"combiningmark", "\\p{M}"},
    {"nonspacingmark", "\\p{Mn}"},
    {"spacingmark", "\\p{Mc}"},
    {"enclosingmark", "\\p{Me}"},
    {"number", "\\p{N}"},
    {"decimalnumber", "\\p{Nd}"},
    {"letternumber", "\\p{Nl}"},
    {"othernumber", "\\p{No}"},
    {"punctuation", "\\p{P}"},
    {"connectorpunctuation", "\\p{Pc}"},
    {"dashpunctuation", "\\p{Pd}"},
    {"openpunctuation", "\\p{Ps}"},
    {"closepunctuation", "\\p{Pe}"},
    {"initialpunctuation", "\\p{Pi}"},
    {"finalpunctuation", "\\p{Pf}"},
    {"otherpunctuation", "\\p{Po}"},
    {"symbol", "\\p{S}"},
    {"mathsymbol", "\\p{Sm}"},
    {"currencysymbol", "\\p{Sc}"},
    {"modifiersymbol", "\\p{Sk}"},
    {"othersymbol", "\\p{So}"},
    {"separator", "\\p{Z}"},
    {"spaceseparator", "\\p{Zs}"},
    {"lineseparator", "\\p{Zl}"},
    {"paragraphseparator", "\\p{Zp}"},
    {"other", "\\p{C}"},
    {"control", "\\p{Cc}"},
    {"format", "\\p{Cf}"},
    {"surrogate", "\\p{Cs}"},
    {"privateuse", "\\p{Co}"},
    {"unassigned", "\\p{Cn}"},
};
constexpr std::string_view kShortCategories =
    " c cc cf cn co cs l ll lm lo lt lu m mc me mn n nd nl no p pc pd pe pf pi po ps s sc sk sm so "
    "z zl zp zs ";
// Property names that PCRE2 has and Oniguruma has not.
constexpr std::string_view kOnlyPcre2 = " xan xps xsp xuc xwd ";

struct FreeCode {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
};
struct FreeData {
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
using Code = std::unique_ptr<pcre2_code, FreeCode>;

Code compiled(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE where = 0;
  return Code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &where, nullptr));
}

bool listed(std::string_view list, const std::string& name) {
  return list.find(" " + name + " ") != std::string_view::npos;
}

struct Folding {
  std::unordered_map<char32_t, std::u32string> folds;    // of characters that others fold with
  std::map<std::u32string, std::u32string> variants;     // what folds to the key, in order
  std::map<std::u32string, std::u32string> to_multiple;  // those whose key has several characters
  std::u32string folding;                                // the keys of `folds`, in order
};

const Folding& folding() {
  static const Folding made = [] {
    constexpr char32_t kLast = 0x1ffff;  // no character above has case
    Folding f;
    for (char32_t c = 1; c <= kLast; ++c) {
      if (c >= 0xd800 && c < 0xe000) continue;
      utf8proc_int32_t parts[4];
      int boundary = 0;
      const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), parts, 4,
                                             UTF8PROC_CASEFOLD, &boundary);
      if (n < 1 || n > 3) continue;
      const std::u32string to(parts, parts + n);
      if (n == 1 && to[0] == c) continue;
      f.folds.emplace(c, to);
      auto& same = f.variants[to];
      if (n == 1 && same.empty()) {
        same += to;
        f.folds.emplace(to[0], to);
      }
      same += c;
      if (n > 1) f.to_multiple[to] += c;
    }
    for (const auto& [c, to] : f.folds) f.folding += c;
    std::ranges::sort(f.folding);
    return f;
  }();
  return made;
}

char32_t single_fold(char32_t c) {
  const auto it = folding().folds.find(c);
  return it == folding().folds.end() || it->second.size() != 1 ? c : it->second[0];
}

}  // namespace

std::string escaped(char32_t c) {
  if (c < 0x80 && ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))) {
    return std::string(1, static_cast<char>(c));
  }
  return fmt::format("\\x{{{:x}}}", static_cast<uint32_t>(c));
}

CharacterSet CharacterSet::of_items(std::string items) {
  CharacterSet made;
  made.escape_ = items.size() > 3 && items[0] == '\\' && (items[1] == 'p' || items[1] == 'P') &&
                 items.find('}') + 1 == items.size();
  made.items_ = std::move(items);
  return made;
}
CharacterSet CharacterSet::of_matcher(std::string matcher) {
  CharacterSet made;
  made.matcher_ = std::move(matcher);
  return made;
}
CharacterSet CharacterSet::range(char32_t first, char32_t last) {
  return of_items(first == last ? escaped(first) : escaped(first) + "-" + escaped(last));
}
CharacterSet CharacterSet::word(bool ascii) {
  if (ascii) return posix("word", true);
  return of_items(std::string(kWord) + "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}");
}
CharacterSet CharacterSet::any() { return ~CharacterSet(); }

CharacterSet CharacterSet::posix(std::string_view name, bool ascii) {
  for (const PosixClass& c : kPosix) {
    if (c.name != name) continue;
    if (ascii) return of_items(std::string(c.ascii));
    const CharacterSet made = of_items(std::string(c.items));
    return c.negated ? ~made : made;
  }
  fail(ErrorKind::kUnsupported, "there is no POSIX class {}", name);
}

std::optional<CharacterSet> CharacterSet::property(std::string_view name, bool ascii) {
  std::string plain;
  for (const char c : name) {
    if (c == ' ' || c == '-' || c == '_') continue;
    const bool upper = c >= 'A' && c <= 'Z';
    if (!upper && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9')) return std::nullopt;
    plain += upper ? static_cast<char>(c - 'A' + 'a') : c;
  }
  if (plain.empty() || plain.size() > 64) return std::nullopt;
  for (const Category& c : kCategories) {
    if (c.name == plain) return of_items(std::string(c.items));
  }
  for (const PosixClass& c : kPosix) {
    if (c.name == plain) return posix(plain, ascii);
  }
  if (listed(kShortCategories, plain)) return of_items("\\p{" + plain + "}");
  if (listed(kOnlyPcre2, plain) || plain.starts_with("bidi")) return std::nullopt;
  // A script alone would be its extensions to PCRE2.
  for (const char* prefix : {"sc:", ""}) {
    std::string item = "\\p{" + (prefix + plain) + "}";
    if (compiled(item)) return of_items(std::move(item));
  }
  return std::nullopt;
}

CharacterSet CharacterSet::operator|(const CharacterSet& other) const {
  if (simple() && items_.empty()) return negated_ ? *this : other;
  if (other.simple() && other.items_.empty()) return other.negated_ ? other : *this;
  if (simple() && other.simple() && !negated_ && !other.negated_) {
    return of_items(items_ + other.items_);
  }
  return of_matcher("(?>" + pattern() + "|" + other.pattern() + ")");
}

CharacterSet CharacterSet::operator&(const CharacterSet& other) const {
  if (simple() && items_.empty()) return negated_ ? other : *this;
  if (other.simple() && other.items_.empty()) return other.negated_ ? *this : other;
  if (simple() && other.simple() && negated_ && other.negated_) {
    return ~of_items(items_ + other.items_);
  }
  if (other.simple() && other.negated_) {
    return of_matcher("(?:(?!" + (~other).pattern() + ")" + pattern() + ")");
  }
  return of_matcher("(?:(?=" + other.pattern() + ")" + pattern() + ")");
}

CharacterSet CharacterSet::operator~() const {
  if (!simple()) return of_matcher("(?:(?!" + matcher_ + ")" + std::string(kAny) + ")");
  CharacterSet made = *this;
  if (escape_) {
    made.items_[1] = items_[1] == 'p' ? 'P' : 'p';
  } else {
    made.negated_ = !negated_;
  }
  return made;
}

std::string CharacterSet::pattern() const {
  if (!simple()) return matcher_;
  if (escape_) return items_;
  if (items_.empty()) return std::string(negated_ ? kAny : kNone);
  return (negated_ ? "[^" : "[") + items_ + "]";
}

std::vector<bool> CharacterSet::contains(const std::u32string& characters) const {
  const Code code = compiled(pattern());
  const std::unique_ptr<pcre2_match_data, FreeData> data(pcre2_match_data_create(1, nullptr));
  if (!code || !data) fail(ErrorKind::kUnsupported, "a character class is too large");
  std::vector<bool> found;
  std::string text;
  for (const char32_t c : characters) {
    text.clear();
    append_utf8(text, c);
    found.push_back(pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                0, PCRE2_NO_UTF_CHECK, data.get(), nullptr) >= 0);
  }
  return found;
}

std::u32string case_variants(char32_t c) {
  const auto it = folding().folds.find(c);
  return it == folding().folds.end() ? std::u32string(1, c) : folding().variants.at(it->second);
}

std::u32string_view multiple_fold(char32_t c) {
  const auto it = folding().folds.find(c);
  return it == folding().folds.end() || it->second.size() == 1 ? std::u32string_view() : it->second;
}

MultipleFold multiple_fold_at(std::u32string_view text) {
  std::u32string folded;
  for (const char32_t c : text.substr(0, 3)) folded += single_fold(c);
  for (size_t length = folded.size(); length > 1; --length) {
    const auto it = folding().to_multiple.find(folded.substr(0, length));
    if (it != folding().to_multiple.end()) return {length, it->second};
  }
  return {};
}

CharacterSet with_case_variants(const CharacterSet& set) {
  const Folding& f = folding();
  const std::vector<bool> member = set.contains(f.folding);
  std::map<std::u32string_view, bool> wanted;  // by what is folded to
  for (size_t i = 0; i < member.size(); ++i) {
    if (member[i]) wanted[f.folds.at(f.folding[i])] = true;
  }
  CharacterSet more;
  for (size_t i = 0; i < member.size();) {
    size_t end = i;
    const auto is_new = [&](size_t k) {
      return k < member.size() && !member[k] && wanted.contains(f.folds.at(f.folding[k]));
    };
    while (is_new(end) && (end == i || f.folding[end] == f.folding[end - 1] + 1)) ++end;
    if (end > i) more = more | CharacterSet::range(f.folding[i], f.folding[end - 1]);
    i = std::max(end, i + 1);
  }
  return set | more;
}

std::vector<std::u32string> multiple_folds(const CharacterSet& set) {
  std::u32string singles;
  for (const auto& [to, from] : folding().to_multiple) singles += from;
  const std::vector<bool> member = set.contains(singles);
  std::vector<std::u32string> made;
  for (size_t i = 0; i < singles.size(); ++i) {
    const std::u32string& to = folding().folds.at(singles[i]);
    if (member[i] && std::ranges::find(made, to) == made.end()) made.push_back(to);
  }
  std::ranges::stable_sort(made, {}, &std::u32string::size);
  return made;
}

}  // namespace pith
