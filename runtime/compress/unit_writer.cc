#include "runtime/compress/unit_writer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "runtime/compress/slabs.h"
#include "runtime/cpu/decode.h"

namespace pith {

UnitWriter::UnitWriter(const ModelSource& source, Journal& journal, int max_fallbacks,
                       Progress& progress)
    : source_(source),
      journal_(journal),
      max_fallbacks_(max_fallbacks),
      progress_(progress),
      writer_(journal.data(), journal.data_end()) {}

void UnitWriter::begin(const std::string& name) {
  unit_.Clear();
  unit_.set_name(name);
  hashes_.clear();
  fallbacks_here_ = 0;
}

void UnitWriter::commit() {
  unit_.set_data_end(writer_.end());
  unit_.set_source_hash(hash64(std::as_bytes(std::span(hashes_))));
  journal_.commit(unit_);
}

void UnitWriter::write_tokenizer() {
  proto::Manifest blobs;
  add_tokenizer(writer_, source_.tokenizer(), &blobs);
  add_config(writer_, source_.config_files(), &blobs);
  *unit_.mutable_blobs() = blobs.blobs();
}

proto::LinearRecord* UnitWriter::add_linear(const LinearInfo& info) {
  auto* record = unit_.add_linears();
  record->set_name(info.name);
  record->set_n(static_cast<uint64_t>(info.n));
  record->set_k(static_cast<uint64_t>(info.k));
  return record;
}

void UnitWriter::add_terms(const Linear& linear, proto::LinearRecord* record) {
  for (const auto& t : linear.terms) {
    auto* term = record->add_terms();
    *term->mutable_weight() = writer_.add_weight(t.w);
    if (t.up) *term->mutable_up() = writer_.add_weight(*t.up);
  }
}

void UnitWriter::finish(const Comparison& comparison, const LinearForm& form,
                        const std::string& method, proto::LinearRecord* record) {
  look_for_lost_rows(record->name(), form, comparison);
  record->set_relative_error(comparison.relative_error());
  record->set_method(method);
  hashes_.push_back(comparison.hash());
}

// Rows whose scale is below what its type can hold are rows of zeros.
void UnitWriter::look_for_lost_rows(const std::string& name, const LinearForm& form,
                                    const Comparison& c) {
  const int64_t lost = std::accumulate(c.lost.begin(), c.lost.end(), int64_t{0});
  if (lost == 0) return;
  const int64_t rows = std::accumulate(c.rows.begin(), c.rows.end(), int64_t{0});
  const float largest = *std::ranges::max_element(c.largest);
  // bf16 has the range of f32; scales below its smallest normal number would be lost there too.
  const Encoding& e = form.terms.front().weight;
  const bool f16 =
      largest > 0x1p-117f && !e.is_sparse() && e.has_group_scales() && e.scale == DType::kF16;
  const std::string why =
      f16 ? fmt::format(
                "its weights are at most {:.1e} there, and a scale of {} bits for them "
                "underflows "
                "in f16 (nothing below 6.0e-08): --bf16-scales keeps them",
                largest, e.kind == EncodingKind::kNf4 ? 4 : e.bits)
          : fmt::format("its weights are at most {:.1e} there, too little for {}", largest,
                        to_string(form));
  if (lost == rows)
    fail(ErrorKind::kNumeric, "{}: all of it would be rounded to zeros: {}", name, why);
  notes_.push_back(
      fmt::format("{}: {} of {} rows are rounded to zeros: {}", name, lost, rows, why));
  progress_.note("warning: " + notes_.back());
}

namespace {

// Error(kNumeric) where a weight that was pruned is not zero. Rows of `linear`; `sum` is what all
// its terms decode to there.
void check_pruned(const Linear& linear, const Mask& mask, int64_t row, std::span<const float> sum) {
  std::vector<float> alone;
  const float* w = sum.data();
  if (linear.terms.size() > 1) {
    const auto plain = std::ranges::find_if(linear.terms, [](const Term& t) { return !t.up; });
    if (plain == linear.terms.end()) return;
    alone.resize(sum.size());
    decode_rows(plain->w, row, std::ssize(sum) / linear.k, alone.data());
    w = alone.data();
  }
  for (int64_t i = 0; i < std::ssize(sum); ++i) {
    const int64_t r = row + i / linear.k, c = i % linear.k;
    if (w[i] != 0 && !mask.keeps(r, c)) {
      fail(ErrorKind::kNumeric, "{}: weight [{}, {}] was pruned, and is {}", linear.name, r, c,
           w[i]);
    }
  }
}

Comparison compare(const Linear& before, const Linear& after, const Mask* mask) {
  const int64_t slab = slab_rows(after), n = after.n, k = after.k;
  Comparison comparison(ceil_div(n, slab));
  parallel_ranges(n, slab, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> a, b;
    const int64_t size = (end - begin) * k;
    a.require(size);
    b.require(size);
    decode_rows(before, begin, end - begin, a.data());
    decode_rows(after, begin, end - begin, b.data());
    const auto result = b.span().first(static_cast<size_t>(size));
    compare_slab({after.name, begin / slab, begin, k}, a.span().first(static_cast<size_t>(size)),
                 result, &comparison);
    if (mask != nullptr) check_pruned(after, *mask, begin, result);
  });
  return comparison;
}

}  // namespace

void UnitWriter::check_and_write(const std::vector<LinearInfo>& linears, const Block& original,
                                 const Block& block, const Masks& masks, const PassReport& done) {
  for (const auto& info : linears) {
    progress_.check();
    const Linear& after = find_linear(block, info);
    const Comparison comparison =
        compare(find_linear(original, info), after, find_mask(masks, info.name));
    auto* record = add_linear(info);
    add_terms(after, record);
    if (!after.bias.empty()) {
      *record->mutable_bias() =
          writer_.add_plane(PlaneKind::kCodes, std::as_bytes(std::span(after.bias)));
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
    if (!report.rows.empty())
      record->set_expected_hash(hash64(std::as_bytes(std::span(report.rows))));
    finish(comparison, form_of(after), report.method, record);
  }
}

void UnitWriter::count_fallback(const std::string& name, const std::string& why) {
  int fallbacks = 1;
  for (const auto& u : journal_.done()) {
    for (const auto& l : u.linears()) fallbacks += !l.fallback().empty();
  }
  fallbacks += fallbacks_here_++;
  if (fallbacks > max_fallbacks_) {
    fail(ErrorKind::kNumeric, "{}: {} (fallback number {}, {} are allowed)", name, why, fallbacks,
         max_fallbacks_);
  }
}

void UnitWriter::write_vectors(int layer, Block* block) {
  for (const auto& info : vectors_of(source_.spec())) {
    if (info.layer != layer) continue;
    const FloatVector values =
        block != nullptr ? find_vector(*block, info) : FloatVector(source_.vector(info));
    for (const float v : values) {
      if (!std::isfinite(v)) fail(ErrorKind::kNumeric, "{}: {} in the source", info.name, v);
    }
    auto* record = unit_.add_vectors();
    record->set_name(info.name);
    record->set_length(static_cast<uint64_t>(info.length));
    *record->mutable_plane() =
        writer_.add_plane(PlaneKind::kCodes, std::as_bytes(std::span(values)));
    hashes_.push_back(hash64(std::as_bytes(std::span(values))));
  }
}

namespace {

Weight stored_weight(File& data, const proto::WeightRecord& r) {
  OwnedWeight w = allocate_weight(encoding_from(r.encoding()), static_cast<int64_t>(r.n()),
                                  static_cast<int64_t>(r.k()));
  for (int i = 0; i < r.planes_size(); ++i) {
    data.read(r.planes(i).offset(), w.planes[static_cast<size_t>(i)].bytes);
  }
  return std::move(w.weight);
}

}  // namespace

Block stored_block(const ModelSource& source, Journal& journal, int layer) {
  const auto& spec = source.spec();
  Block block = load_block(source, layer);
  const auto& done = journal.done()[static_cast<size_t>(layer) + 2];
  for (const auto& info : linears_of(spec, layer)) {
    for (const auto& record : done.linears()) {
      if (record.name() != info.name) continue;
      Linear& linear = find_linear(block, info);
      linear.input = input_from(record.input());
      linear.terms.clear();
      for (const auto& t : record.terms()) {
        Term term{.w = stored_weight(journal.data(), t.weight()), .up = {}};
        if (t.has_up()) term.up = stored_weight(journal.data(), t.up());
        linear.terms.push_back(std::move(term));
      }
    }
  }
  for (const auto& info : vectors_of(spec)) {
    if (info.layer != layer) continue;
    for (const auto& record : done.vectors()) {
      if (record.name() != info.name) continue;
      std::vector<float>& values = find_vector(block, info).edit();
      values.resize(record.length());
      journal.data().read(record.plane().offset(), std::as_writable_bytes(std::span(values)));
    }
  }
  return block;
}

}  // namespace pith
