#include "runtime/compress/self_text.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/bytes.h"
#include "core/error.h"
#include "core/parallel.h"
#include "runtime/cpu/kv_cache.h"
#include "runtime/forward/forward.h"
#include "runtime/forward/sampling.h"

namespace pith {
namespace {

constexpr int64_t kPiece = 32;  // tokens of a window between two calls of `keep`
// Twice as many windows at once as in 16 bits. Sampling does not feel the difference.
constexpr NumberFormat kCacheType = NumberFormat::kInt8;

uint64_t window_bytes(const proto::ModelSpec& spec, int64_t length) {
  uint64_t token = 0;
  for (const auto& layer : spec.layers()) {
    for (const auto& s : layer.sublayers()) {
      if (!s.has_attention()) continue;
      const proto::Attention form = absorbed_form(s.attention());
      token += 2 * form.kv_heads() *
               KvPlane::row_bytes(kCacheType, static_cast<int64_t>(form.head_dim()));
    }
  }
  return std::max<uint64_t>(1, token * static_cast<uint64_t>(length));
}

int64_t windows_at_once(const proto::ModelSpec& spec, int64_t length, uint64_t cache_bytes) {
  return static_cast<int64_t>(
      std::clamp<uint64_t>(cache_bytes / window_bytes(spec, length), 1, 64));
}

// Which token comes next in one window: one of an opening, or one to be sampled. It is driven by
// the tokens themselves, so that a window that was begun earlier goes on as it would have.
class Author {
 public:
  Author(const TextRequest& request, const proto::ModelSpec& spec, int64_t window)
      : request_(request),
        window_(window),
        rng_(request.seed, 0x73656c66u + static_cast<uint64_t>(window)),
        sampler_({.temperature = kTemperatures[rng_.at(2) % std::size(kTemperatures)],
                  .min_p = 0.02,
                  .seed = rng_.at(0)}) {
    const int32_t bos = spec.bos_token();
    restarts_ = bos >= 0;
    own_ = {bos >= 0 ? bos : static_cast<int32_t>(rng_.at(1) % spec.vocab())};
    opening_ = own_;
    if (!request.openings.empty()) begin();
  }

  bool samples() const { return opening_.empty(); }
  // The next token; logits [vocab] where it is sampled.
  int32_t next(std::span<const float> logits) {
    const int32_t token = samples() ? sampler_.sample(logits, {}) : opening_.front();
    take(token);
    return token;
  }
  // A token that was written earlier.
  void replay(int32_t token) {
    const float any = 0;
    if (samples()) sampler_.sample({&any, 1}, {});
    take(token);
  }

 private:
  static constexpr double kTemperatures[] = {0.7, 1, 1.2};

  void take(int32_t token) {
    if (!samples()) {
      opening_ = opening_.subspan(1);
    } else if (std::ranges::find(request_.stops, token) != request_.stops.end()) {
      begin();
      // Where one token ends a text and begins the next, one is enough.
      if (!samples() && opening_.front() == token) opening_ = opening_.subspan(1);
    }
  }
  void begin() {
    const auto& openings = request_.openings;
    if (openings.empty()) {
      if (restarts_) opening_ = own_;
      return;
    }
    opening_ =
        openings[documents_ == 0 ? first_opening() : rng_.at(16 + documents_) % openings.size()];
    ++documents_;
  }
  // By a permutation of the openings, the same for all windows.
  size_t first_opening() const {
    const Rng rng(request_.seed, 0x6f70656eu);
    std::vector<size_t> order(request_.openings.size());
    std::iota(order.begin(), order.end(), size_t{0});
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.at(i) % i]);
    return order[static_cast<size_t>(window_) % order.size()];
  }

  const TextRequest& request_;
  const int64_t window_;
  const Rng rng_;
  Sampler sampler_;
  std::vector<int32_t> own_;  // the opening where none are given
  bool restarts_ = true;
  std::span<const int32_t> opening_;  // what is left of it
  uint64_t documents_ = 0;
};

// Windows that are written together, token by token.
class Writer {
 public:
  Writer(Executor& executor, const Model& model, KvCache& cache, int64_t first, int64_t count,
         const TextRequest& request, const CancelToken& cancel, Windows& out)
      : executor_(executor),
        model_(model),
        cache_(cache),
        first_(first),
        count_(count),
        cancel_(cancel),
        out_(out) {
    authors_.reserve(static_cast<size_t>(count));  // they stay where they are
    for (int64_t i = 0; i < count; ++i) {
      Author& author = authors_.emplace_back(request, model.spec, first + i);
      auto& window = out[static_cast<size_t>(first + i)];
      if (window.empty()) {
        window.push_back(author.next({}));
      } else {
        for (const int32_t token : window) author.replay(token);
      }
    }
  }
  int64_t length() const { return static_cast<int64_t>(out_[static_cast<size_t>(first_)].size()); }

  // After windows were given tokens: runs all but the last of each, token by token as they were
  // written, since a pass over several tokens of a window may give other bits.
  void catch_up() {
    for (int64_t at = 0; at < length() - 1; ++at) run(at);
  }

  void step() {
    const auto vocab = static_cast<size_t>(model_.spec.vocab());
    const Tensor hidden = run(length() - 1);
    std::vector<int64_t> rows;  // that a token is sampled from
    std::vector<size_t> logits_of;
    for (int64_t i = 0; i < count_; ++i) {
      logits_of.push_back(rows.size() * vocab);
      if (authors_[static_cast<size_t>(i)].samples()) rows.push_back(i);
    }
    logits_.resize(rows.size() * vocab);
    if (!rows.empty()) executor_.read(forward_head(executor_, model_, hidden, rows), logits_);
    parallel_for(count_, [&](int64_t i) {
      const auto window = static_cast<size_t>(i);
      auto& author = authors_[window];
      const auto logits = author.samples() ? std::span(logits_).subspan(logits_of[window], vocab)
                                           : std::span<float>();
      out_[static_cast<size_t>(first_ + i)].push_back(author.next(logits));
    });
  }

  TextPiece piece(int64_t begin) const {
    TextPiece p{first_, count_, begin, length(), {}};
    for (int64_t i = 0; i < count_; ++i) {
      const auto& w = out_[static_cast<size_t>(first_ + i)];
      p.tokens.insert(p.tokens.end(), w.begin() + begin, w.end());
    }
    return p;
  }

 private:
  // The hidden states of token `at` of each window.
  Tensor run(int64_t at) {
    cancel_.check();
    std::vector<Segment> segments;
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < count_; ++i) {
      segments.push_back({static_cast<int>(i), at, 1});
      tokens.push_back(out_[static_cast<size_t>(first_ + i)][static_cast<size_t>(at)]);
    }
    return forward_hidden(executor_, model_, {tokens, segments}, cache_);
  }

  Executor& executor_;
  const Model& model_;
  KvCache& cache_;
  int64_t first_, count_;
  const CancelToken& cancel_;
  Windows& out_;
  std::vector<Author> authors_;
  std::vector<float> logits_;
};

// Puts pieces that follow each other into place, as far as they do.
void restore(const std::vector<TextPiece>& written, int64_t together, int64_t length, int32_t vocab,
             Windows& out) {
  for (const auto& p : written) {
    const auto count = static_cast<int64_t>(out.size());
    if (p.first < 0 || p.first % together != 0 || p.first >= count ||
        p.count != std::min(together, count - p.first) || p.end <= p.begin || p.end > length ||
        static_cast<int64_t>(p.tokens.size()) != p.count * (p.end - p.begin) ||
        static_cast<int64_t>(out[static_cast<size_t>(p.first)].size()) != p.begin ||
        !std::ranges::all_of(p.tokens, [&](int32_t id) { return id >= 0 && id < vocab; })) {
      continue;
    }
    for (int64_t i = 0; i < p.count; ++i) {
      auto& w = out[static_cast<size_t>(p.first + i)];
      const auto from = p.tokens.begin() + i * (p.end - p.begin);
      w.insert(w.end(), from, from + (p.end - p.begin));
    }
  }
}

void check_request(const TextRequest& request, const proto::ModelSpec& spec) {
  if (request.length > static_cast<int64_t>(spec.context()))
    fail(ErrorKind::kUsage, "windows of {} tokens for a model of {}", request.length,
         spec.context());
  for (const auto& opening : request.openings) {
    if (opening.empty()) fail(ErrorKind::kUsage, "an opening without a token");
    for (const int32_t id : opening) {
      if (id < 0 || static_cast<uint64_t>(id) >= spec.vocab()) {
        fail(ErrorKind::kUsage, "an opening has token {}, and the model knows tokens below {}", id,
             spec.vocab());
      }
    }
  }
}

}  // namespace

std::string to_bytes(const TextPiece& piece) {
  const int64_t head[] = {piece.first, piece.count, piece.begin, piece.end};
  std::string bytes(as_text(std::as_bytes(std::span(head))));
  bytes += as_text(std::as_bytes(std::span(piece.tokens)));
  return bytes;
}

TextPiece piece_from(std::string_view bytes) {
  int64_t head[4];
  if (bytes.size() < sizeof(head) || (bytes.size() - sizeof(head)) % sizeof(int32_t) != 0)
    fail(ErrorKind::kCorrupt, "a piece of text of {} bytes", bytes.size());
  std::memcpy(head, bytes.data(), sizeof(head));
  TextPiece p{head[0], head[1], head[2], head[3], {}};
  p.tokens.resize((bytes.size() - sizeof(head)) / sizeof(int32_t));
  std::ranges::copy(as_bytes(bytes.substr(sizeof(head))),
                    std::as_writable_bytes(std::span(p.tokens)).begin());
  return p;
}

uint64_t text_cache_bytes(const proto::ModelSpec& spec, int64_t count, int64_t length,
                          uint64_t cache_bytes) {
  const auto together =
      static_cast<uint64_t>(std::min(count, windows_at_once(spec, length, cache_bytes)));
  return together * (window_bytes(spec, length) + spec.vocab() * sizeof(float) * 2);
}

Windows write_windows(Executor& executor, const Model& model, const TextRequest& request,
                      Progress& progress, const std::vector<TextPiece>& written,
                      FunctionRef<void(const TextPiece&)> keep) {
  const auto& spec = model.spec;
  const int64_t count = request.count, length = request.length;
  check_request(request, spec);
  const int64_t together = std::min(count, windows_at_once(spec, length, request.cache_bytes));
  Windows out(static_cast<size_t>(count));
  restore(written, together, length, static_cast<int32_t>(spec.vocab()), out);
  const auto cache = executor.make_cache(spec, {static_cast<int>(together), length, kCacheType});
  int64_t kept_tokens = 0;
  for (const auto& w : out) kept_tokens += std::ssize(w);
  progress.begin("writing calibration text", count * length, kept_tokens);
  for (int64_t first = 0; first < count; first += together) {
    const int64_t here = std::min(together, count - first);
    auto& window = out[static_cast<size_t>(first)];
    if (static_cast<int64_t>(window.size()) == length) continue;
    int64_t kept = static_cast<int64_t>(window.size());
    Writer writer(executor, model, *cache, first, here, request, progress.cancel(), out);
    writer.catch_up();
    while (writer.length() < length) {
      try {
        writer.step();
      } catch (const Error& e) {  // what is written so far is not lost
        if (e.kind() == ErrorKind::kCancelled && writer.length() > kept) keep(writer.piece(kept));
        throw;
      }
      if (writer.length() - kept >= kPiece || writer.length() == length) {
        keep(writer.piece(kept));
        kept = writer.length();
      }
      progress.advance(first * length + writer.length() * here, "");
    }
  }
  progress.end();
  return out;
}

}  // namespace pith
