#include "core/regex/onig_syntax.h"

#include <algorithm>
#include <map>
#include <optional>

#include "core/error.h"
#include "core/regex/onig_class.h"
#include "core/utf8.h"

namespace pith::onig {
namespace {

constexpr int kMaxDepth = 100, kMaxRepeat = 100'000, kMaxFoldedClasses = 32;
constexpr size_t kMaxGroups = 10'000;

Node text_node(std::string text, bool unit) {
  Node node;
  node.kind = Kind::kText;
  node.text = std::move(text);
  node.unit = unit;
  node.anchor = !unit;
  return node;
}

// The kinds of quantifiers in Oniguruma's table of nested ones: ? * + ?? *? +?
int quantifier_type(const Node& n) {
  const int base = n.greedy ? 0 : 3;
  if (n.low == 0 && n.high == 1) return base;
  if (n.high == kInfinite && n.low <= 1) return base + 1 + n.low;
  return -1;
}

// Nested quantifiers are reduced to one by Oniguruma's table, which does not always match the same
// as the two one after the other.
void set_quantifier(Node& n, int low, int high, bool greedy) {
  n.low = low;
  n.high = high;
  n.greedy = greedy;
}
Node repeated(Node target, int low, int high, bool greedy) {
  if (low == 1 && high == 1) return target;
  Node made;
  made.kind = Kind::kRepeat;
  set_quantifier(made, low, high, greedy);
  if (target.kind != Kind::kRepeat) {
    made.parts.push_back(std::move(target));
    return made;
  }
  enum Reduction { kAsIs, kInner, kStar, kPlus, kLazyStar, kLazyMaybe, kPlusLazyMaybe };
  static constexpr Reduction kTable[6][6] = {
      {kInner, kStar, kStar, kLazyMaybe, kLazyStar, kAsIs},
      {kInner, kInner, kInner, kPlusLazyMaybe, kPlusLazyMaybe, kInner},
      {kStar, kStar, kInner, kAsIs, kPlusLazyMaybe, kInner},
      {kInner, kLazyStar, kLazyStar, kInner, kLazyStar, kLazyStar},
      {kInner, kInner, kInner, kInner, kInner, kInner},
      {kAsIs, kStar, kPlus, kLazyStar, kLazyStar, kInner}};
  const int inner = quantifier_type(target), outer = quantifier_type(made);
  const Reduction reduction = inner < 0 || outer < 0 ? kAsIs : kTable[inner][outer];
  switch (reduction) {
    case kInner:
      return target;
    case kStar:
      set_quantifier(target, 0, kInfinite, true);
      return target;
    case kPlus:
      set_quantifier(target, 1, kInfinite, true);
      return target;
    case kLazyStar:
      set_quantifier(target, 0, kInfinite, false);
      return target;
    case kLazyMaybe:
      set_quantifier(target, 0, 1, false);
      return target;
    case kPlusLazyMaybe:
      set_quantifier(target, 1, kInfinite, true);
      set_quantifier(made, 0, 1, false);
      break;
    case kAsIs:
      break;
  }
  made.parts.push_back(std::move(target));
  return made;
}

class Parser {
 public:
  Parser(std::string_view pattern, const std::string& what) : in_(pattern, what) {}

  Syntax parse() {
    Syntax syntax;
    syntax.root = alternatives({}, 0, false);
    if (!in_.at_end()) in_.corrupt("\")\" without \"(\"");
    referenced_.assign(groups_.size(), false);
    resolve(syntax.root);
    check(syntax.root);
    syntax.referenced = referenced_;
    syntax.search_start = search_start_;
    syntax.calls = calls_;
    return syntax;
  }

 private:
  // ---- reading -------------------------------------------------------------------------------

  Node alternatives(const Options& options, int depth, bool split_branches) {
    if (depth > kMaxDepth) in_.corrupt("groups are nested too deep");
    std::vector<Node> branches;
    branches.push_back(branch(options, depth));
    while (in_.accept("|")) branches.push_back(branch(options, depth));
    if (branches.size() == 1 && !split_branches) return std::move(branches[0]);
    Node node;
    node.kind = Kind::kAlternate;
    for (const Node& b : branches) node.anchor = node.anchor || b.anchor;
    node.parts = std::move(branches);
    return node;
  }

  Node branch(const Options& options, int depth) {
    Node all;
    all.kind = Kind::kConcat;
    for (;;) {
      skip(options);
      if (in_.at_end() || in_.looking_at("|") || in_.looking_at(")")) break;
      if (const auto inner = isolated_options(options)) {  // they reach to the end of the group
        Node rest = alternatives(*inner, depth + 1, false);
        append(all, group_of(std::move(rest)));
        break;
      }
      Node node = quantified(atom(options, depth), options);
      append(all, std::move(node));
    }
    if (all.parts.empty()) return {};
    if (all.parts.size() == 1) {
      Node one = std::move(all.parts[0]);
      return one;
    }
    return all;
  }

  static void append(Node& all, Node node) {
    if (node.kind == Kind::kConcat) {  // letters of one run fold together
      for (Node& part : node.parts) all.parts.push_back(std::move(part));
    } else {
      all.parts.push_back(std::move(node));
    }
  }

  static Node prefixed(std::string text, Node inner, bool anchor = false) {
    Node node;
    node.kind = Kind::kPrefixed;
    node.text = std::move(text);
    node.anchor = anchor;
    node.parts.push_back(std::move(inner));
    return node;
  }
  static Node group_of(Node inner) { return prefixed("(?:", std::move(inner)); }

  // Comments, and blanks in extended patterns.
  void skip(const Options& options) {
    for (;;) {
      if (in_.accept("(?#")) {
        for (char32_t c = in_.next(); c != ')'; c = in_.next()) {
          if (c == '\\' && !in_.at_end()) in_.next();
        }
      } else if (options.extended && (in_.accept(" ") || in_.accept("\t") || in_.accept("\n") ||
                                      in_.accept("\r") || in_.accept("\f"))) {
      } else if (options.extended && in_.accept("#")) {
        while (!in_.at_end() && in_.next() != '\n') {
        }
      } else {
        return;
      }
    }
  }

  Node literal(char32_t c, const Options& options) {
    Node node;
    node.kind = Kind::kLiteral;
    node.character = c;
    node.fold = options.fold;
    return node;
  }
  Node set_node(CharacterSet set) {
    Node node;
    node.kind = Kind::kSet;
    node.set = std::move(set);
    return node;
  }

  Node atom(const Options& options, int depth) {
    const char32_t c = in_.next();
    switch (c) {
      case '(':
        return group(options, depth);
      case '[': {
        auto [set, negated] = in_.bracket(options, depth);
        Node node = set_node(std::move(set));
        node.negated = negated;
        node.fold = options.fold;
        if (node.fold && ++folded_classes_ > kMaxFoldedClasses) {
          in_.unsupported("a pattern with so many classes that ignore case");
        }
        if (negated && !node.fold) node.set = ~node.set;
        return node;
      }
      case '.':
        return text_node(options.dot_all ? "(?s:.)" : ".", true);
      case '^':
        return text_node("(?m:^)", false);
      case '$':
        return text_node("(?m:$)", false);
      case '*':
      case '+':
      case '?':
        in_.corrupt("a quantifier follows nothing");
      case '{': {
        const size_t before = in_.position();
        in_.go_to(before - 1);
        if (interval()) in_.corrupt("a quantifier follows nothing");
        in_.go_to(before);
        return literal(c, options);
      }
      case '\\':
        return escape(options);
      default:
        return literal(c, options);
    }
  }

  Node escape(const Options& options) {
    const char32_t c = in_.next();
    if (auto set = in_.character_type(c, options, false)) return set_node(*std::move(set));
    const std::string word =
        CharacterSet::word(options.ascii_word || options.ascii_posix).pattern();
    switch (c) {
      case 'b':
        return text_node("(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))",
                         false);
      case 'B':
        return text_node("(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))",
                         false);
      case 'A':
        return text_node("\\A", false);
      case 'Z':
        return text_node("\\Z", false);
      case 'z':
        return text_node("\\z", false);
      case 'G':
        search_start_ = true;
        return text_node("\\G", false);
      case 'K':
        keeps_ = true;
        return text_node("\\K", false);
      case 'R':
        return text_node("(?>\\x0d\\x0a|[\\x0a-\\x0d\\x{85}\\x{2028}\\x{2029}])", true);
      case 'N':
        return text_node(".", true);
      case 'O':
        return text_node("(?s:.)", true);
      case 'X':
        return text_node("\\X", true);
      case 'y':
      case 'Y':
        in_.unsupported("a boundary of text segments (\\y)");
      case 'k':
        if (in_.accept("<")) return reference(Kind::kBackreference, '>', options);
        if (in_.accept("'")) return reference(Kind::kBackreference, '\'', options);
        return literal(c, options);
      case 'g':
        if (in_.accept("<")) return reference(Kind::kCall, '>', options);
        if (in_.accept("'")) return reference(Kind::kCall, '\'', options);
        return literal(c, options);
      default:
        break;
    }
    if (c >= '1' && c <= '9') {
      const size_t before = in_.position();
      int64_t n = static_cast<int64_t>(c - '0');
      while (!in_.at_end() && n < 10'000) {
        const size_t here = in_.position();
        const char32_t digit = in_.next();
        if (digit < '0' || digit > '9') {
          in_.go_to(here);
          break;
        }
        n = n * 10 + static_cast<int64_t>(digit - '0');
      }
      if (n <= 9 || n <= static_cast<int64_t>(groups_.size())) {
        return number_reference(Kind::kBackreference, n, options);
      }
      in_.go_to(before);
      if (c >= '8') return literal(c, options);
    }
    if (c == '0') {  // two more digits here, three in all in a class
      uint32_t code = 0;
      for (int i = 0; i < 2 && !in_.at_end(); ++i) {
        const size_t here = in_.position();
        const char32_t digit = in_.next();
        if (digit < '0' || digit > '7') {
          in_.go_to(here);
          break;
        }
        code = code * 8 + static_cast<uint32_t>(digit - '0');
      }
      return literal(code, options);
    }
    return literal(in_.escape(c), options);
  }

  // Reads {n,m} and the like; reads nothing where there is no such quantifier.
  struct Interval {
    int low = 0, high = 0;
    bool fixed = false;
  };
  std::optional<Interval> interval() {
    const size_t before = in_.position();
    const auto none = [&]() -> std::optional<Interval> {
      in_.go_to(before);
      return std::nullopt;
    };
    const auto read = [&]() -> std::optional<int> {
      int64_t n = 0;
      bool any = false;
      while (!in_.at_end()) {
        const size_t here = in_.position();
        const char32_t c = in_.next();
        if (c < '0' || c > '9') {
          in_.go_to(here);
          break;
        }
        any = true;
        n = std::min<int64_t>(n * 10 + static_cast<int64_t>(c - '0'), int64_t{1} << 40);
      }
      if (n > kMaxRepeat) in_.corrupt("a number of repeats is too large");
      return any ? std::optional(static_cast<int>(n)) : std::nullopt;
    };
    if (!in_.accept("{")) return none();
    const auto low = read();
    Interval made{low.value_or(0), low.value_or(0), true};
    if (in_.accept(",")) {
      const auto high = read();
      if (!low && !high) return none();
      made.high = high.value_or(kInfinite);
      made.fixed = false;
    } else if (!low) {
      return none();
    }
    if (!in_.accept("}")) return none();
    return made;
  }

  Node quantified(Node node, const Options& options) {
    for (;;) {
      skip(options);
      int low = 0, high = kInfinite;
      bool greedy = true, possessive = false;
      if (in_.accept("*")) {
      } else if (in_.accept("+")) {
        low = 1;
      } else if (in_.accept("?")) {
        high = 1;
      } else if (const auto n = interval()) {
        low = n->low;
        high = n->high;
        if (high != kInfinite && low > high) {  // {4,2} is {2,4}, possessive
          std::swap(low, high);
          possessive = true;
        }
        if (node.anchor) in_.corrupt("a quantifier follows an anchor");
        if (!n->fixed && !possessive && in_.accept("?")) greedy = false;
        node = repeated(std::move(node), low, high, greedy);
        if (possessive) node = prefixed("(?>", std::move(node));
        continue;
      } else {
        return node;
      }
      if (node.anchor) in_.corrupt("a quantifier follows an anchor");
      if (in_.accept("?")) {
        greedy = false;
      } else if (in_.accept("+")) {
        possessive = true;
      }
      node = repeated(std::move(node), low, high, greedy);
      if (possessive) node = prefixed("(?>", std::move(node));
    }
  }

  // Reads (?i) and the like; reads nothing where there are no options.
  std::optional<Options> isolated_options(const Options& options) {
    if (!in_.looking_at("(?")) return std::nullopt;
    const size_t before = in_.position();
    in_.accept("(?");
    Options inner = options;
    if (read_options(inner) == ')') return inner;
    in_.go_to(before);
    return std::nullopt;
  }

  // Reads option letters up to ":" or ")", which is returned; 0 where they are no options.
  char read_options(Options& options) {
    bool on = true;
    for (size_t i = 0; !in_.at_end(); ++i) {
      switch (in_.next()) {
        case ':':
          return ':';
        case ')':
          return i == 0 ? '\0' : ')';
        case '-':
          on = false;
          break;
        case 'i':
          options.fold = on;
          break;
        case 'm':
          options.dot_all = on;
          break;
        case 'x':
          options.extended = on;
          break;
        case 'W':
          options.ascii_word = on;
          break;
        case 'D':
          options.ascii_digit = on;
          break;
        case 'S':
          options.ascii_space = on;
          break;
        case 'P':
          options.ascii_posix = on;
          break;
        case 'y':
          if (on && in_.accept("{g}")) break;
          if (on && in_.looking_at("{w}")) in_.unsupported("a text segment of words (?y{w})");
          return '\0';
        case 'C':
        case 'I':
        case 'L':
          if (i > 0) return '\0';
          in_.unsupported("an option of the whole pattern");
        default:
          return '\0';
      }
    }
    return '\0';
  }

  Node closed(Node node) {
    if (!in_.accept(")")) in_.corrupt("\"(\" without \")\"");
    return node;
  }
  Node inside(const Options& options, int depth) {
    return closed(alternatives(options, depth + 1, false));
  }

  Node capture(std::string name, const Options& options, int depth) {
    if (groups_.size() >= kMaxGroups) in_.corrupt("there are too many groups");
    Node node;
    node.kind = Kind::kGroup;
    node.group = groups_.size();
    any_named_ = any_named_ || !name.empty();
    groups_.push_back(std::move(name));
    Node inner = inside(options, depth);
    node.parts.push_back(std::move(inner));
    return node;
  }

  std::string name(char end) {
    const std::string_view read = in_.until(end);
    size_t at = 0;
    bool good = !read.empty() && !(read[0] >= '0' && read[0] <= '9') &&
                read.find(')') == std::string_view::npos;
    if (good) good = is_word(next_code_point(read, at));  // only the first matters
    if (!good) in_.corrupt("a group has an invalid name");
    return std::string(read);
  }

  // Behind "(".
  Node group(const Options& options, int depth) {
    if (in_.looking_at("*")) in_.unsupported("a callout");
    if (!in_.accept("?")) return capture("", options, depth);
    if (in_.accept(":")) return inside(options, depth);
    if (in_.accept("=")) return prefixed("(?=", inside(options, depth), true);
    if (in_.accept("!")) return prefixed("(?!", inside(options, depth), true);
    if (in_.accept(">")) return prefixed("(?>", inside(options, depth));
    if (in_.accept("<=")) return prefixed("(?<=", inside(options, depth), true);
    if (in_.accept("<!")) return prefixed("(?<!", inside(options, depth), true);
    if (in_.accept("<")) return named(options, depth, '>');
    if (in_.accept("'")) return named(options, depth, '\'');
    if (in_.looking_at("~")) in_.unsupported("an absent operator (?~");
    if (in_.looking_at("{")) in_.unsupported("a callout");
    if (in_.accept("(")) return condition(options, depth);
    Options inner = options;
    if (read_options(inner) != ':') in_.corrupt("an undefined group option");
    return group_of(inside(inner, depth));
  }

  Node named(const Options& options, int depth, char end) {
    std::string read = name(end);
    return capture(std::move(read), options, depth);
  }

  // Behind "(?(": whether a group has matched.
  Node condition(const Options& options, int depth) {
    Node node;
    if (in_.accept("<")) {
      node = reference(Kind::kIf, '>', options);
      if (!in_.accept(")")) in_.corrupt("a condition does not end");
    } else if (in_.accept("'")) {
      node = reference(Kind::kIf, '\'', options);
      if (!in_.accept(")")) in_.corrupt("a condition does not end");
    } else {
      const size_t before = in_.position();
      const char32_t c = in_.next();
      in_.go_to(before);
      if (!(c >= '0' && c <= '9') && c != '-' && c != '+') {
        in_.unsupported("a condition that is a pattern");
      }
      node = reference(Kind::kIf, ')', options);
    }
    if (in_.accept(")")) return node;
    Node both = alternatives(options, depth + 1, true);
    node.parts.push_back(std::move(both.parts[0]));
    if (both.parts.size() == 2) {
      node.parts.push_back(std::move(both.parts[1]));
    } else if (both.parts.size() > 2) {
      both.parts.erase(both.parts.begin());
      node.parts.push_back(std::move(both));
    }
    return closed(std::move(node));
  }

  // ---- references ----------------------------------------------------------------------------

  Node number_reference(Kind kind, int64_t n, const Options& options) {
    Node node;
    node.kind = kind;
    node.fold = options.fold;
    node.whole = kind == Kind::kCall && n == 0;
    if (n < 0 || (n == 0 && !node.whole)) in_.corrupt("a reference to a group that is not there");
    node.group = node.whole ? 0 : static_cast<size_t>(n - 1);
    return node;
  }

  // Behind "\k<", "\g<", "(?(": a name, a number, or a number counted from here.
  Node reference(Kind kind, char end, const Options& options) {
    const std::string_view read = in_.until(end);
    const bool relative = !read.empty() && (read[0] == '-' || read[0] == '+');
    const std::string_view digits = read.substr(relative ? 1 : 0);
    if (digits.find_first_of("+-") != std::string_view::npos) {
      in_.unsupported("a reference with a level");
    }
    if (digits.empty() || digits.size() > 256) in_.corrupt("a reference without a name");
    if (digits.find_first_not_of("0123456789") != std::string_view::npos) {
      if (relative) in_.corrupt("a reference with an invalid name");
      Node node;
      node.kind = kind;
      node.fold = options.fold;
      node.text = std::string(read);
      return node;
    }
    if (digits.size() > 5) in_.corrupt("a reference to a group that is not there");
    int64_t n = 0;
    for (const char c : digits) n = n * 10 + (c - '0');
    const auto here = static_cast<int64_t>(groups_.size());
    if (relative && n == 0) in_.corrupt("a reference with an invalid name");
    if (relative) n = read[0] == '-' ? here + 1 - n : here + n;
    if (relative && n <= 0) in_.corrupt("a reference to a group that is not there");
    return number_reference(kind, n, options);
  }

  // Finds the groups of references, once all are known. Beside named groups plain ones have no
  // number.
  void resolve(Node& node) {
    const bool refers =
        node.kind == Kind::kBackreference || node.kind == Kind::kCall || node.kind == Kind::kIf;
    if (refers) {
      (node.kind == Kind::kCall ? calls_ : reads_) = true;
      if (!node.text.empty()) {
        size_t found = groups_.size(), times = 0;
        for (size_t i = 0; i < groups_.size(); ++i) {
          if (groups_[i] != node.text) continue;
          found = i;
          ++times;
        }
        if (times == 0) in_.corrupt("a reference to a name that is not there");
        if (times > 1) in_.unsupported("a reference to one of several groups of a name");
        node.group = found;
      } else if (!node.whole) {
        if (any_named_) in_.corrupt("a reference by number beside named groups");
        if (node.group >= groups_.size()) in_.corrupt("a reference to a group that is not there");
      }
      if (!node.whole) referenced_[node.group] = true;
      if (node.kind == Kind::kBackreference && node.fold) {
        in_.unsupported("a back reference that ignores case");
      }
    }
    for (Node& part : node.parts) resolve(part);
  }

  // ---- differences between the two engines -----------------------------------------------------

  struct Facts {
    bool may_be_empty = true;
    bool captures = false, keeps = false;
  };

  void check(const Node& root) {
    if (calls_ && reads_) in_.unsupported("a group that is both called and referred to");
    if (keeps_ || reads_) facts(root, false);
  }

  Facts facts(const Node& node, bool no_keep) {
    Facts made;
    const bool no_keep_inside = no_keep || (node.kind == Kind::kPrefixed && node.anchor) ||
                                (node.kind == Kind::kGroup && calls_);
    bool any_empty = false, all_empty = true;
    for (const Node& part : node.parts) {
      const Facts f = facts(part, no_keep_inside);
      any_empty = any_empty || f.may_be_empty;
      all_empty = all_empty && f.may_be_empty;
      made.captures = made.captures || f.captures;
    }
    switch (node.kind) {
      case Kind::kLiteral:
      case Kind::kSet:
        made.may_be_empty = false;
        break;
      case Kind::kText:
        if (node.text == "\\K" && (no_keep_inside || calls_)) {
          in_.unsupported("\\K in a look-around or beside calls of groups");
        }
        made.may_be_empty = !node.unit;
        break;
      case Kind::kAlternate:
        made.may_be_empty = any_empty;
        break;
      case Kind::kConcat:
        made.may_be_empty = all_empty;
        break;
      case Kind::kGroup:
        made.captures = made.captures || referenced_[node.group];
        made.may_be_empty = all_empty;
        break;
      case Kind::kPrefixed:
        made.may_be_empty = node.anchor || all_empty;
        break;
      case Kind::kRepeat:
        if (reads_ && all_empty && made.captures && node.high != 1) {
          in_.unsupported("a repeated group that may be empty and is referred to");
        }
        made.may_be_empty = node.low == 0 || all_empty;
        break;
      default:
        break;
    }
    return made;
  }

  Reader in_;
  std::vector<std::string> groups_;  // their names, "": none
  std::vector<bool> referenced_;
  bool any_named_ = false, search_start_ = false, keeps_ = false;
  bool calls_ = false, reads_ = false;
  int folded_classes_ = 0;
};

}  // namespace

Syntax parse(std::string_view pattern, const std::string& what) {
  return Parser(pattern, what).parse();
}

}  // namespace pith::onig
