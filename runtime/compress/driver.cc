#include "runtime/compress/driver.h"

#include <algorithm>

#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/rng.h"
#include "runtime/compress/check.h"
#include "runtime/compress/fingerprint.h"
#include "runtime/compress/journal.h"
#include "runtime/compress/table_stream.h"
#include "runtime/compress/unit_writer.h"
#include "runtime/cpu/cpu_executor.h"

namespace pith {
namespace {

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
      if (own) {
        if (const std::string left = own->remove(); !left.empty()) progress_.note(left);
      }
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
    UnitWriter writer(source_, journal, options_.max_fallbacks, progress_);
    writer_ = &writer;
    journal_ = &journal;
    if (report.resumed_units > 0) {
      progress_.note(fmt::format("going on after {} of {} finished parts in {}",
                                 report.resumed_units, spec_.layers_size() + 3, work_->path()));
    }
    progress_.begin("compressing", spec_.layers_size() + 3, report.resumed_units);

    unit("tokenizer", [&] { writer.write_tokenizer(); });
    const LinearInfo& embedding = linears_.front();
    unit("embedding", [&] { write_table(embedding); });

    const StatisticsNeeds needs = needs_of(passes_);
    const bool blocks_done = journal.done().size() >= 2 + static_cast<size_t>(spec_.layers_size());
    if (needs.any() && !options_.calibration.empty() && !blocks_done)
      begin_calibration(embedding, needs);
    for (int l = 0; l < spec_.layers_size(); ++l) {
      Block block, loaded;
      const bool was_done = !unit(fmt::format("layer {}", l), [&] {
        const Phases::Scope phase(phases_, "reading");
        loaded = load_block(source_, l);
        compress_block(loaded, &block);
      });
      if (was_done && states_ && l + 1 < spec_.layers_size()) {
        block = stored_block(source_, journal, l);
        loaded = load_block(source_, l);
        for (int s = 0; s < spec_.layers(l).sublayers_size(); ++s) propagate(block, loaded, s);
      }
    }
    calibration_.reset();
    states_.reset();
    originals_.reset();
    unit("head", [&] {
      if (!spec_.tied_head()) write_table(linears_.back());
      writer.write_vectors(-1);
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
    report.notes = writer.notes();
    {
      const Phases::Scope phase(phases_, "checking");
      report.file_bytes = writer.file().finish(manifest);
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
                                                 options_.memory, scratch, progress_.cancel());
    };
    states_ = make();
    // How far inputs are corrected is measured on windows that are held out: without them, not.
    const bool measures = holds_out(needs, options_);
    if (measures) originals_ = make();
    calibration_ = std::make_unique<Calibration>(
        executor(), *states_, originals_.get(),
        Calibration::Options{options_.sequential,
                             measures ? held_out_windows(options_) : std::vector<bool>{},
                             shared_needs(passes_), &phases_});
  }

  // Sublayer by sublayer: function-preserving changes, then each stage by all passes, then on with
  // the states.
  void compress_block(const Block& loaded, Block* block) {
    *block = loaded;
    Block original = loaded;  // shares the bytes
    Masks masks;
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
        for (const auto& p : passes_)
          changed |= p->prepare({sub, here, *block, calibration_.get()});
      }
      original.sublayers[static_cast<size_t>(s)] = block->sublayers[static_cast<size_t>(s)];
      if (calibration_) calibration_->begin(*block, original, changed);
      for (const auto& stage : here) {
        progress_.check();
        progress_.advance(static_cast<int64_t>(units_) - 1, stage.linears.front().name);
        const Phases::Scope phase(phases_, "rounding");
        for (const auto& p : passes_) {
          PassReport report;
          p->apply({stage, sub, *block, original, calibration_.get(), masks, report});
          add_report(std::move(report), &done);
        }
        for (const auto& info : stage.linears) {
          if (done.contains(info.name)) require_planned(info, find_linear(*block, info));
        }
      }
      const bool last = loaded.layer + 1 == spec_.layers_size() &&
                        s + 1 == spec_.layers(loaded.layer).sublayers_size();
      if (states_ && !last) propagate(*block, loaded, s);
    }
    const Phases::Scope phase(phases_, "writing");
    writer_->check_and_write(linears_of(spec_, loaded.layer), original, *block, masks, done);
    writer_->write_vectors(loaded.layer, block);
  }

  // What one pass did, behind what the passes before it did. The last says how rows decode.
  static void add_report(PassReport pass, PassReport* all) {
    const auto join = [](const std::string& a, const char* between, const std::string& b) {
      return a + (a.empty() || b.empty() ? "" : between) + b;
    };
    for (auto& [name, now] : pass) {
      LinearReport& so_far = (*all)[name];
      now.method = join(so_far.method, " + ", now.method);
      now.fallback = join(so_far.fallback, "; ", now.fallback);
      so_far = std::move(now);
    }
  }

  // A linear that passes changed has the form that they said it would have.
  void require_planned(const LinearInfo& info, const Linear& linear) const {
    LinearForm planned = form_after(passes_, info, source_.form(info));
    if (planned.input.scale == InputScale::kTensor) planned.input.value = linear.input.value;
    if (const LinearForm form = form_of(linear); form != planned) {
      fail(ErrorKind::kNumeric, "{}: is {} with inputs {}, and {} with inputs {} was planned",
           info.name, to_string(form), to_string(form.input), to_string(planned),
           to_string(planned.input));
    }
  }

  void propagate(const Block& block, const Block& loaded, int sublayer) {
    calibration_->advance(options_.propagate ? block : loaded, loaded, sublayer);
  }

  // For the comparison of the finished file with its source.
  std::vector<int32_t> check_tokens() const {
    std::vector<int32_t> out;
    if (!options_.calibration.empty()) {
      const auto& w = options_.calibration.front();
      out.assign(w.begin(), w.begin() + static_cast<int64_t>(std::min(kCheckTokens, w.size())));
      return out;
    }
    const Rng rng(options_.seed, 0x636865636b);
    while (out.size() < std::min<size_t>(kCheckTokens, spec_.context()))
      out.push_back(static_cast<int32_t>(rng.at(out.size()) % spec_.vocab()));
    if (spec_.bos_token() >= 0) out[0] = spec_.bos_token();
    return out;
  }

  // Does the work of one unit and commits it, unless the journal has it. Returns whether it did.
  template <class Work>
  bool unit(const std::string& name, Work work) {
    progress_.check();
    const size_t index = units_++;
    progress_.advance(static_cast<int64_t>(index), name);
    if (index < journal_->done().size()) return false;
    writer_->begin(name);
    work();
    writer_->commit();
    return true;
  }

  // The embedding or the head.
  void write_table(const LinearInfo& info) {
    const Phases::Scope phase(phases_, "tables");
    const LinearForm form = form_after(passes_, info, source_.form(info));
    const bool multiplied = info.role == LinearRole::kHead || spec_.tied_head();
    std::optional<InputStatistics> inputs;
    const auto inputs_for = [&](const StatisticsNeeds& needs) -> const InputStatistics* {
      if (!multiplied || !(needs.gram || needs.mean_square) || options_.calibration.empty())
        return nullptr;
      constexpr int64_t kTokens = 16384;
      inputs = head_inputs(executor(), source_, options_.calibration, kTokens,
                           {.mean_square = true, .gram = needs.gram});
      return inputs->tokens > 0 ? &*inputs : nullptr;
    };
    for (auto p = passes_.rbegin(); p != passes_.rend(); ++p) {
      if (const auto encoder = (*p)->table(info, form, inputs_for))
        return encode_table(source_, info, form, *encoder, *writer_);
    }
    copy_table(source_, info, *writer_);
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
    *m.mutable_provenance() = provenance_of(source_, passes_, options_);
    m.mutable_provenance()->set_source_hash(hash64(std::as_bytes(std::span(hashes))));
    return m;
  }

  const ModelSource& source_;
  const proto::ModelSpec& spec_;
  const Passes& passes_;
  const CompressOptions& options_;
  Progress& progress_;
  std::vector<LinearInfo> linears_;
  UnitWriter* writer_ = nullptr;
  Phases phases_;
  Journal* journal_ = nullptr;
  WorkFolder* work_ = nullptr;
  std::unique_ptr<Executor> cpu_;  // where no other is given
  std::unique_ptr<CalibrationStates> states_, originals_;
  std::unique_ptr<Calibration> calibration_;
  size_t units_ = 0;
};

}  // namespace

CompressReport compress(const ModelSource& source, const Passes& passes,
                        const CompressOptions& options, Progress& progress) {
  return Driver(source, passes, options, progress).run();
}

}  // namespace pith
