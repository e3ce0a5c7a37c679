#include "core/regex/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/regex/onig_pattern.h"
#include "core/utf8.h"

namespace pith {
namespace {

constexpr size_t kMaxPatternBytes = 16 * 1024, kMaxTranslatedBytes = 256 * 1024;
constexpr size_t kFirstWindow = 64, kLargeWindow = 4096;
constexpr uint32_t kFirstSteps = 64, kMoreSteps = 8;  // from one position, and how they grow
constexpr uint64_t kStepsOfPosition = 16;             // charged where kFirstSteps were enough
constexpr uint32_t kHeapLimitKib = 512 * 1024;
constexpr size_t kJitStackBytes = size_t{256} << 20;  // reserved, touched as far as it is needed

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

// What a search writes to; one per thread, since the words of a text are searched one by one.
struct SearchState {
  SearchState() {
    if (!context) return;
    pcre2_set_depth_limit(context.get(), UINT32_MAX);  // the heap limit is what counts
    pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  }
  uint64_t calls = 0;
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
  bool search_start = false;
};

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
  pcre2_set_parens_nest_limit(context.get(), 1000);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  const OnigPattern translated = translate_oniguruma(pattern, file);
  compiled_->search_start = translated.search_start;
  if (translated.pcre2.size() > kMaxTranslatedBytes) {
    fail(ErrorKind::kUnsupported, "{}: pattern {} is too large", file, compiled_->pattern);
  }
  int error = 0;
  PCRE2_SIZE where = 0;
  const uint32_t options =
      PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT;
  compiled_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.pcre2.data()),
                                      translated.pcre2.size(), options, &error, &where,
                                      context.get()));
  if (!compiled_->code) {
    fail(ErrorKind::kUnsupported, "{}: pattern {} is not supported: {} (at offset {})", file,
         compiled_->pattern, message_of(error), where);
  }
  // A group that calls itself before it has taken a character never returns. The interpreter sees
  // that; compiled code goes on, for a time that is quadratic in the limit of steps.
  if (use_jit && !translated.calls)
    pcre2_jit_compile(compiled_->code.get(),
                      PCRE2_JIT_COMPLETE);  // where it fails, the code is interpreted
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

std::string Regex::translate(std::string_view pattern) {
  return translate_oniguruma(pattern, "pattern").pcre2;
}

void Regex::for_each_match(std::string_view text, FunctionRef<void(size_t, size_t)> found) const {
  TextBudget budget(compiled_->file, text.size());
  for_each_match(text, budget, found);
}

// PCRE2 counts steps anew for every start position and does not tell how many it took, so a pattern
// that fails slowly everywhere would take quadratic time within any limit. Hence windows of start
// positions, which grow while nothing matches, and a limit that few positions reach. A position
// that does is found by windows of one character and gets more steps, which are charged.
void Regex::for_each_match(std::string_view text, TextBudget& budget,
                           FunctionRef<void(size_t, size_t)> found) const {
  if (text.empty()) return;
  const Compiled& c = *compiled_;
  SearchState& state = search_state();
  pcre2_match_context* context = state.context.get();
  if (!state.data || context == nullptr) fail(ErrorKind::kMemory, "{}: no memory to match", c.file);
  LargeJitStack stack(context);
  const auto behind = [&](size_t at) {
    return at + (at < text.size() ? utf8_length(text[at]) : 1);
  };
  uint32_t steps = kFirstSteps;
  pcre2_set_match_limit(context, steps);
  const auto set_steps = [&](uint32_t n) {
    if (n != steps) pcre2_set_match_limit(context, steps = n);
  };
  uint64_t owed = 0;  // steps that are charged now and then
  const auto pay = [&] { budget.charge_steps(std::exchange(owed, 0), c.pattern); };
  size_t at = 0, window = kFirstWindow, end_of_last = std::string_view::npos;
  while (at <= text.size()) {
    // Start positions are tried up to `last`. A window of one: only `at` itself.
    const bool one = window == 1 || c.search_start;
    const size_t last = one ? at : std::min(text.size(), at + window);
    pcre2_set_offset_limit(context, c.search_start ? text.size() : last);
    const int n = pcre2_match(c.code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                              at, PCRE2_NO_UTF_CHECK, state.data.get(), context);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT && stack.assign()) continue;
    if (n == PCRE2_ERROR_MATCHLIMIT) {
      owed += steps;
      pay();
      if (one) {
        set_steps(
            static_cast<uint32_t>(std::min<uint64_t>(uint64_t{steps} * kMoreSteps, 1u << 30)));
        if (steps > budget.steps_left()) budget.charge_steps(steps, c.pattern);
      }
      window = 1;
      continue;
    }
    if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
      fail(ErrorKind::kUnsupported, "{}: pattern {} cannot be matched: {}", c.file, c.pattern,
           message_of(n));
    }
    const PCRE2_SIZE* v = pcre2_get_ovector_pointer(state.data.get());
    const size_t tried = (n < 0 ? last : std::max<size_t>(v[0], at)) - at + 1;
    owed += steps == kFirstSteps ? kStepsOfPosition * tried : steps * tried;
    if (++state.calls % 64 == 0 || window >= kLargeWindow) {
      pay();
      budget.check_time(c.pattern);
    }
    if (n < 0) {
      if (last == text.size() || c.search_start) break;
      at = behind(last);
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u) ++at;
      if (steps > kFirstSteps) {
        set_steps(kFirstSteps);
      } else {
        window = std::min<size_t>(window * 2, size_t{1} << 30);
      }
      continue;
    }
    const size_t begin = std::max<size_t>(v[0], at), end = std::max<size_t>(v[1], begin);
    window = kFirstWindow;
    set_steps(kFirstSteps);
    if (begin == end && end == end_of_last) {  // none right behind another match
      at = behind(at);
      continue;
    }
    found(begin, end);
    at = end_of_last = end;
  }
  pay();
}

}  // namespace pith
