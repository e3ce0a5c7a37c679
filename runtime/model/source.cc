#include "runtime/model/source.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "core/buffer.h"
#include "core/bytes.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "formats/encodings/int_group.h"
#include "formats/encodings/sparse.h"
#include "runtime/model/arch/arch.h"
#include "runtime/model/arch/fp8_scales.h"

namespace pith {
namespace {

class CheckpointSource final : public ModelSource {
 public:
  explicit CheckpointSource(Checkpoint checkpoint)
      : checkpoint_(std::move(checkpoint)), model_(import_model(checkpoint_)) {}

  const proto::ModelSpec& spec() const override { return model_.spec; }
  std::string path() const override { return checkpoint_.path; }
  std::string kind() const override {
    constexpr const char* kNames[] = {"safetensors", "gguf", "llama2c"};
    return kNames[static_cast<size_t>(checkpoint_.kind)];
  }
  TokenizerFiles tokenizer() const override { return checkpoint_.tokenizer; }
  ConfigFiles config_files() const override { return checkpoint_.config_files; }
  // Includes the mapping of tensors to weights.
  uint64_t hash() const override {
    Hasher h;
    const uint64_t files = checkpoint_.hash();
    h.add(std::as_bytes(std::span(&files, 1)));
    for (const auto& [name, s] : model_.tensors) {
      h.add(as_bytes(fmt::format("{}: {} {} {} {} {} {} {} {}\n", name, s.tensor, s.scales, s.row,
                                 s.column, s.column_step, s.step, s.transposed, s.plus)));
      if (!s.fp8) continue;
      h.add(as_bytes(fmt::format("{} {} {} {} {}\n", s.fp8->tensor, static_cast<int>(s.fp8->codes),
                                 s.fp8->rows, s.fp8->columns, s.fp8->matrix_rows)));
    }
    return h.value();
  }
  std::vector<std::string> notes() const override {
    std::vector<std::string> all = checkpoint_.notes;
    all.insert(all.end(), model_.notes.begin(), model_.notes.end());
    return all;
  }
  bool reads(const std::string& file) const override {
    return std::ranges::any_of(checkpoint_.files,
                               [&](const File& f) { return same_file(f.path(), file); });
  }
  uint64_t tensor_bytes() const override {
    uint64_t total = 0;
    for (const auto& t : checkpoint_.tensors) total += t.bytes;
    return total;
  }

  Linear linear(const LinearInfo& info) const override {
    Linear out{.name = info.name, .n = info.n, .k = info.k, .terms = {}, .bias = bias(info)};
    out.terms.push_back({.w = stored_rows(info, 0, info.n), .up = {}});
    return out;
  }
  LinearForm form(const LinearInfo& info) const override {
    const TensorSlice& s = slice(info.name);
    if (is_mx(s)) return plain_form(Encoding::mxfp4());
    if (s.fp8) return plain_form(fp8_encoding(s, info.n, info.k, 0, info.n));
    const Encoding& e = checkpoint_.require(s.tensor).encoding;
    return plain_form(s.transposed ? transposed(e) : e);
  }
  void rows(const LinearInfo& info, int64_t row, int64_t rows, float* out) const override {
    reference_decode(stored_rows(info, row, rows), 0, rows, out);
  }
  std::vector<float> bias(const LinearInfo& info) const override {
    if (!info.bias) return {};
    return floats(info.name + ".bias", info.n);
  }
  std::vector<float> vector(const VectorInfo& info) const override {
    return floats(info.name, info.length);
  }

 private:
  const TensorSlice& slice(const std::string& name) const { return model_.tensors.at(name); }

  // Rows of a slice of this tensor, seen as a matrix.
  void read_rows(const TensorInfo& t, const TensorSlice& s, int64_t row, int64_t rows,
                 std::span<std::byte> to) const {
    const int64_t first = s.row + row * s.step;
    if (s.step == 1 || rows == 0) return checkpoint_.read(t, first, rows, to);
    const size_t bytes = to.size() / static_cast<size_t>(rows);
    const int64_t all = (rows - 1) * s.step + 1;
    std::vector<std::byte> read(bytes * static_cast<size_t>(all));
    checkpoint_.read(t, first, all, read);
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(read.begin() + r * s.step * static_cast<int64_t>(bytes), bytes,
                  to.begin() + r * static_cast<int64_t>(bytes));
  }

  Weight stored_rows(const LinearInfo& info, int64_t row, int64_t rows) const {
    const TensorSlice& s = slice(info.name);
    if (!s.scales.empty()) return mx_of_tensors(s, info.k, row, rows);
    if (is_mx(s)) return mx_of_blocks(s, info.k, row, rows);
    if (s.fp8) return fp8_rows(checkpoint_, s, info.n, info.k, row, rows);
    if (s.transposed) return transposed_rows(s, info, row, rows);
    const TensorInfo t = as_matrix(checkpoint_.require(s.tensor), info.k);
    OwnedWeight w = allocate_weight(t.encoding, rows, info.k);
    read_rows(t, s, row, rows, w.planes[0].bytes);
    return std::move(w.weight);
  }
  // The encoding of a tensor stored as [k, n]: blocks cannot be transposed as they are.
  static Encoding transposed(const Encoding& e) {
    return e.kind == EncodingKind::kDense ? e : Encoding::dense(DType::kF32);
  }
  Weight transposed_rows(const TensorSlice& s, const LinearInfo& info, int64_t row,
                         int64_t rows) const {
    const int64_t across = info.n * s.column_step;
    const TensorInfo t = as_matrix(checkpoint_.require(s.tensor), across);
    const Encoding e = transposed(t.encoding);
    OwnedWeight whole = allocate_weight(t.encoding, info.k, across),
                out = allocate_weight(e, rows, info.k);
    read_rows(t, s, 0, info.k, whole.planes[0].bytes);
    std::vector<float> numbers;
    const std::byte* from = whole.planes[0].bytes.data();
    if (e != t.encoding) {
      numbers.resize(static_cast<size_t>(info.k * across));
      reference_decode(whole.weight, 0, info.k, numbers.data());
      from = reinterpret_cast<const std::byte*>(numbers.data());
    }
    const auto size = static_cast<int64_t>(pith::info(e.dtype).bytes);
    std::byte* const to = out.planes[0].bytes.data();
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < info.k; ++c)
        std::memcpy(to + (r * info.k + c) * size,
                    from + (c * across + s.column + (row + r) * s.column_step) * size,
                    static_cast<size_t>(size));
    }
    return std::move(out.weight);
  }
  // MXFP4 has one form in pith, and two in checkpoints.
  bool is_mx(const TensorSlice& s) const {
    return !s.scales.empty() ||
           checkpoint_.require(s.tensor).encoding == Encoding::of_ggml(GgmlType::kMXFP4);
  }
  // group(i, codes): the scale of group i, counted over all rows, and its codes [kMxGroup].
  template <class Group>
  static Weight mx_weight(int64_t rows, int64_t k, Group group) {
    const Encoding e = Encoding::mxfp4();
    OwnedWeight w = allocate_weight(e, rows, k);
    const GroupLayout layout(e, rows, k);
    parallel_ranges(rows, 16, [&](int64_t begin, int64_t end) {
      std::vector<uint8_t> codes(static_cast<size_t>(k)),
          scales(static_cast<size_t>(layout.groups));
      for (int64_t r = begin; r < end; ++r) {
        for (int64_t g = 0; g < layout.groups; ++g)
          scales[static_cast<size_t>(g)] =
              group(r * layout.groups + g, codes.data() + g * kMxGroup);
        store_mx_row(layout, w.planes, r, codes, scales);
      }
    });
    return std::move(w.weight);
  }
  // Neighbours share a byte.
  Weight mx_of_tensors(const TensorSlice& s, int64_t k, int64_t row, int64_t rows) const {
    const auto groups = static_cast<size_t>(rows * k / kMxGroup);
    std::vector<std::byte> bytes(groups * kMxGroup / kMxCodes), scales(groups);
    read_rows(as_matrix(checkpoint_.require(s.tensor), k / kMxCodes), s, row, rows, bytes);
    read_rows(as_matrix(checkpoint_.require(s.scales), k / kMxGroup), s, row, rows, scales);
    return mx_weight(rows, k, [&](int64_t g, uint8_t* codes) {
      const std::byte* const from = bytes.data() + g * kMxGroup / kMxCodes;
      for (int64_t i = 0; i < kMxGroup; ++i)
        codes[i] = static_cast<uint8_t>((from[i / 2] >> (4 * (i % 2))) & std::byte{15});
      return static_cast<uint8_t>(scales[static_cast<size_t>(g)]);
    });
  }
  // Blocks of GGUF: the halves of a group share bytes, behind the scale.
  Weight mx_of_blocks(const TensorSlice& s, int64_t k, int64_t row, int64_t rows) const {
    constexpr int64_t kHalf = kMxGroup / 2, kBlock = 1 + kHalf;
    std::vector<std::byte> bytes(static_cast<size_t>(rows * k / kMxGroup * kBlock));
    read_rows(as_matrix(checkpoint_.require(s.tensor), k), s, row, rows, bytes);
    return mx_weight(rows, k, [&](int64_t g, uint8_t* codes) {
      const std::byte* const from = bytes.data() + g * kBlock;
      for (int64_t i = 0; i < kMxGroup; ++i)
        codes[i] = static_cast<uint8_t>((from[1 + i % kHalf] >> (4 * (i / kHalf))) & std::byte{15});
      return static_cast<uint8_t>(from[0]);
    });
  }
  std::vector<float> floats(const std::string& name, int64_t length) const {
    const TensorSlice& s = slice(name);
    const TensorInfo t = as_matrix(checkpoint_.require(s.tensor), 1);
    OwnedWeight w = allocate_weight(t.encoding, length, 1);
    read_rows(t, s, 0, length, w.planes[0].bytes);
    std::vector<float> out(static_cast<size_t>(length));
    reference_decode(w.weight, 0, length, out.data());
    for (float& v : out) v += s.plus;
    return out;
  }

  Checkpoint checkpoint_;
  ImportedModel model_;
};

class PackedSource final : public ModelSource {
 public:
  PackedSource(const std::string& path, const std::string& tokenizer_path, bool verify)
      : file_(PackedFile::open(path)) {
    check_spec(spec(), path);
    for (const auto& l : file_.manifest().linears()) linears_[l.name()] = &l;
    for (const auto& v : file_.manifest().vectors()) vectors_[v.name()] = &v;
    for (const auto& info : linears_of(spec())) {
      const auto& record = this->record(info.name);
      if (record.n() != static_cast<uint64_t>(info.n) ||
          record.k() != static_cast<uint64_t>(info.k) || record.has_bias() != info.bias) {
        fail(ErrorKind::kCorrupt, "{}: {} is {} x {}, the model needs {} x {}{}", path, info.name,
             record.n(), record.k(), info.n, info.k, info.bias ? " and a bias" : "");
      }
    }
    for (const auto& info : vectors_of(spec())) {
      const auto it = vectors_.find(info.name);
      if (it == vectors_.end()) fail(ErrorKind::kCorrupt, "{}: {} is missing", path, info.name);
      if (it->second->length() != static_cast<uint64_t>(info.length)) {
        fail(ErrorKind::kCorrupt, "{}: {} has length {}, not {}", path, info.name,
             it->second->length(), info.length);
      }
    }
    if (verify) file_.check_planes();
    if (!tokenizer_path.empty())
      other_tokenizer_ = read_tokenizer_file(tokenizer_path, file_.tokenizer());
  }

  const proto::ModelSpec& spec() const override { return file_.manifest().model(); }
  std::string path() const override { return file_.path(); }
  std::string kind() const override { return "pith"; }
  TokenizerFiles tokenizer() const override {
    return other_tokenizer_ ? *other_tokenizer_ : file_.tokenizer();
  }
  ConfigFiles config_files() const override { return file_.config_files(); }
  uint64_t hash() const override { return hash64(as_bytes(file_.manifest().SerializeAsString())); }
  bool reads(const std::string& file) const override { return same_file(path(), file); }
  uint64_t tensor_bytes() const override {
    uint64_t total = 0;
    for (const auto& l : file_.manifest().linears()) {
      for (const auto& t : l.terms()) {
        for (const auto& p : t.weight().planes()) total += p.bytes();
        for (const auto& p : t.up().planes()) total += p.bytes();
      }
      total += l.bias().bytes();
    }
    for (const auto& v : file_.manifest().vectors()) total += v.plane().bytes();
    return total;
  }
  const proto::Manifest* manifest() const override { return &file_.manifest(); }

  Linear linear(const LinearInfo& info) const override {
    Linear out{.name = info.name, .n = info.n, .k = info.k, .terms = {}, .bias = bias(info)};
    for (const auto& t : record(info.name).terms()) {
      Term term{.w = file_.weight(t.weight()), .up = {}};
      if (t.has_up()) term.up = file_.weight(t.up());
      out.terms.push_back(std::move(term));
    }
    out.input = input_from(record(info.name).input());
    return out;
  }
  LinearForm form(const LinearInfo& info) const override {
    const proto::LinearRecord& r = record(info.name);
    LinearForm form{.terms = {}, .input = input_from(r.input())};
    for (const auto& t : r.terms()) {
      auto& to = form.terms.emplace_back(TermForm{.weight = encoding_from(t.weight().encoding())});
      if (!t.has_up()) continue;
      to.rank = static_cast<int64_t>(t.weight().n());
      to.up = encoding_from(t.up().encoding());
    }
    return form;
  }
  void rows(const LinearInfo& info, int64_t row, int64_t rows, float* out) const override {
    const Linear stored = linear(info);
    try {
      reference_decode(stored, row, rows, out);
    } catch (const Error& e) {
      throw Error(e.kind(), fmt::format("{}: {}: {}", path(), info.name, e.what()));
    }
  }
  std::vector<float> bias(const LinearInfo& info) const override {
    if (!info.bias) return {};
    return floats(record(info.name).bias(), info.n);
  }
  std::vector<float> vector(const VectorInfo& info) const override {
    return floats(vectors_.at(info.name)->plane(), info.length);
  }

 private:
  const proto::LinearRecord& record(const std::string& name) const {
    const auto it = linears_.find(name);
    if (it == linears_.end()) fail(ErrorKind::kCorrupt, "{}: {} is missing", file_.path(), name);
    return *it->second;
  }
  std::vector<float> floats(const proto::PlaneRecord& plane, int64_t n) const {
    std::vector<float> out(static_cast<size_t>(n));
    std::memcpy(out.data(), file_.plane(plane).data(), out.size() * sizeof(float));
    return out;
  }

  PackedFile file_;
  std::optional<TokenizerFiles> other_tokenizer_;
  std::map<std::string, const proto::LinearRecord*> linears_;
  std::map<std::string, const proto::VectorRecord*> vectors_;
};

// One NaN or infinity in a vector, a bias or a router spoils every token, or chooses experts by
// comparisons with NaN; the large weights are checked by the encoders and through the logits.
void require_finite(const ModelSource& source, const std::string& name,
                    std::span<const float> values) {
  for (const float v : values) {
    if (!std::isfinite(v))
      fail(ErrorKind::kNumeric, "{}: {}: {} in the source", source.path(), name, v);
  }
}
Linear checked(const ModelSource& source, const LinearInfo& info, Linear linear) {
  check_masks(source.path(), linear);
  require_finite(source, info.name + ".bias", linear.bias);
  if (info.role == LinearRole::kRouter || info.role == LinearRole::kSharedGate) {
    std::vector<float> weights(static_cast<size_t>(info.n * info.k));
    reference_decode(linear, 0, info.n, weights.data());
    require_finite(source, info.name, weights);
  }
  return linear;
}

Block make_block(const ModelSource& source, int layer,
                 FunctionRef<Linear(const LinearInfo&)> load) {
  const auto& spec = source.spec();
  Block block;
  block.layer = layer;
  block.sublayers.resize(static_cast<size_t>(spec.layers(layer).sublayers_size()));
  for (int s = 0; s < spec.layers(layer).sublayers_size(); ++s) {
    auto& weights = block.sublayers[static_cast<size_t>(s)];
    const auto& sub = spec.layers(layer).sublayers(s);
    weights.norm.spec = sub.norm();
    weights.post_norm.spec = sub.post_norm();
    if (sub.has_attention()) {
      const auto& a = sub.attention();
      AttentionWeights& w = weights.attention.emplace();
      w.query_norm.spec = a.query_norm();
      w.key_norm.spec = a.key_norm();
      if (a.has_latent()) {
        w.latent.emplace().k_up.resize(a.heads());
        w.latent->v_up.resize(a.heads());
      }
    } else if (sub.has_mlp()) {
      weights.mlp.emplace();
    } else {
      weights.moe.emplace().experts.resize(sub.moe().experts());
      if (sub.moe().has_shared()) weights.moe->shared.emplace();
    }
  }
  for (const auto& info : vectors_of(spec, layer)) {
    const FloatVector& values = find_vector(block, info) = source.vector(info);
    require_finite(source, info.name, values);
  }
  for (const auto& info : linears_of(spec, layer))
    find_linear(block, info) = checked(source, info, load(info));
  return block;
}

Model make_model(const ModelSource& source, FunctionRef<Linear(const LinearInfo&)> load) {
  check_runs(source.spec(), source.path());
  Model m;
  m.spec = source.spec();
  const std::vector<LinearInfo> infos = linears_of(m.spec);
  m.embedding = load(infos.front());
  check_masks(source.path(), m.embedding);
  if (!m.spec.tied_head()) {
    m.own_head = load(infos.back());
    check_masks(source.path(), *m.own_head);
  }
  for (int l = 0; l < m.spec.layers_size(); ++l) m.blocks.push_back(make_block(source, l, load));
  m.final_norm = load_final_norm(source);
  return m;
}

}  // namespace

void check_masks(const std::string& path, const Linear& linear) {
  const auto check = [&](const Weight& w) {
    if (!w.encoding.is_sparse()) return;
    try {
      parallel_ranges(w.n, 64, [&](int64_t begin, int64_t end) {
        check_mask(w.encoding.sparsity, w.k, begin, stored_mask(w, begin, end - begin));
      });
    } catch (const Error& e) {
      throw Error(e.kind(), fmt::format("{}: {}: {}", path, linear.name, e.what()));
    }
  };
  for (const auto& t : linear.terms) {
    check(t.w);
    if (t.up) check(*t.up);
  }
}

Linear ForwardingSource::linear_from_rows(const LinearInfo& info) const {
  OwnedWeight w = allocate_weight(Encoding::dense(DType::kF32), info.n, info.k);
  rows(info, 0, info.n, reinterpret_cast<float*>(w.planes[0].bytes.data()));
  Linear out{.name = info.name, .n = info.n, .k = info.k, .terms = {}, .bias = bias(info)};
  out.terms.push_back({.w = std::move(w.weight), .up = {}});
  return out;
}

std::unique_ptr<ModelSource> open_model(const std::string& path, const std::string& tokenizer_path,
                                        bool verify) {
  if (!is_folder(path)) {
    const File file = File::open_read(path);
    std::vector<std::byte> first(std::min<uint64_t>(8, file.size()));
    file.read(0, first);
    if (looks_like_packed(first))
      return std::make_unique<PackedSource>(path, tokenizer_path, verify);
  }
  Checkpoint checkpoint = open_checkpoint(path);
  checkpoint.tokenizer = tokenizer_files_of(checkpoint, tokenizer_path);
  return std::make_unique<CheckpointSource>(std::move(checkpoint));
}

NormWeights load_final_norm(const ModelSource& source) {
  const auto& spec = source.spec();
  NormWeights out{.spec = spec.final_norm(), .weight = {}};
  if (out.spec.kind() != proto::NORM_NONE)
    out.weight = source.vector(
        {"final_norm", VectorRole::kFinalNorm, -1, 0, static_cast<int64_t>(spec.hidden())});
  require_finite(source, "final_norm", out.weight);
  return out;
}

Block load_block(const ModelSource& source, int layer) {
  check_runs(source.spec(), source.path());
  return make_block(source, layer, [&](const LinearInfo& info) { return source.linear(info); });
}

uint64_t model_bytes(const ModelSource& source) {
  if (source.manifest() != nullptr && source.recipe().empty()) return 0;
  uint64_t total = 0;
  for (const auto& info : linears_of(source.spec()))
    total += encoded_bytes(source.form(info), info.n, info.k);
  return total;
}

Model load_model(const ModelSource& source) {
  return make_model(source, [&](const LinearInfo& info) { return source.linear(info); });
}

Model load_dense_model(const ModelSource& source, DType dtype) {
  return make_model(source, [&](const LinearInfo& info) {
    const Linear stored = source.linear(info);
    OwnedWeight w = allocate_weight(Encoding::dense(dtype), info.n, info.k);
    const auto row_bytes = static_cast<size_t>(info.k) * pith::info(dtype).bytes;
    parallel_ranges(info.n, 64, [&](int64_t begin, int64_t end) {
      std::vector<float> rows(static_cast<size_t>((end - begin) * info.k));
      reference_decode(stored, begin, end - begin, rows.data());
      from_f32(dtype, rows.data(),
               w.planes[0].bytes.data() + static_cast<size_t>(begin) * row_bytes, rows.size());
    });
    Linear out{.name = stored.name, .n = stored.n, .k = stored.k, .terms = {}, .bias = stored.bias};
    out.terms.push_back({.w = std::move(w.weight), .up = {}});
    return out;
  });
}

}  // namespace pith
