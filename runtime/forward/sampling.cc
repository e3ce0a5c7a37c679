#include "runtime/forward/sampling.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace pith {

void check_sampling(const SamplingOptions& o) {
  if (!(o.temperature >= 0 && o.temperature <= 100))
    fail(ErrorKind::kUsage, "temperature {}: 0 to 100", o.temperature);
  if (o.top_k < 0) fail(ErrorKind::kUsage, "top-k {}: 0 or more", o.top_k);
  if (!(o.top_p > 0 && o.top_p <= 1))
    fail(ErrorKind::kUsage, "top-p {}: above 0, at most 1", o.top_p);
  if (!(o.min_p >= 0 && o.min_p <= 1)) fail(ErrorKind::kUsage, "min-p {}: 0 to 1", o.min_p);
  if (!(o.repetition_penalty >= 0.01 && o.repetition_penalty <= 100))
    fail(ErrorKind::kUsage, "repetition penalty {}: 0.01 to 100", o.repetition_penalty);
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), rng_(options.seed) {
  check_sampling(options);
}

namespace {

// Likeliest first; ties by id, so that the order is one and the same everywhere.
bool likelier(const Candidate& a, const Candidate& b) {
  const bool none = std::isnan(a.logit), other_none = std::isnan(b.logit);
  if (none || other_none) return none != other_none ? none : a.id < b.id;
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

// Beside 1 for the top.
double weight(float logit, float top, double temperature) {
  return std::exp((static_cast<double>(logit) - static_cast<double>(top)) / temperature);
}

}  // namespace

double mass_behind(std::span<const float> logits, const Candidate& top, const Candidate& last,
                   double temperature) {
  double mass = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (likelier(last, {logits[i], static_cast<int32_t>(i)}))
      mass += weight(logits[i], top.logit, temperature);
  }
  return mass;
}

void likeliest(std::span<const float> logits, std::span<Candidate> to) {
  if (to.size() == 1) {
    Candidate best{logits[0], 0};
    for (size_t i = 1; i < logits.size(); ++i) {
      const Candidate c{logits[i], static_cast<int32_t>(i)};
      if (!(c.logit <= best.logit) && likelier(c, best)) best = c;
    }
    to[0] = best;
    return;
  }
  std::vector<Candidate> all(logits.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = {logits[i], static_cast<int32_t>(i)};
  std::partial_sort_copy(all.begin(), all.end(), to.begin(), to.end(), likelier);
}

void likeliest_of_rows(std::span<const float> logits, int64_t rows, std::span<Candidate> to) {
  const auto m = static_cast<size_t>(rows), vocab = logits.size() / m, k = to.size() / m;
  for (size_t r = 0; r < m; ++r) likeliest(logits.subspan(r * vocab, vocab), to.subspan(r * k, k));
}

std::set<int32_t> Sampler::penalized(std::span<const int32_t> history) const {
  if (options_.repetition_penalty == 1) return {};
  const auto window = std::min<size_t>(
      history.size(), static_cast<size_t>(std::max<int64_t>(0, options_.repetition_window)));
  return {history.end() - static_cast<std::ptrdiff_t>(window), history.end()};
}

// A penalty takes at most the penalized out of the likeliest; a bonus may bring in any.
size_t Sampler::candidates(std::span<const int32_t> history, size_t vocab) const {
  if (options_.repetition_penalty < 1 || (!greedy() && options_.top_k == 0)) return vocab;
  const size_t enough = greedy() ? 1 : static_cast<size_t>(options_.top_k);
  return std::min(vocab, enough + penalized(history).size());
}

void Sampler::penalize(std::span<const int32_t> history, FunctionRef<float*(int32_t)> find) const {
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  for (const int32_t id : penalized(history)) {
    float* const l = find(id);
    if (l != nullptr) *l = *l > 0 ? *l / penalty : *l * penalty;
  }
}

// Where none can be left out beforehand, the likeliest are taken by hundreds and the others are but
// a mass, until the draw falls: a few hundred of a vocabulary are sorted instead of all.
int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history) {
  const size_t enough = candidates(history, logits.size());
  if (enough < logits.size() || greedy()) {
    found_.resize(enough);
    likeliest(logits, found_);
    return choose(found_, history);
  }
  std::vector<float> changed(logits.begin(), logits.end());
  penalize(history, [&](int32_t id) {
    return id >= 0 && static_cast<size_t>(id) < changed.size() ? &changed[static_cast<size_t>(id)]
                                                               : nullptr;
  });
  for (size_t k = 256;; k *= 8) {
    found_.resize(std::min(k, changed.size()));
    likeliest(changed, found_);
    const auto id = choose_open(found_, [&](const Candidate& top, const Candidate& last, double t) {
      return found_.size() < changed.size() ? mass_behind(changed, top, last, t) : 0;
    });
    if (id) return *id;
  }
}

std::optional<int32_t> Sampler::choose_open(
    std::span<const Candidate> from,
    FunctionRef<double(const Candidate&, const Candidate&, double)> mass_behind) {
  check(from);
  const auto id =
      draw(from, mass_behind(from.front(), from.back(), options_.temperature), uniform());
  if (id) uniform_.reset();
  return id;
}

int32_t Sampler::choose(std::span<Candidate> from, std::span<const int32_t> history) {
  check(from);
  if (options_.repetition_penalty != 1) {
    penalize(history, [&](int32_t id) {
      const auto it = std::ranges::find(from, id, &Candidate::id);
      return it == from.end() ? nullptr : &it->logit;
    });
    std::ranges::sort(from, likelier);
  }
  if (greedy()) return from[0].id;
  if (options_.top_k > 0)
    from = from.first(std::min<size_t>(from.size(), static_cast<size_t>(options_.top_k)));
  const int32_t id = *draw(from, 0, uniform());
  uniform_.reset();
  return id;
}

// Some logit must be a number and none beyond: neither an order nor a mass exists otherwise.
void Sampler::check(std::span<const Candidate> from) {
  if (from.empty()) fail(ErrorKind::kNumeric, "no logits to choose from");
  if (std::isnan(from[0].logit)) fail(ErrorKind::kNumeric, "a logit is not a number");
  if (!std::isfinite(from[0].logit))
    fail(ErrorKind::kNumeric, "the largest logit is {}", from[0].logit);
}

std::optional<int32_t> Sampler::draw(std::span<const Candidate> from, double others,
                                     double uniform) const {
  const SamplingOptions& o = options_;
  std::vector<double> weights(from.size());
  double total = others;
  for (size_t i = 0; i < from.size(); ++i) {
    weights[i] = weight(from[i].logit, from[0].logit, o.temperature);
    total += weights[i];
  }
  size_t keep = from.size();
  bool open = others > 0;  // whether others may be chosen as well
  if (o.top_p < 1) {
    double mass = 0;
    size_t n = 0;
    while (n < keep && mass < o.top_p * total) mass += weights[n++];
    if (open && mass < o.top_p * total) return std::nullopt;
    keep = std::max<size_t>(1, n);
    open = false;
  }
  for (; keep > 1 && weights[keep - 1] < o.min_p * weights[0]; --keep) open = false;
  if (open && o.min_p > 0) return std::nullopt;
  total = open ? others : 0;
  for (size_t i = 0; i < keep; ++i) total += weights[i];
  double left = uniform * total;
  for (size_t i = 0; i + 1 < keep || (open && i < keep); ++i) {
    left -= weights[i];
    if (left < 0) return from[i].id;
  }
  if (open) return std::nullopt;
  return from[keep - 1].id;
}

}  // namespace pith
