#include "formats/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <time.h>

#include <algorithm>

#include "core/error.h"
#include "formats/tokenizer/unicode.h"

namespace pith {
namespace {

constexpr size_t kMaxPatternBytes = 64 * 1024;
constexpr uint64_t kMatchLimit = 1'000'000, kMatchLimitPerByte = 8;  // steps from one position
constexpr size_t kFirstWindow = 64;
constexpr uint32_t kHeapLimitKib = 512 * 1024;
constexpr size_t kJitStackBytes = size_t{256}
                                  << 20;  // reserved, touched only as far as it is needed
constexpr double kSecondsPerText = 2, kSecondsPerByte = 5e-6;  // honest patterns need 0.3e-6

double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

std::string message_of(int code) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

template <class T, void (*kFree)(T*)>
struct Free {
  void operator()(T* p) const { kFree(p); }
};
using Code = std::unique_ptr<pcre2_code, Free<pcre2_code, pcre2_code_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Free<pcre2_match_data, pcre2_match_data_free>>;
using MatchContext =
    std::unique_ptr<pcre2_match_context, Free<pcre2_match_context, pcre2_match_context_free>>;
using CompileContext =
    std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context, pcre2_compile_context_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack, pcre2_jit_stack_free>>;

}  // namespace

namespace {

// What a search writes to; one per thread, since the words of a text are searched one by one.
struct SearchState {
  MatchData data{pcre2_match_data_create(1, nullptr)};
  MatchContext context{pcre2_match_context_create(nullptr)};
};
SearchState& search_state() {
  thread_local SearchState state;
  return state;
}

// A stack for compiled code, for the few searches that need more than the default 32 KiB.
class LargeJitStack {
 public:
  explicit LargeJitStack(pcre2_match_context* context) : context_(context) {}
  ~LargeJitStack() {
    if (stack_) pcre2_jit_stack_assign(context_, nullptr, nullptr);
  }
  LargeJitStack(const LargeJitStack&) = delete;
  LargeJitStack& operator=(const LargeJitStack&) = delete;

  bool assign() {  // false where it was done before, or there is no memory
    if (stack_) return false;
    stack_.reset(pcre2_jit_stack_create(64 * 1024, kJitStackBytes, nullptr));
    if (stack_) pcre2_jit_stack_assign(context_, nullptr, stack_.get());
    return stack_ != nullptr;
  }

 private:
  pcre2_match_context* context_;
  JitStack stack_;
};

}  // namespace

struct Regex::Compiled {
  std::string pattern, file;
  Code code;
};

// \s would take U+180E in PCRE2, and \w leaves out marks and connectors.
std::string Regex::translate(std::string_view pattern) {
  std::string out;
  int open_brackets = 0;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      const bool in_class = open_brackets > 0;
      if (next == 's') {
        out += "\\p{White_Space}";
      } else if (next == 'S') {
        out += "\\P{White_Space}";
      } else if (next == 'w') {
        out += in_class ? "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
                        : "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]";
      } else if (next == 'W' && !in_class) {
        out += "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]";
      } else if (next == 'h' && !in_class) {
        out += "[0-9a-fA-F]";  // Oniguruma's; PCRE2's would be blanks
      } else {
        out += {c, next};
      }
      continue;
    }
    if (c == '[') {
      if (open_brackets > 0 && !(i + 1 < pattern.size() && pattern[i + 1] == ':')) {
        out += "\\[";  // literal to PCRE2, without its nested-class warning
        continue;
      }
      if (open_brackets == 0) ++open_brackets;
      out += c;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') out += "\\]", ++i;
      if (c == '[' && i < pattern.size() && pattern[i] == ':') {
        while (i + 1 < pattern.size() && pattern[i] != ']') out += pattern[++i];
      }
      continue;
    }
    if (c == ']') open_brackets = 0;
    out += c;
  }
  return out;
}

Regex::Regex(std::string_view pattern, const std::string& file, bool use_jit)
    : compiled_(std::make_unique<Compiled>()) {
  compiled_->pattern = pattern.substr(0, 200);
  compiled_->file = file;
  if (pattern.size() > kMaxPatternBytes || valid_utf8_prefix(pattern) != pattern.size()) {
    fail(ErrorKind::kCorrupt, "{}: a pattern of {} bytes is too long or not UTF-8", file,
         pattern.size());
  }
  CompileContext context(pcre2_compile_context_create(nullptr));
  if (!context) fail(ErrorKind::kMemory, "{}: no memory for a pattern", file);
  pcre2_set_parens_nest_limit(context.get(), 100);
  const std::string translated = translate(pattern);
  int error = 0;
  PCRE2_SIZE where = 0;
  const uint32_t options =
      PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT;
  compiled_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                      translated.size(), options, &error, &where, context.get()));
  if (!compiled_->code) {
    fail(ErrorKind::kCorrupt, "{}: pattern {} does not compile: {}", file, compiled_->pattern,
         message_of(error));
  }
  if (use_jit)
    pcre2_jit_compile(compiled_->code.get(),
                      PCRE2_JIT_COMPLETE);  // where it fails, the code is interpreted
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

// PCRE2 counts steps anew for every start position, so a pattern that fails slowly everywhere would
// take quadratic time within the limits. Hence windows of start positions that grow while nothing
// matches, and a clock between them.
void Regex::for_each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const {
  if (text.empty()) return;
  const Compiled& c = *compiled_;
  SearchState& state = search_state();
  pcre2_match_context* context = state.context.get();
  if (!state.data || context == nullptr) fail(ErrorKind::kMemory, "{}: no memory to match", c.file);
  const auto steps = static_cast<uint32_t>(
      std::min<uint64_t>(kMatchLimit + kMatchLimitPerByte * text.size(), UINT32_MAX));
  pcre2_set_match_limit(context, steps);
  pcre2_set_depth_limit(context, steps);  // the heap limit is what counts
  pcre2_set_heap_limit(context, kHeapLimitKib);
  LargeJitStack stack(context);
  const double limit = kSecondsPerText + kSecondsPerByte * static_cast<double>(text.size());
  double deadline = 0;
  size_t at = 0, window = kFirstWindow, calls = 0;
  while (at <= text.size()) {
    const size_t last = std::min(text.size(), at + window);
    pcre2_set_offset_limit(context, last);
    const int n = pcre2_match(c.code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                              at, PCRE2_NO_UTF_CHECK, state.data.get(), context);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT && stack.assign()) continue;
    if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
      fail(ErrorKind::kUnsupported, "{}: pattern {} cannot be matched: {}", c.file, c.pattern,
           message_of(n));
    }
    if (++calls > 1 && (n < 0 || calls % 64 == 0)) {
      const double now = thread_seconds();
      if (deadline == 0) deadline = now + limit;
      if (now > deadline)
        fail(ErrorKind::kUnsupported, "{}: pattern {} takes too long", c.file, c.pattern);
    }
    if (n < 0) {
      if (last == text.size()) return;
      at = last;  // tried already, but a character boundary must be found from here
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u) ++at;
      window = std::min<size_t>(window * 2, size_t{1} << 30);
      continue;
    }
    const PCRE2_SIZE* v = pcre2_get_ovector_pointer(state.data.get());
    const size_t begin = v[0], end = std::max(v[0], v[1]);
    found(begin, end);
    window = kFirstWindow;
    at = end;
    if (end == begin) at += at < text.size() ? utf8_length(text[at]) : 1;
  }
}

}  // namespace pith
