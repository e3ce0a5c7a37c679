#include "runtime/compress/self_text.h"

#include <algorithm>

#include "core/error.h"
#include "core/interrupt.h"
#include "core/parallel.h"
#include "runtime/forward.h"
#include "runtime/sampling.h"

namespace pith {
namespace {

int64_t windows_at_once(const proto::ModelSpec& spec, int64_t length, uint64_t cache_bytes) {
  uint64_t token = 0;
  for (const auto& layer : spec.layers()) {
    for (const auto& s : layer.sublayers()) {
      if (!s.has_attention()) continue;
      const proto::Attention form = cached_form(s.attention());
      token += 4ull * form.kv_heads() * form.head_dim();
    }
  }
  const uint64_t window = std::max<uint64_t>(1, token * static_cast<uint64_t>(length));
  return static_cast<int64_t>(std::clamp<uint64_t>(cache_bytes / window, 1, 64));
}

}  // namespace

std::vector<std::vector<int32_t>> write_windows(Executor& executor, const Model& model,
                                                int64_t count, int64_t length, uint64_t seed,
                                                Progress& progress, uint64_t cache_bytes) {
  const auto& spec = model.spec;
  if (length > static_cast<int64_t>(spec.context()))
    fail(ErrorKind::kUsage, "windows of {} tokens for a model of {}", length, spec.context());
  const auto vocab = static_cast<int64_t>(spec.vocab());
  const int64_t together = std::min(count, windows_at_once(spec, length, cache_bytes));
  std::vector<std::vector<int32_t>> out(static_cast<size_t>(count));
  const auto cache = executor.make_cache(spec, static_cast<int>(together), length, KvType::kF16);
  progress.begin("writing calibration text", count * length);
  std::vector<float> logits;
  for (int64_t first = 0; first < count; first += together) {
    const int64_t here = std::min(together, count - first);
    std::vector<Sampler> samplers;
    std::vector<int32_t> last;
    for (int64_t i = 0; i < here; ++i) {
      const Rng rng(seed, 0x73656c66u + static_cast<uint64_t>(first + i));
      samplers.emplace_back(SamplingOptions{.temperature = 1, .min_p = 0.02, .seed = rng.at(0)});
      last.push_back(spec.bos_token() >= 0 ? spec.bos_token()
                                           : static_cast<int32_t>(rng.at(1) % spec.vocab()));
      out[static_cast<size_t>(first + i)].push_back(last.back());
    }
    for (int64_t t = 0; t + 1 < length; ++t) {
      check_interrupt();
      std::vector<Segment> segments;
      std::vector<int64_t> rows;
      for (int64_t i = 0; i < here; ++i) {
        segments.push_back({static_cast<int>(i), t, 1});
        rows.push_back(i);
      }
      const Activation hidden = forward_hidden(executor, model, {last, segments}, *cache);
      const Activation l = forward_head(executor, model, hidden, rows);
      logits.resize(static_cast<size_t>(l.m * l.n));
      executor.read(l, logits);
      parallel_for(here, [&](int64_t i) {
        const auto at = static_cast<size_t>(i);
        int32_t token = samplers[at].sample(
            std::span(logits).subspan(at * static_cast<size_t>(vocab), static_cast<size_t>(vocab)),
            {});
        if (std::ranges::find(spec.stop_tokens(), token) != spec.stop_tokens().end() &&
            spec.bos_token() >= 0) {
          token = spec.bos_token();
        }
        last[at] = token;
        out[static_cast<size_t>(first + i)].push_back(token);
      });
      progress.advance(first * length + (t + 2) * here, "");
    }
  }
  progress.end();
  return out;
}

}  // namespace pith
