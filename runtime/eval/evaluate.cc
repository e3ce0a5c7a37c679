#include "runtime/eval/evaluate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/interrupt.h"
#include "runtime/forward.h"

namespace pith {
namespace {

constexpr int64_t kBatchTokens = 2048;  // of one forward pass
constexpr int64_t kHeadRows = 128;      // of logits at a time

// Windows that run together: short ones share a pass.
struct Group {
  size_t begin, end;
  int64_t longest;
};

std::vector<Group> group_windows(const std::vector<Window>& windows) {
  std::vector<Group> groups;
  for (size_t i = 0; i < windows.size(); ++i) {
    const auto n = static_cast<int64_t>(windows[i].tokens.size());
    if (!groups.empty()) {
      Group& g = groups.back();
      const int64_t longest = std::max(g.longest, n);
      if (static_cast<int64_t>(g.end + 1 - g.begin) * longest <= kBatchTokens) {
        g.end = i + 1;
        g.longest = longest;
        continue;
      }
    }
    groups.push_back({i, i + 1, n});
  }
  return groups;
}

// Runs groups of windows through one model, keeping its cache.
class Runner {
 public:
  Runner(Executor& executor, const Model& model, KvTypes types = KvType::kF32)
      : executor_(executor), model_(model), types_(types) {}

  // Hidden states of all tokens of the group, copied: the next model may use the executor's
  // buffers.
  void run(const std::vector<Window>& windows, const Group& group) {
    const auto slots = static_cast<int>(group.end - group.begin);
    if (!cache_ || cache_->slots() < slots || cache_->length() < group.longest) {
      cache_.reset();
      cache_ = executor_.make_cache(model_.spec, slots, group.longest, types_);
    }
    std::vector<int32_t> tokens;
    std::vector<Segment> segments;
    for (size_t i = group.begin; i < group.end; ++i) {
      const auto& w = windows[i].tokens;
      for (const int32_t id : w) {
        if (id < 0 || static_cast<uint64_t>(id) >= model_.spec.vocab()) {
          fail(ErrorKind::kUsage,
               "token {} is not in the model's vocabulary of {}: wrong tokenizer?", id,
               model_.spec.vocab());
        }
      }
      segments.push_back({static_cast<int>(i - group.begin), 0, static_cast<int64_t>(w.size())});
      tokens.insert(tokens.end(), w.begin(), w.end());
    }
    const Activation x = forward_hidden(executor_, model_, {tokens, segments}, *cache_);
    hidden_.resize(static_cast<size_t>(x.m * x.n));
    executor_.read(x, hidden_);
  }

  // Logits of rows of the last group, [rows.size(), vocab]; of the executor.
  Activation logits(std::span<const int64_t> rows) {
    const auto n = static_cast<int64_t>(model_.spec.hidden());
    some_.clear();
    for (const int64_t r : rows)
      some_.insert(some_.end(), hidden_.begin() + r * n, hidden_.begin() + (r + 1) * n);
    const Activation x = executor_.buffer(Slot::kHidden, std::ssize(rows), n);
    executor_.write(some_, x);
    all_.resize(rows.size());
    std::iota(all_.begin(), all_.end(), 0);
    return forward_head(executor_, model_, x, all_);
  }
  // Of these rows, followed by these tokens. `kept`: leaves the logits in Slot::kKept.
  void score(std::span<const int64_t> rows, std::span<const int32_t> targets, Activation base,
             std::span<const RowScore> base_scores, std::span<RowScore> to,
             Activation* kept = nullptr) {
    const Activation l = logits(rows);
    executor_.score(l, targets, base, base_scores, to);
    if (kept == nullptr) return;
    *kept = executor_.buffer(Slot::kKept, l.m, l.n);
    executor_.gather(l, all_, *kept);
  }

 private:
  Executor& executor_;
  const Model& model_;
  KvTypes types_;
  std::unique_ptr<KvCache> cache_;
  std::vector<float> hidden_, some_;
  std::vector<int64_t> all_;
};

// Rows of a group that are scored, with the token that follows each.
void scored_rows(const std::vector<Window>& windows, const Group& g, std::vector<int64_t>* rows,
                 std::vector<int32_t>* targets) {
  int64_t base = 0;
  for (size_t i = g.begin; i < g.end; ++i) {
    const auto& w = windows[i];
    for (int64_t p = w.first_scored; p + 1 < static_cast<int64_t>(w.tokens.size()); ++p) {
      rows->push_back(base + p);
      targets->push_back(w.tokens[static_cast<size_t>(p + 1)]);
    }
    base += static_cast<int64_t>(w.tokens.size());
  }
}

struct Subject {
  Executor& executor;
  const Model& model;
  KvTypes cache = KvType::kF32;
};

// Runs every model over every window and calls take(index of a scored token, its scores by each
// model), the first of which is the base.
template <class Take>
void for_each_scored(std::span<const Subject> subjects, const std::vector<Window>& windows,
                     Progress& progress, Take take) {
  std::vector<Runner> runners;
  for (const auto& s : subjects) runners.emplace_back(s.executor, s.model, s.cache);
  int64_t total = 0, done = 0;
  size_t tokens = 0;
  for (const auto& w : windows) total += static_cast<int64_t>(w.tokens.size());
  progress.begin("evaluating", total);
  std::vector<std::array<RowScore, kHeadRows>> scores(subjects.size());
  std::vector<RowScore> of_token(subjects.size());
  for (const auto& g : group_windows(windows)) {
    check_interrupt();
    for (auto& r : runners) r.run(windows, g);
    std::vector<int64_t> rows;
    std::vector<int32_t> targets;
    scored_rows(windows, g, &rows, &targets);
    for (size_t begin = 0; begin < rows.size(); begin += kHeadRows) {
      const size_t n = std::min<size_t>(kHeadRows, rows.size() - begin);
      const auto these = std::span(rows).subspan(begin, n);
      const auto followed = std::span(targets).subspan(begin, n);
      Activation kept;
      for (size_t i = 0; i < runners.size(); ++i) {
        const bool keeps = i == 0 && runners.size() > 1;
        runners[i].score(these, followed, kept, scores[0], scores[i], keeps ? &kept : nullptr);
      }
      for (size_t r = 0; r < n; ++r) {
        for (size_t i = 0; i < runners.size(); ++i) of_token[i] = scores[i][r];
        take(tokens++, std::span<const RowScore>(of_token));
      }
    }
    for (size_t i = g.begin; i < g.end; ++i) done += static_cast<int64_t>(windows[i].tokens.size());
    progress.advance(done, "");
  }
  progress.end();
}

int64_t count_scored(const std::vector<Window>& windows) {
  int64_t n = 0;
  for (const auto& w : windows) n += std::max<int64_t>(0, w.scored());
  if (n == 0) fail(ErrorKind::kUsage, "no token to score");
  return n;
}

struct Mean {
  double mean, standard_error;
};
Mean mean_of(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  const double mean = sum / n;
  for (const double v : values) squares += (v - mean) * (v - mean);
  return {mean, n > 1 ? std::sqrt(squares / (n - 1) / n) : 0};
}

PerplexityResult perplexity_of(const std::vector<double>& nll) {
  const Mean m = mean_of(nll);
  if (!std::isfinite(m.mean)) fail(ErrorKind::kNumeric, "the model's output is not finite");
  const double ppl = std::exp(m.mean);
  return {static_cast<int64_t>(nll.size()), m.mean, ppl, ppl * m.standard_error};
}

double nll_of(const RowScore& s) { return s.log_sum - static_cast<double>(s.target); }

double quantile(const std::vector<double>& sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto i = static_cast<size_t>(at);
  const double rest = at - static_cast<double>(i);
  return i + 1 < sorted.size() ? sorted[i] * (1 - rest) + sorted[i + 1] * rest : sorted[i];
}

}  // namespace

PerplexityResult evaluate_perplexity(Executor& executor, const Model& model,
                                     const std::vector<Window>& windows, Progress& progress,
                                     KvTypes cache) {
  std::vector<double> nll(static_cast<size_t>(count_scored(windows)));
  const Subject subjects[] = {{executor, model, cache}};
  for_each_scored(subjects, windows, progress,
                  [&](size_t i, std::span<const RowScore> scores) { nll[i] = nll_of(scores[0]); });
  return perplexity_of(nll);
}

namespace {

// By scored token.
struct Tokens {
  std::vector<double> kl, nll, change;
  std::vector<uint8_t> same;

  explicit Tokens(size_t n) : kl(n), nll(n), change(n), same(n) {}
};

KlResult result_of(const std::vector<double>& base_nll, Tokens& t) {
  const size_t n = base_nll.size();
  KlResult r;
  r.tokens = static_cast<int64_t>(n);
  r.base = perplexity_of(base_nll);
  r.candidate = perplexity_of(t.nll);
  const Mean mean = mean_of(t.kl);
  if (!std::isfinite(mean.mean)) fail(ErrorKind::kNumeric, "the divergence is not finite");
  r.kl_mean = mean.mean;
  r.kl_standard_error = mean.standard_error;
  double squares = 0;
  std::vector<double> difference(n);
  int64_t equal = 0;
  for (size_t i = 0; i < n; ++i) {
    squares += t.change[i] * t.change[i];
    difference[i] = t.nll[i] - base_nll[i];
    equal += t.same[i];
  }
  std::ranges::sort(t.kl);
  r.kl_median = quantile(t.kl, 0.5);
  r.kl_p99 = quantile(t.kl, 0.99);
  r.kl_p999 = quantile(t.kl, 0.999);
  r.kl_max = t.kl.back();
  r.same_top = static_cast<double>(equal) / static_cast<double>(n);
  r.rms_probability_change = std::sqrt(squares / static_cast<double>(n));
  const Mean d = mean_of(difference);
  r.ppl_ratio = std::exp(d.mean);
  r.ppl_ratio_error = r.ppl_ratio * d.standard_error;
  return r;
}

}  // namespace

std::vector<KlResult> evaluate_kl(Executor& executor, const Model& base,
                                  std::span<const KlCandidate> candidates,
                                  const std::vector<Window>& windows, Progress& progress) {
  std::vector<Subject> subjects = {{executor, base}};
  for (const auto& c : candidates) {
    if (base.spec.vocab() != c.model.spec.vocab()) {
      fail(ErrorKind::kUsage, "vocabularies of {} and {} tokens cannot be compared",
           base.spec.vocab(), c.model.spec.vocab());
    }
    subjects.push_back({c.executor ? *c.executor : executor, c.model, c.cache});
  }
  const auto n = static_cast<size_t>(count_scored(windows));
  std::vector<double> base_nll(n);
  std::vector<Tokens> tokens(candidates.size(), Tokens(n));
  for_each_scored(subjects, windows, progress, [&](size_t i, std::span<const RowScore> scores) {
    base_nll[i] = nll_of(scores[0]);
    for (size_t c = 0; c < tokens.size(); ++c) {
      const RowScore& q = scores[c + 1];
      Tokens& to = tokens[c];
      to.kl[i] = q.divergence;
      to.same[i] = q.top == scores[0].top;
      to.nll[i] = nll_of(q);
      to.change[i] = std::exp(-to.nll[i]) - std::exp(-base_nll[i]);
    }
  });
  std::vector<KlResult> out;
  for (auto& t : tokens) out.push_back(result_of(base_nll, t));
  return out;
}

KlResult evaluate_kl(Executor& executor, const Model& base, const Model& candidate,
                     const std::vector<Window>& windows, Progress& progress) {
  const KlCandidate one[] = {{candidate}};
  return evaluate_kl(executor, base, one, windows, progress).front();
}

std::vector<float> window_logits(Executor& executor, const Model& model, const Window& window) {
  const auto vocab = static_cast<int64_t>(model.spec.vocab());
  std::vector<float> out(static_cast<size_t>(window.scored() + 1) * static_cast<size_t>(vocab));
  Runner runner(executor, model);
  runner.run({window}, {0, 1, static_cast<int64_t>(window.tokens.size())});
  std::vector<int64_t> rows;
  for (int64_t p = window.first_scored; p < static_cast<int64_t>(window.tokens.size()); ++p)
    rows.push_back(p);
  executor.read(runner.logits(rows), out);
  return out;
}

}  // namespace pith
