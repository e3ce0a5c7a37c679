#include "runtime/eval/evaluate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <numeric>

#include "core/error.h"
#include "core/parallel.h"
#include "runtime/cpu/kernels.h"
#include "runtime/eval/quantile.h"
#include "runtime/forward/cancelling_executor.h"
#include "runtime/forward/forward.h"

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
  Runner(Executor& executor, const Model& model, KvTypes types = NumberFormat::kF32)
      : executor_(executor), model_(model), types_(types) {}

  // Hidden states of all tokens of the group, copied: the next model may use the executor's
  // buffers.
  void run(const std::vector<Window>& windows, const Group& group) {
    const auto slots = static_cast<int>(group.end - group.begin);
    if (!cache_ || cache_->slots() < slots || cache_->length() < group.longest) {
      cache_.reset();
      cache_ = executor_.make_cache(model_.spec, {slots, group.longest, types_});
    }
    std::vector<int32_t> tokens;
    std::vector<Segment> segments;
    for (size_t i = group.begin; i < group.end; ++i) {
      const auto& w = windows[i].tokens;
      segments.push_back({static_cast<int>(i - group.begin), 0, static_cast<int64_t>(w.size())});
      tokens.insert(tokens.end(), w.begin(), w.end());
    }
    const Tensor x = forward_hidden(executor_, model_, {tokens, segments}, *cache_);
    hidden_.resize(static_cast<size_t>(x.m * x.n));
    executor_.read(x, hidden_);
  }

  // Logits of rows of the last group, [rows.size(), vocab]; of the executor.
  Tensor logits(std::span<const int64_t> rows) {
    const auto n = static_cast<int64_t>(model_.spec.hidden());
    some_.clear();
    for (const int64_t r : rows)
      some_.insert(some_.end(), hidden_.begin() + r * n, hidden_.begin() + (r + 1) * n);
    const Tensor x = executor_.buffer(TensorId::kHidden, std::ssize(rows), n);
    executor_.write(some_, x);
    all_.resize(rows.size());
    std::iota(all_.begin(), all_.end(), 0);
    return forward_head(executor_, model_, x, all_);
  }
  // Scores rows by the tokens that follow them. `kept`: leaves the logits in TensorId::kBaseLogits.
  void score(std::span<const int64_t> rows, std::span<const int32_t> targets, Tensor base,
             std::span<const RowScore> base_scores, std::span<RowScore> to,
             Tensor* kept = nullptr) {
    const Tensor l = logits(rows);
    executor_.score(l, targets, base, base_scores, to);
    if (kept == nullptr) return;
    *kept = executor_.buffer(TensorId::kBaseLogits, l.m, l.n);
    executor_.run(GatherOp{l, all_, *kept});
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
  KvTypes cache = NumberFormat::kF32;
};

int64_t scored_in(const std::vector<Window>& windows, const Group& g) {
  int64_t n = 0;
  for (size_t i = g.begin; i < g.end; ++i) n += std::max<int64_t>(0, windows[i].scored());
  return n;
}

// The scores of tokens by a stored base, and its logits in the executor.
class StoredBase {
 public:
  StoredBase(Executor& executor, const LogitsReader& reader)
      : executor_(executor), reader_(reader) {}

  Tensor read(uint64_t first, std::span<RowScore> to, std::span<double> nll) {
    const auto vocab = static_cast<int64_t>(reader_.header().vocab);
    logits_.resize(to.size() * static_cast<size_t>(vocab));
    stored_.resize(to.size());
    reader_.read(first, logits_, stored_);
    parallel_for(std::ssize(to), [&](int64_t r) {
      const auto i = static_cast<size_t>(r);
      to[i] = {.log_sum = cpu_kernels().log_sum_exp(logits_.data() + r * vocab, vocab),
               .top = stored_[i].top};
      nll[i] = stored_[i].nll;
    });
    const Tensor kept = executor_.buffer(TensorId::kBaseLogits, std::ssize(to), vocab);
    executor_.write(logits_, kept);
    return kept;
  }

 private:
  Executor& executor_;
  const LogitsReader& reader_;
  std::vector<float> logits_;
  std::vector<StoredScore> stored_;
};

// The scores of one scored token: first those of the base, or of the only model.
struct ScoredToken {
  std::span<const RowScore> scores;
  double first_nll;
};

double nll_of(const RowScore& s) { return s.log_sum - static_cast<double>(s.target); }

// Tokens of the groups that the table holds already.
int64_t tokens_in_table(const std::vector<Window>& windows, const Measurements& table) {
  int64_t tokens = 0;
  size_t scored = 0;
  for (const auto& g : group_windows(windows)) {
    scored += static_cast<size_t>(scored_in(windows, g));
    if (scored > table.rows()) break;
    for (size_t i = g.begin; i < g.end; ++i) tokens += std::ssize(windows[i].tokens);
  }
  return tokens;
}

// Runs every model over every window and calls take(token, row) for each scored token, which fills
// the row of the table; detail() is shown with the progress. With a stored base, only the
// candidates run. Rows that the table holds already are not measured again.
template <class Take, class Detail>
void for_each_scored(std::span<const Subject> subjects, StoredBase* stored,
                     const std::vector<Window>& windows, Measurements& table, LogitsWriter* logits,
                     Progress& progress, Take take, Detail detail) {
  std::deque<CancellingExecutor> executors;
  std::vector<Runner> runners;
  for (const auto& s : subjects)
    runners.emplace_back(executors.emplace_back(s.executor, progress.cancel()), s.model, s.cache);
  int64_t total = 0, done = 0;
  size_t tokens = 0;
  for (const auto& w : windows) total += static_cast<int64_t>(w.tokens.size());
  progress.begin("evaluating", total, tokens_in_table(windows, table));
  const size_t before = stored != nullptr;  // of `scores` that no runner makes
  std::vector<std::array<RowScore, kHeadRows>> scores(subjects.size() + before);
  std::array<double, kHeadRows> first_nll{};
  std::vector<RowScore> of_token(scores.size());
  std::vector<double> row(table.columns());
  std::vector<float> rows_of_logits;
  try {
    for (const auto& g : group_windows(windows)) {
      progress.check();
      const auto in_group = static_cast<size_t>(scored_in(windows, g));
      for (size_t i = g.begin; i < g.end; ++i)
        done += static_cast<int64_t>(windows[i].tokens.size());
      if (tokens + in_group <= table.rows()) {
        tokens += in_group;
        continue;
      }
      table.cut(tokens);
      for (auto& r : runners) r.run(windows, g);
      std::vector<int64_t> rows;
      std::vector<int32_t> targets;
      scored_rows(windows, g, &rows, &targets);
      for (size_t begin = 0; begin < rows.size(); begin += kHeadRows) {
        const size_t n = std::min<size_t>(kHeadRows, rows.size() - begin);
        const auto these = std::span(rows).subspan(begin, n);
        const auto followed = std::span(targets).subspan(begin, n);
        Tensor kept;
        if (stored) kept = stored->read(tokens, std::span(scores[0]).first(n), first_nll);
        for (size_t i = 0; i < runners.size(); ++i) {
          const bool keeps = !stored && i == 0 && (runners.size() > 1 || logits != nullptr);
          runners[i].score(these, followed, kept, scores[0], scores[i + before],
                           keeps ? &kept : nullptr);
        }
        if (logits) {
          rows_of_logits.resize(static_cast<size_t>(kept.m * kept.n));
          subjects[0].executor.read(kept, rows_of_logits);
          logits->add(rows_of_logits, std::span(scores[0]).first(n));
        }
        for (size_t r = 0; r < n; ++r) {
          for (size_t i = 0; i < scores.size(); ++i) of_token[i] = scores[i][r];
          take(ScoredToken{of_token, stored ? first_nll[r] : nll_of(of_token[0])},
               std::span<double>(row));
          for (const double v : row) {
            if (!std::isfinite(v)) fail(ErrorKind::kNumeric, "the model's output is not finite");
          }
          table.add(row);
          ++tokens;
        }
      }
      progress.advance(done, detail());
      table.save_sometimes();
    }
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kCancelled) {
      table.cut(tokens);
      table.save();
    }
    throw;
  }
  progress.end();
}

// The mean of a column and its standard error as rows come in.
class RunningMean {
 public:
  RunningMean(const Measurements& table, size_t column) : table_(table), column_(column) {}
  void update() {  // Welford
    for (; rows_ < table_.rows(); ++rows_) {
      const double v = table_.at(rows_, column_), d = v - mean_;
      mean_ += d / static_cast<double>(rows_ + 1);
      squares_ += d * (v - mean_);
    }
  }
  double mean() const { return mean_; }
  double error() const {
    const auto n = static_cast<double>(rows_);
    return n > 1 ? std::sqrt(squares_ / (n - 1) / n) : 0;
  }

 private:
  const Measurements& table_;
  const size_t column_;
  size_t rows_ = 0;
  double mean_ = 0, squares_ = 0;
};

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

std::vector<double> column_of(const Measurements& table, size_t column) {
  std::vector<double> out(table.rows());
  for (size_t i = 0; i < out.size(); ++i) out[i] = table.at(i, column);
  return out;
}

void check_tokens(const Window& w, uint64_t vocab) {
  for (const int32_t id : w.tokens) {
    if (id >= 0 && static_cast<uint64_t>(id) < vocab) continue;
    fail(ErrorKind::kUsage, "token {} is not in the model's vocabulary of {}: wrong tokenizer?", id,
         vocab);
  }
}

void measure_nll(Executor& executor, const Model& model, const std::vector<Window>& windows,
                 Progress& progress, KvTypes cache, LogitsWriter* logits, Measurements& table) {
  check_windows(windows, model.spec.vocab());
  const Subject subjects[] = {{executor, model, cache}};
  RunningMean nll(table, 0);
  for_each_scored(
      subjects, nullptr, windows, table, logits, progress,
      [](const ScoredToken& t, std::span<double> row) { row[0] = t.first_nll; },
      [&] {
        nll.update();
        const double ppl = std::exp(nll.mean());
        return fmt::format("perplexity {:.3f} +- {:.3f}", ppl, ppl * nll.error());
      });
}

}  // namespace

int64_t check_windows(const std::vector<Window>& windows, uint64_t vocab) {
  int64_t n = 0;
  for (const auto& w : windows) {
    n += std::max<int64_t>(0, w.scored());
    check_tokens(w, vocab);
  }
  if (n == 0) fail(ErrorKind::kUsage, "no token to score");
  return n;
}

PerplexityResult evaluate_perplexity(Executor& executor, const Model& model,
                                     const std::vector<Window>& windows, Progress& progress,
                                     KvTypes cache, const EvaluationFiles& files) {
  Measurements own(kPerplexityColumns);
  Measurements& table = files.measured ? *files.measured : own;
  measure_nll(executor, model, windows, progress, cache, files.logits, table);
  return perplexity_of(column_of(table, 0));
}

std::vector<double> window_nll(Executor& executor, const Model& model,
                               const std::vector<Window>& windows, Progress& progress,
                               const EvaluationFiles& files) {
  Measurements own(kPerplexityColumns);
  Measurements& table = files.measured ? *files.measured : own;
  measure_nll(executor, model, windows, progress, NumberFormat::kF32, files.logits, table);
  std::vector<double> sums;
  size_t row = 0;
  for (const auto& w : windows) {
    double sum = 0;
    for (int64_t i = 0; i < w.scored(); ++i) sum += table.at(row++, 0);
    sums.push_back(sum);
  }
  return sums;
}

namespace {

// Columns of the table: the base's nll, then these for each candidate.
enum Column : size_t { kDivergence = 1, kNll = 2, kSame = 3, kColumns = 3 };

KlResult result_of(const Measurements& table, size_t candidate) {
  const size_t first = candidate * kColumns, n = table.rows();
  const auto base_nll = column_of(table, 0), nll = column_of(table, first + kNll);
  auto kl = column_of(table, first + kDivergence);
  KlResult r;
  r.tokens = static_cast<int64_t>(n);
  r.base = perplexity_of(base_nll);
  r.candidate = perplexity_of(nll);
  const Mean mean = mean_of(kl);
  r.kl_mean = mean.mean;
  r.kl_standard_error = mean.standard_error;
  double squares = 0, equal = 0;
  std::vector<double> difference(n);
  for (size_t i = 0; i < n; ++i) {
    const double change = std::exp(-nll[i]) - std::exp(-base_nll[i]);
    squares += change * change;
    difference[i] = nll[i] - base_nll[i];
    equal += table.at(i, first + kSame);
  }
  std::ranges::sort(kl);
  r.kl_median = quantile(kl, 0.5);
  r.kl_p99 = quantile(kl, 0.99);
  r.kl_p99_error = quantile_error(kl, 0.99);
  r.kl_p999 = quantile(kl, 0.999);
  r.kl_p999_error = quantile_error(kl, 0.999);
  r.kl_max = kl.back();
  r.same_top = equal / static_cast<double>(n);
  r.rms_probability_change = std::sqrt(squares / static_cast<double>(n));
  const Mean d = mean_of(difference);
  r.ppl_ratio = std::exp(d.mean);
  r.ppl_ratio_error = r.ppl_ratio * d.standard_error;
  return r;
}

void add_candidates(Executor& executor, uint64_t vocab, std::span<const KlCandidate> candidates,
                    std::vector<Subject>* to) {
  for (const auto& c : candidates) {
    if (vocab != c.model.spec.vocab()) {
      fail(ErrorKind::kUsage, "vocabularies of {} and {} tokens cannot be compared", vocab,
           c.model.spec.vocab());
    }
    to->push_back({c.executor ? *c.executor : executor, c.model, c.cache});
  }
}

std::vector<KlResult> measure_kl(std::span<const Subject> subjects, StoredBase* stored,
                                 size_t candidates, const std::vector<Window>& windows,
                                 Progress& progress, const EvaluationFiles& files) {
  Measurements own(kl_columns(candidates));
  Measurements& table = files.measured ? *files.measured : own;
  RunningMean kl(table, candidates > 0 ? size_t{kDivergence} : 0);
  for_each_scored(
      subjects, stored, windows, table, files.logits, progress,
      [&](const ScoredToken& t, std::span<double> row) {
        row[0] = t.first_nll;
        for (size_t c = 0; c < candidates; ++c) {
          const RowScore& q = t.scores[c + 1];
          row[c * kColumns + kDivergence] = q.divergence;
          row[c * kColumns + kNll] = nll_of(q);
          row[c * kColumns + kSame] = q.top == t.scores[0].top;
        }
      },
      [&] {
        kl.update();
        return fmt::format("KL {:.5f} +- {:.5f}", kl.mean(), kl.error());
      });
  std::vector<KlResult> out;
  for (size_t c = 0; c < candidates; ++c) out.push_back(result_of(table, c));
  return out;
}

}  // namespace

std::vector<KlResult> evaluate_kl(Executor& executor, const Model& base,
                                  std::span<const KlCandidate> candidates,
                                  const std::vector<Window>& windows, Progress& progress,
                                  const EvaluationFiles& files) {
  std::vector<Subject> subjects = {{executor, base}};
  add_candidates(executor, base.spec.vocab(), candidates, &subjects);
  check_windows(windows, base.spec.vocab());
  return measure_kl(subjects, nullptr, candidates.size(), windows, progress, files);
}

std::vector<KlResult> evaluate_kl(Executor& executor, const LogitsReader& base,
                                  std::span<const KlCandidate> candidates,
                                  const std::vector<Window>& windows, Progress& progress,
                                  const EvaluationFiles& files) {
  const auto tokens = static_cast<uint64_t>(check_windows(windows, base.header().vocab));
  if (base.header().windows_hash != hash_of(windows) || base.header().tokens != tokens)
    fail(ErrorKind::kUsage, "{}: its logits are of other windows", base.path());
  std::vector<Subject> subjects;
  add_candidates(executor, base.header().vocab, candidates, &subjects);
  StoredBase stored(executor, base);
  return measure_kl(subjects, &stored, candidates.size(), windows, progress, files);
}

KlResult evaluate_kl(Executor& executor, const Model& base, const Model& candidate,
                     const std::vector<Window>& windows, Progress& progress) {
  const KlCandidate one[] = {{candidate}};
  return evaluate_kl(executor, base, one, windows, progress).front();
}

std::vector<float> window_logits(Executor& executor, const Model& model, const Window& window) {
  check_tokens(window, model.spec.vocab());
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
