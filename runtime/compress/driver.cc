#include "runtime/compress/driver.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/interrupt.h"
#include "core/limits.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "formats/tokenizer/unicode.h"
#include "runtime/compress/check.h"
#include "runtime/compress/fingerprint.h"
#include "runtime/compress/journal.h"
#include "runtime/cpu/cpu_executor.h"
#include "runtime/cpu/matmul.h"

namespace pith {
namespace {

// What a linear will be stored as: the last pass that says so, else as it is.
Encoding target_encoding(const Passes& passes, const LinearInfo& info, const Encoding& from) {
  Encoding to = from;
  for (const auto& p : passes) {
    if (const auto e = p->encoding(info)) to = *e;
  }
  return to;
}

StatisticsNeeds needs_of(const Passes& passes) {
  StatisticsNeeds all;
  for (const auto& p : passes) all = all | p->needs();
  return all;
}

constexpr size_t kCheckTokens = 48;  // that the finished file is compared with its source on

// What calibration measures against is kept apart from what it fits: one window of eight.
constexpr int kHoldOut = 8;

bool holds_out(const StatisticsNeeds& needs, const CompressOptions& options) {
  return needs.cross && options.calibration.size() >= kHoldOut;
}

// Hash of numbers and squared error of slabs, joined in order of the rows.
struct Comparison {
  std::vector<uint64_t> hashes;
  std::vector<double> error, norm;
  std::vector<int64_t> lost, rows;  // rows that became zeros, of those that were not
  std::vector<float> largest;       // magnitude of what was lost

  explicit Comparison(int64_t slabs)
      : hashes(static_cast<size_t>(slabs)),
        error(static_cast<size_t>(slabs)),
        norm(static_cast<size_t>(slabs)),
        lost(static_cast<size_t>(slabs)),
        rows(static_cast<size_t>(slabs)),
        largest(static_cast<size_t>(slabs)) {}

  uint64_t hash() const { return hash64(std::as_bytes(std::span(hashes))); }
  double relative_error() const {
    double e = 0, n = 0;
    for (size_t i = 0; i < error.size(); ++i) {
      e += error[i];
      n += norm[i];
    }
    return n > 0 ? e / n : 0;
  }
};

void compare_slab(const std::string& name, int64_t slab, int64_t row, int64_t k,
                  std::span<const float> original, std::span<const float> result, Comparison* to) {
  // In lanes, so that the order of summation is fixed and the compiler may use vectors.
  float error[16] = {}, norm[16] = {};
  double error_sum = 0, norm_sum = 0;
  const auto flush = [&] {
    for (int l = 0; l < 16; ++l) {
      error_sum += static_cast<double>(error[l]);
      norm_sum += static_cast<double>(norm[l]);
      error[l] = norm[l] = 0;
    }
  };
  const size_t n = original.size();
  const float* a = original.data();
  const float* b = result.data();
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (size_t l = 0; l < 16; ++l) {
      const float d = a[i + l] - b[i + l];
      error[l] += d * d;
      norm[l] += a[i + l] * a[i + l];
    }
    if (i % 4096 == 0) flush();
  }
  for (; i < n; ++i) {
    const float d = a[i] - b[i];
    error[i % 16] += d * d;
    norm[i % 16] += a[i] * a[i];
  }
  flush();
  if (!std::isfinite(norm_sum)) {
    check_finite(name, row, k, original);
    fail(ErrorKind::kNumeric, "{}: weights in the rows from {} on are too large to be squared",
         name, row);
  }
  if (!std::isfinite(error_sum))
    fail(ErrorKind::kNumeric, "{}: the compressed weights are not finite near row {}", name, row);
  const auto s = static_cast<size_t>(slab);
  const auto is_zero = [](float v) { return v == 0; };
  for (size_t at = 0; at < n; at += static_cast<size_t>(k)) {
    const auto before = original.subspan(at, static_cast<size_t>(k)),
               after = result.subspan(at, static_cast<size_t>(k));
    if (std::ranges::all_of(before, is_zero)) continue;
    ++to->rows[s];
    if (!std::ranges::all_of(after, is_zero)) continue;
    ++to->lost[s];
    for (const float v : before) to->largest[s] = std::max(to->largest[s], std::fabs(v));
  }
  to->error[s] = error_sum;
  to->norm[s] = norm_sum;
  to->hashes[s] = hash64(std::as_bytes(original));
}

class Driver {
 public:
  Driver(const ModelSource& source, const Passes& passes, const CompressOptions& options,
         Progress& progress)
      : source_(source),
        spec_(source.spec()),
        passes_(passes),
        options_(options),
        progress_(progress),
        linears_(linears_of(spec_)) {}

  CompressReport run() {
    const CompressPlan plan = plan_compression(source_, passes_, options_);
    check_compression(source_, passes_, options_, plan);
    std::unique_ptr<WorkFolder> own;
    if (options_.work == nullptr) own = std::make_unique<WorkFolder>(options_.output);
    work_ = own ? own.get() : options_.work;
    const Fingerprint fingerprint = fingerprint_of(source_, passes_, options_);
    if (options_.one_of_tries && work_->journal().about() != fingerprint)
      work_->journal().begin(fingerprint);
    Journal journal(*work_, fingerprint);
    try {
      journal.data().reserve(plan.output_bytes);
      drop_strange_units(journal);
      CompressReport report = run(journal);
      if (own) own->remove();
      return report;
    } catch (const Error& e) {
      // Work that can go on is kept; an error that would come again leaves nothing behind.
      if (comes_again(e.kind())) journal.discard();
      throw;
    }
  }

 private:
  static bool comes_again(ErrorKind kind) {
    return kind == ErrorKind::kUsage || kind == ErrorKind::kCorrupt ||
           kind == ErrorKind::kUnsupported || kind == ErrorKind::kNumeric;
  }

  // The names of the units, in order.
  std::vector<std::string> unit_names() const {
    std::vector<std::string> names = {"tokenizer", "embedding"};
    for (int l = 0; l < spec_.layers_size(); ++l) names.push_back(fmt::format("layer {}", l));
    names.push_back("head");
    return names;
  }
  // Drops the units from the first one on whose records do not fit this model.
  void drop_strange_units(Journal& journal) const {
    const auto names = unit_names();
    for (size_t i = 0; i < journal.done().size(); ++i) {
      if (i < names.size() && fits(journal.done()[i], i, names)) continue;
      return journal.drop_from(i);
    }
  }
  bool fits(const proto::JournalUnit& unit, size_t index,
            const std::vector<std::string>& names) const {
    std::vector<LinearInfo> linears;
    std::vector<VectorInfo> vectors;
    const bool head = index + 1 == names.size();
    const int layer = static_cast<int>(index) - 2;
    if (index == 1) linears = {linears_.front()};
    if (index >= 2 && !head) linears = linears_of(spec_, layer);
    if (head && !spec_.tied_head()) linears = {linears_.back()};
    for (const auto& v : vectors_of(spec_)) {
      if (index >= 2 && v.layer == (head ? -1 : layer)) vectors.push_back(v);
    }
    return unit.name() == names[index] && (index == 0 || unit.blobs().empty()) &&
           std::ranges::equal(unit.linears(), linears,
                              [](const proto::LinearRecord& r, const LinearInfo& info) {
                                return r.name() == info.name &&
                                       r.n() == static_cast<uint64_t>(info.n) &&
                                       r.k() == static_cast<uint64_t>(info.k) &&
                                       r.has_bias() == info.bias;
                              }) &&
           std::ranges::equal(
               unit.vectors(), vectors, [](const proto::VectorRecord& r, const VectorInfo& info) {
                 return r.name() == info.name && r.length() == static_cast<uint64_t>(info.length);
               });
  }

  CompressReport run(Journal& journal) {
    CompressReport report;
    report.resumed_units = static_cast<int>(journal.done().size());
    PackedWriter writer(journal.data(), journal.data_end());
    writer_ = &writer;
    journal_ = &journal;
    if (report.resumed_units > 0) {
      progress_.note(fmt::format("going on after {} of {} finished parts in {}",
                                 report.resumed_units, spec_.layers_size() + 3, work_->path()));
    }
    progress_.begin("compressing", spec_.layers_size() + 3);
    if (report.resumed_units > 0) progress_.resume(report.resumed_units);

    unit("tokenizer", [&](proto::JournalUnit* u) {
      proto::Manifest blobs;
      add_tokenizer(writer, source_.tokenizer(), &blobs);
      *u->mutable_blobs() = blobs.blobs();
    });
    const LinearInfo& embedding = linears_.front();
    unit("embedding", [&](proto::JournalUnit* u) { stream(embedding, u); });

    const StatisticsNeeds needs = needs_of(passes_);
    const bool blocks_done = journal.done().size() >= 2 + static_cast<size_t>(spec_.layers_size());
    if (needs.any() && !options_.calibration.empty() && !blocks_done)
      begin_calibration(embedding, needs);
    for (int l = 0; l < spec_.layers_size(); ++l) {
      Block block, loaded;
      const bool was_done = !unit(fmt::format("layer {}", l), [&](proto::JournalUnit* u) {
        const Phases::Scope phase(phases_, "reading");
        loaded = load_block(source_, l);
        compress_block(loaded, &block, u);
      });
      if (was_done && states_ && l + 1 < spec_.layers_size()) {
        block = stored_block(l);
        loaded = load_block(source_, l);
        for (int s = 0; s < spec_.layers(l).sublayers_size(); ++s) propagate(block, loaded, s);
      }
    }
    calibration_.reset();
    states_.reset();
    originals_.reset();
    unit("head", [&](proto::JournalUnit* u) {
      if (!spec_.tied_head()) stream(linears_.back(), u);
      write_vectors(-1, u);
    });
    progress_.end();

    proto::Manifest manifest = make_manifest();
    for (const auto& l : manifest.linears()) {
      if (report.worst_linear.empty() || l.relative_error() > report.worst_error) {
        report.worst_error = l.relative_error();
        report.worst_linear = l.name();
      }
      if (!l.fallback().empty()) report.fallbacks.push_back(l.name() + ": " + l.fallback());
      ++report.methods[l.method().substr(0, l.method().find(','))];
    }
    report.notes = notes_;
    {
      const Phases::Scope phase(phases_, "checking");
      report.file_bytes = writer.finish(manifest);
      const CheckResult checked = check(journal.data().path());
      report.check_kl = checked.kl;
      report.check_tokens = checked.tokens;
      journal.finish();
    }
    report.seconds = phases_.seconds();
    return report;
  }

  CheckResult check(const std::string& path) {
    try {
      return check_result(path, source_, check_tokens(), progress_);
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::kCorrupt) throw;
      // The data read back differs from the data written. The next run finds the damaged parts and
      // makes them again.
      fail(ErrorKind::kIo, "{}; the disk may be faulty: run again to make the damaged parts anew",
           e.what());
    }
  }

  Executor& executor() {
    if (options_.executor != nullptr) return *options_.executor;
    if (!cpu_) cpu_ = make_cpu_executor();
    return *cpu_;
  }

  void begin_calibration(const LinearInfo& embedding, const StatisticsNeeds& needs) {
    const Linear table = source_.linear(embedding);
    const std::string scratch = work_->path();
    const auto make = [&] {
      return std::make_unique<CalibrationStates>(executor(), spec_, table, options_.calibration,
                                                 options_.memory, scratch);
    };
    states_ = make();
    // How far inputs are corrected is measured on windows that are held out: without them, not.
    const bool measures = holds_out(needs, options_);
    if (measures) originals_ = make();
    calibration_ = std::make_unique<Calibration>(
        executor(), *states_, originals_.get(),
        Calibration::Options{options_.sequential, measures ? kHoldOut : 0, &phases_});
  }

  // Sublayer by sublayer: function-preserving changes, then each stage, then on with the states.
  void compress_block(const Block& loaded, Block* block, proto::JournalUnit* u) {
    *block = loaded;
    Block original = loaded;  // shares the bytes
    PassReport done;
    const auto stages = stages_of(spec_, loaded.layer);
    for (int s = 0; s < spec_.layers(loaded.layer).sublayers_size(); ++s) {
      std::vector<Stage> here;
      std::ranges::copy_if(stages, std::back_inserter(here),
                           [&](const Stage& stage) { return stage.sublayer == s; });
      if (calibration_) calibration_->begin(*block, original, false);
      const auto& sub = spec_.layers(loaded.layer).sublayers(s);
      bool changed = false;
      {
        const Phases::Scope phase(phases_, "scaling");
        for (const auto& p : passes_) changed |= p->prepare(sub, here, *block, calibration_.get());
      }
      original.sublayers[static_cast<size_t>(s)] = block->sublayers[static_cast<size_t>(s)];
      if (calibration_) calibration_->begin(*block, original, changed);
      for (const auto& stage : here) {
        check_interrupt();
        progress_.advance(static_cast<int64_t>(units_) - 1, stage.linears.front().name);
        const Phases::Scope phase(phases_, "rounding");
        for (const auto& p : passes_) p->apply(stage, *block, calibration_.get(), done);
      }
      const bool last = loaded.layer + 1 == spec_.layers_size() &&
                        s + 1 == spec_.layers(loaded.layer).sublayers_size();
      if (states_ && !last) propagate(*block, loaded, s);
    }
    check_and_write(linears_of(spec_, loaded.layer), original, *block, done, u);
    write_vectors(loaded.layer, u, block);
  }

  void propagate(const Block& block, const Block& loaded, int sublayer) {
    calibration_->advance(options_.propagate ? block : loaded, loaded, sublayer);
  }

  // For the comparison of the finished file with its source.
  std::vector<int32_t> check_tokens() const {
    constexpr size_t kTokens = kCheckTokens;
    std::vector<int32_t> out;
    if (!options_.calibration.empty()) {
      const auto& w = options_.calibration.front();
      out.assign(w.begin(), w.begin() + static_cast<int64_t>(std::min(kTokens, w.size())));
      return out;
    }
    const Rng rng(options_.seed, 0x636865636b);
    while (out.size() < std::min<size_t>(kTokens, spec_.context()))
      out.push_back(static_cast<int32_t>(rng.at(out.size()) % spec_.vocab()));
    if (spec_.bos_token() >= 0) out[0] = spec_.bos_token();
    return out;
  }

  // Does the work of one unit and commits it, unless the journal has it. Returns whether it did.
  template <class Work>
  bool unit(const std::string& name, Work work) {
    check_interrupt();
    const size_t index = units_++;
    progress_.advance(static_cast<int64_t>(index), name);
    if (index < journal_->done().size()) return false;
    proto::JournalUnit u;
    u.set_name(name);
    unit_hashes_.clear();
    fallbacks_here_ = 0;
    work(&u);
    u.set_data_end(writer_->end());
    u.set_source_hash(hash64(std::as_bytes(std::span(unit_hashes_))));
    journal_->commit(u);
    return true;
  }

  // Rows whose scale is below what its type can hold are rows of zeros.
  void look_for_lost_rows(const std::string& name, const Encoding& e, const Comparison& c) {
    const int64_t lost = std::accumulate(c.lost.begin(), c.lost.end(), int64_t{0});
    if (lost == 0) return;
    const int64_t rows = std::accumulate(c.rows.begin(), c.rows.end(), int64_t{0});
    const float largest = *std::ranges::max_element(c.largest);
    // bf16 has the range of f32; scales below its smallest normal number would be lost there too.
    const bool f16 = largest > 0x1p-117f &&
                     (e.kind == EncodingKind::kInt || e.kind == EncodingKind::kNf4) &&
                     e.scale == DType::kF16;
    const std::string why =
        f16 ? fmt::format(
                  "its weights are at most {:.1e} there, and a scale of {} bits for them "
                  "underflows "
                  "in f16 (nothing below 6.0e-08): --bf16-scales keeps them",
                  largest, e.kind == EncodingKind::kNf4 ? 4 : e.bits)
            : fmt::format("its weights are at most {:.1e} there, too little for {}", largest,
                          to_string(e));
    if (lost == rows)
      fail(ErrorKind::kNumeric, "{}: all of it would be rounded to zeros: {}", name, why);
    notes_.push_back(
        fmt::format("{}: {} of {} rows are rounded to zeros: {}", name, lost, rows, why));
    progress_.note("warning: " + notes_.back());
  }

  // Compares every linear with what it was, and writes it.
  void check_and_write(const std::vector<LinearInfo>& linears, const Block& original, Block& block,
                       const PassReport& done, proto::JournalUnit* u) {
    const Phases::Scope phase(phases_, "writing");
    for (const auto& info : linears) {
      check_interrupt();
      const Linear& before = find_linear(original, info);
      const Linear& after = find_linear(block, info);
      const int64_t slab = slab_rows(after.terms[0].w.encoding, info.n, info.k);
      Comparison comparison(ceil_div(info.n, slab));
      parallel_ranges(info.n, slab, [&](int64_t begin, int64_t end) {
        thread_local Buffer<float> a, b;
        const int64_t size = (end - begin) * info.k;
        a.require(size);
        b.require(size);
        fast_rows(before, begin, end - begin, a.data());
        fast_rows(after, begin, end - begin, b.data());
        compare_slab(info.name, begin / slab, begin, info.k,
                     a.span().first(static_cast<size_t>(size)),
                     b.span().first(static_cast<size_t>(size)), &comparison);
      });
      look_for_lost_rows(info.name, after.terms[0].w.encoding, comparison);
      auto* record = u->add_linears();
      record->set_name(info.name);
      record->set_n(static_cast<uint64_t>(info.n));
      record->set_k(static_cast<uint64_t>(info.k));
      for (const auto& t : after.terms) {
        auto* term = record->add_terms();
        *term->mutable_weight() = writer_->add_weight(t.w);
        if (t.up) *term->mutable_up() = writer_->add_weight(*t.up);
      }
      if (!after.bias.empty()) {
        *record->mutable_bias() =
            writer_->add_plane(PlaneKind::kCodes, std::as_bytes(std::span(after.bias)));
      }
      if (after.input.rounds()) *record->mutable_input() = record_of(after.input);
      const auto found = done.find(info.name);
      const LinearReport report = found == done.end()
                                      ? LinearReport{.method = "kept", .fallback = {}, .rows = {}}
                                      : found->second;
      if (!report.fallback.empty()) {
        record->set_fallback(report.fallback);
        count_fallback(info.name, report.fallback);
      }
      if (!report.rows.empty()) record->set_meant(hash64(std::as_bytes(std::span(report.rows))));
      finish_record(comparison, report.method, record);
    }
  }

  void count_fallback(const std::string& name, const std::string& why) {
    int fallbacks = 1;
    for (const auto& u : journal_->done()) {
      for (const auto& l : u.linears()) fallbacks += !l.fallback().empty();
    }
    fallbacks += fallbacks_here_++;
    if (fallbacks > options_.max_fallbacks) {
      fail(ErrorKind::kNumeric, "{}: {} (fallback number {}, {} are allowed)", name, why, fallbacks,
           options_.max_fallbacks);
    }
  }

  // A large table, slab by slab: never whole in memory.
  void stream(const LinearInfo& info, proto::JournalUnit* u) {
    const Phases::Scope phase(phases_, "tables");
    const Encoding from = source_.encoding(info);
    Encoding to = from;
    Pass* by = nullptr;
    for (const auto& p : passes_) {
      if (const auto e = p->encoding(info)) {
        to = *e;
        by = p.get();
      }
    }
    auto* record = u->add_linears();
    record->set_name(info.name);
    record->set_n(static_cast<uint64_t>(info.n));
    record->set_k(static_cast<uint64_t>(info.k));
    const InputEncoding input = source_.input(info);
    if (input.rounds()) *record->mutable_input() = record_of(input);
    const int64_t slab = slab_rows(to, info.n, info.k);
    Comparison comparison(ceil_div(info.n, slab));
    if (by == nullptr) {
      const Linear linear = source_.linear(info);
      for (int64_t begin = 0; begin < info.n; begin += slab) {
        const int64_t rows = std::min(slab, info.n - begin);
        std::vector<float> w(static_cast<size_t>(rows * info.k));
        fast_rows(linear, begin, rows, w.data());
        compare_slab(info.name, begin / slab, begin, info.k, w, w, &comparison);
      }
      for (const auto& t : linear.terms) {
        auto* term = record->add_terms();
        *term->mutable_weight() = writer_->add_weight(t.w);
        if (t.up) *term->mutable_up() = writer_->add_weight(*t.up);
      }
      finish_record(comparison, "kept", record);
      return;
    }

    float absmax = 0;
    if (to.has_tensor_scale()) {
      std::vector<float> w(static_cast<size_t>(slab * info.k));
      for (int64_t begin = 0; begin < info.n; begin += slab) {
        const int64_t rows = std::min(slab, info.n - begin);
        source_.rows(info, begin, rows, w.data());
        for (int64_t i = 0; i < rows * info.k; ++i)
          absmax = std::max(absmax, std::fabs(w[static_cast<size_t>(i)]));
      }
    }
    const bool multiplied = info.role == LinearRole::kHead || spec_.tied_head();
    const StatisticsNeeds needs = by->needs();
    InputStatistics inputs;
    if (multiplied && (needs.gram || needs.mean_square) && !options_.calibration.empty()) {
      constexpr int64_t kTokens = 16384;
      inputs = head_inputs(executor(), source_, options_.calibration, kTokens,
                           {.mean_square = true, .gram = needs.gram});
    }
    by->begin_table(info, to, inputs.tokens > 0 ? &inputs : nullptr);
    auto* weight = record->add_terms()->mutable_weight();
    *weight->mutable_encoding() = record_of(to);
    weight->set_n(static_cast<uint64_t>(info.n));
    weight->set_k(static_cast<uint64_t>(info.k));
    std::vector<PlaneWriter> planes;
    const auto layouts = plane_layouts(to, info.n, info.k);
    for (const auto& l : layouts) planes.push_back(writer_->begin_plane(l.kind, l.bytes));
    std::string method;
    std::vector<uint64_t> meant(static_cast<size_t>(info.n));
    Buffer<float> original;
    const int64_t together =
        slab * std::max(1, 2 * thread_count());  // read, encoded and written as one piece
    for (int64_t begin = 0; begin < info.n; begin += together) {
      check_interrupt();
      const int64_t rows = std::min(together, info.n - begin);
      OwnedWeight piece = allocate_weight(to, rows, info.k);
      const LinearInfo part{info.name, info.role, info.layer, info.sublayer,
                            rows,      info.k,    info.bias};
      original.require(rows * info.k);
      std::vector<std::string> methods(static_cast<size_t>(ceil_div(rows, slab)));
      parallel_ranges(rows, slab, [&](int64_t first, int64_t last) {
        float* w = original.data() + first * info.k;
        source_.rows(info, begin + first, last - first, w);
        check_finite(info.name, begin + first, info.k,
                     {w, static_cast<size_t>((last - first) * info.k)});
        try {
          methods[static_cast<size_t>(first / slab)] = by->encode_rows(
              part, to, first, last - first, w, absmax, piece.planes, meant.data() + begin + first);
        } catch (const Error& e) {
          if (begin == 0) throw;
          throw Error(e.kind(), fmt::format("{} (rows counted from {} on)", e.what(), begin));
        }
      });
      parallel_ranges(rows, slab, [&](int64_t first, int64_t last) {
        thread_local Buffer<float> decoded;
        const auto size = static_cast<size_t>((last - first) * info.k);
        decoded.require(static_cast<int64_t>(size));
        decode_with_kernels(cpu_kernels(), piece.weight, first, last - first, decoded.data());
        compare_slab(info.name, (begin + first) / slab, begin + first, info.k,
                     {original.data() + first * info.k, size}, decoded.span().first(size),
                     &comparison);
      });
      method = methods.front();
      for (size_t p = 0; p < planes.size(); ++p) {
        const bool once =
            layouts[p].unit_rows >= info.n && begin > 0;  // one scale for the whole tensor
        if (!once) planes[p].append(piece.weight.planes[p].bytes);
      }
    }
    look_for_lost_rows(info.name, to, comparison);
    for (auto& p : planes) *weight->add_planes() = p.finish();
    if (info.bias) {
      const auto bias = source_.bias(info);
      *record->mutable_bias() =
          writer_->add_plane(PlaneKind::kCodes, std::as_bytes(std::span(bias)));
    }
    if (std::ranges::any_of(meant, [](uint64_t h) { return h != 0; }))
      record->set_meant(hash64(std::as_bytes(std::span(meant))));
    finish_record(comparison, method, record);
  }

  void finish_record(const Comparison& comparison, const std::string& method,
                     proto::LinearRecord* record) {
    record->set_relative_error(comparison.relative_error());
    record->set_method(method);
    unit_hashes_.push_back(comparison.hash());
  }

  // Of a block, or (-1) outside of the layers.
  void write_vectors(int layer, proto::JournalUnit* u, Block* block = nullptr) {
    for (const auto& info : vectors_of(spec_)) {
      if (info.layer != layer) continue;
      const auto values = block != nullptr ? find_vector(*block, info) : source_.vector(info);
      for (const float v : values) {
        if (!std::isfinite(v)) fail(ErrorKind::kNumeric, "{}: {} in the source", info.name, v);
      }
      auto* record = u->add_vectors();
      record->set_name(info.name);
      record->set_length(static_cast<uint64_t>(info.length));
      *record->mutable_plane() =
          writer_->add_plane(PlaneKind::kCodes, std::as_bytes(std::span(values)));
      unit_hashes_.push_back(hash64(std::as_bytes(std::span(values))));
    }
  }

  // A block that an earlier run wrote, read back from the growing file.
  Block stored_block(int layer) {
    Block block = load_block(source_, layer);
    const auto& done = journal_->done()[static_cast<size_t>(layer) + 2];
    for (const auto& info : linears_of(spec_, layer)) {
      for (const auto& record : done.linears()) {
        if (record.name() != info.name) continue;
        Linear& linear = find_linear(block, info);
        linear.input = input_from(record.input());
        linear.terms.clear();
        for (const auto& t : record.terms()) {
          Term term{.w = stored_weight(t.weight()), .up = {}};
          if (t.has_up()) term.up = stored_weight(t.up());
          linear.terms.push_back(std::move(term));
        }
      }
    }
    for (const auto& info : vectors_of(spec_)) {
      if (info.layer != layer) continue;
      for (const auto& record : done.vectors()) {
        if (record.name() != info.name) continue;
        auto& values = find_vector(block, info);
        values.resize(record.length());
        journal_->data().read(record.plane().offset(), std::as_writable_bytes(std::span(values)));
      }
    }
    return block;
  }
  Weight stored_weight(const proto::WeightRecord& r) {
    OwnedWeight w = allocate_weight(encoding_from(r.encoding()), static_cast<int64_t>(r.n()),
                                    static_cast<int64_t>(r.k()));
    for (int i = 0; i < r.planes_size(); ++i) {
      journal_->data().read(r.planes(i).offset(), w.planes[static_cast<size_t>(i)].bytes);
    }
    return std::move(w.weight);
  }

  proto::Manifest make_manifest() const {
    proto::Manifest m;
    *m.mutable_model() = spec_;
    std::vector<uint64_t> hashes;
    for (const auto& u : journal_->done()) {
      m.mutable_linears()->MergeFrom(u.linears());
      m.mutable_vectors()->MergeFrom(u.vectors());
      m.mutable_blobs()->MergeFrom(u.blobs());
      hashes.push_back(u.source_hash());
    }
    auto* p = m.mutable_provenance();
    p->set_tool(kToolVersion);
    std::string name = source_.path();
    while (name.size() > 1 && name.back() == '/') name.pop_back();
    p->set_source_name(valid_utf8_or_replaced(name.substr(name.rfind('/') + 1)));
    p->set_source_hash(hash64(std::as_bytes(std::span(hashes))));
    p->set_recipe(recipe_of(source_, passes_, options_));
    p->set_calibration_hash(options_.calibration_hash);
    p->set_seed(options_.seed);
    p->set_parameters(parameter_count(spec_));
    p->set_source_bytes(source_.tensor_bytes());
    if (const auto* before = source_.manifest()) {
      p->set_source_bytes(before->provenance().source_bytes());
    }
    return m;
  }

  const ModelSource& source_;
  const proto::ModelSpec& spec_;
  const Passes& passes_;
  const CompressOptions& options_;
  Progress& progress_;
  std::vector<LinearInfo> linears_;
  PackedWriter* writer_ = nullptr;
  Phases phases_;
  Journal* journal_ = nullptr;
  WorkFolder* work_ = nullptr;
  std::vector<std::string> notes_;
  std::unique_ptr<Executor> cpu_;  // where no other is given
  std::unique_ptr<CalibrationStates> states_, originals_;
  std::unique_ptr<Calibration> calibration_;
  size_t units_ = 0;
  int fallbacks_here_ = 0;
  std::vector<uint64_t> unit_hashes_;
};

}  // namespace

uint64_t model_bytes(const ModelSource& source) {
  if (source.manifest() != nullptr && source.recipe().empty()) return 0;
  uint64_t total = 0;
  for (const auto& info : linears_of(source.spec()))
    total += encoded_bytes(source.encoding(info), info.n, info.k);
  return total;
}

int64_t row_step(const Encoding& e, int64_t n, int64_t k) {
  return e.has_tensor_scale() ? 1 : row_unit(e, n, k);
}

int64_t slab_rows(const Encoding& e, int64_t n, int64_t k) {
  const int64_t unit = row_step(e, n, k);
  constexpr int64_t kWeights = 1 << 18;  // 1 MiB of f32
  return std::min(n, unit * std::max<int64_t>(1, kWeights / std::max<int64_t>(1, unit * k)));
}

void fast_rows(const Linear& linear, int64_t row, int64_t rows, float* out) {
  if (linear.terms.size() == 1 && !linear.terms[0].up) {
    decode_with_kernels(cpu_kernels(), linear.terms[0].w, row, rows, out);
  } else {
    dense_rows(linear, row, rows, out);
  }
}

namespace {

// Weights of a block and of what it was, in 16 bits; some activations of a window; what passes
// take.
uint64_t gpu_bytes_of(const CompressPlan& plan, const Passes& passes,
                      const CompressOptions& options) {
  constexpr uint64_t kActivations = 8;  // of the widest input
  std::map<int, uint64_t> weights;
  uint64_t widest = 0, working = 0, longest = 0, ahead = 0;
  for (const auto& l : plan.linears) {
    if (l.info.layer < 0) continue;
    if (l.info.part() >= 0) ahead = kStatisticsAhead;
    weights[l.info.layer] += static_cast<uint64_t>(l.info.n * l.info.k);
    widest = std::max(widest, static_cast<uint64_t>(std::max(l.info.n, l.info.k)));
    for (const auto& p : passes)
      working = std::max(working, p->gpu_working_bytes(l.info.n, l.info.k));
  }
  uint64_t most = 0;
  for (const auto& [layer, n] : weights) most = std::max(most, n);
  for (const auto& w : options.calibration) longest = std::max<uint64_t>(longest, w.size());
  return 4 * most + kActivations * longest * widest * sizeof(float) + working + ahead;
}

}  // namespace

CompressPlan plan_compression(const ModelSource& source, const Passes& passes,
                              const CompressOptions& options) {
  CompressPlan plan;
  const auto& spec = source.spec();
  plan.source_bytes = source.tensor_bytes();
  std::map<int, uint64_t> from_bytes, to_bytes;  // by layer
  uint64_t weights = 0, planes = 0;
  for (const auto& info : linears_of(spec)) {
    const Encoding from = source.encoding(info);
    const Encoding to = target_encoding(passes, info, from);
    LinearPlan p{info, from, to, encoded_bytes(to, info.n, info.k)};
    weights += static_cast<uint64_t>(info.n * info.k);
    planes += p.bytes;
    from_bytes[info.layer] += encoded_bytes(from, info.n, info.k);
    to_bytes[info.layer] += p.bytes;
    plan.output_bytes +=
        round_up(p.bytes, kPlaneAlignment) + (info.bias ? static_cast<uint64_t>(info.n) * 4 : 0);
    plan.linears.push_back(std::move(p));
  }
  for (const auto& v : vectors_of(spec))
    plan.output_bytes += round_up(static_cast<uint64_t>(v.length) * 4, kPlaneAlignment);
  plan.output_bytes += bytes_of(source.tokenizer());
  plan.bits_per_weight =
      weights ? 8 * static_cast<double>(planes) / static_cast<double>(weights) : 0;
  uint64_t largest = 0;
  for (const auto& [layer, bytes] : from_bytes) {
    if (layer >= 0) largest = std::max(largest, bytes + to_bytes[layer]);
  }
  constexpr uint64_t kWorking = 64 << 20;
  plan.memory_bytes = largest + kWorking;
  const StatisticsNeeds needs = needs_of(passes);
  if (needs.any() && !options.calibration.empty()) {
    uint64_t states = 0, working = 0;
    for (const auto& w : options.calibration) {
      plan.calibration_tokens += static_cast<int64_t>(w.size());
      states += w.size() * spec.hidden() * sizeof(float);
    }
    if (states > options.memory) {
      plan.scratch_bytes = states * (holds_out(needs, options) ? 2 : 1);
    } else {
      plan.memory_bytes += states * (holds_out(needs, options) ? 2 : 1);
    }
    for (const auto& p : passes) {
      uint64_t widest = 0;
      for (const auto& l : plan.linears) {
        if (l.info.layer >= 0) widest = std::max(widest, p->working_bytes(l.info.k));
      }
      working = std::max(working, widest);
    }
    const bool parts =
        std::ranges::any_of(plan.linears, [](const LinearPlan& l) { return l.info.part() >= 0; });
    plan.memory_bytes += working + (parts ? kStatisticsAhead : 0);
  }
  if (plan.calibration_tokens > 0 && options.executor != nullptr && options.executor->gpu())
    plan.gpu_bytes = gpu_bytes_of(plan, passes, options);
  if (!options.calibration.empty()) {
    plan.memory_bytes +=
        encoded_bytes(source.encoding(linears_of(spec).front()), static_cast<int64_t>(spec.vocab()),
                      static_cast<int64_t>(spec.hidden()));
  }
  plan.memory_bytes =
      std::max(plan.memory_bytes, largest + kWorking + check_bytes(source, kCheckTokens));
  plan.disk_bytes = plan.output_bytes + plan.scratch_bytes;
  return plan;
}

void check_compression(const ModelSource& source, const Passes& passes,
                       const CompressOptions& options, const CompressPlan& plan) {
  if (same_file(source.path(), options.output) || source.reads(options.output))
    fail(ErrorKind::kUsage, "{}: the output is the input", options.output);
  if (is_folder(options.output))
    fail(ErrorKind::kUsage, "{}: the output is a folder", options.output);
  const OutputPath output = resolve_output(options.output);
  if (output.special)
    fail(ErrorKind::kUsage, "{}: the output is not a regular file", options.output);
  for (const auto& p : passes) {
    if (const std::string why = p->needs_text(); !why.empty() && plan.calibration_tokens == 0)
      fail(ErrorKind::kUsage, "{}", why);
  }
  const auto vocab = static_cast<int64_t>(source.spec().vocab());
  for (const auto& w : options.calibration) {
    for (const int32_t id : w) {
      if (id < 0 || id >= vocab) {
        fail(ErrorKind::kCorrupt,
             "the calibration text has token {}, and the model knows tokens below {}: the "
             "tokenizer is of another model",
             id, vocab);
      }
    }
  }
  if (plan.gpu_bytes > 0) {
    const uint64_t free = options.executor->gpu()->free_bytes();
    if (plan.gpu_bytes > free) {
      fail(ErrorKind::kMemory, "the GPU has {:.1f} MB free of about {:.1f} MB that this takes",
           static_cast<double>(free) / 1e6, static_cast<double>(plan.gpu_bytes) / 1e6);
    }
  }
  require_memory(plan.memory_bytes, "this compression",
                 plan.calibration_tokens > 0
                     ? "--memory SIZE keeps calibration states in a file; fewer --nsamples or a "
                       "shorter --seqlen take less"
                     : "");
  const std::string data = join_path(WorkFolder::path_for(output.path), "data");
  const uint64_t there = is_regular_file(data) ? allocated_bytes(data) : 0;
  const uint64_t free = free_space(output.path);
  if (plan.disk_bytes > there && plan.disk_bytes - there > free) {
    fail(ErrorKind::kNoSpace, "{}: this takes {:.1f} MB of disk, and {:.1f} MB are free: {}",
         WorkFolder::path_for(output.path), static_cast<double>(plan.disk_bytes - there) / 1e6,
         static_cast<double>(free) / 1e6, std::strerror(ENOSPC));
  }
}

CompressReport compress(const ModelSource& source, const Passes& passes,
                        const CompressOptions& options, Progress& progress) {
  return Driver(source, passes, options, progress).run();
}

}  // namespace pith
